"""Manifests of C2PA in encoded files. Imported by the process that reads untrusted files only."""

from __future__ import annotations

from typing import BinaryIO

import c2pa

from evalsvc.core.errors import RefusedError, first_line

SETTINGS = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": False}}
"""Nothing is fetched, and no list of trusted signers is configured."""
_KINDS = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"ID3": "audio/mpeg",
    b"fLaC": "audio/flac",
}
"""MIME types by the first bytes, because rows of tables have no suffix."""
_RIFF = {b"WAVE": "audio/wav", b"AVI ": "video/avi", b"WEBP": "image/webp"}
_BRANDS = {b"avif": "image/avif", b"heic": "image/heic", b"mif1": "image/heif", b"M4A ": "audio/mp4"}
_BROKEN = (
    c2pa.C2paError.Verify,
    c2pa.C2paError.Decoding,
    c2pa.C2paError.Signature,
    c2pa.C2paError.Assertion,
    c2pa.C2paError.AssertionNotFound,
    c2pa.C2paError.Manifest,
)
"""Faults of an embedded manifest, instead of the file around it."""


def convert_manifest(source: BinaryIO, target: BinaryIO) -> None:
    """Write two bytes, 0 or 1: whether a manifest is embedded, and its hashes and signature are valid.

    Raises:
        RefusedError: the file around the manifest cannot be parsed.
    """
    kind = _kind(source.read(16))
    source.seek(0)
    present = valid = False
    try:
        if kind:
            with c2pa.Reader(kind, source, context=c2pa.Context.from_dict(SETTINGS)) as reader:
                present, valid = True, reader.get_validation_state() in ("Valid", "Trusted")
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
        pass
    except _BROKEN:
        present = True
    except c2pa.C2paError as error:
        if not str(error).startswith("Remote"):  # a manifest elsewhere is not embedded
            raise RefusedError(f"cannot be parsed ({first_line(error, 160)})") from None
    target.write(bytes([present, valid]))
    target.flush()


def _kind(head: bytes) -> str:
    """MIME type of a file by its first 16 bytes; empty if manifests are not defined for it."""
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head[:1] == b"\xff" and head[1:2] > b"\xe0":
        return "audio/mpeg"
    return next((kind for start, kind in _KINDS.items() if head.startswith(start)), "")
