"""Frames of video files: which, in which color, and what is refused."""

import io
import struct

import av
import numpy as np
import pytest

from evalsvc.inputs.videos.clips import BadVideoError, Clip
from evalsvc.inputs.videos.completeness import missing_bytes
from evalsvc.inputs.videos.decoding import frames_of

from .video_files import STEP, numbers, write, write_frames

CONTAINERS = {
    "a.mp4": {},
    "a.mov": {},
    "a.mkv": {},
    "a.webm": {"codec": "libvpx"},
    "a.avi": {"codec": "mpeg4"},
    "a.gif": {"codec": "gif", "pixels": "rgb8"},
}


def read(path, **clip):
    with path.open("rb") as file:
        return list(frames_of(file, Clip(**clip)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return {name: write(folder / name, **how) for name, how in CONTAINERS.items()}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_has_the_same_frames(name, files):
    assert numbers(read(files[name])) == list(range(10))
    assert numbers(read(files[name], frames=4)) == [0, 1, 2, 3]
    assert numbers(read(files[name], fps=10)) == [0, 2, 5, 7], "the last that began by 0, 0.1, 0.2 and 0.3 s of 0.4"
    assert numbers(read(files[name], frames=6, fps=50)) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(BadVideoError, match="it has 4 frames at 10 fps, fewer than the 5 of a clip"):
        read(files[name], frames=5, fps=10)


def test_frames_are_taken_by_their_times_not_by_their_numbers(tmp_path):
    """Variable frame rate: frame k is the last that is shown by k / fps."""
    times = [0, 100, 150, 400, 420, 900]
    for name in ("a.mkv", "a.mp4"):
        path = write(tmp_path / name, range(6), times=times)
        expected = [max(i for i, time in enumerate(times) if time <= 100 * k) for k in range(9)]
        assert numbers(read(path, frames=9, fps=10)) == expected
        shifted = write(tmp_path / f"later-{name}", range(6), times=[time + 5000 for time in times])
        assert numbers(read(shifted, frames=9, fps=10)) == expected, "times count from the first frame"


def test_rounded_timestamps_skip_no_frame(tmp_path):
    """Matroska rounds to milliseconds: the third of 30 frames a second is at 67 ms, which is after 2 / 30 s."""
    path = write(tmp_path / "a.mkv", range(12), fps=30)
    assert numbers(read(path, fps=30)) == list(range(12))


@pytest.mark.parametrize(("matrix", "full"), [("ITU709", False), ("ITU601", False), ("ITU709", True)])
def test_colors_are_converted_as_the_file_is_tagged(matrix, full, tmp_path):
    colors = [(255, 0, 0), (0, 255, 0), (30, 60, 200), (128, 128, 128)]
    frames = [np.full((32, 32, 3), color, np.uint8) for color in colors]
    tags = {"dst_colorspace": matrix, "dst_color_range": "JPEG" if full else "MPEG"}
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv444p"
        stream.codec_context.colorspace = {"ITU709": 1, "ITU601": 6}[matrix]
        stream.codec_context.color_range = 2 if full else 1
        for pixels in frames:
            file.mux(
                stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv444p", **tags))
            )
        file.mux(stream.encode())
    found = [frame.mean((0, 1)) for frame in read(tmp_path / "a.mp4")]
    assert np.abs(np.array(found) - colors).max() <= 3


def test_gray_videos_become_rgb(tmp_path):
    frames = read(write(tmp_path / "a.mkv", codec="ffv1", pixels="gray"))
    assert frames[3].shape == (24, 32, 3)
    assert numbers(frames) == list(range(10))


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_turned_videos_are_upright(matrix, turns, tmp_path):
    corner = np.zeros((24, 32, 3), np.uint8)
    corner[:8, :8] = 255
    path = write_frames(tmp_path / "a.mp4", [corner] * 3)
    path.write_bytes(turned(path.read_bytes(), matrix))
    assert np.abs(read(path)[0].astype(int) - np.rot90(corner, turns)).max() <= 8


def test_a_mirrored_video_is_refused(tmp_path):
    path = write(tmp_path / "a.mp4")
    path.write_bytes(turned(path.read_bytes(), (-1, 0, 0, 1)))
    with pytest.raises(BadVideoError, match="mirrored"):
        read(path)


def turned(content, matrix):
    """An MP4 with this upper left part in the display matrix of its track."""
    a, b, c, d = (each * 2**16 for each in matrix)
    place = content.index(b"tkhd") + 4 + 40
    return content[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 2**30) + content[place + 36 :]


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_that_ends_early_is_an_error_wherever_it_was_cut(name, files):
    whole = files[name].read_bytes()
    assert missing_bytes(io.BytesIO(whole)) == 0
    for length in {len(whole) - 1, len(whole) * 9 // 10, len(whole) // 2, 200}:
        with pytest.raises(BadVideoError, match=r"truncated|damaged|ends after"):
            list(frames_of(io.BytesIO(whole[:length]), Clip(frames=2)))


def test_a_truncated_file_is_an_error_even_if_its_index_comes_first(tmp_path):
    path = write(tmp_path / "a.mp4", container={"movflags": "+faststart"})
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with pytest.raises(BadVideoError, match="it is truncated: 10 bytes are missing"):
        list(frames_of(io.BytesIO(content[:-10]), Clip(frames=2)))


def test_a_stream_without_lengths_is_read_to_its_end(tmp_path):
    """As recorders in browsers write: the size of the segment is unknown, and so is the duration."""
    path = write(tmp_path / "a.mkv", container={"live": "1"})
    assert missing_bytes(io.BytesIO(path.read_bytes())) == 0
    assert numbers(read(path)) == list(range(10))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_sound_beside_a_video_changes_nothing(name, tmp_path):
    """Also sound that is longer, and that begins before the video because its decoder needs a first packet."""
    with av.open(str(tmp_path / name), "w") as file:
        video, sound = file.add_stream("libx264", rate=25), file.add_stream("aac", rate=8000)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        for level in range(10):
            shade = np.full((24, 32, 3), level * STEP, np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        for block in range(8):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.rate, silence.pts = 8000, block * 1024
            file.mux(sound.encode(silence))
        file.mux([*video.encode(), *sound.encode()])
    assert numbers(read(tmp_path / name)) == list(range(10))


def test_a_hole_in_a_video_does_not_shorten_it(files):
    for name in ("a.mp4", "a.mkv", "a.webm"):
        content = bytearray(files[name].read_bytes())
        middle = slice(len(content) // 2, len(content) * 3 // 4)
        content[middle] = bytes(middle.stop - middle.start)
        with pytest.raises(BadVideoError, match=r"damaged|ends after"):
            list(frames_of(io.BytesIO(content), Clip()))
