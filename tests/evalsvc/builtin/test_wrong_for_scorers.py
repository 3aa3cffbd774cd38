"""A sample or an item that is wrong for a scorer is a named outcome, for each scorer that ships."""

import importlib.metadata
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evalsvc.core.errors import InputError
from evalsvc.plugins import scoring
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Audio, Images, MixedImages, Texts, Videos
from evalsvc.plugins.scorers import CandidateLikelihoods
from tests.evalsvc.builtin.test_clip_dinov2_vgg16 import save_clip
from tests.evalsvc.builtin.test_detector import save_detector
from tests.evalsvc.builtin.test_image_scorers import CPU, Logits, Space, batch
from tests.evalsvc.builtin.test_lpips import save_trunk
from tests.evalsvc.builtin.test_preference_scorers import save_head
from tests.namespaces import needs_namespaces

SHIPPED = {
    point.name: point
    for point in importlib.metadata.entry_points(group="evalsvc.scorers")
    if point.dist.name == "evalsvc"
}
GUIDE = Path(__file__).parents[3] / "docs/guides/scorers.md"
TESTED_ELSEWHERE = {
    "timing",
    "classifier",
    "provenance-mark",
    "watermark",
    "rubric",
    "pairwise",
    "dnsmos",
    "clap-score",
    "torchmetrics",
}
"""They read costs, files, folders, large images, or the answers of a server; their own tests have them."""
PIXELS = torch.arange(4 * 200 * 200).reshape(4, 1, 200, 200).to(torch.uint8)
LEVELS = torch.tensor([[110, 110], [110, 90], [100, 100], [110, 110]], dtype=torch.uint8)
CLIPS = Videos(LEVELS.view(4, 2, 1, 1, 1).expand(-1, -1, -1, 1, 2))
SIZES = MixedImages((PIXELS[0], PIXELS[1, :, :1, :1], PIXELS[2, :, :100], PIXELS[3]))
NO_TARGET = "the item has no target"


@dataclass
class Case:
    """Samples with their items, and of each the value of a quantity, or the reason why there is none.

    None is any value. ``files`` writes the files that its options name. ``rounding`` is the relative difference that a
    network makes between batches.
    """

    outcomes: list[float | str | None]
    samples: Any = field(default_factory=lambda: Texts(("7", "", "\ud800", "7")))
    columns: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    files: Callable[[Path], dict[str, Any]] = lambda folder: {}
    quantity: str = ""
    failed: frozenset[int] = frozenset()
    told: frozenset[int] = frozenset()
    """Rows with a value and a reason for it."""
    rounding: float = 0.0


def texts(outcomes, *targets, **more):
    """Texts with a target each, of which the last item has none."""
    return Case(outcomes, columns={"targets": (*((each,) for each in targets), ())}, **more)


def images(outcomes, samples=SIZES, **more):
    """An image, one of a single pixel, one of half the height, and one like the first; targets of 200x200."""
    return Case(outcomes, samples, {"targets": Images(PIXELS)}, **more)


def sounds(outcomes, silent=frozenset(), **more):
    """A loud wave, one with NaN, an empty one and silence; a loud source of each item."""
    waves = (torch.ones(800), torch.full((8,), torch.nan), torch.zeros(0), torch.zeros(800))
    sources = Audio((torch.ones(800),) * 4, 16_000)
    return Case(outcomes, Audio(waves, 16_000), {"sources": sources}, failed=frozenset({1, 2, *silent}), **more)


NOT_FINITE, NO_SOUND = "the sound has values that are not finite", "the sound is empty"
SIZE = "the image is {} pixels, but its target is 200x200 pixels"
CASES = {
    "exact-match": texts([1.0, 0.0, 0.0, NO_TARGET], "7", "7", "7"),
    "contains": texts([1.0, 0.0, "the target is empty, and every text contains it", NO_TARGET], "7", "7", ""),
    "regex": texts(
        [1.0, "the target '(' is not a pattern of RE2 (missing ): (): see", 0.0, NO_TARGET], "^7$", "(", "7"
    ),
    "refusal": Case([0.0] * 4),
    "numeric": texts([1.0, 0.0, "the target 'NaN' has no number", NO_TARGET], "7", "7", "NaN"),
    "code-tests": texts(
        [1.0, 0.0, "a test is not Python", NO_TARGET],
        '{"stdout": ""}',
        "assert f()",
        "assert (",
        told=frozenset({1}),
    ),
    "json-schema": texts(
        [1.0, 0.0, "the target is not a JSON schema (EOF while parsing", NO_TARGET],
        "{}",
        "{}",
        "{",
        quantity="schema_valid",
    ),
    "rouge": texts(
        [1.0, 0.0, "the target has no words of a-z and 0-9", NO_TARGET], "7", "7", "東京", quantity="rougelsum"
    ),
    "bleu": texts([100.0, 0.0, 0.0, NO_TARGET], "7", "7", ""),
    "chrf": texts([100.0, 0.0, 0.0, NO_TARGET], "7", "7", ""),
    "ter": texts([0.0, 100.0, 100.0, NO_TARGET], "7", "7", ""),
    "wer": texts([0.0, 1.0, "the target has no words after normalization", NO_TARGET], "7", "7", "[7]"),
    "cer": texts([0.0, 1.0, 1.0, NO_TARGET], "7", "7", "7"),
    "duration": sounds([0.05, NOT_FINITE, NO_SOUND, 0.05]),
    "silence": sounds([0.0, NOT_FINITE, NO_SOUND, 1.0]),
    "speaker-similarity": sounds([1.0, NOT_FINITE, NO_SOUND, "the sound is silent"], silent={3}),
    "psnr": images([100.0, SIZE.format("1x1"), SIZE.format("100x200"), 100.0], failed=frozenset({1, 2})),
    "ssim": images([1.0, SIZE.format("1x1"), SIZE.format("100x200"), 1.0], failed=frozenset({1, 2})),
    "ms-ssim": images([1.0, SIZE.format("1x1"), SIZE.format("100x200"), 1.0], failed=frozenset({1, 2})),
    "lpips": images(
        [0.0, SIZE.format("1x1"), SIZE.format("100x200"), 0.0],
        options={"trunk": "squeeze"},
        files=lambda folder: {"weights": save_trunk(folder)[1]},
        failed=frozenset({1, 2}),
    ),
    "preference": Case(
        [None, "the item has no prompt", "the item has no prompt", None],
        MixedImages((PIXELS[0], PIXELS[1], PIXELS[2, :, :1, :1], PIXELS[0])),
        {"prompts": ("a", "", (), "a")},
        files=lambda folder: {"model": str(save_clip(folder))},
        rounding=1e-6,
    ),
    "aesthetic": Case(
        [1.5, 1.5, 1.5, 1.5],
        SIZES,
        files=lambda folder: {"model": str(save_clip(folder)), "head": save_head(folder, nn.Linear(12, 1), 1.5)},
    ),
    "detector": Case(
        [1.0, "the item has neither a tag", "the tag 'include' is not a list of requirements", 0.0],
        SIZES,
        {"tags": {"include": ('[{"class": "dog"}]', "", "[1]", '[{"class": "cat"}]')}},
        files=lambda folder: {"model": save_detector(folder, always="dog")},
        told=frozenset({3}),
    ),
    "label-accuracy": Case(
        [1.0, "the item has no label", "the label 3 is not one of the 3 classes", 0.0],
        Images(PIXELS),
        {"labels": torch.tensor([0, -1, 3, 1])},
        {"extractor": "first-pixel"},
        failed=frozenset({2}),
    ),
    "clip-score": Case(
        [0.0, "the item has no prompt", "the item has no prompt", 99.99853911],
        Images(PIXELS),
        {"prompts": ("a", "", (), "a")},
        {"extractor": "space"},
    ),
    "frame-consistency": Case(
        [1.0, -1.0, "the features of a frame have length 0", 1.0],
        CLIPS,
        options={"extractor": "space", "output": "embedding"},
    ),
    "motion": Case([0.0, 20.0, 0.0, 0.0], CLIPS),
    "choice": Case(
        [1.0, "the item has no choices", "the item has no answer", "the answer is number 3 of 2 choices"],
        columns={
            "prompts": ("?",) * 4,
            "choices": (("a", "b"), (), ("a", "b"), ("a", "b")),
            "answers": ("a", "a", "", 2),
        },
    ),
    "target-nll": Case(
        [1.0, NO_TARGET, NO_TARGET, 1.0], columns={"prompts": ("?",) * 4, "targets": (("a",), ("",), (), ("b", "c"))}
    ),
}


def outcome(scorer, case, chosen):
    """The values of some rows as evaluations find them."""
    items = scoring.rows_of(batch(len(case.samples), **case.columns), chosen)
    if hasattr(scorer, "score"):
        return scoring.score(scorer, scoring.rows(case.samples, chosen), items, {})
    likelihoods = [
        CandidateLikelihoods(np.arange(1.0, len(each) + 1), np.ones(len(each), np.int64))
        for each in scorer.candidates(items)
    ]
    return scoring.score_likelihoods(scorer, likelihoods, items)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    plugins = Plugins()
    for name, kind in (("first-pixel", Logits), ("space", Space)):
        plugins.add(Plugin(PluginKind.EXTRACTOR, name, "tests", "0", lambda kind=kind: kind))

    written = {}

    def build(case, name, device=CPU):
        given = {"plugins": plugins} if case.options.get("extractor") in ("first-pixel", "space") else {}
        if id(case) not in written:
            written[id(case)] = case.files(tmp_path_factory.mktemp("weights"))
        return SHIPPED[name].load()(device, **case.options, **given, **written[id(case)])

    return build


def test_every_scorer_that_ships_has_a_case():
    assert set(CASES) == set(SHIPPED) - TESTED_ELSEWHERE


MARKED = [pytest.param(name, marks=needs_namespaces if name == "code-tests" else ()) for name in CASES]


@pytest.mark.parametrize("name", MARKED)
def test_what_is_wrong_for_a_scorer_is_a_named_outcome(built, name):
    case, scorer = CASES[name], built(CASES[name], name)
    found = outcome(scorer, case, range(4))
    column = found.values[case.quantity or scorer.info.quantities[0].name]
    for row, expected in enumerate(case.outcomes):
        if isinstance(expected, str):
            assert np.isnan(column[row])
            assert found.reasons[row].startswith(expected)
            assert found.outcomes[row] == (scoring.FAILED if row in case.failed else scoring.NOT_APPLICABLE)
        else:
            assert np.isfinite(column[row]) if expected is None else column[row] == pytest.approx(expected)
            assert (row in found.reasons, found.outcomes[row]) == (row in case.told, scoring.SCORED)
    assert not found.crashed


@pytest.mark.parametrize("name", MARKED)
def test_a_value_depends_on_its_row_alone(built, name):
    scorer, order = built(CASES[name], name), [2, 0, 3, 1]
    whole, mixed = (outcome(scorer, CASES[name], rows) for rows in (range(4), order))
    single = [outcome(scorer, CASES[name], [row]) for row in range(4)]
    for quantity, column in whole.values.items():
        rounding = CASES[name].rounding
        np.testing.assert_allclose(mixed.values[quantity], column[order], rounding)
        np.testing.assert_allclose([each.values[quantity][0] for each in single], column, rounding)
    assert [mixed.reasons.get(place) for place in range(4)] == [whole.reasons.get(row) for row in order]


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if "targets" in case.columns and name != "target-nll"]
)
def test_samples_and_targets_of_another_kind_are_refused_by_name(built, name):
    case, scorer = CASES[name], built(CASES[name], name)
    sounds = Audio((torch.zeros(8),) * 4, 16000)
    with pytest.raises(InputError, match=f"scorer '{name}'"):
        scorer.score(sounds, batch(4, **case.columns))
    other = Images(PIXELS) if isinstance(case.samples, Texts) else (("7",),) * 4
    with pytest.raises(InputError, match=f"scorer '{name}'"):
        scorer.score(case.samples, batch(4, targets=other))


@pytest.mark.parametrize("name", sorted(set(SHIPPED) - {"torchmetrics"}))  # whose quantities are those of a class
def test_the_guide_has_its_quantities(name):
    declared = SHIPPED[name].load().quantities
    declared = declared() if callable(declared) else declared
    sums = {part for quantity in declared for part in quantity.sums}
    (row,) = (line for line in GUIDE.read_text().splitlines() if line.startswith(f"| `{name}` |"))
    for quantity in declared:
        if quantity.name not in sums:
            assert f"`{quantity.name}`" in row
            assert quantity.direction == "neutral" or f" {quantity.direction}" in row
            assert quantity.unit in row


@pytest.mark.parametrize("name", sorted(set(CASES) - {"code-tests"}))  # which the operator has to allow
def test_clients_may_use_it_with_the_options_that_it_names(name):
    assert isinstance(SHIPPED[name].load().client_options, frozenset)


@pytest.mark.parametrize("name", ["json-schema", "rouge", "bleu", "chrf", "ter"])
def test_a_missing_library_is_an_error_that_says_how_to_install_it(name, monkeypatch):
    for module in ("jsonschema_rs", "rouge_score.rouge_scorer", "sacrebleu.metrics"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"scorer '{name}' needs its extra: pip install 'evalsvc\[scorers\]'"):
        SHIPPED[name].load()(CPU)
