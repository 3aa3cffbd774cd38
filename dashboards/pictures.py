"""Display samples of all modalities. Files are located by the keys of rows, never by a URL."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import streamlit as st
from PIL import Image

from evalsvc.analysis.kept_samples import KeptSample
from evalsvc.core.errors import MissingError, StorageError
from evalsvc.dashboards import context
from evalsvc.dashboards.formatting import html, safe
from evalsvc.dashboards.text_diff import paragraph

FRAMES = 64
"""Most frames of a clip that are shown: browsers hold all of them in memory."""
SIDE = 480
"""Pixels of a sample that is shown alone."""


@dataclass(frozen=True)
class Gallery:
    """Some samples of an evaluation, of one modality (the other fields are empty), and their
    ``indices`` in the source.
    """

    pixels: np.ndarray | None = None
    texts: list[str] = field(default_factory=list)
    waves: list[np.ndarray] = field(default_factory=list)
    rate: int = 0
    indices: Sequence[int] = ()

    @property
    def places(self) -> dict[int, int]:
        """Position in the gallery of the sample with each index."""
        return {index: place for place, index in enumerate(self.indices)}

    def only(self, indices: Sequence[int]) -> Gallery:
        """The samples with these indices, in this order."""
        of = self.places
        places = [of[index] for index in indices]
        pixels = None if self.pixels is None else self.pixels[places]
        texts = [self.texts[place] for place in places] if self.texts else []
        waves = [self.waves[place] for place in places] if self.waves else []
        return Gallery(pixels, texts, waves, self.rate, indices)

    def __len__(self) -> int:
        return max(0 if self.pixels is None else len(self.pixels), len(self.texts), len(self.waves))


def gallery(key: str | None) -> Gallery:
    """The gallery under a key; empty if the key or its file is missing. A damaged file is reported on the page."""
    arrays = read(key)
    if not arrays:
        return Gallery()
    texts = json.loads(arrays["texts"].tobytes()) if "texts" in arrays else []
    waves = np.split(arrays["waves"], np.cumsum(arrays["lengths"])[:-1]) if "waves" in arrays else []
    rate = int(arrays["rate"][0]) if "waves" in arrays else 0
    found = Gallery(arrays.get("pixels"), texts, waves, rate)
    # Galleries of older versions contained the first samples and did not record their indices.
    indices = arrays["indices"].tolist() if "indices" in arrays else range(len(found))
    return replace(found, indices=indices)


def read(key: str | None) -> dict[str, np.ndarray]:
    """The arrays of an artifact; empty if the file is missing or damaged, which the page reports."""
    try:
        return context.artifacts().read_arrays(key) if key else {}
    except MissingError:
        return {}
    except StorageError as error:
        st.warning(safe(error, 500), icon=":material/warning:")
        return {}


def aligned(galleries: Mapping[str, Gallery]) -> dict[str, Gallery]:
    """The indices that all non-empty galleries share, aligned; all indices of each gallery if there
    are no common ones.
    """
    held = [gallery for gallery in galleries.values() if len(gallery)]
    shared = set.intersection(*(set(gallery.indices) for gallery in held)) if held else set()
    common = [index for index in held[0].indices if index in shared] if held else []
    if not common:
        return dict(galleries)
    return {name: gallery.only(common) if len(gallery) else gallery for name, gallery in galleries.items()}


def strip(pixels: np.ndarray, columns: int, tile: int = 96) -> bytes:
    """Images (n, c, h, w) side by side as one PNG, with small images enlarged by an integer factor."""
    count, channels, height, width = pixels.shape
    factor = max(1, tile // max(height, width))
    gap = max(2, tile // 24)
    rows = -(-count // columns)
    sheet = np.zeros(
        (rows * (height * factor + gap) - gap, columns * (width * factor + gap) - gap, channels + 1), np.uint8
    )
    for index, image in enumerate(pixels):
        large = image.transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1)
        y, x = index // columns * (height * factor + gap), index % columns * (width * factor + gap)
        sheet[y : y + large.shape[0], x : x + large.shape[1], :channels] = large
        sheet[y : y + large.shape[0], x : x + large.shape[1], channels] = 255
    return png(Image.fromarray(sheet, "LA" if channels == 1 else "RGBA"))


def picture(pixels: np.ndarray, least: int = SIDE) -> bytes:
    """One image (c, h, w) as PNG, enlarged by an integer factor to a minimum size in pixels if it is smaller."""
    return png(_enlarged(pixels, least))


def animation(frames: np.ndarray, side: int = 240) -> bytes:
    """The first frames of a clip (t, c, h, w) as an animated PNG, 8 a second, at most ``side`` pixels large."""
    images = [_enlarged(frame, side) for frame in frames[:FRAMES]]
    for image in images:
        image.thumbnail((side, side))
    content = io.BytesIO()
    images[0].save(content, "PNG", save_all=True, append_images=images[1:], duration=125, loop=0)
    return content.getvalue()


def _enlarged(pixels: np.ndarray, least: int) -> Image.Image:
    factor = max(1, least // max(pixels.shape[1:]))
    large = pixels.transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1)
    return Image.fromarray(large[:, :, 0] if large.shape[2] == 1 else large)


def png(image: Image.Image) -> bytes:
    """An image as PNG."""
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _image(content: bytes, words: str, place: Any = st, width: int | Literal["stretch"] = "stretch") -> None:
    """Show a PNG as it is: by default, Streamlit makes a JPEG of it, which neither moves nor has the same pixels."""
    place.image(content, width=width, alt=words, output_format="PNG")


def show_row(found: Gallery, start: int, count: int, words: str) -> None:
    """Show samples ``start`` to ``start + count`` in a row, for any modality."""
    if found.pixels is not None and found.pixels.ndim == 4:
        st.image(strip(found.pixels[start : start + count], count), width="stretch", alt=words)
    elif found.pixels is not None:
        columns = st.columns(count)
        for column, clip in zip(columns, found.pixels[start : start + count], strict=False):
            _image(animation(clip), words, column)
    elif found.texts:
        columns = st.columns(min(count, 3))
        for index, text in enumerate(found.texts[start : start + count]):
            columns[index % len(columns)].html(f'<p class="ev-text">{html(text, 600)}</p>')
    elif found.waves:
        columns = st.columns(min(count, 4))
        for index, wave in enumerate(found.waves[start : start + count]):
            columns[index % len(columns)].audio(wave, sample_rate=found.rate, alt=f"{words} {start + index}")


def show_one(found: Gallery, index: int, words: str, width: int | Literal["stretch"] = "stretch") -> None:
    """Show one sample, enlarged."""
    if found.pixels is not None:
        one, side = found.pixels[index], width if isinstance(width, int) else SIDE
        _image(picture(one) if one.ndim == 3 else animation(one, side), words, width=width)
    elif found.texts:
        st.html(f'<p class="ev-text">{html(found.texts[index], 20_000)}</p>')
    elif found.waves:
        st.audio(found.waves[index], sample_rate=found.rate, alt=words)


def show_kept(sample: KeptSample, words: str) -> None:
    """Show one sample that an evaluation kept, or why it did not."""
    if sample.text is not None:
        st.html(paragraph(sample.text))
    elif sample.pixels is not None:
        show_one(Gallery(sample.pixels[None]), 0, words)
    elif sample.wave is not None:
        show_one(Gallery(waves=[sample.wave], rate=sample.rate), 0, words)
    else:
        st.caption(safe(sample.absent, 500))
