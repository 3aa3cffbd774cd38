"""Options that name files identify results by their content."""

import pytest

from evalsvc.builtin.pretrained import from_hub, pin_models
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.evaluation import opening
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.registration import register_checkpoint
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.registry import Plugin, PluginKind
from evalsvc.store.tables import Checkpoint as Checkpoints

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WORDS = {
    "name": "words",
    "version": 1,
    "modality": "text",
    "samples": 4,
    "metrics": [{"metric": "distinct_n", "options": {"n": 1}}],
}


class OverBase:
    info = GeneratorInfo("quiet", "text")

    def __init__(self, checkpoint, device, *, base=""):
        self.base = base

    @staticmethod
    def pin(options):
        return pin_models(options, ["base"], "generator 'over-base'")

    def sample(self, request):
        raise AssertionError


@pytest.fixture
def planned(context, tmp_path, monkeypatch):
    context.plugins.add(Plugin(PluginKind.GENERATOR, "over-base", "tests", "1", lambda: OverBase))
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "weights.bin").write_text("first")
    (tmp_path / "own.bin").write_text("own")
    monkeypatch.chdir(tmp_path)
    own = Checkpoint.open(tmp_path / "own.bin", "own", 1)
    return lambda **options: plan(context, own, "over-base", options, Suite.model_validate(WORDS))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    stored = tmp_path / "hub" / "models--org--name"
    (stored / "snapshots" / COMMIT).mkdir(parents=True)
    (stored / "snapshots" / COMMIT / "config.json").write_text("{}")
    (stored / "refs").mkdir()
    for ref in ("main", "v2"):
        (stored / "refs" / ref).write_text(COMMIT)
    return stored


def test_the_content_that_an_option_names_is_part_of_every_key(planned, tmp_path):
    bare, first = planned(), planned(base="base")
    assert bare.options == {}
    assert first.options["base"] == str(tmp_path / "base")
    assert planned(**first.options) == first
    (tmp_path / "base" / "weights.bin").write_text("trained further")
    second = planned(base="base")
    for key in ("fingerprint", "configuration", "samples_key", "draws_key"):
        assert len({getattr(spec, key) for spec in (bare, first, second)}) == 3


def test_content_that_changed_after_planning_is_an_error_that_names_the_option(planned, context, tmp_path):
    spec = planned(base="base")
    context.generator = None
    assert opening.generator_of(context, spec).base == str(tmp_path / "base")
    context.generator = None
    (tmp_path / "base" / "weights.bin").write_text("trained further")
    for again in (lambda: opening.generator_of(context, spec), lambda: planned(**spec.options)):
        with pytest.raises(CheckpointError, match="option base of generator 'over-base' names content that has"):
            again()
    with pytest.raises(CheckpointError, match="option base of generator"):
        planned(base="base", contents=3)
    with pytest.raises(InputError, match="'nowhere/at/all' is not a folder and could not be downloaded"):
        planned(base="nowhere/at/all")


def test_a_model_of_the_hub_is_pinned_to_its_commit(hub):
    assert from_hub("org/name", "tests").name == from_hub("org/name@v2", "tests").name == COMMIT
    pinned = pin_models({"base": "org/name@v2", "steps": 3}, ["base"], "tests")
    assert pinned == {"base": f"org/name@{COMMIT}", "steps": 3} == pin_models(pinned, ["base"], "tests")
    with pytest.raises(InputError, match="'org/name@v3' is not a folder and could not be downloaded"):
        from_hub("org/name@v3", "tests")


def test_the_same_content_elsewhere_is_the_same_configuration(planned, tmp_path, context):
    first = planned(base="base")
    with context.database.write() as session:
        row = register_checkpoint(session, first)
    (tmp_path / "base").rename(tmp_path / "moved")
    second = planned(base="moved")
    for key in ("fingerprint", "configuration", "samples_key", "draws_key"):
        assert getattr(first, key) == getattr(second, key)
    with context.database.write() as session:
        assert register_checkpoint(session, second) == row
        assert session.get_one(Checkpoints, row).options["base"] == str(tmp_path / "moved")
