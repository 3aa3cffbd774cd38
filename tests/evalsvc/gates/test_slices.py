"""Gates on slices: valid labels, directions, looks at some of the samples, and slices that are missing."""

import pytest

from evalsvc.analysis.differences import Run
from evalsvc.core.errors import InputError
from evalsvc.gates.current_protocol import CurrentProtocol
from evalsvc.gates.evidence import Absent
from evalsvc.gates.evidence_collection import Gathering
from evalsvc.gates.resolution import Sides, labels_of, quantity_at, unbiased_in_n
from evalsvc.gates.sequential import SINGLE, Look
from evalsvc.gates.spending import protocol_of
from evalsvc.gates.verdict import judge
from evalsvc.inputs.suites import load_suite
from evalsvc.metrics.slices import MINIMUM
from evalsvc.plugins.registry import Plugins
from evalsvc.store.tables import Checkpoint, Model
from tests.evalsvc.gates.conftest import TODAY, policy

SLICED = """name: s
version: 1
modality: image
reference: digits
samples: 2000
items: {labels: {classes: 10}}
extractors: {cnn: {use: digits-cnn}}
metrics:
  - {metric: precision_recall, features: cnn/features, by: label}
  - {metric: kernel_distance, features: cnn/features, options: {subsets: null}}
"""


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "s.yaml").write_text(SLICED)
    return load_suite(str(tmp_path / "s.yaml"), Plugins())


def test_a_policy_may_name_slices_of_what_is_sliced_and_the_worst(suite):
    named = policy({"recall[label=3]": {"min": 0.5}, "recall[worst]": {"min": 0.4}})
    assert labels_of(named, suite) == {"recall[label=3]": "recall[label=3]", "recall[worst]": "recall[worst]"}
    assert quantity_at(suite, "recall[worst]").name == "recall"
    with pytest.raises(InputError, match="higher is better, so max would reject good values"):
        labels_of(policy({"recall[worst]": {"max": 0.5}}), suite)


@pytest.mark.parametrize("name", ["recall[lang=de]", "kernel_distance[worst]", "kernel_distance[label=1]"])
def test_what_is_not_sliced_so_is_refused(suite, name):
    with pytest.raises(InputError, match="has no slices .*: add 'by: TAG' to the metric"):
        labels_of(policy({name: {"min": 0.1}}), suite)


def test_the_worst_slice_is_never_judged_as_if_its_number_of_samples_did_not_matter(suite):
    every = ["precision", "precision[label=3]", "precision[worst]"]
    assert not unbiased_in_n(suite, every) & {"precision[worst]"}
    assert ("precision" in unbiased_in_n(suite, every)) == ("precision[label=3]" in unbiased_in_n(suite, every))


class Scored:
    computes = False

    def full(self, checkpoint, replicates, seed):
        return {"recall": [Run(0.9, 0.01, 0.88, 0.92, 2000, "p", {}, "", run=1)]}


def test_a_slice_that_is_missing_never_passes(suite):
    named = policy({"recall[label=3]": {"min": 0.5}}, baseline=None)
    gathering = Gathering(
        suite,
        Sides(Checkpoint(id=1, model=Model(name="m"), step=1), None, {1: "m@1"}),
        Scored(),
        labels_of(named, suite),
    )
    evidence = gathering.look(Look(2000, 1, SINGLE))
    assert isinstance(evidence["recall[label=3]"].candidate, Absent)
    assert evidence["recall[label=3]"].candidate.kind == "missing"
    assert judge(named, evidence, Look(2000, 1, SINGLE), TODAY).status.value == "MISSING"


def test_slices_of_another_tag_or_minimum_are_outdated(suite):
    today = CurrentProtocol(suite, dict)
    facts = {"metric": "precision_recall", "by": "label", "minimum": MINIMUM}
    assert today.difference("recall[label=3]", facts) == ""
    assert "minimum 5 then" in today.difference("recall[worst]", facts | {"minimum": 5})
    assert "no longer measures" in today.difference("recall[lang=de]", facts)


def test_the_level_of_each_slice_is_spent_on_its_own(suite):
    labels = ("recall", "precision", "recall[label=3]", "recall[label=4]", "recall[worst]")
    assert len({protocol_of(suite, label) for label in labels}) == len(labels)
