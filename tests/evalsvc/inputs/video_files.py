"""Small videos for tests, whose frames say which they are by their brightness."""

from fractions import Fraction

import av
import numpy as np

STEP = 12
"""Levels between two frames."""


def write(path, levels=range(10), *, size=(32, 24), codec="libx264", pixels="yuv420p", fps=25, times=None, **options):
    """Frames of one gray level each, STEP times the given number; ``times`` are in milliseconds."""
    width, height = size
    shade = (np.full((height, width, 3), level * STEP, np.uint8) for level in levels)
    return write_frames(path, shade, codec=codec, pixels=pixels, fps=fps, times=times, **options)


def write_frames(path, frames, *, codec="libx264", pixels="yuv420p", fps=25, times=None, container=None):
    """Encode RGB frames (h, w, 3) as exactly as the codec can."""
    exact = {
        "libx264": {"crf": "0", "preset": "ultrafast"},
        "libvpx": {"crf": "4", "b": "10M"},
        "mpeg4": {"qscale": "2"},
    }
    frames = list(frames)
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=fps, options=exact.get(codec, {}))
        stream.pix_fmt = pixels
        stream.height, stream.width = frames[0].shape[:2]
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for place, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pixels)
            if times:
                frame.pts, frame.time_base = times[place], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def numbers(frames):
    """Which frames of :func:`write` these are."""
    return [round(float(np.asarray(frame).mean()) / STEP) for frame in frames]
