"""Decoding MP4 files: ours, which decodes in sandboxed processes, beside loops over PyAV in this process."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import torch
from race import Contenders

from evalsvc.inputs.videos.clips import Clip
from evalsvc.inputs.videos.files import VideoFiles

FILES, FRAMES, SIDE, BATCH = 50, 32, 256, 8
CORES = len(os.sched_getaffinity(0))


@functools.cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """Videos of smooth noise that moves, as x264 writes them by default."""
    made = tempfile.TemporaryDirectory()
    for number in range(FILES):
        random = torch.Generator().manual_seed(number)
        coarse = torch.rand(1, 3, FRAMES // 4, 32, 32, generator=random) * 255
        frames = torch.nn.functional.interpolate(coarse, (FRAMES, SIDE, SIDE), mode="trilinear")[0].to(torch.uint8)
        with av.open(f"{made.name}/{number:02}.mp4", "w") as file:
            stream = file.add_stream("libx264", rate=25)
            stream.width = stream.height = SIDE
            stream.pix_fmt = "yuv420p"
            for frame in frames.permute(1, 2, 3, 0).numpy():
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            file.mux(stream.encode())
    return made


def contenders(times: int = 1) -> Contenders:
    """All frames of every file as tensors of eight clips, the files ``times`` over."""
    place = Path(folder().name)
    names = sorted(each.name for each in place.iterdir()) * times

    def ours() -> float:
        videos = VideoFiles(place, names, Clip())
        videos.read(0, 1)
        return _mean(videos.read(start, start + BATCH).pixels for start in range(0, len(names), BATCH))

    def decode(name: str, threads: int, scaling: int) -> np.ndarray:
        with av.open(str(place / name)) as file:
            stream = file.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
            converted = (frame.reformat(format="rgb24", threads=scaling) for frame in file.decode(stream))
            return np.stack([frame.to_ndarray() for frame in converted])

    def loop(threads: int, scaling: int) -> float:
        return _mean(_batch([decode(name, threads, scaling) for name in part]) for part in _parts(names))

    def pool() -> float:
        with ThreadPoolExecutor(CORES) as executor:
            one = functools.partial(decode, threads=1, scaling=1)
            return _mean(_batch(list(executor.map(one, part))) for part in _parts(names))

    return {
        "evalsvc": ours,
        f"PyAV's loop, {CORES} threads": lambda: loop(CORES, 0),
        f"PyAV's loop, {CORES} threads, one of swscale": lambda: loop(CORES, 1),
        f"PyAV in {CORES} Python threads, one of swscale": pool,
    }


def ten_times() -> Contenders:
    return contenders(10)


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + BATCH] for start in range(0, len(names), BATCH))


def _batch(clips: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3)


def _mean(batches: Iterator[torch.Tensor]) -> float:
    """Of the first value of each batch: the loops differ in decoding alone."""
    return float(np.mean([float(batch[0, 0, 0, 0, 0]) for batch in batches]))
