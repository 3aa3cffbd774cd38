"""Kept samples as files: text, PNG (animated for a video) or WAV."""

from __future__ import annotations

import io
import wave
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from evalsvc.analysis.kept_samples import KeptSample

FRAME_MILLISECONDS = 125


class SampleFile(NamedTuple):
    """Content of a file, its media type and its suffix."""

    content: bytes
    media_type: str
    suffix: str


def as_file(sample: KeptSample) -> SampleFile:
    """The sample as a file of its modality; an absent sample is an empty text."""
    if sample.pixels is not None:
        frames = sample.pixels if sample.pixels.ndim == 4 else sample.pixels[None]
        return SampleFile(_png([_image(frame) for frame in frames]), "image/png", "png")
    if sample.wave is not None:
        content = io.BytesIO()
        with wave.open(content, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample.rate)
            file.writeframes((np.clip(sample.wave, -1, 1) * 32767).astype("<i2").tobytes())
        return SampleFile(content.getvalue(), "audio/wav", "wav")
    return SampleFile((sample.text or "").encode(errors="backslashreplace"), "text/plain; charset=utf-8", "txt")


def _image(pixels: UInt8[np.ndarray, "c h w"]) -> Image.Image:
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _png(frames: list[Image.Image]) -> bytes:
    content = io.BytesIO()
    animated = {"save_all": True, "append_images": frames[1:], "duration": FRAME_MILLISECONDS, "loop": 0}
    frames[0].save(content, "PNG", **(animated if len(frames) > 1 else {}))
    return content.getvalue()
