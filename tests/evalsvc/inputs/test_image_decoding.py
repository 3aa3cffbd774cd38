import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from evalsvc.inputs.images import decoding
from evalsvc.inputs.images.decoding import BadImageError, decode

COLOUR = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]
ALPHA = COLOUR[..., 1:2]


def smooth(height, width, channels=3, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 6 + 2, width // 6 + 2, channels), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse.squeeze()).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def png_claiming(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def with_palette(transparency=None):
    image = Image.fromarray(COLOUR).quantize(255)
    return encoded(image, **({} if transparency is None else {"transparency": transparency})), image.convert("RGB")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(GREY), GREY),
        (encoded(COLOUR), COLOUR),
        (encoded(Image.fromarray(GREY > 128)), np.where(GREY > 128, 255, 0)),
        (encoded(np.concatenate([GREY[..., None], ALPHA], 2)), GREY),
        (encoded(np.concatenate([COLOUR, ALPHA], 2)), COLOUR),
        (encoded(COLOUR, transparency=(1, 2, 3)), COLOUR),
        with_palette(),
        with_palette(transparency=3),
        (encoded((GREY.astype(np.uint16) << 8) + 129), GREY),
        (cv2.imencode(".png", (COLOUR[..., ::-1].astype(np.uint16) << 8) + 129)[1].tobytes(), COLOUR),
        (encoded(GREY.astype(np.int32) << 8, "TIFF"), GREY),
        (encoded(COLOUR, "TIFF"), COLOUR),
        (encoded(COLOUR, "BMP"), COLOUR),
        (encoded(COLOUR, "WEBP", lossless=True), COLOUR),
        (encoded(GREY, "PPM"), GREY),
    ],
    ids="L RGB 1 LA RGBA RGB+tRNS P P+tRNS 16-bit 16-bit-RGB I TIFF BMP WEBP PGM".split(),  # noqa: SIM905
)
@pytest.mark.parametrize("opencv", [True, False])
def test_every_mode_has_one_rule_with_opencv_and_without(data, expected, opencv, monkeypatch):
    if not opencv:
        monkeypatch.setattr(decoding, "cv2", None)
    found = decode(data)
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.asarray(expected))


def test_cmyk_and_adobe_jpegs_become_rgb_by_pillows_rules():
    image = Image.fromarray(smooth(40, 50)).convert("CMYK")
    data = encoded(image, "JPEG", quality=95)
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_applied(kind, orientation):
    picture = Image.fromarray(smooth(16, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = decode(encoded(picture, kind))
    turned = [
        plain,
        plain[:, ::-1],
        plain[::-1, ::-1],
        plain[::-1],
        plain.transpose(1, 0, 2),
        plain[::-1].transpose(1, 0, 2),
        plain[::-1, ::-1].transpose(1, 0, 2),
        plain[:, ::-1].transpose(1, 0, 2),
    ]
    assert np.array_equal(decode(encoded(picture, kind, exif=exif)), turned[orientation - 1])


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def noted(picture, note):
    """A PNG that is to be turned, which is written where older tools and editors of photographs write it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    info = PngImagePlugin.PngInfo()
    if note == "XMP":
        info.add_itxt("XML:com.adobe.xmp", XMP, zip=True)
    else:
        block = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
        info.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    return encoded(picture, pnginfo=info)


@pytest.mark.parametrize("note", ["XMP", "raw profile"])
@pytest.mark.parametrize("opencv", [True, False])
def test_an_orientation_of_a_png_is_applied_wherever_it_is_noted(note, opencv, monkeypatch):
    if not opencv:
        monkeypatch.setattr(decoding, "cv2", None)
    picture = smooth(16, 24)
    assert np.array_equal(decode(noted(picture, note)), picture[::-1].transpose(1, 0, 2))


@pytest.mark.parametrize("opencv", [True, False])
def test_the_first_frame_of_a_moving_png_is_the_one_that_every_reader_shows(opencv, monkeypatch):
    if not opencv:
        monkeypatch.setattr(decoding, "cv2", None)
    frames = [Image.fromarray(255 - COLOUR), Image.fromarray(COLOUR[::-1])]
    data = encoded(COLOUR, save_all=True, default_image=True, append_images=frames)
    assert np.array_equal(decode(data), COLOUR)


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (128, 130)])
def test_opencv_gives_pillows_pixels(size, monkeypatch):
    files = [encoded(smooth(*size, channels)) for channels in (1, 3, 4)]
    files += [encoded(smooth(*size, 1), "JPEG", quality=q) for q in (30, 95)]
    for quality in (30, 75, 100):
        for subsampling in (0, 1, 2):
            options = {"quality": quality, "subsampling": subsampling}
            files += [encoded(smooth(*size), "JPEG", progressive=p, **options) for p in (False, True)]
    by_opencv = [decode(data) for data in files]
    monkeypatch.setattr(decoding, "cv2", None)
    for data, found in zip(files, by_opencv, strict=True):
        assert np.array_equal(found, decode(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encoded(smooth(200, 200), "JPEG")[:2000], "truncated"),
        (encoded(smooth(200, 200))[:3000], "truncated"),
        (encoded(smooth(200, 200))[:12], "PNG|image"),
        (b"", "not a known image format"),
        (b"This is a text.\n", "not a known image format"),
        (png_claiming(30_000, 30_000), "30000 x 30000: it would unpack to more than 67108864 pixels"),
        (png_claiming(0, 5), "."),
        (encoded(np.full((3, 3), 70_000, np.int32), "TIFF"), "more than 16 bits"),
        (encoded(np.zeros((3, 3), np.float32), "TIFF"), "floats"),
        (encoded(smooth(40, 30), "AVIF").replace(b"pitm\0\0\0\0\0\1", b"pitm\0\0\0\0\0\7"), "Missing or empty image"),
    ],
)
@pytest.mark.parametrize("opencv", [True, False])
def test_what_is_no_image_says_why(data, reason, opencv, monkeypatch):
    if not opencv:
        monkeypatch.setattr(decoding, "cv2", None)
    with pytest.raises(BadImageError, match=reason):
        decode(data)


def test_whatever_a_damaged_file_makes_pillow_raise_is_its_damage_and_no_crash():
    random = np.random.default_rng(0)
    picture, exif = Image.fromarray(smooth(40, 30)), Image.Exif()
    exif[0x0112] = 6
    whole = [encoded(picture, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")]
    refused = 0
    for _ in range(800):
        data = bytearray(whole[random.integers(len(whole))])
        for place in random.integers(4, 200, 5):
            data[place] = random.choice([0, 1, 127, 255])
        try:
            decode(bytes(data))
        except BadImageError:
            refused += 1
    assert refused > 100


def test_a_bomb_is_refused_in_every_format(monkeypatch):
    data = encoded(smooth(120, 100), "JPEG")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 11_000)
    with pytest.raises(BadImageError, match="100 x 120: .* bomb"):
        decode(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    with pytest.raises(BadImageError, match="bomb"):
        decode(data)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (33, 17), (224, 224)])
@pytest.mark.parametrize("opencv", [True, False])
def test_planes_are_the_channels_one_after_the_other(size, opencv, monkeypatch):
    if not opencv:
        monkeypatch.setattr(decoding, "cv2", None)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    separate = decoding.planes(image)
    assert np.array_equal(separate, image.transpose(2, 0, 1))
    assert separate.flags.c_contiguous
