"""Files with manifests of C2PA, signed by a certificate of the tests."""

from __future__ import annotations

import datetime
import functools
import io

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

START = datetime.datetime(2020, 1, 1)
MADE = {
    "label": "c2pa.actions",
    "data": {
        "actions": [
            {
                "action": "c2pa.created",
                "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
            }
        ]
    },
}


def _certificate(key, subject, issuer, signer, *, authority):
    use = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    extensions = [
        (x509.BasicConstraints(ca=authority, path_length=None), True),
        (x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, **use), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
    ]
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(START)
    made = made.not_valid_after(START + datetime.timedelta(days=36500))
    for extension, critical in extensions[: 4 if authority else 5]:
        made = made.add_extension(extension, critical=critical)
    return made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@functools.cache
def _signer() -> c2pa.C2paSignerInfo:
    names = [
        x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
        )
        for name in ("root", "leaf")
    ]
    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    chain = _certificate(leaf, names[1], names[0], root, authority=False) + _certificate(
        root, names[0], names[0], root, authority=True
    )
    secret = leaf.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return c2pa.C2paSignerInfo(b"es256", chain, secret, None)


def signed(content: bytes, kind: str = "image/png", address: str = "") -> bytes:
    """A file with a manifest; with an ``address``, it only names where its manifest is."""
    builder = c2pa.Builder({"claim_generator_info": [{"name": "tests"}], "format": kind, "assertions": [MADE]})
    if address:
        builder.set_remote_url(address)
        builder.set_no_embed()
    out = io.BytesIO()
    builder.sign(c2pa.Signer.from_info(_signer()), kind, io.BytesIO(content), out)
    return out.getvalue()


def picture(level: int = 0, kind: str = "png") -> bytes:
    """An encoded image of one color."""
    out = io.BytesIO()
    Image.new("RGB", (24, 16), (level, 90, 200)).save(out, kind)
    return out.getvalue()
