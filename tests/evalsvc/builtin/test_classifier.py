"""Probabilities of classes against the pipelines of ``transformers``, and folders that are no classifiers."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from evalsvc.builtin.scorers.classifier import ClassifierScorer
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import load_suite
from evalsvc.plugins import scoring
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.samples import Audio, Images, MixedImages, Texts
from evalsvc.store import queries
from tests.evalsvc.builtin.test_image_scorers import CPU, batch, noise
from tests.evalsvc.classifiers import LABELS, save_classifier

TEXTS = Texts(("Hello there.", "You are a bad person!", "日本語のテキスト", "x", "Hello there!", "word " * 9))
IMAGES = MixedImages((noise(3, 20, 30), noise(1, 16, 16), noise(3, 1, 1), noise(3, 20, 30, seed=1)))
NOISE = torch.rand(8000, generator=torch.Generator().manual_seed(0)) * 2 - 1
SOUNDS = Audio((NOISE, NOISE[:3000], NOISE[3000:6000], torch.zeros(4000)), 16000)
SAMPLES = {"bert": TEXTS, "roberta": TEXTS, "gpt2": TEXTS, "vit": IMAGES, "wav2vec2": SOUNDS, "ast": SOUNDS}
TASKS = {"vit": "image-classification", "wav2vec2": "audio-classification", "ast": "audio-classification"}
MULTI = {"problem_type": "multi_label_classification"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a classifier, saved once."""
    home, saved = tmp_path_factory.mktemp("classifiers"), {}

    def of(kind, name="", **config):
        key = f"{kind}{name}"
        return saved.setdefault(key, save_classifier(home / key, kind, **config)) if key not in saved else saved[key]

    return of


def scored(folder, samples, rows=None, **options):
    scorer = ClassifierScorer(CPU, model=str(folder), **options)
    rows = range(len(samples)) if rows is None else rows
    return scoring.score(scorer, scoring.rows(samples, rows), batch(len(rows)), {})


def by_pipeline(folder, kind):
    """The probability of each class of each sample, by the pipeline alone."""
    pipe = transformers.pipeline(TASKS.get(kind, "text-classification"), model=str(folder), device="cpu")
    samples = SAMPLES[kind]
    if isinstance(samples, Texts):
        given = samples.items
    elif isinstance(samples, MixedImages):
        given = [Image.fromarray(each.expand(3, -1, -1).permute(1, 2, 0).numpy()) for each in samples.items]
    else:
        given = [wave.numpy() for wave in samples.waves]
    found = [{each["label"]: each["score"] for each in pipe(sample, top_k=None)} for sample in given]
    return np.array([[row[label] for label in LABELS] for row in found])


# --- values ---


@pytest.mark.parametrize("config", [{}, MULTI], ids=["exclusive", "several"])
@pytest.mark.parametrize("kind", SAMPLES)
def test_probabilities_are_those_of_the_pipeline(folder, kind, config):
    model = folder(kind, "-several" if config else "", **config)
    expected = by_pipeline(model, kind)
    one = scored(model, SAMPLES[kind], label="toxic", threshold=0.3).values
    two = scored(model, SAMPLES[kind], label=["toxic", "refusal"]).values
    np.testing.assert_allclose(one["probability"], expected[:, 1], atol=1e-6)
    np.testing.assert_allclose(
        two["probability"], expected[:, 1:].max(1) if config else expected[:, 1:].sum(1), atol=1e-6
    )
    assert one["above"].tolist() == (one["probability"] >= 0.3).tolist()
    assert one["predicted_label"].tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_value_depends_on_its_sample_alone(folder, kind):
    samples = SAMPLES[kind]
    whole = scored(folder(kind), samples, label="toxic").values["probability"]
    order = list(reversed(range(len(samples))))
    mixed = scored(folder(kind), samples, order, label="toxic").values["probability"]
    single = [scored(folder(kind), samples, [row], label="toxic").values["probability"][0] for row in order]
    np.testing.assert_allclose(mixed, whole[order], atol=1e-6)
    np.testing.assert_allclose(single, whole[order], atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_a_long_text_has_the_largest_probability_of_its_windows(folder, kind):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder(kind))
    long = "a harmless sentence " * 20 + "You are a bad person!"
    size = {"bert": 48, "roberta": 46, "gpt2": 48}[kind] - tokenizer.num_special_tokens_to_add()
    tokens = tokenizer(long, add_special_tokens=False)["input_ids"]
    parts = [tokenizer.decode(tokens[start : start + size]) for start in range(0, len(tokens), size)]
    assert len(parts) > 2
    whole, split = (scored(folder(kind), Texts(texts), label="toxic").values for texts in ((long,), tuple(parts)))
    assert whole["probability"][0] == pytest.approx(split["probability"].max(), abs=1e-6)


def test_a_class_alone_is_a_sigmoid(folder):
    found = scored(folder("bert", "-one", labels=("toxic",)), TEXTS, label="toxic").values["probability"]
    assert len({*found.round(3)}) > 1


def test_without_a_label_the_predicted_class_is_all(folder):
    found = scored(folder("vit"), IMAGES)
    assert list(found.values) == ["predicted_label"]


def test_the_share_above_a_threshold_has_an_interval_by_slice(folder, tmp_path, home):
    kinds = ("praise", "blame")
    items = [{"id": f"i{i}", "q": f"{i}?", "kind": kinds[i % 2]} for i in range(48)]
    texts = [{"id": each["id"], "text": f"{each['kind']} {i * i}"} for i, each in enumerate(items)]
    for name, rows in (("items", items), ("texts", texts)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = scored(folder("bert"), Texts(tuple(each["text"] for each in texts)), label="toxic").values["probability"]
    options = {"model": str(folder("bert")), "label": "toxic", "threshold": float(np.median(found)), "better": "lower"}
    (tmp_path / "suite.yaml").write_text(
        "name: toxic\nversion: 1\nmodality: text\nitems: {file: items.jsonl, id: id, prompt: q, tags: [kind]}\n"
        f"scorers: {{c: {{use: classifier, options: {json.dumps(options)}}}}}\n"
        "metrics: [{metric: mean, of: c/above, by: kind}]\n"
    )
    context = EvaluationContext(Settings(home=home), Plugins(), "cpu")
    suite = load_suite(str(tmp_path / "suite.yaml"), context.plugins)
    checkpoint = Checkpoint.open(tmp_path / "texts.jsonl", "writer", 1)
    number = evaluate(plan(context, checkpoint, "samples", {"by": "id"}, suite), context)
    above = found >= np.median(found)
    with context.database.read() as session:
        rows = {row.label: row for row in queries.slices(session, number, "above")}
    assert [rows[f"above[kind={kind}]"].value for kind in kinds] == [above[0::2].mean(), above[1::2].mean()]
    worst = rows["above[worst]"]
    assert worst.value == max(row.value for row in rows.values())
    assert 0 < worst.ci_low < worst.value <= worst.ci_high <= 1


# --- samples without a value ---


def test_a_text_without_tokens_is_not_applicable_and_one_that_is_not_unicode_has_a_value(folder):
    found = scored(folder("gpt2"), Texts(("", "\ud800", "x")), label="toxic")
    assert found.reasons == {0: "the text has no tokens"}
    assert found.outcomes.tolist() == [scoring.NOT_APPLICABLE, scoring.SCORED, scoring.SCORED]


def test_a_narrow_image_and_an_empty_sound_are_not_applicable(folder):
    images = MixedImages((noise(3, 1, 100), noise(3, 1, 5000), noise(3, 101, 1)))
    found = scored(folder("vit"), images)
    assert found.outcomes.tolist() == [scoring.SCORED, scoring.NOT_APPLICABLE, scoring.NOT_APPLICABLE]
    found = scored(folder("ast"), Audio((NOISE[:0], NOISE), 16000))
    assert found.reasons == {0: "the sound is empty"}


def test_a_sound_that_is_too_short_or_nan_fails_alone(folder):
    sounds = Audio((NOISE, NOISE[:1], torch.full((3000,), torch.nan)), 16000)
    found = scored(folder("wav2vec2"), sounds, label="toxic")
    assert found.outcomes.tolist() == [scoring.SCORED, scoring.FAILED, scoring.FAILED]
    assert found.reasons[2] == "the classifier returned NaN"


# --- facts and refusals ---


def test_the_protocol_has_labels_threshold_activation_and_the_files(folder, tmp_path):
    options = [{"label": "toxic"}, {"label": "refusal"}, {"label": "toxic", "threshold": 0.9}, {}]
    protocols = {ClassifierScorer(CPU, model=str(folder("bert")), **each).info.protocol for each in options}
    several = ClassifierScorer(CPU, model=str(folder("bert", "-several", **MULTI)), label="toxic").info
    assert len(protocols | {several.protocol}) == 5
    assert several.facts["activation"] == "sigmoid"
    assert several.facts["preparation"] == "consecutive windows of 48 tokens"
    assert ClassifierScorer(CPU, model=str(folder("vit"))).info.takes == {"image"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"label": "rude"}, "invalid option label='rude' of scorer 'classifier': .* has the classes 'fine', 'toxic'"),
        ({"label": ["toxic", 3]}, "invalid option label="),
        ({"label": "toxic", "threshold": 2}, "invalid option threshold=2 .* less than or equal to 1"),
        ({"label": "toxic", "threshold": float("nan")}, "invalid option threshold=nan"),
        ({"label": "toxic", "threshold": True}, "invalid option threshold=True"),
        ({"label": "toxic", "better": "best"}, "invalid option better='best' .*'higher', 'lower' or 'neutral'"),
        ({"model": 3}, "invalid option model=3"),
    ],
)
def test_a_wrong_option_is_one_sentence(folder, options, reason):
    with pytest.raises(InputError, match=reason):
        ClassifierScorer(CPU, **{"model": str(folder("bert")), **options})


def test_samples_of_another_kind_are_refused(folder):
    for kind, samples in (("bert", IMAGES), ("vit", TEXTS), ("ast", Images(noise(2, 3, 4, 4)))):
        with pytest.raises(InputError, match="'classifier'"):
            ClassifierScorer(CPU, model=str(folder(kind)), label="toxic").score(samples, batch(len(samples)))


@pytest.mark.parametrize(
    ("kind", "file", "change", "reason"),
    [
        ("bert", "config.json", {"architectures": ["BertModel"]}, "'BertModel', which does not classify"),
        ("bert", "config.json", {"architectures": 3}, "one entry in 'architectures'"),
        ("bert", "config.json", {"problem_type": "regression"}, "is a regression, not a classifier"),
        ("bert", "config.json", {"attn_implementation": "evil/kernel"}, "names code to execute"),
        ("bert", "config.json", {"hidden_size": 10**6}, "far more parameters than its weights"),
        ("bert", "config.json", {"id2label": {str(i): "x" for i in range(9)}}, "lacks weights|cannot load"),
        ("bert", "tokenizer_config.json", {"model_max_length": 1}, "reads at most 1 tokens, 1 of them special"),
        ("vit", "preprocessor_config.json", {"image_processor_type": "Evil"}, "no preprocessor that loads"),
        (
            "vit",
            "preprocessor_config.json",
            {"size": {"height": 10**6, "width": 16}},
            "with size=.*, which is too large",
        ),
        ("ast", "preprocessor_config.json", {"max_length": 10**9}, "with max_length=1000000000, which is too large"),
        ("ast", "preprocessor_config.json", {"sampling_rate": -1}, "no preprocessor that loads"),
        ("wav2vec2", "preprocessor_config.json", {"sampling_rate": -1}, "no valid sampling_rate"),
    ],
)
def test_a_hostile_or_unfit_folder_is_one_sentence(tmp_path, kind, file, change, reason):
    folder = save_classifier(tmp_path / "m", kind)
    told = json.loads((folder / file).read_text()) | change
    (folder / file).write_text(json.dumps(told))
    with pytest.raises(InputError, match=reason):
        ClassifierScorer(CPU, model=str(folder))


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_code_of_a_folder_never_runs(tmp_path, monkeypatch, file):
    folder = save_classifier(tmp_path / "m", "vit")
    (folder / "hostile.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')")
    auto = {"AutoConfig": "hostile.It", "AutoImageProcessor": ["hostile.It", None]}
    told = json.loads((folder / file).read_text()) | {
        "auto_map": auto,
        "model_type": "it",
        "image_processor_type": "It",
    }
    (folder / file).write_text(json.dumps(told))
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(InputError, match="custom code|no preprocessor"):
        ClassifierScorer(CPU, model=str(folder))
    assert not (tmp_path / "it-ran").exists()
