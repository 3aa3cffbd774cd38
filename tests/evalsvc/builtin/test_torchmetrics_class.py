"""Classes of torchmetrics as scorers: their own value on the same samples is ours."""

import importlib
import inspect
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
from transformers import BertConfig, BertForMaskedLM, CLIPConfig, CLIPImageProcessorPil, CLIPModel

from evalsvc.builtin.pretrained import offline
from evalsvc.builtin.scorers.torchmetrics_class import TorchmetricsClass
from evalsvc.builtin.scorers.torchmetrics_inputs import SOURCES
from evalsvc.builtin.scorers.torchmetrics_models import with_model
from evalsvc.core.errors import InputError
from evalsvc.metrics.merged import SampleStates, merged
from evalsvc.metrics.score import Direction, MetricError
from evalsvc.plugins import scoring
from evalsvc.plugins.conformance import check_scorer
from evalsvc.plugins.items import ItemBatch
from evalsvc.plugins.samples import Audio, Images, MixedImages, Texts, rows
from evalsvc.plugins.torchmetrics_classes import MODEL, MODELS, NEEDS, UNUSABLE, class_use
from tests.evalsvc.language_models import tokenizer

CPU = torch.device("cpu")
COUNT, FEW = 20, 6
DOMAINS = ("image", "audio", "text", "multimodal", "video")
OPTIONS = {"ShortTimeObjectiveIntelligibility": {"fs": 10000}}
BANDS = {"preds": "images", "target": {"ms": "source_images", "pan": "target_images", "pan_lr": "source_images"}}
INPUTS = {"QualityWithNoReference": BANDS, "SpatialDistortionIndex": BANDS}
WORDS = np.array(["the", "cat", "sat", "on", "a", "mat", "and", "then", "ran", "far", "away", "from", "home"])


def exported():
    for domain in DOMAINS:
        module = importlib.import_module(f"torchmetrics.{domain}")
        for name in sorted(module.__all__):
            if inspect.isclass(getattr(module, name)):
                yield f"{domain}.{name}"


EVERY = list(exported())
USABLE = [name for name in EVERY if name.partition(".")[2] not in UNUSABLE | MODELS]
LAYER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
WITH_MODELS = {
    "text.BERTScore": {"max_length": 32, "truncation": True},
    "text.InfoLM": {"max_length": 32},
    "multimodal.CLIPScore": {},
    "multimodal.CLIPImageQualityAssessment": {},
}


def images(side, channels=3):
    rng = np.random.default_rng(side)
    pixels = rng.integers(0, 256, (FEW, channels, side, side), np.uint8)
    near = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
    return Images(torch.from_numpy(pixels)), Images(torch.from_numpy(near))


def sounds():
    waves = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (FEW, 6000)).astype(np.float32))
    noise = torch.from_numpy(np.random.default_rng(1).normal(0, 0.05, (FEW, 6000)).astype(np.float32))
    return Audio(tuple(waves), 10000), Audio(tuple(waves + noise), 10000)


def texts():
    rng = np.random.default_rng(2)
    said = [" ".join(rng.choice(WORDS, 8)) for _ in range(COUNT)]
    return Texts(tuple(said)), tuple((" ".join([*text.split()[:5], "home", "dog"]),) for text in said)


def trial(name):
    """Samples and items that fit a class."""
    domain, kind = name.split(".")
    sources = None
    if domain == "image":
        side = {"MultiScaleStructuralSimilarityIndexMeasure": 176, "VisualInformationFidelity": 41}.get(kind, 32)
        samples, targets = images(side, 1 if kind.endswith("BlockedEffect") else 3)
        sources = Images(targets.pixels[:, :, ::2, ::2].contiguous())
    else:
        samples, targets = sounds() if domain == "audio" else texts()
    return samples, items_of(samples, targets, sources)


def items_of(samples, targets, sources=None):
    ids = tuple(f"item-{row}" for row in range(len(samples)))
    return ItemBatch(ids, torch.zeros(len(ids), dtype=torch.int64), targets=targets, sources=sources)


def built(name, **given):
    kind = name.partition(".")[2]
    return TorchmetricsClass(CPU, metric=name, **{"options": OPTIONS.get(kind, {}), "inputs": INPUTS.get(kind)} | given)


def whole(scorer, values, error="none"):
    states = tuple(scorer.read_state(each) if each else None for each in values.states)
    return [
        merged(SampleStates(states, scorer.merge, scorer.value_of), each, error=error)
        for each in scorer.info.quantities
    ]


def own_values(use, samples, items):
    """The values that the class itself computes after all samples, in three updates."""
    with offline():
        module = use.kind(**with_model(use, CPU)[0])

    def batch(given, chosen):
        if isinstance(given, dict):
            return {name: batch(each, chosen) for name, each in given.items()}
        parts = [SOURCES[given].give(samples, items, row) for row in chosen]
        if isinstance(parts[0], torch.Tensor):
            # The first dimension of this class is that of speakers.
            speakers = use.kind.__name__ == "SourceAggregatedSignalDistortionRatio"
            return torch.stack(parts) if speakers else torch.cat(parts)
        return [each for part in parts for each in part]

    for part in (range(1), range(1, 3), range(3, len(samples))):
        module.update(**{name: batch(given, part) for name, given in use.inputs.items()})
    found = module.compute()
    found = [found[key] for key in use.outputs] if isinstance(found, dict) else [found]
    return [float(torch.as_tensor(each).double().mean()) for each in found]


@pytest.mark.parametrize("name", USABLE)
def test_the_value_of_all_samples_is_that_of_the_class_itself(name):
    samples, items = trial(name)
    scorer = built(name)
    values = scoring.score(scorer, samples, items, {})
    assert values.counts == {"scored": len(samples), "not applicable": 0, "failed": 0}
    jackknifed = name == "text.WordErrorRate"
    scores = whole(scorer, values, "jackknife" if jackknifed else "none")
    assert [each.value for each in scores] == pytest.approx(own_values(scorer._use, samples, items), rel=2e-6, abs=1e-7)
    for score in scores:
        assert (score.stderr is not None) is jackknifed


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of a masked language model, and that of a CLIP, with random weights."""
    masked, clip = tmp_path_factory.mktemp("bert"), tmp_path_factory.mktemp("clip")
    coder = tokenizer(ends=True)
    coder.add_special_tokens({"pad_token": "</s>", "mask_token": "<mask>", "cls_token": "<s>", "sep_token": "</s>"})
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(vocab_size=len(coder), max_position_embeddings=32, **LAYER)).save_pretrained(masked)
    text = {**LAYER, "vocab_size": len(coder), "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1}
    vision = {**LAYER, "image_size": 28, "patch_size": 14}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(clip)
    side = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    CLIPImageProcessorPil(**side).save_pretrained(clip)
    for folder in (masked, clip):
        coder.save_pretrained(folder)
    return {"text": masked, "multimodal": clip}


@pytest.mark.parametrize("name", WITH_MODELS)
def test_a_class_with_a_model_opens_it_from_a_folder(name, folders):
    domain = name.partition(".")[0]
    scorer = built(name, options={MODEL: str(folders[domain]), **WITH_MODELS[name]})
    samples, items = trial("text.WordErrorRate" if domain == "text" else "image.TotalVariation")
    samples, items = rows(samples, range(4)), scoring.rows_of(items, range(4))
    items = replace(items, prompts=("a red boat", "the sea") * 2)
    values = scoring.score(scorer, samples, items, {})
    assert values.counts["scored"] == len(samples)
    (score,) = whole(scorer, values)
    assert [score.value] == pytest.approx(own_values(scorer._use, samples, items), rel=1e-5, abs=1e-7)
    assert len(scorer.info.weights) == 64
    assert str(folders[domain]) not in str(scorer.info.facts)


def test_a_class_with_a_model_downloads_none_and_names_what_its_folder_lacks(folders, tmp_path):
    with pytest.raises(InputError, match="'text.BERTScore' needs the option model_name_or_path: the folder of"):
        built("text.BERTScore")
    with pytest.raises(InputError, match="has no option 'baseline_url'"):
        built("text.BERTScore", options={MODEL: str(tmp_path), "baseline_url": "http://localhost/x"})
    for name in ("text.BERTScore", "text.InfoLM", "multimodal.CLIPScore"):
        with pytest.raises(InputError, match=str(tmp_path)):
            built(name, options={MODEL: str(tmp_path)})
    with pytest.raises(InputError, match="lacks weights that torchmetrics class 'text.InfoLM' needs|cannot load"):
        built("text.InfoLM", options={MODEL: str(folders["multimodal"])})
    for measure, direction in (("kl_divergence", Direction.HIGHER), ("l1_distance", Direction.LOWER)):
        use = class_use("text.InfoLM", options={MODEL: "x", "information_measure": measure})
        assert use.quantities[0].direction is direction


def table():
    """The rows of the documentation's table of classes: class and reason."""
    page = (Path(__file__).parents[3] / "docs/scorers.md").read_text().partition("## Classes of torchmetrics")[2]
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE))


def test_classes_that_cannot_be_used_are_documented_with_the_reason():
    listed = {name: reason.replace("`", "") for name, reason in table().items()}
    assert listed == UNUSABLE | NEEDS
    for name in [*set(EVERY) - {*USABLE, *WITH_MODELS}, "audio.PerceptualEvaluationSpeechQuality"]:
        with pytest.raises(InputError, match=f"'{name}' cannot score samples: "):
            class_use(name)
    page = (Path(__file__).parents[3] / "docs/scorers.md").read_text()
    assert f"{len(USABLE) + len(WITH_MODELS)} of {len(EVERY)} classes" in page


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"metric": "text.NoSuchRate"}, "has no class 'text.NoSuchRate'"),
        ({"metric": "os.system"}, "invalid torchmetrics class 'os.system'"),
        ({"metric": "text.wer.WordErrorRate"}, "invalid torchmetrics class"),
        ({"metric": "text.Sequence"}, "has no class 'text.Sequence'"),
        ({"metric": ["text.WordErrorRate"]}, "invalid torchmetrics class"),
        ({"metric": "text.WordErrorRate", "inputs": "texts"}, "invalid inputs 'texts': give each the name"),
        ({"metric": "text.WordErrorRate", "inputs": {"preds": "texts"}}, "needs its input 'target'"),
        ({"metric": "text.WordErrorRate", "inputs": {"hyp": "texts"}}, "has no input 'hyp': it takes preds, target"),
        ({"metric": "text.WordErrorRate", "options": {"n": 1}}, "has no option 'n': it has none"),
        ({"metric": "text.WordErrorRate", "options": {"sync_on_compute": True}}, "has no option 'sync_on_compute'"),
        ({"metric": "text.WordErrorRate", "outputs": "f1"}, "invalid outputs 'f1': list the keys"),
        ({"metric": "text.BLEUScore", "options": {"weights": {"a": 1}}}, "use numbers, texts or lists"),
        ({"metric": "text.SacreBLEUScore", "options": {"tokenize": "flores200"}}, "downloads the tokenizer"),
        ({"metric": "text.ROUGEScore", "options": {"rouge_keys": "rougeLsum"}}, "downloads data for rougeLsum"),
        ({"metric": "image.TotalVariation", "options": {"reduction": "most"}}, "does not take these options: "),
        ({"metric": "text.CharErrorRate", "inputs": {"preds": "words", "target": "target"}}, "no source 'words'"),
        ({"metric": "text.CharErrorRate", "inputs": {"preds": "target", "target": "target"}}, "name one source of s"),
        ({"metric": "image.QualityWithNoReference"}, "needs its input 'target'"),
        ({"metric": "classification.BinaryAccuracy"}, "reads features: name an output"),
    ],
)
def test_classes_inputs_and_options_that_do_not_exist_are_named(given, reason):
    with pytest.raises(InputError, match=reason):
        TorchmetricsClass(CPU, **given)


def test_directions_are_right_where_torchmetrics_is_wrong():
    directions = {name: class_use(f"image.{name}").quantities[0].direction for name in ("SpectralDistortionIndex",)}
    assert set(directions.values()) == {Direction.LOWER}
    assert class_use("text.WordErrorRate").quantities[0].direction is Direction.LOWER
    assert class_use("text.SQuAD").quantities[0].name == "squad_exact_match"
    assert class_use("image.PeakSignalNoiseRatio").options == {"data_range": 1.0}


def scored(scorer, samples, targets, sources=None):
    return scoring.score(scorer, samples, items_of(samples, targets, sources), {})


def test_texts_of_any_kind_are_outcomes():
    hostile = ("", " ", "東京は晴れ", "\ud800", "a\0b", "n" * 300)
    for name in [each for each in USABLE if each.startswith("text.")]:
        targets = ((), ("",), ("東京は雨", "大阪")[: 2 if "targets" in str(class_use(name).inputs) else 1], ("x",))
        values = scored(built(name), Texts(hostile), (*targets, ("y",), ("z",)))
        assert values.outcomes[0] == scoring.NOT_APPLICABLE
        assert values.reasons[0] == "the item has no target"
        assert values.crashed == frozenset()


def test_an_item_with_two_targets_has_no_value_of_a_class_that_takes_one():
    values = scored(built("text.WordErrorRate"), Texts(("a b", "a c")), (("a b", "b"), ("a b",)))
    assert values.reasons == {0: "the item has 2 targets, and the class takes one"}
    assert [each.value for each in whole(built("text.WordErrorRate"), values)] == [0.5]


def test_images_that_a_class_refuses_have_failed_and_the_others_count():
    good, target = images(16)
    small = torch.zeros(3, 1, 1, dtype=torch.uint8)
    samples, targets = MixedImages((good.items[0], small, small)), MixedImages((target.items[0], small, good.items[0]))
    scorer = built("image.StructuralSimilarityIndexMeasure")
    values = scored(scorer, samples, targets)
    assert values.counts["failed"] == 2
    assert "RuntimeError: Predictions and targets are expected to have the same shape" in values.reasons[2]
    own = torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=1.0)
    expected = own(good.pixels[:1] / 255, target.pixels[:1] / 255)
    assert whole(scorer, values)[0].value == pytest.approx(float(expected), rel=1e-6)


def test_levels_are_from_0_to_255_and_data_range_follows():
    samples, targets = images(16)
    inputs = {"preds": "levels", "target": "target_levels"}
    found = whole(
        built("image.PeakSignalNoiseRatio", inputs=inputs),
        scored(built("image.PeakSignalNoiseRatio", inputs=inputs), samples, targets),
    )
    unit = whole(built("image.PeakSignalNoiseRatio"), scored(built("image.PeakSignalNoiseRatio"), samples, targets))
    assert found[0].value == pytest.approx(unit[0].value, rel=1e-5)


def test_equal_images_have_no_ratio_of_their_own_and_count_in_the_whole():
    samples, targets = images(16)
    mixed = Images(torch.cat([samples.pixels[:2], targets.pixels[2:]]))
    values = scored(built("image.PeakSignalNoiseRatio"), mixed, samples)
    assert np.isnan(values.values["peak_signal_noise_ratio"][:2]).all()
    assert values.counts["scored"] == FEW
    assert np.isfinite(whole(built("image.PeakSignalNoiseRatio"), values)[0].value)


def test_sounds_that_are_silent_damaged_or_of_another_length_or_rate_are_outcomes():
    good = torch.sin(torch.arange(4000) / 9.0)
    waves = (good, torch.zeros(4000), torch.full((4000,), torch.nan), good[:100], good[:0])
    targets = Audio((good * 0.9, good, good, good, good), 10000)
    for name in [each for each in USABLE if each.startswith("audio.")]:
        values = scored(built(name), Audio(waves, 10000), targets)
        assert values.crashed == frozenset()
        assert values.outcomes[0] == scoring.SCORED
        assert set(values.outcomes[2:].tolist()) == {scoring.FAILED}
        other = scored(built(name), Audio(waves[:1], 10000), Audio((good,), 8000))
        assert other.outcomes[0] == scoring.FAILED
    with pytest.raises(InputError, match="the sounds have 16000 Hz, but the class is told 10000: set its option 'fs'"):
        built("audio.ShortTimeObjectiveIntelligibility").score(Audio((good,), 16000), ItemBatch(("a",), torch.zeros(1)))


LOGITS = {"extractor": "digits-cnn", "output": "logits"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("classification.MulticlassAUROC", {"num_classes": 10}),
        ("classification.MulticlassF1Score", {"num_classes": 10, "average": "none"}),
        ("clustering.CalinskiHarabaszScore", {}),
        ("nominal.CramersV", {"num_classes": 10}),
    ],
)
def test_classes_of_labels_read_features_and_the_labels_of_items(name, options):
    samples, labels = digits_images()
    scorer = built(name, options=options, features=LOGITS)
    values = scoring.score(scorer, samples, replace(items_of(samples, ()), labels=labels), {})
    logits = torch.from_numpy(scorer._inner.rows(samples))
    given = {"features": logits, "predicted_labels": logits.argmax(1), "labels": labels}
    own = scorer._use.kind(**options)
    own.update(**{name: given[source] for name, source in scorer._use.inputs.items()})
    assert whole(scorer, values)[0].value == pytest.approx(float(own.compute().double().mean()), rel=1e-6)
    assert scorer.info.takes == {"image"}
    assert scorer.info.facts["extractor"].startswith("digits-cnn-")


def digits_images():
    labels = torch.arange(COUNT) % 4
    shades = torch.rand(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 60
    return Images((shades + labels.reshape(-1, 1, 1, 1) * 60).to(torch.uint8)), labels


def test_features_are_named_where_an_input_reads_them():
    with pytest.raises(InputError, match="reads features: name an output of an extractor, as in 'features: cnn/"):
        built("classification.MulticlassAccuracy", options={"num_classes": 10})
    with pytest.raises(InputError, match="no input reads 'features': remove it"):
        built("text.WordErrorRate", features=LOGITS)
    with pytest.raises(InputError, match="not 'pixels': set the option 'output'"):
        built("clustering.DunnIndex", features=LOGITS | {"output": "pixels"})
    with pytest.raises(InputError, match="stands for three: name one, as in MulticlassAccuracy"):
        built("classification.Accuracy")


def test_a_value_that_is_not_a_number_and_images_that_do_not_fit_together_are_named():
    samples, labels = digits_images()
    curve = built("classification.MulticlassROC", options={"num_classes": 10}, features=LOGITS)
    with pytest.raises(InputError, match="class MulticlassROC does not return a number"):
        curve.score(samples, replace(items_of(samples, ()), labels=labels))
    mixed = MixedImages((images(16)[0].items[0], images(24)[0].items[0]))
    bands = built("image.SpectralDistortionIndex")
    values = scored(bands, mixed, mixed)
    assert values.counts["scored"] == 2
    with pytest.raises(MetricError, match="torchmetrics class 'image.SpectralDistortionIndex' has no value: "):
        whole(bands, values)


@pytest.mark.parametrize("name", ["text.BLEUScore", "image.TotalVariation", "audio.SignalNoiseRatio"])
def test_a_class_keeps_the_contract_of_scorers(name):
    scorer = built(name)
    assert [each.check for each in check_scorer(scorer, class_use(name).quantities) if not each.ok] == []


def test_the_protocol_names_class_version_inputs_and_options():
    kinds = [
        built("text.WordErrorRate"),
        built("text.CharErrorRate"),
        built("text.BLEUScore"),
        built("text.BLEUScore", options={"n_gram": 2}),
        built("text.BLEUScore", inputs={"preds": "texts", "target": "source_texts"}),
    ]
    assert len({each.info.protocol for each in kinds}) == len(kinds)
    assert kinds[0].info.facts["version"] == f"torchmetrics {torchmetrics.__version__}"
    assert "pystoi" in built("audio.ShortTimeObjectiveIntelligibility").info.facts
