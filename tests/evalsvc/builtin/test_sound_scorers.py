"""Scorers of sounds against facts, and against numbers of the implementations whose values they give."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    PreTrainedTokenizerFast,
)

from evalsvc.builtin.extractors.clap import Clap
from evalsvc.builtin.scorers.clap_score import ClapScore
from evalsvc.builtin.scorers.clip_score import ClipScore
from evalsvc.builtin.scorers.dnsmos import Dnsmos
from evalsvc.builtin.scorers.duration import Duration
from evalsvc.builtin.scorers.silence import Silence
from evalsvc.builtin.scorers.speaker_similarity import SpeakerSimilarity
from evalsvc.core.errors import InputError
from evalsvc.inputs import published_weights as published
from evalsvc.inputs.sounds.decoding import resample
from evalsvc.plugins.samples import Audio, Texts
from tests.evalsvc.builtin.test_image_scorers import CPU, batch

RATE = 16_000


def voice(seconds, noise=0.0):
    """A wave that the golden numbers are of: harmonics that swell and fade, with noise."""
    t = np.arange(int(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * f * t) / (k + 1) for k, f in enumerate((140, 280, 420, 1200, 2300)))
    wave = 0.1 * tone * (1 + np.sin(2 * np.pi * 3 * t))
    wave += noise * np.random.default_rng(0).standard_normal(len(t))
    return np.clip(wave, -1, 1).astype(np.float32)


def sounds(*waves, rate=RATE):
    return Audio(tuple(torch.from_numpy(np.asarray(wave, np.float32)) for wave in waves), rate)


def values(scorer, samples, **columns):
    outcome = scorer.score(samples, batch(len(samples), **columns))
    return {name: column.tolist() for name, column in outcome.values.items()}, outcome


# --- DNSMOS ---

GOLDEN = {
    (0.5, 0.0): (2.688966695810801, 3.6363368600573165, 2.2065717556311135, 2.193674325942993),
    (11.0, 0.1): (1.7359708260659343, 1.4662379743669005, 1.3006095129526805, 2.13590669631958),
}
"""dnsmos.run of speechmos 0.0.1.1, with librosa 0.11.0, NumPy 2.3.5 and onnxruntime 1.32.0: SIG, BAK, OVRL, P.808."""
SILENCE = (2.513564893098549, 3.4724235103372005, 1.8398628272273871, 2.1468007564544678)


@pytest.fixture(scope="module")
def dnsmos():
    return Dnsmos(CPU)


def test_opinions_are_those_of_speechmos(dnsmos):
    waves = [voice(*wave) for wave in GOLDEN]
    found, _ = values(dnsmos, sounds(*waves, np.zeros(RATE)))
    expected = np.array([*GOLDEN.values(), SILENCE]).T
    np.testing.assert_allclose(list(found.values()), expected, atol=2e-4)
    assert [each.name for each in dnsmos.quantities] == list(found)


def test_another_rate_is_resampled_and_no_sound_has_no_opinion(dnsmos):
    at_48 = sounds(resample(voice(0.5), RATE, 48_000, "a test"), [], [math.nan], rate=48_000)
    found, outcome = values(dnsmos, at_48)
    assert found["dnsmos_ovr"][0] == pytest.approx(GOLDEN[0.5, 0.0][2], abs=0.05)
    assert np.isfinite(list(found.values())).tolist() == [[True, False, False]] * 4
    assert outcome.failed == {1, 2}


def test_noise_lowers_the_opinion_on_speech(dnsmos, tmp_path):
    text = "The old man told stories by the fire."
    subprocess.run(["flite", "-voice", "slt", "-t", text, "-o", tmp_path / "slt.wav"], check=True)
    rate, wave = wavfile.read(tmp_path / "slt.wav")
    speech = np.resize(wave / 2**15, int(9.01 * RATE))  # one window
    noisy = speech + 0.02 * np.random.default_rng(0).standard_normal(len(speech))
    found, _ = values(dnsmos, sounds(speech, noisy, rate=rate))
    for part in ("dnsmos_bak", "dnsmos_ovr", "dnsmos_p808"):
        assert found[part][1] < found[part][0] - 0.1, part


def test_missing_networks_are_an_error_that_says_how_to_install_them(monkeypatch, tmp_path):
    monkeypatch.setenv("EVALSVC_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setattr(published.importlib.metadata, "distribution", _absent)
    with pytest.raises(InputError, match="pip install --no-deps speechmos, or put dnsmos-sig_bak_ovr.onnx"):
        Dnsmos(CPU)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"scorer 'dnsmos' needs its extra: pip install 'evalsvc\[onnxruntime\]'"):
        Dnsmos(CPU)


def _absent(name):
    raise published.importlib.metadata.PackageNotFoundError(name)


# --- speakers ---


@pytest.fixture(scope="module")
def similarity():
    return SpeakerSimilarity(CPU)


def test_similarities_are_those_of_resemblyzer(similarity):
    """VoiceEncoder.embed_utterance of Resemblyzer 0.1.4 after its normalize_volume, with librosa 0.11.0."""
    expected = [0.42087477445602417, 0.6569037437438965, 0.5803407430648804]
    a, b, c = voice(3.0), voice(3.0, 0.1), voice(5.2, 0.02)
    found, _ = values(similarity, sounds(a, a, b), sources=sounds(b, c, c))
    assert found["speaker_similarity"] == pytest.approx(expected, abs=1e-4)


def test_a_sound_is_like_itself_at_any_rate_and_level(similarity):
    wave = 0.05 * voice(1.0)
    quiet = resample(0.1 * wave, RATE, 24_000, "a test")
    found, _ = values(similarity, sounds(wave), sources=sounds(quiet, rate=24_000))
    assert found["speaker_similarity"] == pytest.approx([1.0], abs=1e-3)
    by_target, _ = values(SpeakerSimilarity(CPU, to="target"), sounds(wave), targets=sounds(wave))
    assert by_target["speaker_similarity"] == pytest.approx([1.0])


def test_silence_has_no_speaker(similarity):
    wave, nothing = voice(0.5), np.zeros(8000)
    found, outcome = values(similarity, sounds(nothing, wave, wave), sources=sounds(wave, nothing, [math.nan]))
    assert np.isnan(found["speaker_similarity"]).all()
    assert outcome.failed == {0}
    assert outcome.reasons == {
        0: "the sound is silent",
        1: "the source of the item is silent",
        2: "the source of the item: the sound has values that are not finite",
    }


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"to": "prompt"}, "option to='prompt'"),
        ({"extractor": "pixels", "output": "pixels"}, "does not take sounds"),
        ({"output": "x"}, "returns embedding"),
    ],
)
def test_a_wrong_option_is_named(options, fault):
    with pytest.raises(InputError, match=f"scorer 'speaker-similarity'.*{fault}|{fault} of scorer"):
        SpeakerSimilarity(CPU, **options)


# --- CLAP ---


def save_clap(folder, hop=80):
    """A CLAP in miniature that hears two seconds of 8 kHz."""
    torch.manual_seed(0)
    audio = ClapAudioConfig(
        spec_size=64, num_mel_bins=16, patch_size=4, patch_stride=[4, 4], patch_embeds_hidden_size=8, depths=[1, 1],
        num_attention_heads=[2, 2], hidden_size=16, window_size=4,
    )  # fmt: skip
    text = ClapTextConfig(
        vocab_size=6, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=10, pad_token_id=1,
    )  # fmt: skip
    ClapModel(ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=6)).save_pretrained(
        folder
    )
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=8_000, hop_length=hop, max_length_s=2, fft_window_size=256
    ).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "<unk>": 2, "a": 3, "bell": 4, "rings": 5}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    return save_clap(tmp_path_factory.mktemp("clap"))


def test_texts_are_embedded_as_the_model_does(clap):
    extractor, model = Clap(CPU, model=str(clap)), ClapModel.from_pretrained(clap).eval()
    ids = torch.tensor([[3, 4, 5], [4, 1, 1]])
    with torch.inference_mode():
        pooled = model.text_model(input_ids=ids, attention_mask=(ids != 1).long()).pooler_output
        expected = torch.nn.functional.normalize(model.text_projection(pooled), dim=-1)
    torch.testing.assert_close(extractor.embed_texts(["a bell rings", "bell"]), expected)
    assert torch.isfinite(extractor.embed_texts(["a bell rings " * 30, "", "鈴"])).all(), "long texts are cut"


def test_a_clap_score_is_a_clip_score_of_sounds(clap):
    options, samples = {"model": str(clap)}, sounds(voice(0.5), voice(1.0, 0.2))
    items = {"prompts": ("a bell rings", "")}
    found, outcome = values(ClapScore(CPU, options=options), samples, **items)
    other, _ = values(ClipScore(CPU, extractor="clap", options=options), samples, **items)
    np.testing.assert_array_equal(found["clap_score"], other["clip_score"])
    assert outcome.reasons == {1: "the item has no prompt"}
    info = ClapScore(CPU, options=options).info
    assert (info.name, info.takes, info.reads) == ("clap-score", {"audio"}, {"prompt"})


# --- length and level ---


def test_duration_is_seconds_at_any_rate():
    found, outcome = values(Duration(CPU), sounds(np.ones(12_000), np.zeros(1), [], rate=8_000))
    assert found["duration"][:2] == [1.5, 1 / 8_000]
    assert outcome.reasons == {2: "the sound is empty"}


def test_silence_is_the_share_of_quiet_frames():
    loud = np.tile([0.1, -0.1], 800)
    found, _ = values(Silence(CPU), sounds(loud, np.zeros(1600), [*loud, *np.zeros(4800)], 0.003 * loud, [0.0, 1.0]))
    assert found["silence"] == [0.0, 1.0, 0.75, 1.0, 0.0]
    assert values(Silence(CPU, threshold=-80), sounds(0.003 * loud))[0]["silence"] == [0.0]
    assert Silence(CPU).info.facts == {"threshold": "-50 dBFS", "frame": "20 ms"}


@pytest.mark.parametrize("threshold", [math.nan, 1.0, -1000, "-50", None, True])
def test_a_threshold_is_a_level(threshold):
    with pytest.raises(InputError, match="threshold"):
        Silence(CPU, threshold=threshold)


@pytest.mark.parametrize("kind", [Duration, Silence, Dnsmos, SpeakerSimilarity])
def test_texts_are_refused_by_name(kind):
    scorer = kind(CPU)
    with pytest.raises(InputError, match=f"scorer '{scorer.info.name}' "):
        scorer.score(Texts(("a",)), batch(1, sources=sounds([1.0])))
