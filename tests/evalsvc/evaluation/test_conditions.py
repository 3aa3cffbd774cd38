"""Conditions: a suite gives what a generator takes, and no generator only claims to follow them."""

from dataclasses import replace

import pytest
import torch

from evalsvc.core.errors import InputError
from evalsvc.evaluation.conditions import check_conditions
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.conformance import check_generator
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.samples import Images, Texts

READ = {"file": "x.jsonl", "count": 9, "conditions": "0" * 64, "sha256": "0" * 64}
ANYTHING = GeneratorInfo("x", "text")


def suite(**items):
    metrics = [{"metric": "distinct_n", "options": {"n": 1}}]
    body = {"name": "x", "version": 1, "modality": "text", "samples": 9, "metrics": metrics}
    return Suite.model_validate(body | ({"items": READ | items} if items else {}))


LABELS = suite(labels={"classes": 9}, file="")


@pytest.mark.parametrize(
    ("asked", "takes", "needs", "read", "message"),
    [
        (
            suite(),
            {"label"},
            {"label"},
            (),
            "needs a label for each sample, which .* does not give: add 'items: {labels: {classes: N}}'",
        ),
        (suite(label="l"), {"prompt"}, {"prompt"}, (), "add 'items: {file: FILE, prompt: COLUMN}'"),
        (LABELS, set(), set(), ("label",), "gives a label for each sample, which .* ignores .it takes no conditions"),
        (suite(prompt="p", label="l"), {"prompt"}, set(), (), "gives a label .* ignores .it takes prompts"),
        (suite(prompt="p", label="l"), {"prompt"}, set(), ("label",), ""),
        (suite(prompt="p"), {"prompt", "label"}, {"prompt"}, (), ""),
        (suite(target="t"), set(), set(), (), ""),
        (LABELS, None, set(), (), ""),
    ],
)
def test_a_suite_gives_what_is_taken_and_needed(asked, takes, needs, read, message):
    info = replace(ANYTHING, takes=None if takes is None else frozenset(takes), needs=frozenset(needs))
    if not message:
        check_conditions(asked, "g", info, read)
        return
    with pytest.raises(InputError, match=message):
        check_conditions(asked, "g", info, read)


class Follows:
    """A generator whose samples follow these conditions, whatever it declares."""

    def __init__(self, declared, follows, needs=(), modality="image"):
        declared = None if declared is None else frozenset(declared)
        self.info = GeneratorInfo("x", modality, takes=declared, needs=frozenset(needs))
        self._follows = follows

    def sample(self, request):
        assert request.labels is not None or "label" not in self.info.needs
        noise = request.uniform(1)[:, 0] * 50
        if "label" in self._follows and request.labels is not None:
            noise = noise + 50 * request.labels
        if "source" in self._follows and request.sources is not None:
            noise = noise + request.sources.pixels.float().mean((1, 2, 3)) / 2
        if "prompt" in self._follows and request.prompts:
            noise = noise + torch.tensor([len(prompt) for prompt in request.prompts])
        if self.info.modality == "text":
            return Texts(tuple(map(str, noise.tolist())))
        return Images(noise.to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).contiguous())


@pytest.mark.parametrize(
    ("generator", "broken"),
    [
        (Follows({"label"}, {"label"}, {"label"}), []),
        (Follows({"prompt"}, {"prompt"}, modality="text"), []),
        (Follows({"source", "prompt"}, {"source", "prompt"}, {"source"}), []),
        (Follows(None, ()), []),
        (Follows({"label"}, ()), ["label: the same again, and another"]),
        (Follows({"source", "label"}, {"label"}), ["source: the same again, and another"]),
        (Follows({"prompt"}, {"prompt"}, {"label"}), ["conditions"]),
    ],
)
def test_a_generator_follows_the_conditions_that_it_declares(generator, broken):
    findings = check_generator(generator, torch.device("cpu"))
    assert [finding.check for finding in findings if not finding.ok] == broken
    assert any(finding.detail.startswith("warning") for finding in findings) is (generator.info.takes is None)
