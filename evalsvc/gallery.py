"""Samples to look at later: the first of a run whole, thumbnails of some more, and pictures of training neighbours."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from evalsvc.plugins import SampleSet
from evalsvc.samples import Images, MixedImages, Samples, Sounds, Texts, Videos

SIDE = 256
THUMBNAILS = 500
"""Samples of a run of which a thumbnail is made."""
EDGE = 48
CLIPS = 16
"""Videos are large: no more of them are kept, whatever the suite asks for."""

Arrays = Mapping[str, np.ndarray]


class Shown:
    """The samples of one shard that are kept to be looked at, collected batch by batch from sample ``start`` on."""

    def __init__(self, start: int, whole: int) -> None:
        self._start, self._whole = start, whole
        self._seen = 0
        self._images: list[np.ndarray] = []
        self._thumbnails: list[np.ndarray] = []
        self._waves: list[np.ndarray] = []
        self._rate = 0

    def add(self, samples: Samples) -> None:
        """The next batch."""
        whole, small = self._room(self._whole), self._room(THUMBNAILS if self._whole else 0)
        self._seen += len(samples)
        if isinstance(samples, Images | MixedImages):
            self._images += [image.cpu().numpy() for image in samples.items[:whole]]
            self._thumbnails += [thumbnail(image.cpu().numpy()) for image in samples.items[:small]]
        elif isinstance(samples, Videos):
            clips = samples.pixels[: min(whole, CLIPS)].cpu().numpy()
            self._images += list(clips)
            middle = samples.pixels[:small, samples.pixels.shape[1] // 2].cpu().numpy()
            self._thumbnails += [thumbnail(frame) for frame in middle]
        elif isinstance(samples, Sounds):
            self._waves += [wave.cpu().numpy() for wave in samples.waves[:whole]]
            self._rate = samples.rate

    def arrays(self) -> dict[str, np.ndarray]:
        """What a shard keeps; texts are among its arrays anyway."""
        found: dict[str, np.ndarray] = {}
        if self._images:
            found["gallery"] = as_gallery(self._images)
        if self._thumbnails:
            found["thumbnails"] = as_gallery(self._thumbnails, EDGE)
        if self._waves:
            found["waves"] = np.concatenate(self._waves)
            found["lengths"] = np.array([len(wave) for wave in self._waves])
            found["rate"] = np.array([self._rate])
        return found

    def _room(self, most: int) -> int:
        return max(0, most - self._start - self._seen)


def joined(shards: Sequence[Arrays], whole: int) -> dict[str, dict[str, np.ndarray]]:
    """What shards kept, as the arrays of one file a kind: ``gallery`` and ``thumbnails``."""
    files: dict[str, dict[str, np.ndarray]] = {}
    if images := [image for shard in shards for image in shard.get("gallery", ())]:
        files["gallery"] = {"pixels": as_gallery(images)}
    if small := [image for shard in shards for image in shard.get("thumbnails", ())]:
        files["thumbnails"] = {"pixels": as_gallery(small, EDGE)}
    if texts := [text for shard in shards if "texts" in shard for text in json.loads(shard["texts"].tobytes())][:whole]:
        files["gallery"] = {"texts": np.frombuffer(json.dumps(texts).encode(), np.uint8)}
    if sounds := [shard for shard in shards if "waves" in shard]:
        waves = {name: np.concatenate([shard[name] for shard in sounds]) for name in ("waves", "lengths")}
        files["gallery"] = waves | {"rate": sounds[0]["rate"]}
    return files


def of_reference(samples: SampleSet, whole: int) -> dict[str, dict[str, np.ndarray]]:
    """The same of the first real samples."""
    shown, first = Shown(0, whole), samples.read(0, min(len(samples), THUMBNAILS))
    shown.add(first)
    texts = {"texts": np.frombuffer(json.dumps(first.items).encode(), np.uint8)} if isinstance(first, Texts) else {}
    return joined([shown.arrays() | texts], whole)


def pictures_of(samples: SampleSet, indices: Int64[np.ndarray, "n k"]) -> UInt8[np.ndarray, "nk c h w"] | None:
    """Thumbnails of the real samples at ``indices``, row by row; ``None`` of none, and of what is not seen."""
    if not indices.size or samples.modality not in ("image", "video"):
        return None
    wanted: Collection[int] = dict.fromkeys(indices.ravel().tolist())
    found = {}
    for index in wanted:
        shown = Shown(0, 1)
        shown.add(samples.read(index, index + 1))
        found[index] = shown.arrays()["thumbnails"][0]
    return as_gallery([found[index] for index in indices.ravel().tolist()], EDGE)


def as_gallery(images: Sequence[UInt8[np.ndarray, ...]], side: int = SIDE) -> UInt8[np.ndarray, "n ..."]:
    """Images of one size as they are; of several, each whole, at most ``side`` wide and high, centred on white."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    return np.stack([_on_canvas(image, side) for image in images])


def thumbnail(image: UInt8[np.ndarray, "c h w"]) -> UInt8[np.ndarray, "c h w"]:
    """The image, at most ``EDGE`` wide and high."""
    if max(image.shape[1:]) <= EDGE:
        return image
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    picture.thumbnail((EDGE, EDGE))
    small = np.asarray(picture)
    return small[None] if small.ndim == 2 else small.transpose(2, 0, 1)


def _on_canvas(image: UInt8[np.ndarray, "c h w"], side: int) -> UInt8[np.ndarray, "3 s s"]:
    picture = Image.fromarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0).copy())
    picture.thumbnail((side, side))
    canvas = Image.new("RGB", (side, side), "white")
    canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return np.asarray(canvas).transpose(2, 0, 1)
