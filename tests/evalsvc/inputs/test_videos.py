"""Sets of videos: files, arrays and folders of frames; decoding in a sandbox; what cannot be read."""

import mmap
import os
import re
import signal
import struct
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from evalsvc.core.errors import InputError
from evalsvc.core.sandbox import reachability
from evalsvc.inputs import prefetch
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.sample_sets import open_samples, unreadable
from evalsvc.inputs.videos import decoding_process, sandboxed_decoding
from evalsvc.inputs.videos.clips import BadVideoError, Clip
from evalsvc.inputs.videos.files import VideoDecoder

from .video_files import numbers, write

GIF = b"GIF89a%s" + bytes.fromhex("800000ffffff0000002c000000000100010000020144003b")


def reading(**options):
    return ReadingOptions.of(options, "the test")


def frame_numbers(videos):
    return [numbers(clip) for clip in videos.pixels]


# --- files ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(12):
        group = folder / ("cats" if number < 6 else "dogs")
        group.mkdir(exist_ok=True)
        write(group / f"{number:02}.mp4", range(number, number + 8))
    write(folder / "dogs" / "12.webm", range(12, 21), codec="libvpx")
    return folder


def test_a_folder_of_videos_has_a_clip_of_each_in_any_order(folder, monkeypatch):
    monkeypatch.setattr(prefetch, "WORTH", 0)
    monkeypatch.setattr(prefetch, "_cores", lambda: 2)
    samples = open_samples(folder, reading=reading(frames=5))
    assert (samples.modality, len(samples), samples.names[:2]) == ("video", 13, ("cats/00", "cats/01"))
    assert samples.labels.tolist() == [0] * 6 + [1] * 7
    clips = samples.read(0, 3)
    assert clips.pixels.shape == (3, 5, 3, 24, 32)
    assert frame_numbers(clips) == [[n, n + 1, n + 2, n + 3, n + 4] for n in range(3)]
    assert samples._feed._crew is None, "one reading tells what decoding costs"
    ahead = [frame_numbers(samples.read(start, start + 4)) for start in (3, 7, 11)]
    assert [clip[0] for part in ahead for clip in part] == list(range(3, 13))
    samples.expect([9, 2, 5])
    assert [clip[0] for clip in frame_numbers(samples.read_at([9, 2, 5]))] == [9, 2, 5]
    assert [clip[0] for clip in frame_numbers(samples.read_at([12, 0]))] == [12, 0]


def test_clips_of_several_lengths_or_sizes_are_refused_with_the_way_out(folder, tmp_path):
    with pytest.raises(InputError, match=r"mixes lengths: dogs/12.webm has 9 frames and the first video 8: cut"):
        open_samples(folder).read(11, 13)
    write(tmp_path / "a.mp4")
    write(tmp_path / "b.mp4", size=(48, 32))
    with pytest.raises(InputError, match="mixes sizes: b.mp4 has 48 x 32 pixels in 3 channels and the first"):
        open_samples(tmp_path).read(1, 2)


def test_options_of_other_formats_are_refused(folder):
    with pytest.raises(InputError, match=r"option rate does not apply to .*: use frames or fps, or omit it"):
        open_samples(folder, reading=reading(rate=16_000))


def test_videos_need_their_extra(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"contains videos, which need an extra: pip install 'evalsvc\[video\]'"):
        open_samples(folder)


# --- bad files ---


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    whole = write(folder / "good.mp4").read_bytes()
    secret = write(folder.parent / "secret.mp4")
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.webm").write_bytes(b"")
    for name, side in (("huge.gif", 30_000), ("large.gif", 12_000)):
        (folder / name).write_bytes(GIF % struct.pack("<HH", side, side))
    (folder / "hls.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n")
    (folder / "concat.avi").write_text(f"ffconcat version 1.0\nfile '{secret}'\n")
    Image.new("RGB", (8, 8)).save(folder / "picture.mp4", "PNG")
    with av.open(str(folder / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.rate = 8000
        file.mux([*stream.encode(frame), *stream.encode()])
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    write(folder / "encrypted.mp4", container=key)
    write(folder / "short.mov", range(3))
    return folder


FAULTS = {
    "concat.avi": "its content is not a known video format",
    "cut.mp4": r"it is truncated: [\d,]+ bytes are missing",
    "empty.webm": "its content is not a known video format",
    "encrypted.mp4": "it is encrypted",
    "hls.mp4": "its content is not a known video format",
    "huge.gif": "it is damaged or far too large",
    "large.gif": "its frames of 12000 x 12000 have more than 67108864 pixels",
    "picture.mp4": "its content is not a known video format",
    "short.mov": "it has 3 frames, fewer than the 4 of a clip",
    "sound.mp4": "it has no video stream",
    "text.mp4": "its content is not a known video format",
}


def test_each_bad_file_is_one_sentence_and_can_be_left_out(bad):
    samples = open_samples(bad, reading=reading(frames=4))
    answers = dict(zip(FAULTS, samples._decoder.decode(list(FAULTS)), strict=True))
    for name, fault in FAULTS.items():
        assert isinstance(answers[name], str), name
        assert answers[name].startswith(f"{bad / name} is not a readable video ("), answers[name]
        assert re.search(fault, answers[name]), answers[name]
    named = unreadable(samples)
    assert named == tuple(FAULTS)
    rest = open_samples(bad, named, reading(frames=4))
    assert (len(rest), rest.skipped, frame_numbers(rest.read(0, 1))) == (1, named, [[0, 1, 2, 3]])
    with pytest.raises(InputError, match=r"concat.avi is not a readable video .*: repair or remove it, .* --skip-bad"):
        samples.read(0, 1)


# --- the sandbox ---


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """Decode a file by a replaced decoder, in a child of this process."""
    slot = mmap.mmap(-1, 1000)
    monkeypatch.setattr(decoding_process, "SECONDS", 0.3)

    def decode(frames_of):
        monkeypatch.setattr(sandboxed_decoding, "frames_of", frames_of)
        (tmp_path / "a.mp4").write_bytes(b"content")
        child = decoding_process.Sandbox([slot], Clip())
        found = [decoding_process.decode(child, 0, 0, tmp_path / "a.mp4") for _ in range(2)]
        if child._child:
            os.kill(child._child, signal.SIGKILL)
            os.waitpid(child._child, 0)
        return found

    return decode


def test_a_decoder_can_reach_nothing_but_its_file(sandbox):
    def look(file, clip):
        raise BadVideoError(f"{file.read()!r}, {reachability.probe(os.getppid(), kept=2)}")
        yield

    for answer in sandbox(look):
        assert answer.endswith("(b'content', [])")


def test_a_file_that_crashes_its_decoder_or_never_ends_is_named_and_the_next_is_read(sandbox):
    def crash(file, clip):
        os.kill(os.getpid(), signal.SIGSEGV)
        yield

    def endless(file, clip):
        time.sleep(60)
        yield

    for frames_of, fault in ((crash, r"it crashed its decoder (signal 11)"), (endless, "its decoding takes too long")):
        for answer in sandbox(frames_of):
            assert answer.endswith(f"a.mp4 is not a readable video ({fault})")


def test_a_decoder_that_was_taken_over_can_claim_no_memory_beyond_its_slot(sandbox, monkeypatch):
    def one(file, clip):
        yield np.zeros((2, 3, 3), np.uint8)

    assert sandbox(one) == [[1, 2, 3, 3]] * 2
    for lie in ([1000, 2, 3, 3], [-1, 2, 3, 3], [1, 2, 3], {"a": 1}, [[1]], "x" * 10_000):
        monkeypatch.setattr(sandboxed_decoding, "_decode", lambda *_, lie=lie: lie)
        assert all("is not a readable video (it crashed its decoder" in answer for answer in sandbox(one))
    monkeypatch.setattr(sandboxed_decoding, "_decode", lambda *_: "\x1b[2J" + "long" * 200)
    assert sandbox(one)[0].count("\x1b") == 0


def test_a_large_file_is_read_through_a_small_window(tmp_path, monkeypatch):
    monkeypatch.setattr(sandboxed_decoding, "WINDOW", mmap.PAGESIZE)
    path = write(tmp_path / "a.mp4", range(20), size=(320, 240))
    assert path.stat().st_size > 3 * mmap.PAGESIZE
    slot = mmap.mmap(-1, 20 * 320 * 240 * 3)
    child = decoding_process.Sandbox([slot], Clip())
    assert decoding_process.decode(child, 0, 0, path) == [20, 240, 320, 3]
    assert numbers(np.frombuffer(slot, np.uint8).reshape(20, 240, 320, 3).copy()) == list(range(20))


def test_a_clip_too_large_to_hold_is_refused(folder, monkeypatch):
    monkeypatch.setattr("evalsvc.inputs.videos.files.MAX_BYTES", 10_000)
    (answer,) = VideoDecoder(folder, Clip()).decode(["cats/00.mp4"])
    assert "its clip has more than 10,000 bytes: use fewer frames" in answer


# --- arrays ---


CLIPS = np.arange(4 * 5 * 6 * 8 * 3).reshape(4, 5, 6, 8, 3).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_arrays_of_five_axes_are_videos_in_either_layout(name, tmp_path):
    for layout in (CLIPS, CLIPS.transpose(0, 1, 4, 2, 3)):
        path = tmp_path / name
        np.save(path, layout) if name == "a.npy" else np.savez(path, x=layout, y=np.arange(4))
        samples = open_samples(path)
        assert (samples.modality, len(samples)) == ("video", 4)
        assert samples.labels.tolist() == ([-1] * 4 if name == "a.npy" else [0, 1, 2, 3])
        assert np.array_equal(samples.read(1, 3).pixels.numpy().transpose(0, 1, 3, 4, 2), CLIPS[1:3])
        assert np.array_equal(samples.read_at([3, 0]).pixels.numpy()[1].transpose(0, 2, 3, 1), CLIPS[0])
        assert open_samples(path, reading=reading(frames=2)).read(0, 1).pixels.shape == (1, 2, 3, 6, 8)
        with pytest.raises(InputError, match="has clips of 5 frames, fewer than 6"):
            open_samples(path, reading=reading(frames=6))
    np.save(tmp_path / "images.npy", CLIPS[0])
    assert open_samples(tmp_path / "images.npy").modality == "image"
    np.save(tmp_path / "floats.npy", CLIPS / 255)
    with pytest.raises(InputError, match=r"dtype float64 .* expected uint8 videos \(n, t, h, w, c\)"):
        open_samples(tmp_path / "floats.npy")


def test_a_folder_of_arrays_has_a_clip_in_each(tmp_path):
    for number, clip in enumerate(CLIPS):
        np.save(tmp_path / f"{number}.npy", clip if number % 2 else clip.transpose(0, 3, 1, 2))
    samples = open_samples(tmp_path)
    assert (samples.modality, samples.names) == ("video", ("0", "1", "2", "3"))
    assert np.array_equal(samples.read(0, 4).pixels.numpy().transpose(0, 1, 3, 4, 2), CLIPS)
    np.save(tmp_path / "4.npy", CLIPS[0].astype(object), allow_pickle=True)
    np.save(tmp_path / "5.npy", CLIPS[0, 0])
    (tmp_path / "6.npy").write_bytes((tmp_path / "0.npy").read_bytes()[:300])
    samples = open_samples(tmp_path)
    assert unreadable(samples) == ("4.npy", "5.npy", "6.npy")
    with pytest.raises(InputError, match=r"5.npy is not a video \(it has uint8 of shape .*\): use uint8 frames"):
        samples.read(5, 6)
    np.save(tmp_path / "5.npy", CLIPS[0, :4])
    with pytest.raises(InputError, match="mixes lengths: 5.npy has 4 frames and the first video 5"):
        samples.read(5, 6)


# --- frames ---


def test_folders_of_frames_are_videos_if_their_number_is_given(tmp_path):
    for video, first in (("cat/one", 0), ("cat/two", 3), ("dog/one", 6)):
        (tmp_path / video).mkdir(parents=True)
        for number in range(12):
            shade = Image.new("L" if number else "RGB", (8, 6), ((first + number) * 12,) * (1 if number else 3))
            shade.save(tmp_path / video / f"f{number}.png")
    assert open_samples(tmp_path).modality == "image"
    samples = open_samples(tmp_path, reading=reading(frames=11))
    assert (samples.modality, samples.names) == ("video", ("cat/one", "cat/two", "dog/one"))
    assert samples.labels.tolist() == [0, 0, 1]
    assert samples.read(0, 3).pixels.shape == (3, 11, 3, 6, 8)
    assert frame_numbers(samples.read(0, 3)) == [list(range(first, first + 11)) for first in (0, 3, 6)], "f10 after f9"
    assert frame_numbers(samples.read_at([2, 0])) == [list(range(6, 17)), list(range(11))]
    Path(tmp_path / "cat/two/f10.png").unlink()
    Path(tmp_path / "cat/two/f11.png").unlink()
    (tmp_path / "dog/one/f3.png").write_bytes(b"no image")
    samples = open_samples(tmp_path, reading=reading(frames=11))
    assert unreadable(samples) == ("cat/two", "dog/one")
    with pytest.raises(InputError, match="cat/two has 10 frames, fewer than the 11 of a clip"):
        samples.read(0, 2)
    with pytest.raises(InputError, match="f3.png is not a readable image"):
        samples.read_at([2])
    with pytest.raises(InputError, match="option fps does not apply to .*: use frames"):
        open_samples(tmp_path, reading=reading(frames=11, fps=2))
    Image.new("L", (8, 6)).save(tmp_path / "cover.png")
    with pytest.raises(InputError, match="contains images beside its folders: give each video a folder of its own"):
        open_samples(tmp_path, reading=reading(frames=11))
