"""Sound files of all formats: soundfile and soxr are the oracles."""

import io
import os
import struct
import sys

import numpy as np
import pytest
import soundfile
import soxr
import torch
from scipy.io import wavfile

from evalsvc.builtin.generators.stored import StoredSamples
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.items.media import decoded
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.references import add_reference, open_reference
from evalsvc.inputs.sample_sets import open_samples, unreadable
from evalsvc.inputs.sounds import decoding
from evalsvc.inputs.sounds import files as sound_files
from evalsvc.inputs.sounds.decoding import BadSoundError, Sound, decode
from evalsvc.plugins.samples import SampleRequest

RATE = 16_000
NOISE = np.random.default_rng(0)
SIGNAL = np.clip(
    0.5 * np.sin(np.arange(RATE * 3)[:, None] * [0.05, 0.07]) + 0.05 * NOISE.standard_normal((RATE * 3, 2)), -1, 1
).astype(np.float32)
FORMATS = {
    "wav": ("WAV", "PCM_24"),
    "flac": ("FLAC", "PCM_24"),
    "aiff": ("AIFF", "PCM_16"),
    "mp3": ("MP3", None),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}


def encoded(kind, values=SIGNAL, rate=RATE):
    file = io.BytesIO()
    container, subtype = FORMATS[kind]
    soundfile.write(file, values, rate, format=container, subtype=subtype)
    return file.getvalue()


@pytest.fixture(scope="module")
def files():
    return {kind: encoded(kind) for kind in FORMATS}


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("sounds")
    for kind, content in files.items():
        (path / f"a.{kind}").write_bytes(content)
    return path


def cut(folder, window, rate=None):
    return open_samples(folder, (), ReadingOptions(window=window, rate=rate))


def test_every_format_has_the_values_that_soundfile_reads_and_channels_are_averaged(folder, files):
    read = open_samples(folder)
    for kind, wave in zip(sorted(FORMATS), read.read(0, len(read)).waves, strict=True):
        own, rate = soundfile.read(io.BytesIO(files[kind]), dtype="float32")
        assert rate == read.read(0, 1).rate
        assert np.abs(wave.numpy() - own.mean(1)).max() <= (2**-22 if kind == "mp3" else 0), (
            kind
        )  # MP3 varies with memory


def as_before(file):
    """The values of the version that read WAV alone."""
    file.seek(0)
    _, wave = wavfile.read(file)
    if wave.dtype == np.uint8:
        wave = (wave.astype(np.float32) - 128) / 128
    else:
        wave = (wave / {"int16": 2**15, "int32": 2**31}.get(wave.dtype.name, 1)).astype(np.float32)
    return wave.mean(1) if wave.ndim == 2 else wave


@pytest.mark.filterwarnings("ignore::scipy.io.wavfile.WavFileWarning")
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 3, 9])
def test_both_readers_of_wav_give_the_same_bits(subtype, channels):
    values = NOISE.uniform(-1, 1, (999, channels))
    file = io.BytesIO()
    soundfile.write(file, values, RATE, format="WAV", subtype=subtype)
    wave = decode(file)[1]
    assert np.array_equal(wave, Sound(file).read(0, 999))
    assert np.array_equal(wave, as_before(file)), "stored features stay right"
    if subtype == "PCM_24":
        integers = np.round(values * 2**23) / 2**23
        assert np.abs(wave - integers.mean(1)).max() < 2**-22
        assert channels > 1 or np.array_equal(wave * 2**23, np.round(wave * 2**23)), "all 24 bits are kept"


def test_wav_is_read_without_the_extra_and_other_formats_say_how_to_add_it(monkeypatch, folder, tmp_path):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setitem(sys.modules, "soxr", None)
    wavfile.write(tmp_path / "a.wav", RATE, SIGNAL)
    assert len(open_samples(tmp_path).read(0, 1).waves[0]) == len(SIGNAL)
    with pytest.raises(InputError, match=r"need a reader: pip install 'evalsvc\[audio\]'"):
        open_samples(folder).read(0, 1)
    with pytest.raises(InputError, match=r"need a reader: pip install 'evalsvc\[audio\]'"):
        len(cut(tmp_path, 1))
    with pytest.raises(InputError, match=r"a.wav has 16000 Hz .*: install the resampler with pip install"):
        open_samples(tmp_path, (), ReadingOptions(rate=8000)).read(0, 1)


def test_files_of_several_rates_are_resampled_to_the_rate_that_is_asked_for(tmp_path):
    for rate in (8_000, 22_050):
        wavfile.write(tmp_path / f"{rate}.wav", rate, SIGNAL[:5000])
    with pytest.raises(InputError, match=r"8000.wav has 8000 Hz and .* 22050 Hz: resample them by option rate$"):
        open_samples(tmp_path).read(0, 2)
    read = open_samples(tmp_path, (), ReadingOptions(rate=RATE)).read(0, 2)
    assert read.rate == RATE
    for wave, rate in zip(read.waves, (22_050, 8_000), strict=True):
        assert np.array_equal(wave, soxr.resample(SIGNAL[:5000].mean(1), rate, RATE, "HQ"))


def test_windows_are_the_parts_of_the_whole_in_any_order(folder):
    whole, windows = open_samples(folder), cut(folder, 0.7)
    assert (len(windows), windows.names[:2]) == (4 * len(whole), ("a@0", "a@1"))
    order = NOISE.permutation(len(windows))
    waves = dict(zip(order.tolist(), windows.read_at(order).waves, strict=True))
    for i in range(len(whole)):
        (expected,) = whole.read(i, i + 1).waves
        for k in range(4):
            part = expected[k * 11_200 : (k + 1) * 11_200]
            assert torch.allclose(waves[4 * i + k], part, rtol=0, atol=2**-22), (i, k)
    resampled = cut(folder, 0.7, 8_000).read_at([5])
    assert np.array_equal(resampled.waves[0], soxr.resample(waves[5].numpy(), RATE, 8_000, "HQ"))


@pytest.mark.parametrize("kind", FORMATS)
def test_any_part_of_a_file_is_the_same_whatever_was_read_before(files, kind):
    whole, sound = decode(io.BytesIO(files[kind]))[1], Sound(io.BytesIO(files[kind]))
    for start in NOISE.integers(0, len(whole) - 500, 50):
        assert np.abs(sound.read(start, 500) - whole[start : start + 500]).max() < 2**-22


def test_a_rest_is_left_out_unless_it_is_the_whole_file(tmp_path):
    for name, length in (("a", 25), ("b", 10), ("c", 3)):
        wavfile.write(tmp_path / f"{name}.wav", 1000, np.arange(length * 100, dtype=np.int16))
    windows = cut(tmp_path, 1)
    assert windows.names == ("a@0", "a@1", "b@0", "c@0")
    assert [len(wave) for wave in windows.read(0, 4).waves] == [1000, 1000, 1000, 300]


def test_a_long_file_is_never_decoded_whole(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "hours.flac", np.zeros(2 * 3600 * 1000), 1000)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "MAX_VALUES", 20_000)
        windows = cut(tmp_path, 10)
        assert len(windows) == 720
        assert len(windows.read(718, 720).waves[1]) == 10_000
        with pytest.raises(InputError, match="has 7,200,000 samples of 1 channels: cut it by option window: "):
            open_samples(tmp_path).read(0, 1)


def test_a_window_that_makes_too_many_samples_is_refused(tmp_path, monkeypatch):
    wavfile.write(tmp_path / "a.wav", 1000, np.ones(2000, np.int16))
    monkeypatch.setattr(sound_files, "MOST_WINDOWS", 100)
    assert len(cut(tmp_path, 0.02)) == 100
    with pytest.raises(InputError, match=r"has 2,000 windows \(at most 100\): use a longer window"):
        len(cut(tmp_path, 1e-9))


def test_a_forked_process_reads_windows_of_its_own(folder):
    windows = cut(folder, 0.7)
    first = windows.read(0, 1).waves[0]
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.write(writing, windows.read(2, 3).waves[0].numpy()[:10].tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    assert torch.equal(windows.read(0, 1).waves[0], first)
    expected = windows.read(2, 3).waves[0].numpy()[:10].tobytes()
    with os.fdopen(reading, "rb") as file:
        assert file.read() == expected


def test_folders_are_class_labels_and_windows_have_those_of_their_file(tmp_path):
    for name in ("no/a.wav", "yes/b.wav"):
        (tmp_path / name).parent.mkdir()
        wavfile.write(tmp_path / name, 1000, np.ones(2000, np.int16))
    assert open_samples(tmp_path).labels.tolist() == [0, 1]
    assert cut(tmp_path, 1).labels.tolist() == [0, 0, 1, 1]


def liar(files):
    content = bytearray(files["flac"])
    content[21] |= 15
    content[22:26] = b"\xff" * 4
    return bytes(content)


def endless(files):
    content = bytearray(files["flac"])
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def silent_rate(_):
    content = bytearray(encoded("aiff"))
    place = content.find(b"COMM") + 16
    content[place : place + 10] = bytes(10)
    return bytes(content)


def floats(value, channels=1):
    file = io.BytesIO()
    soundfile.write(file, np.full((9, channels), value), RATE, format="AIFF", subtype="FLOAT")
    return file.getvalue()


def noisy(files, kind):
    content = bytearray(files[kind])
    middle = len(content) // 2
    content[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    return bytes(content)


DAMAGED = {
    "empty": (lambda files: b"", "its content has none of the formats"),
    "a text": (lambda files: b"hello world\n" * 99, "its content has none of the formats"),
    "a text with the start of an MP3": (lambda files: b"ID3 hello world\n" * 99, "not a readable sound file"),
    "an MP3 with a wrong header": (lambda files: b"XXXX" + files["mp3"][4:], "its content has none of the formats"),
    "an MP3 without its end": (lambda files: files["mp3"][:-400], "it is truncated: 400 of its bytes are missing"),
    "an MP3 with noise": (lambda files: noisy(files, "mp3"), "not a readable sound file"),
    "half a FLAC": (lambda files: files["flac"][:50_000], "lost sync"),
    "the header of a FLAC": (lambda files: files["flac"][:100], "not a readable sound file"),
    "a FLAC with noise": (lambda files: noisy(files, "flac"), "flac decoder"),
    "a FLAC that claims years": (liar, "claims 68,719,476,735 samples, more than its size allows"),
    "a FLAC without a length": (endless, "more than its size allows: encode it again, into a file, not a pipe"),
    "half an Ogg": (lambda files: files["ogg"][: len(files["ogg"]) // 2], "it is truncated: its last page is missing"),
    "an Ogg with half a page": (lambda files: files["opus"][:-9], "it is truncated: its last page is missing"),
    "half an AIFF": (lambda files: files["aiff"][:99_999], "it is truncated: 92,055 bytes of its samples are missing"),
    "0 Hz": (silent_rate, "has a sample rate of 1 Hz: use 100 to 1,000,000 Hz"),
    "100 channels": (lambda files: floats(0.0, 100), "has 100 channels: use 1 to 64"),
    "NaN": (lambda files: floats(np.nan), "is empty or contains NaN"),
    "another format of libsndfile": (
        lambda files: b".snd" + struct.pack(">5I", 24, 2, 1, RATE, 1) + b"\0\0",
        "none of",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_one_sentence_and_left_out_when_asked(tmp_path, files, case):
    make, reason = DAMAGED[case]
    (tmp_path / "a.flac").write_bytes(files["flac"])
    (tmp_path / "bad.mp3").write_bytes(make(files))
    samples = open_samples(tmp_path)
    with pytest.raises(InputError, match=reason) as caught:
        samples.read(0, 2)
    assert str(caught.value).startswith(f"{tmp_path / 'bad.mp3'} ")
    assert str(caught.value).endswith(": repair or remove it, or leave it out with --skip-bad")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="bad.mp3 "):
        cut(tmp_path, 1).read(0, 9)
    assert unreadable(samples) == ("bad.mp3",)
    with pytest.raises(InputError, match=reason):
        decoded(make(files), "bad.mp3")


def test_an_ogg_that_lost_pages_is_refused(files):
    with pytest.raises(BadSoundError, match="22,016 of its samples cannot be decoded"):
        decode(io.BytesIO(noisy(files, "ogg")))


def test_the_content_decides_and_not_the_suffix(tmp_path, files):
    (tmp_path / "a.mp3").write_bytes(files["flac"])
    (tmp_path / "b.wav").write_bytes(files["ogg"])
    assert [len(wave) for wave in open_samples(tmp_path).read(0, 2).waves] == [len(SIGNAL)] * 2


def is_read(content):
    try:
        decode(io.BytesIO(content))
    except BadSoundError:
        return False
    return True


def test_cut_files_never_read_as_shorter_ones(files):
    for kind, content in files.items():
        for length in NOISE.integers(0, len(content), 20):
            assert not is_read(content[:length]), f"{kind} of {length} of {len(content)} bytes"


def test_random_damage_is_never_more_than_a_bad_file(files, capfd):
    for kind in FORMATS:
        for _ in range(40):
            content = bytearray(files[kind])
            for place in (NOISE.random(8) ** 3 * len(content)).astype(int):  # headers above all
                content[place] = NOISE.integers(256)
            is_read(bytes(content))
    assert "Traceback" not in capfd.readouterr().err


def test_stored_samples_are_read_at_a_rate_and_in_windows(folder):
    opened = Checkpoint.open(folder, "answers", 1)
    generator = StoredSamples(opened, torch.device("cpu"), window=1.5, rate=8_000)
    assert generator.held == 12
    assert StoredSamples(opened, torch.device("cpu"), window=1.5, by="id").find("a@1", 0) == 11
    drawn = generator.sample(SampleRequest.at(0, torch.tensor([11, 2])))
    assert (drawn.rate, [len(wave) for wave in drawn.waves]) == (8_000, [12_000] * 2)
    with pytest.raises(InputError, match="option frames does not apply to .*: use rate or window, or omit it"):
        StoredSamples(opened, torch.device("cpu"), frames=3)


def test_other_kinds_of_sound_are_named(tmp_path):
    (tmp_path / "a.m4a").write_bytes(b"sound")
    with pytest.raises(InputError, match=r"contains no images \(.*\), no sounds, .* but .m4a"):
        open_samples(tmp_path)


def test_a_reference_keeps_how_its_sounds_are_read(context, tmp_path, files):
    for name, content in (("a.flac", files["flac"]), ("b.mp3", files["mp3"]), ("bad.ogg", b"OggS")):
        (tmp_path / name).write_bytes(content)
    reading = ReadingOptions(rate=8000, window=1)
    add_reference(context.database, context.plugins, "cut", tmp_path, None, skip_bad=True, reading=reading)
    add_reference(context.database, context.plugins, "whole", tmp_path, None, skip_bad=True)
    sets = {name: open_reference(context.database, context.plugins, name) for name in ("cut", "whole")}
    assert {name: len(each.split("train")) for name, each in sets.items()} == {"cut": 6, "whole": 2}
    assert sets["cut"].split("train").read(0, 1).rate == 8000
    assert sets["cut"].digests != sets["whole"].digests
