"""Decoding of a video file to the frames of its clip. Imported by decoding processes only, since it imports PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import av
import av.audio.codeccontext
import av.subtitles.codeccontext
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from evalsvc.inputs.videos.clips import MAX_PIXELS, BadVideoError, Clip
from evalsvc.inputs.videos.completeness import missing_bytes

Frame = UInt8[np.ndarray, "h w 3"]
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif"
"""The formats that FFmpeg may recognize. Playlists, which name further files and addresses, are not among them."""
_ONLY_FILE = {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
_CODEC = {"max_pixels": str(MAX_PIXELS), "err_detect": "explode"}
_LEAST_TOLERANCE = Fraction(1, 10)
_MOST_ROUNDING = Fraction(1, 1000)
_TURNS = {(1, 0, 0, 1): 0, (0, -1, 1, 0): 1, (-1, 0, 0, -1): 2, (0, 1, -1, 0): 3}
"""Turns to the left by the upper left part of a display matrix."""


def frames_of(file: BinaryIO, clip: Clip) -> Iterator[Frame]:
    """The frames of a clip, in order: RGB, upright.

    swscale converts YUV by the matrix and range that the file is tagged with (BT.601 and limited range without tags);
    alpha is dropped. With ``clip.fps``, frame k is the last one whose time is at most k / fps after the first frame.

    Raises:
        BadVideoError: the file is truncated, damaged, encrypted, too large or shorter than the clip, or has no video.
    """
    if missing := missing_bytes(file):
        raise BadVideoError(f"it is truncated: {missing:,} bytes are missing")
    try:
        with av.open(file, options=_ONLY_FILE) as container:
            decoded = _at_times(_decoded(container), clip.fps) if clip.fps else _each(_decoded(container))
            count = 0
            for count, frame in enumerate(decoded, 1):
                yield frame
                if count == clip.frames:
                    return
    except av.FFmpegError as error:
        raise BadVideoError(_reason(error)) from None
    if not count or clip.frames:
        at = f" at {clip.fps:g} fps" if clip.fps else ""
        least = f", fewer than the {clip.frames} of a clip" if clip.frames else ""
        raise BadVideoError(f"it has {count} frames{at}{least}")


def _reason(error: av.FFmpegError) -> str:
    if isinstance(error, av.InvalidDataError | av.EOFError | av.ArgumentError):  # the last if not on the list above
        return "it is damaged or far too large, or its content is not a known video format"
    return str(error.strerror or error)


def _decoded(container: Any) -> Iterator[Any]:
    """All frames of the first video stream; an early end, which FFmpeg does not report, raises."""
    stream = next((each for each in container.streams.video if not each.disposition & Disposition.attached_pic), None)
    if stream is None:
        raise BadVideoError("it has no video stream")
    context = stream.codec_context
    if context is None:
        raise BadVideoError("its codec is unknown")
    _refuse_bomb(context.width, context.height)
    context.thread_count, context.options = 1, _CODEC
    size, begin, end = None, Fraction(0), Fraction(0)
    for packet in container.demux():
        if packet.pts is not None:
            begin = min(begin, packet.pts * packet.time_base)  # of sound that has to be decoded before the beginning
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if packet.stream.index != stream.index:
            continue
        if packet.has_sidedata("encryption_info"):
            raise BadVideoError("it is encrypted")
        if packet.is_corrupt:
            raise BadVideoError("it is damaged")
        for frame in packet.decode():
            if frame.is_corrupt:
                raise BadVideoError("it is damaged")
            size = size or (frame.width, frame.height)
            if (frame.width, frame.height) != size:
                raise BadVideoError("the size of its frames changes")
            yield frame
    # Files of the MP4 family declare their size, and their durations may contain parts that are edited out.
    if container.duration and not container.format.name.startswith("mov"):
        rate = stream.average_rate
        due = Fraction(container.duration, av.time_base) - max(_LEAST_TOLERANCE, 2 / rate if rate else 0)
        if end - begin < due:
            raise BadVideoError(f"it ends after {float(end):.2f} s of {container.duration / av.time_base:.2f} s")


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadVideoError(f"its frames of {width} x {height} have more than {MAX_PIXELS} pixels")


def _each(frames: Iterator[Any]) -> Iterator[Frame]:
    convert = _Converter()
    return map(convert, frames)


def _at_times(frames: Iterator[Any], fps: float) -> Iterator[Frame]:
    """Frames at 0, 1 / fps, 2 / fps, ... after the first; each is the last one not later, within half a tick."""
    step, convert = 1 / Fraction(fps), _Converter()
    shown, first, due, count = None, Fraction(0), Fraction(0), 0
    for frame in frames:
        if frame.pts is None:
            raise BadVideoError("it has frames without timestamps: omit fps")
        time = frame.pts * frame.time_base
        if shown is None:
            first = time
        elif time < shown.pts * shown.time_base:
            raise BadVideoError("its timestamps go backward")
        else:
            pixels = None
            while due < time - first - _rounding(frame):
                pixels = convert(shown) if pixels is None else pixels
                yield pixels
                count += 1
                due = count * step
        shown = frame
    if shown is None:
        return
    end = (shown.pts + max(1, shown.duration or 0)) * shown.time_base - first
    pixels = convert(shown)
    while due < end - _rounding(shown):
        yield pixels
        count += 1
        due = count * step


def _rounding(frame: Any) -> Fraction:
    """The largest error of a frame's time: containers round to ticks, of which some have 1,000 a second."""
    return min(Fraction(frame.time_base) / 2, _MOST_ROUNDING)


class _Converter:
    """Conversion of frames to upright RGB."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> Frame:
        # One thread: by default, swscale starts as many as there are cores for each frame.
        rgb = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return np.rot90(rgb, _quarter_turns(frame))


def _quarter_turns(frame: Any) -> int:
    """How often the frame is to be turned left."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0
    a, b, _, c, d = (np.frombuffer(matrix, np.int32)[:5] / 2**16).tolist()
    if (a, b, c, d) not in _TURNS:
        raise BadVideoError("it is to be shown mirrored, or turned by other than right angles")
    return _TURNS[a, b, c, d]
