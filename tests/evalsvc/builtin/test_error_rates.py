"""Word and character error rates, of texts and of speech that a real recognizer hears."""

import math
import subprocess
import sys

import jiwer
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsvc.builtin.recognizers.faster_whisper import PACKAGED
from evalsvc.builtin.recognizers.interface import RecognizerUse
from evalsvc.builtin.recognizers.opening import open_recognizer
from evalsvc.builtin.scorers import transcripts
from evalsvc.builtin.scorers.error_rates import CharacterErrors, WordErrors
from evalsvc.core.errors import InputError
from evalsvc.inputs import published_weights as published
from evalsvc.inputs.sounds.decoding import resample
from evalsvc.metrics.corpus import CORPUS
from evalsvc.plugins.samples import Audio, Texts
from tests.evalsvc.builtin.test_image_scorers import CPU, batch

QUICK = {"window": 10.0}
SENTENCE = "The teacher wrote the answer on the board."
TEXT = st.text(alphabet="ab cé.", min_size=0, max_size=12)


def scored(scorer, texts, targets, **columns):
    outcome = scorer.score(Texts(tuple(texts)), batch(len(texts), targets=tuple(targets), **columns))
    return next(iter(outcome.values.values())).tolist(), outcome


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Speech of flite at 16 kHz."""
    file = tmp_path_factory.mktemp("speech") / "slt.wav"
    subprocess.run(["flite", "-voice", "slt", "-t", SENTENCE, "-o", file], check=True)
    wave, rate = soundfile.read(file, dtype="float32")
    assert rate == 16_000
    return wave


@pytest.fixture(scope="module")
def hears():
    """The recognizer of the extra, which is shared while something refers to it."""
    return open_recognizer(QUICK, "a test", CPU)


# --- texts ---


@settings(max_examples=30)
@given(st.lists(st.tuples(TEXT, TEXT.filter(str.strip)), min_size=1, max_size=4))
def test_values_and_sums_are_those_of_jiwer(pairs):
    texts, targets = zip(*pairs, strict=True)
    for kind, theirs in ((WordErrors, jiwer.wer), (CharacterErrors, jiwer.cer)):
        values, outcome = scored(kind(CPU, normalize="none"), texts, [(each,) for each in targets])
        spaced = [[" ".join(each.split()) for each in side] for side in (targets, texts)]
        assert values == pytest.approx([theirs(*pair) for pair in zip(*spaced, strict=True)])
        quantity = kind.quantities[0]
        sums = np.array([outcome.values[name].sum() for name in quantity.sums])
        assert CORPUS[quantity.corpus](sums) == pytest.approx(theirs(*spaced))


def test_an_empty_text_has_lost_every_word_and_a_long_one_has_more_errors_than_words():
    assert scored(WordErrors(CPU), ["", "a b c d", "B!"], [("a b",), ("b",), ("b",)])[0] == [1.0, 3.0, 0.0]


@pytest.mark.parametrize(
    ("form", "text", "target", "value"),
    [
        ("english", "I'm twenty-one, um, and gray", "I am 21 and grey", 0.0),
        ("basic", "Straße, [noise] NEUN", "straße neun", 0.0),
        ("basic", "I'm here", "I am here", 1 / 3),
        ("none", "Yes.", "yes", 1.0),
    ],
)
def test_the_form_says_which_differences_do_not_count(form, text, target, value):
    assert scored(WordErrors(CPU, normalize=form), [text], [(target,)])[0] == pytest.approx([value])


def test_the_language_chooses_the_form():
    by_tag = {"language_tag": "lang"}
    rows, targets = ["it's nine", "it's nine"], [("it is 9",)] * 2
    items = {"tags": {"lang": ("en-GB", "de")}}
    assert scored(WordErrors(CPU, **by_tag), rows, targets, **items)[0] == pytest.approx([0.0, 2 / 3])
    assert WordErrors(CPU, language="EN_us").info.protocol == WordErrors(CPU).info.protocol
    assert WordErrors(CPU, language="de").info.protocol != WordErrors(CPU).info.protocol
    with pytest.raises(InputError, match="the items have no tag 'lang': name its column in 'tags'"):
        scored(WordErrors(CPU, **by_tag), rows, targets)


@pytest.mark.parametrize("kind", [WordErrors, CharacterErrors])
def test_scripts_without_spaces_are_compared_by_characters(kind):
    values, _ = scored(kind(CPU, language="zh"), ["今天 天气很好", "今天气很好。"], [("今天天气很好。",)] * 2)
    assert values == pytest.approx([0.0, 1 / 6])


def test_the_nearest_of_several_targets_counts():
    values, outcome = scored(WordErrors(CPU), ["two red apples"], [("one", "two green apples", "red")])
    assert values == pytest.approx([1 / 3])
    assert outcome.values["wer_words"].tolist() == [3.0]


@pytest.mark.parametrize("kind", [WordErrors, CharacterErrors])
def test_targets_without_words_have_no_value(kind):
    values, outcome = scored(kind(CPU), ["a", "a"], [(), ("[laughs]",)])
    assert all(map(math.isnan, values))
    assert outcome.reasons == {0: "the item has no target", 1: f"the target has no {kind.unit} after normalization"}
    assert not outcome.failed


def test_a_text_that_would_take_minutes_fails():
    _, outcome = scored(CharacterErrors(CPU, normalize="none"), ["a" * 20_000], [("b" * 20_000,)])
    assert outcome.failed == {0}
    assert outcome.reasons == {0: "the text of 20,000 characters is too long for a target of 20,000"}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"normalize": "loud"}, "option normalize='loud' of scorer 'wer'"),
        ({"language_tag": None}, "option language_tag=None of scorer 'wer'"),
        ({"language": 3}, "option language=3 of scorer 'wer'"),
        ({"recognizer": {"beam": 3}}, "option recognizer.beam=3 of scorer 'wer'"),
        ({"recognizer": {"beams": "3"}}, "option recognizer.beams='3' of scorer 'wer'"),
        ({"recognizer": {"window": float("nan")}}, "option recognizer.window=nan of scorer 'wer'"),
        ({"recognizer": {"use": "siri"}}, "option recognizer.use='siri' of scorer 'wer'"),
        ({"recognizer": "siri"}, "option recognizer='siri' of scorer 'wer'"),
        ({"recognizer": {"use": "transformers"}}, "recognizer 'transformers' reads a folder"),
        ({"recognizer": QUICK, "language": "de"}, "the recognizer hears en, not 'de': set 'language', or name another"),
    ],
)
def test_a_wrong_option_is_named(options, fault):
    with pytest.raises(InputError, match=fault):
        WordErrors(CPU, **options)


def test_a_missing_library_is_an_error_that_says_how_to_install_it(monkeypatch):
    transcripts._normalizer.cache_clear()
    monkeypatch.setitem(sys.modules, "whisper_normalizer.basic", None)
    with pytest.raises(InputError, match=r"scorer 'wer' needs its extra: pip install 'evalsvc\[asr\]'"):
        WordErrors(CPU, normalize="basic", language="xx")


# --- speech ---


def test_a_transcript_is_that_of_the_library(speech, hears, monkeypatch):
    """Greedy, one temperature, no timestamps, windows of 30 s."""
    noisy = speech + 0.05 * np.random.default_rng(0).standard_normal(len(speech), np.float32)
    segments, _ = hears.recognizer._whisper.transcribe(
        noisy, language="en", beam_size=1, temperature=0.0, without_timestamps=True, condition_on_previous_text=False
    )
    monkeypatch.setattr(hears.recognizer, "_use", RecognizerUse())
    assert hears.recognizer.hear(noisy, "en") == " ".join(each.text.strip() for each in segments) != ""


def test_a_long_sound_is_heard_in_windows(speech, hears):
    pause = np.zeros(16_000 * 10 - len(speech), np.float32)
    assert hears.of(np.concatenate([speech, pause, speech]), "en") == f"{SENTENCE} {SENTENCE}"


def test_speech_is_heard_at_any_rate_and_what_is_not_speech_is_an_outcome(speech, hears):
    waves = {
        "speech": speech,
        "silence": np.zeros(16_000, np.float32),
        "a click": np.ones(160, np.float32),
        "one sample": np.ones(1, np.float32),
        "NaN": np.full(99, np.nan, np.float32),
        "nothing": np.zeros(0, np.float32),
    }
    scorer = WordErrors(CPU, recognizer=QUICK)
    sounds = Audio(tuple(map(torch.from_numpy, waves.values())), 16_000)
    outcome = scorer.score(sounds, batch(len(waves), targets=((SENTENCE,),) * len(waves)))
    values = dict(zip(waves, outcome.values["wer"].tolist(), strict=True))
    assert values["speech"] == 0.0
    assert all(values[name] >= 0.5 for name in ("silence", "a click", "one sample"))
    assert outcome.reasons == {4: "the sound has values that are not finite", 5: "the sound is empty"}
    assert outcome.failed == {4, 5}
    for rate in (8_000, 48_000):
        other = Audio((torch.from_numpy(resample(speech, 16_000, rate, "a test")),), rate)
        assert scorer.score(other, batch(1, targets=((SENTENCE,),))).values["wer"].item() <= 1 / 8


def test_scorers_of_one_suite_hear_a_sound_once(speech, hears, monkeypatch):
    scorers = [kind(CPU, modality="audio", recognizer=QUICK) for kind in (WordErrors, CharacterErrors)]
    heard = []
    monkeypatch.setattr(hears.recognizer, "hear", lambda wave, language: heard.append(language) or SENTENCE)
    louder = Audio((torch.from_numpy(1.5 * speech),), 16_000)
    assert [each.score(louder, batch(1, targets=((SENTENCE,),))).values[each.name].item() for each in scorers] == [0, 0]
    assert heard == ["en"]


def test_a_language_that_the_recognizer_does_not_hear_is_a_failed_sample(speech, hears):
    scorer = WordErrors(CPU, recognizer=QUICK, language_tag="lang")
    sounds = Audio((torch.from_numpy(speech),) * 2, 16_000)
    outcome = scorer.score(sounds, batch(2, targets=((SENTENCE,),) * 2, tags={"lang": ("en-gb", "de")}))
    assert outcome.values["wer"][0] == 0.0
    assert (outcome.reasons, outcome.failed) == ({1: "the recognizer hears en, not 'de'"}, {1})


def test_the_protocol_says_what_heard_and_how(hears):
    info = WordErrors(CPU, recognizer=QUICK).info
    assert (info.takes, info.weights) == ({"audio"}, hears.recognizer.weights)
    assert info.facts["recognizer"].startswith("faster-whisper ")
    assert info.facts["decoding"] == "1 beams, temperature 0, no timestamps, windows of 10 s"
    assert WordErrors(CPU, recognizer=QUICK, language_tag="lang").info.protocol != info.protocol
    assert (WordErrors(CPU).info.takes, WordErrors(CPU).info.weights) == ({"text"}, "none")


@pytest.mark.parametrize("damage", ["absent", "model.bin", "tokenizer.json", "config.json"])
def test_a_folder_that_is_not_a_model_is_refused(tmp_path, damage):
    if damage != "absent":
        for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
            (tmp_path / name).write_bytes(b"\x00" * 64)
        if damage == "model.bin":
            (tmp_path / "model.bin").unlink()
    lacks = damage in ("absent", "model.bin")
    with pytest.raises(InputError, match="has no model.bin" if lacks else "is not a Whisper of CTranslate2"):
        WordErrors(CPU, recognizer={"model": str(tmp_path)})


def test_damaged_packaged_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSVC_WEIGHTS_DIR", str(tmp_path))
    file = tmp_path / published.get(PACKAGED).file_names[0]
    file.parent.mkdir()
    file.write_bytes(b"other")
    with pytest.raises(InputError, match="is not the published whisper-tiny-en file"):
        WordErrors(CPU, modality="audio")
