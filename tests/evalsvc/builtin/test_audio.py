import math
import struct

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from scipy.signal import stft
from torch import nn

from evalsvc.builtin.extractors import resemblyzer
from evalsvc.builtin.extractors.audio import _mel_bands, mel_spectrogram, waves_at
from evalsvc.builtin.extractors.clap import Clap
from evalsvc.builtin.extractors.resemblyzer import Resemblyzer, SpeakerEncoder
from evalsvc.core.errors import CheckpointError, InputError, ModelError
from evalsvc.inputs.sample_sets import open_samples, unreadable
from evalsvc.inputs.suites import load_suite
from evalsvc.plugins import validation
from evalsvc.plugins.conformance import check_generator
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.samples import Audio, Images, SampleRequest
from tests.evalsvc.builtin.test_sound_scorers import save_clap

CPU = torch.device("cpu")


def tone(hertz, seconds, rate=16_000):
    return 0.1 * torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * rate)) / rate)


def save_speaker(folder):
    torch.manual_seed(0)
    extra = {"similarity_weight": torch.ones(1), "similarity_bias": torch.zeros(1)}
    torch.save({"step": 1, "model_state": SpeakerEncoder().state_dict() | extra}, folder / "pretrained.pt")
    return folder / "pretrained.pt"


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    return Resemblyzer(CPU, weights=str(save_speaker(tmp_path_factory.mktemp("speaker"))))


def test_mel_power_is_the_textbook_sum_over_centred_hann_frames():
    wave = tone(440, 0.2) + 0.01 * torch.randn(3200, generator=torch.Generator().manual_seed(0))
    _, _, frames = stft(
        np.pad(wave.numpy(), 200), nperseg=400, noverlap=240, window="hann", boundary=None, padded=False, scaling="psd"
    )
    window = np.hanning(401)[:-1]
    power = np.abs(frames) ** 2 * 16000 * (window**2).sum() / 16000
    found = mel_spectrogram(wave, 16_000, 400, 160, 40)
    assert found.shape == (21, 40)
    assert np.allclose(found, (_mel_bands(16_000, 400, 40).double().numpy() @ power).T, rtol=1e-3, atol=1e-7)


def test_mel_bands_have_equal_area_and_peak_in_order():
    bands = _mel_bands(16_000, 400, 40)
    peaks = bands.argmax(1)
    assert bool((peaks.diff() >= 0).all())
    # Wide triangles, which many bins sample, integrate to one over frequency.
    assert torch.allclose(bands[25:].sum(1) * 40, torch.ones(15), rtol=0.05)


@pytest.mark.parametrize(
    ("steps", "starts"),
    [
        (8_000, [0]),
        (25_600, [0]),
        (25_600 + 77 * 160, [0, 77]),
        (25_600 + 50 * 160, [0, 77]),
        (25_600 + 30 * 160, [0]),
    ],
)
def test_an_utterance_is_cut_into_parts_whose_last_is_mostly_sound(steps, starts):
    assert resemblyzer._parts(steps) == starts


def test_speaker_embeddings_have_length_one_whatever_the_sound(speaker):
    waves = (tone(200, 0.3), tone(300, 4.1), torch.zeros(5000))
    found = speaker.extract(Audio(waves, 16_000))["embedding"]
    assert found.shape == (3, 256)
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.equal(found[1], speaker.extract(Audio(waves[1:2], 16_000))["embedding"][0])


def test_quiet_and_loud_enough_are_the_same_voice_and_another_rate_is_resampled(speaker):
    wave = tone(220, 1.0)
    quiet, very_quiet = (speaker.extract(Audio((wave * by,), 16_000))["embedding"] for by in (0.1, 0.01))
    assert torch.allclose(quiet, very_quiet, atol=1e-5)
    (resampled,) = waves_at(Audio((tone(220, 1.0, 22_050),), 22_050), 16_000, "test")
    assert abs(len(resampled) - 16_000) <= 1
    assert (resampled[500:15_000] - wave[500:15_000]).abs().max() < 1e-3


def test_a_speaker_checkpoint_with_code_or_other_tensors_is_refused(tmp_path):
    torch.save({"weights": nn.Linear(2, 2)}, tmp_path / "code.pt")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    for name in ("code.pt", "other.pt"):
        with pytest.raises(CheckpointError, match=f"{name} is not a Resemblyzer checkpoint"):
            Resemblyzer(CPU, weights=str(tmp_path / name))
    with pytest.raises(InputError, match="requires audio samples"):
        waves_at(Images(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)), 16_000, "resemblyzer")


def test_clap_embeds_with_its_own_bands_and_no_chance(tmp_path):
    protocols = set()
    for hop in (40, 80):
        extractor = Clap(CPU, model=str(save_clap(tmp_path, hop)))
        protocols.add(extractor.info.protocol)
    assert len(protocols) == 2, "the bands are no part of the weights"
    long = torch.cat([tone(300, 2, 8_000), tone(900, 3, 8_000)])
    found = extractor.extract(Audio((tone(300, 1, 8_000), long, long[:16_000]), 8_000))["embedding"]
    assert found.shape == (3, 6)
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(found[1], found[2], atol=1e-5)


# --- sets, generators, suite ---


def test_a_folder_of_wavs_is_read_as_one_channel_from_minus_one_to_one(tmp_path):
    wave = np.stack([np.linspace(-1, 1, 100), np.linspace(-1, 1, 100)], 1)
    wavfile.write(tmp_path / "a.wav", 8_000, (wave * (2**15 - 1)).astype(np.int16))
    wavfile.write(tmp_path / "b.wav", 8_000, wave[:50, 0].astype(np.float32))
    wavfile.write(tmp_path / "c.wav", 8_000, ((wave[:, 0] + 1) * 127).astype(np.uint8))
    samples = open_samples(tmp_path)
    read = samples.read(0, 3)
    assert (samples.modality, len(samples), read.rate) == ("audio", 3, 8_000)
    for found, length in zip(read.waves, (100, 50, 100), strict=True):
        assert torch.allclose(found, torch.from_numpy(wave[:length, 0]).float(), atol=0.03)
    wavfile.write(tmp_path / "d.wav", 16_000, wave)
    with pytest.raises(InputError, match="mixes sample rates: d.wav has 16000 Hz"):
        open_samples(tmp_path).read(0, 4)
    whole = (tmp_path / "a.wav").read_bytes()
    for damaged in (b"RIFF nothing", whole[:30], whole[:8], whole[:32] + bytes(2) + whole[34:]):
        (tmp_path / "a.wav").write_bytes(damaged)
        with pytest.raises(InputError, match="a.wav is not a readable sound file"):
            open_samples(tmp_path).read(0, 1)


@pytest.mark.parametrize("kind", ["int16", "int32", "float32", "uint8", "24 bits"])
def test_a_truncated_wav_is_named_and_left_out_when_asked(tmp_path, kind):
    wave = np.random.default_rng(0).integers(0, 100, (1000, 2))
    for name in ("a.wav", "b.wav", "cut.wav"):
        wavfile.write(tmp_path / name, 8_000, wave.astype("int32" if kind == "24 bits" else kind))
    cut = (tmp_path / "cut.wav").read_bytes()
    if kind == "24 bits":
        sizes = struct.pack("<HIIHH", 2, 8_000, 48_000, 6, 24)
        cut = cut[:22] + sizes + b"data" + struct.pack("<I", 6000) + bytes(6000)
        (tmp_path / "b.wav").write_bytes(cut)
        assert open_samples(tmp_path).read(1, 2).waves[0].shape == (1000,)
    (tmp_path / "cut.wav").write_bytes(cut[:-801])
    with pytest.raises(
        InputError, match=r"cut.wav is not a readable sound file \(it is truncated: 801 bytes.* --skip-bad"
    ):
        open_samples(tmp_path).read(0, 3)
    assert unreadable(samples := open_samples(tmp_path)) == ("cut.wav",)
    kept = open_samples(tmp_path, ["cut.wav"])
    assert (len(kept), kept.skipped, kept.digest() == samples.digest()) == (2, ("cut.wav",), False)
    assert len(kept.read(0, 2)) == 2
    with pytest.raises(InputError, match="contains no sound 'c.wav', which is to be skipped"):
        open_samples(tmp_path, ["c.wav"])


def test_a_wav_that_was_written_into_a_pipe_is_whole(tmp_path):
    wavfile.write(tmp_path / "a.wav", 8_000, np.arange(1000, dtype=np.int16))
    whole = (tmp_path / "a.wav").read_bytes()
    for size in (0xFFFFFFFF, 0x7FFFF000):  # ffmpeg, sox
        told = struct.pack("<I", size)
        (tmp_path / "a.wav").write_bytes(whole[:4] + told + whole[8:40] + told + whole[44:])
        assert open_samples(tmp_path).read(0, 1).waves[0].shape == (1000,)


class Chirp:
    """Sound i is a tone whose pitch comes from seed i."""

    def __init__(self, spoil=False):
        self.info, self.spoil = GeneratorInfo("chirp", "audio"), spoil

    def sample(self, request: SampleRequest) -> Audio:
        waves = tuple(tone(200 + 200 * float(u), 0.1) for u in request.uniform(1)[:, 0])
        return Audio((*waves[:-1], waves[-1] * math.nan) if self.spoil else waves, 16_000)


def test_a_sound_generator_keeps_the_same_contract():
    assert all(finding.ok for finding in check_generator(Chirp(), CPU))
    with pytest.raises(ModelError, match="returned 1 sounds with NaN or infinite values"):
        validation.sample(Chirp(spoil=True), SampleRequest.of(1, 0, 3))


def test_the_speech_suite_ships():
    suite = load_suite("speech-fad").on("my-voices")
    assert (suite.modality, suite.labels) == ("audio", ("frechet_distance", "frechet_distance_infinity"))
