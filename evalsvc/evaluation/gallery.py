"""Galleries: the first samples of a run, thumbnails of further samples, and pictures of training neighbors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from evalsvc.inputs.sample_order import order
from evalsvc.inputs.sample_sets import read_at
from evalsvc.plugins.interfaces import SampleSet
from evalsvc.plugins.samples import Audio, Images, MixedImages, Samples, Texts, Videos, on_host

SIDE = 256
THUMBNAILS = 500
"""Number of samples of a run with a thumbnail."""
EDGE = 48
CLIPS, FRAMES = 16, 64
"""Maximum number of videos, which are large, and of their frames."""
PIECE = 16
"""Number of real samples that are read at once."""

Arrays = Mapping[str, np.ndarray]


class GalleryCollector:
    """Samples of one shard for the gallery, collected batch by batch from sample ``start`` on."""

    def __init__(self, start: int, whole: int) -> None:
        self._start, self._whole = start, whole
        self._seen = 0
        self._images: list[np.ndarray] = []
        self._thumbnails: list[np.ndarray] = []
        self._waves: list[np.ndarray] = []
        self._rate = 0

    def add(self, samples: Samples) -> None:
        """Add the next batch."""
        whole, small = self._room(self._whole), self._room(THUMBNAILS if self._whole else 0)
        clip_room = self._room(CLIPS)
        self._seen += len(samples)
        if isinstance(samples, Images | MixedImages):
            images = _first(samples, max(whole, small))
            self._images += images[:whole]
            self._thumbnails += [thumbnail(image) for image in images[:small]]
        elif isinstance(samples, Videos):
            clips = samples.pixels[: min(whole, clip_room), :FRAMES].cpu().numpy()
            self._images += [np.stack([thumbnail(frame, SIDE) for frame in clip]) for clip in clips]
            middle = samples.pixels[:small, samples.pixels.shape[1] // 2].cpu().numpy()
            self._thumbnails += [thumbnail(frame) for frame in middle]
        elif isinstance(samples, Audio):
            self._waves += [wave.cpu().numpy() for wave in samples.waves[:whole]]
            self._rate = samples.rate

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays for the shard; texts are among its arrays already."""
        arrays: dict[str, np.ndarray] = {}
        if self._images:
            arrays["gallery"] = as_gallery(self._images)
        if self._thumbnails:
            arrays["thumbnails"] = as_gallery(self._thumbnails, EDGE)
        if self._waves:
            arrays["waves"] = np.concatenate(self._waves)
            arrays["lengths"] = np.array([len(wave) for wave in self._waves])
            arrays["rate"] = np.array([self._rate])
        return arrays

    def _room(self, most: int) -> int:
        return max(0, most - self._start - self._seen)


def _first(samples: Images | MixedImages, count: int) -> list[UInt8[np.ndarray, "c h w"]]:
    if not count:
        return []
    first = on_host(
        Images(samples.pixels[:count]) if isinstance(samples, Images) else MixedImages(samples.items[:count])
    )
    assert isinstance(first, Images | MixedImages)
    return [image.numpy() for image in first.items]


def joined(shards: Sequence[Arrays], whole: int) -> dict[str, dict[str, np.ndarray]]:
    """Galleries of shards, joined into the arrays of one file per kind: ``gallery`` and ``thumbnails``.

    ``indices`` are the positions of the samples in their source.
    """
    files: dict[str, dict[str, np.ndarray]] = {}
    if images := [image for shard in shards for image in shard.get("gallery", ())]:
        files["gallery"] = {"pixels": as_gallery(images)} | _indices(shards, "gallery")
    if small := [image for shard in shards for image in shard.get("thumbnails", ())]:
        files["thumbnails"] = {"pixels": as_gallery(small, EDGE)} | _indices(shards, "thumbnails")
    if texts := [text for shard in shards if "texts" in shard for text in json.loads(shard["texts"].tobytes())][:whole]:
        indices = np.concatenate([shard["indices"] for shard in shards if "texts" in shard])[:whole]
        files["gallery"] = {"texts": np.frombuffer(json.dumps(texts).encode(), np.uint8), "indices": indices}
    if sounds := [shard for shard in shards if "waves" in shard]:
        waves = {name: np.concatenate([shard[name] for shard in sounds]) for name in ("waves", "lengths")}
        files["gallery"] = waves | {"rate": sounds[0]["rate"]} | _indices(sounds, "lengths")
    return files


def _indices(shards: Sequence[Arrays], kept: str) -> dict[str, np.ndarray]:
    """The indices of the first samples of each shard, as many as it kept."""
    return {"indices": np.concatenate([shard["indices"][: len(shard.get(kept, ()))] for shard in shards])}


def of_reference(samples: SampleSet, whole: int) -> dict[str, dict[str, np.ndarray]]:
    """The same for real samples, selected by :func:`gallery_indices`."""
    indices = gallery_indices(len(samples))
    shown, texts = GalleryCollector(0, whole), list[str]()
    for piece in _pieces(samples, indices):
        shown.add(piece)
        texts += piece.items if isinstance(piece, Texts) else ()
    written = {"texts": np.frombuffer(json.dumps(texts).encode(), np.uint8)} if texts else {}
    return joined([shown.arrays() | written | {"indices": indices}], whole)


def gallery_indices(total: int) -> Int64[np.ndarray, " n"]:
    """The real samples for the gallery: a random subset, the same for every suite."""
    return order(0, total)[:THUMBNAILS]


def pictures_of(samples: SampleSet, indices: Int64[np.ndarray, "n k"]) -> UInt8[np.ndarray, "nk c h w"] | None:
    """Thumbnails of the real samples at ``indices``, row by row; ``None`` without samples or images."""
    if not indices.size or samples.modality not in ("image", "video"):
        return None
    wanted, places = np.unique(indices, return_inverse=True)
    pictures: list[np.ndarray] = []
    for piece in _pieces(samples, wanted):
        shown = GalleryCollector(0, PIECE)
        shown.add(piece)
        pictures += list(shown.arrays()["thumbnails"])
    return as_gallery([pictures[place] for place in places.ravel()], EDGE)


def _pieces(samples: SampleSet, indices: Int64[np.ndarray, " n"]) -> Iterator[Samples]:
    """The samples at these indices, in batches that fit into memory for any sample size."""
    for start in range(0, len(indices), PIECE):
        yield read_at(samples, indices[start : start + PIECE].tolist())


def as_gallery(images: Sequence[UInt8[np.ndarray, ...]], side: int = SIDE) -> UInt8[np.ndarray, "n ..."]:
    """Images of one size unchanged; images of several sizes at most ``side`` wide and high, centered on white."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    return np.stack([_on_canvas(image, side) for image in images])


def thumbnail(image: UInt8[np.ndarray, "c h w"], edge: int = EDGE) -> UInt8[np.ndarray, "c h w"]:
    """Scale an image down to at most ``edge`` pixels in width and height."""
    if max(image.shape[1:]) <= edge:
        return image
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    picture.thumbnail((edge, edge))
    small = np.asarray(picture)
    return small[None] if small.ndim == 2 else small.transpose(2, 0, 1)


def _on_canvas(image: UInt8[np.ndarray, "c h w"], side: int) -> UInt8[np.ndarray, "3 s s"]:
    picture = Image.fromarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0).copy())
    picture.thumbnail((side, side))
    canvas = Image.new("RGB", (side, side), "white")
    canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return np.asarray(canvas).transpose(2, 0, 1)
