"""Recognizers of transformers against its own models, on tiny random networks."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from evalsvc.builtin.recognizers.interface import RATE
from evalsvc.builtin.recognizers.opening import open_recognizer
from evalsvc.builtin.scorers.error_rates import CharacterErrors
from evalsvc.core.errors import InputError
from evalsvc.plugins.samples import Audio
from tests.evalsvc.builtin.test_image_scorers import CPU, batch

LETTERS = ["<pad>", "<unk>", "|", *"aeinst"]


def save_ctc(folder):
    """A random wav2vec 2.0 with letters."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(LETTERS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_stride=(20, 16), conv_kernel=(20, 16), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    model = Wav2Vec2ForCTC(config)
    model.lm_head.weight.data *= 20
    model.save_pretrained(folder)
    (folder / "letters.json").write_text(json.dumps({letter: i for i, letter in enumerate(LETTERS)}))
    Wav2Vec2CTCTokenizer(str(folder / "letters.json"), bos_token=None, eos_token=None).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ctc(tmp_path_factory):
    return save_ctc(tmp_path_factory.mktemp("ctc"))


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A random Whisper of two languages with words."""
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(1)
    specials = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    # Tokens after the one for no timestamps are timestamps.
    vocabulary = {word: i for i, word in enumerate([*specials[:-1], "<unk>", *"abcdefgh", specials[-1]])}
    config = WhisperConfig(
        vocab_size=len(vocabulary), d_model=16, num_mel_bins=8, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        max_source_positions=1500, max_target_positions=24, decoder_start_token_id=1, bos_token_id=0, eos_token_id=0,
        pad_token_id=0, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=1, bos_token_id=0, eos_token_id=0, pad_token_id=0, max_length=20, is_multilingual=True,
        lang_to_id={"<|en|>": 2, "<|de|>": 3}, task_to_id={"transcribe": 4}, return_timestamps=False,
        no_timestamps_token_id=vocabulary["<|notimestamps|>"],
    )  # fmt: skip
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token=specials[0], additional_special_tokens=specials[1:]
    ).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=8).save_pretrained(folder)
    return folder


def sound(seconds, seed=0):
    t = np.arange(int(seconds * RATE)) / RATE
    sweep = np.sin(2 * np.pi * (200 + 300 * t) * t)
    return (0.3 * sweep + 0.1 * np.random.default_rng(seed).standard_normal(len(t))).astype(np.float32)


def opened(folder, **options):
    return open_recognizer({"use": "transformers", "model": str(folder), **options}, "a test", CPU)


def test_a_ctc_head_is_read_greedily(ctc):
    wave, hears = sound(1.0), opened(ctc)
    model, tokenizer = Wav2Vec2ForCTC.from_pretrained(ctc).eval(), Wav2Vec2CTCTokenizer.from_pretrained(ctc)
    normalized = torch.from_numpy((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7))[None]
    (expected,) = tokenizer.batch_decode(model(normalized).logits.argmax(-1), skip_special_tokens=True)
    assert hears.of(wave, "xx") == expected.strip() != ""
    assert hears.unheard("xx") == "", "a CTC head is not told a language"
    halves = opened(ctc, window=1.0)
    assert halves.of(np.concatenate([wave, wave]), "") == f"{expected.strip()} {expected.strip()}"
    assert isinstance(halves.of(np.zeros(1, np.float32), ""), str)


def test_a_whisper_is_told_the_language_and_decodes_as_it_would_alone(whisper):
    wave, hears = sound(0.5), opened(whisper)
    model = WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    features = WhisperFeatureExtractor.from_pretrained(whisper)(wave, sampling_rate=RATE, return_tensors="pt")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(whisper)
    for language in ("en", "de"):
        tokens = model.generate(features["input_features"], language=language, task="transcribe", do_sample=False)
        assert hears.of(wave, language) == tokenizer.decode(tokens[0], skip_special_tokens=True).strip()
    assert hears.unheard("fr") == "the recognizer hears de, en, not 'fr'"
    assert opened(whisper, beams=2).recognizer.facts["decoding"].startswith("2 beams")


def test_sounds_are_scored_by_it_and_its_content_is_in_the_protocol(ctc):
    use = {"use": "transformers", "model": str(ctc)}
    scorer = CharacterErrors(CPU, recognizer=use, language="xx", normalize="none")
    text = opened(ctc).of(sound(1.0), "xx")
    sounds = Audio((torch.from_numpy(sound(1.0)), torch.zeros(RATE)), RATE)
    values = scorer.score(sounds, batch(2, targets=((text,), (text,)))).values["cer"]
    assert values[0] == 0.0
    assert torch.isfinite(values).all()
    assert len(scorer.info.weights) == 64
    assert scorer.info.facts["decoding"] == "greedy CTC, no timestamps, windows of 30 s"


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("config.json", "{", "does not say its model_type"),
        ("config.json", '{"model_type": "bert"}', "cannot load|lacks weights"),
        ("model.safetensors", "x", "safetensors"),
        ("preprocessor_config.json", "{", "has no feature extractor that loads"),
        ("preprocessor_config.json", '{"feature_extractor_type": "../x"}', "has no feature extractor that loads"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_sentence(ctc, tmp_path, name, content, fault):
    for file in ctc.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=fault):
        opened(tmp_path)


def test_no_folder_is_looked_up_elsewhere(tmp_path):
    for model in ("", "openai/whisper-tiny", str(tmp_path / "absent")):
        with pytest.raises(InputError, match="recognizer 'transformers' reads a folder"):
            opened(model)
    with pytest.raises(InputError, match="config.json does not say its model_type"):
        opened(_with_file(tmp_path))


def _with_file(folder):
    (folder / "notes.txt").write_text("empty")
    return folder
