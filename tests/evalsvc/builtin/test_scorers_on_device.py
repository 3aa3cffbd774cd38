"""Every scorer on a pretended device: the values of the CPU, wherever the samples are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evalsvc.core.errors import ModelError
from evalsvc.plugins import scoring
from evalsvc.plugins.samples import Audio, Images, Texts
from tests.evalsvc.builtin import test_wrong_for_scorers as wrong
from tests.evalsvc.builtin.test_audio import save_speaker
from tests.evalsvc.builtin.test_extractors_on_device import fast_switches, on_device  # noqa: F401  (a fixture)
from tests.evalsvc.builtin.test_recognizers import save_ctc
from tests.evalsvc.builtin.test_sound_scorers import save_clap, voice
from tests.evalsvc.builtin.test_wrong_for_scorers import Case, built  # noqa: F401  (a fixture)
from tests.evalsvc.classifiers import save_classifier
from tests.pretended_device import pretended

COMPUTE_NOTHING_ON_DEVICES = {
    *("exact-match", "contains", "regex", "refusal", "numeric", "code-tests", "json-schema", "rouge", "bleu", "chrf"),
    *("ter", "choice", "target-nll", "rubric", "pairwise", "provenance-mark", "timing", "dnsmos", "duration"),
}
"""They compare texts, ask servers, or read files, costs and waves on the host."""
SOUNDS = Audio((torch.from_numpy(voice(0.5)), torch.from_numpy(voice(0.7, 0.1))), 16_000)
PIXELS = Images(wrong.PIXELS[:, :, :40, :50].contiguous())
CASES = wrong.CASES | {
    "classifier": Case([], PIXELS, files=lambda folder: {"model": str(save_classifier(folder, "vit"))}),
    "classifier of texts": Case(
        [], Texts(("a", "a boat " * 90)), files=lambda f: {"model": str(save_classifier(f, "bert"))}
    ),
    "clap-score": Case(
        [],
        SOUNDS,
        {"prompts": ("a bell", "rings")},
        files=lambda folder: {"options": {"model": str(save_clap(folder))}},
    ),
    "cer": Case(
        [],
        SOUNDS,
        {"targets": (("a",), ("sea",))},
        {"language": "xx", "normalize": "none"},
        lambda folder: {"recognizer": {"use": "transformers", "model": str(save_ctc(folder))}},
    ),
    "speaker-similarity": Case(
        [], SOUNDS, {"sources": SOUNDS}, files=lambda folder: {"options": {"weights": str(save_speaker(folder))}}
    ),
    "label-accuracy": Case(
        [], Images(wrong.PIXELS[:, :, :8, :8].contiguous()), {"labels": torch.arange(4)}, {"extractor": "digits-cnn"}
    ),
    "watermark": Case([], Images(wrong.PIXELS.repeat(1, 3, 2, 2))),
    "torchmetrics": Case(
        [], PIXELS, {"targets": Images(PIXELS.pixels.flip(0))}, {"metric": "image.PeakSignalNoiseRatio"}
    ),
}
"""Those that are not here have samples that fit their network."""
BY_EXTRACTORS = {"clip-score", "clap-score", "preference", "aesthetic", "speaker-similarity", "classifier of texts"}
"""They compute by extractors, or as others do, which run on the other kind of device too."""
RUN = sorted({name for name in CASES if name.partition(" ")[0] not in COMPUTE_NOTHING_ON_DEVICES})


def values(scorer, samples, case):
    items = wrong.batch(len(samples), **case.columns)
    return scoring.score(scorer, samples, items, {})


def test_every_scorer_that_ships_has_a_case_or_needs_none():
    assert {name.partition(" ")[0] for name in RUN} | COMPUTE_NOTHING_ON_DEVICES == set(wrong.SHIPPED)


@pytest.mark.parametrize("name", RUN)
def test_values_of_a_device_are_those_of_the_cpu_wherever_the_samples_are(built, name):  # noqa: F811
    case, shipped = CASES[name], name.partition(" ")[0]
    truth = values(built(case, shipped), case.samples, case)
    assert not truth.crashed
    for kind in ("cuda",) if name in BY_EXTRACTORS else ("cuda", "mps"):
        with pretended(kind) as device:
            scorer = built(case, shipped, device.device)
            for samples in (case.samples, on_device(case.samples, device))[kind == "mps" :]:
                found = values(scorer, samples, case)
                assert (found.reasons, found.crashed) == (truth.reasons, truth.crashed)
                for quantity, column in truth.values.items():
                    np.testing.assert_allclose(found.values[quantity], column, rtol=1e-5, atol=1e-5)


def test_a_failure_of_the_device_within_an_extractor_is_not_one_of_the_samples(built, monkeypatch):  # noqa: F811
    scorer = built(CASES["label-accuracy"], "label-accuracy")

    def fails(samples):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(scorer._inner.extractor, "extract", fails)
    with pytest.raises(ModelError, match="unspecified launch failure"):
        values(scorer, CASES["label-accuracy"].samples, CASES["label-accuracy"])
