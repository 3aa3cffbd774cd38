"""Whatever happens to files between two evaluations: the same scores, or an error that names the file."""

import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError
from evalsvc.evaluation import metric_inputs, runner, scoring
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.rescoring import rescore
from evalsvc.evaluation.runner import evaluate
from evalsvc.gates.runner import run_gate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.store.tables import Artifact, Evaluation, Shard
from tests.evalsvc.evaluation.test_runner import LikelyBlobs, count, evaluation_context, scores, suite
from tests.evalsvc.gates.conftest import TODAY
from tests.evalsvc.gates.conftest import policy as gate_policy

METRICS = [
    {"metric": "frechet_distance", "features": "pixels/pixels"},
    {"metric": "precision_recall", "features": "pixels/pixels"},
    {"metric": "authenticity", "features": "pixels/pixels"},
    {"metric": "bits_per_dim", "against": "heldout"},
]
SMALL = {"samples": 120, "shard": 60, "metrics": METRICS, "gallery": 4}


def opened(folder, name):
    path = folder / f"{name}_1.safetensors"
    save_file({"level": torch.tensor(0.3 if name == "one" else 0.6)}, path)
    return Checkpoint.open(path, name, 1)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A home where two checkpoints were scored, what one of them gives under another version, and its checkpoint."""
    folder = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVALSVC_HOME", str(folder / "home"))
        torch.set_num_threads(1)  # as in each test: another number of threads sums in another order
        context = evaluation_context(folder / "home")
        for name in ("two", "one"):
            evaluate(plan(context, opened(folder, name), "likely", {}, suite(**SMALL)), context)
        context.database.engine.dispose()
        shutil.copytree(folder / "home", folder / "elsewhere")
        want = again(folder / "elsewhere", folder)
    return folder, want


def again(home, folder, version=2):
    """The scores of a suite that reads all that the first one left."""
    context = evaluation_context(home)
    spec = plan(
        context, Checkpoint.open(folder / "one_1.safetensors", "one", 1), "likely", {}, suite(**SMALL, version=version)
    )
    found = scores(context, evaluate(spec, context))
    context.database.engine.dispose()
    return found


@pytest.fixture
def home(scored, tmp_path, monkeypatch):
    """A copy of it, to be damaged."""
    folder = tmp_path / "home"
    monkeypatch.setenv("EVALSVC_HOME", str(folder))
    shutil.copytree(scored[0] / "home", folder)
    return folder


def arrays(home):
    return sorted(path for path in (home / "artifacts").rglob("[!.]*") if path.is_file() and path.stat().st_size)


def flip(path, chance):
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def truncate(path, chance):
    os.truncate(path, chance.randrange(path.stat().st_size))


def swap(path, chance):
    """With another file of the same kind, as far as there is one: a shard of the other model, say."""
    home = path.parents[len(path.parts) - 1 - path.parts.index("artifacts")]
    others = [other for other in arrays(home) if other.suffix == path.suffix and other != path]
    path.write_bytes(chance.choice([each for each in others if each.name == path.name] or others).read_bytes())


def unlink(path, chance):
    path.unlink()


@pytest.mark.parametrize("damage", [flip, truncate, swap, unlink])
def test_no_damage_to_any_file_changes_a_score(scored, home, damage):
    folder, want = scored
    chance = random.Random(0)
    for path in arrays(home):
        damage(path, chance)
    assert again(home, folder) == want


@pytest.mark.parametrize("seed", range(4))
def test_damage_to_some_files_changes_no_score(scored, home, seed):
    """Where the rest is sound, more of what is damaged could be believed."""
    folder, want = scored
    chance = random.Random(seed)
    for path in chance.sample(arrays(home), 3):
        chance.choice([flip, truncate, swap, unlink])(path, chance)
    assert again(home, folder) == want


def test_files_of_a_version_without_digests_give_the_same_scores_and_no_sample_is_drawn(scored, home):
    folder, want = scored
    strip(home)
    LikelyBlobs.made = 0
    assert again(home, folder) == want
    assert LikelyBlobs.made == 0


def strip(home):
    """Leave what a version without digests would have left."""
    import numpy as np
    from safetensors import numpy, safe_open

    (home / "artifacts" / ".signed-since").unlink()
    for path in arrays(home):
        if path.suffix == ".npy":
            np.save(path, np.load(path))
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as file:
                facts = {k: v for k, v in file.metadata().items() if k != "evalsvc.sha256"}
            numpy.save_file(numpy.load_file(path), path, facts)


def test_a_repaired_shard_has_one_row_and_its_cost_is_charged(scored, home):
    folder, _ = scored
    context = evaluation_context(home)
    spec = plan(context, Checkpoint.open(folder / "one_1.safetensors", "one", 1), "likely", {}, suite(**SMALL))
    chance = random.Random(0)
    for shard in spec.shards:
        flip(home / "artifacts" / spec.shard_key(shard), chance)
    before = count(context, Shard)
    evaluate(spec.model_copy(update={"suite": suite(**SMALL, version=2)}), context)
    with context.database.read() as session:
        rows = session.query(Shard).filter(Shard.evaluation_id == 3).all()
        assert session.get_one(Evaluation, 3).device_seconds > 0
    assert len(rows) == len({(row.kind, row.start) for row in rows}) == len(spec.shards)
    assert count(context, Shard) == before + len(spec.shards)


def test_two_who_repair_the_same_files_at_once_do_not_disturb_each_other(scored, home):
    folder, want = scored
    chance = random.Random(0)
    for path in arrays(home):
        flip(path, chance)
    with ThreadPoolExecutor(2) as both:
        found = list(both.map(lambda version: again(home, folder, version), (2, 3)))
    assert found == [want, want]


def test_what_cannot_be_computed_again_is_named(home, tmp_path):
    context = evaluation_context(home)
    spec = plan(context, opened(tmp_path, "one"), "likely", {}, suite(**SMALL, version=2))
    flip(home / "artifacts" / spec.shard_key(spec.shards[0]), random.Random(0))
    Path(spec.path).unlink()
    with pytest.raises(InputError, match=rf"{spec.shards[0].stop}\.safetensors is damaged .*one_1\.safetensors"):
        scoring.reduce(spec, evaluation_context(home))


def test_damage_while_it_is_read_is_seen_and_nothing_made_of_it_is_kept(scored, home, monkeypatch):
    """In the map of a file that was checked before, its content changes with the file."""
    folder, want = scored
    for path in home.rglob("pixels.moments.safetensors"):
        path.unlink()
    damaged = []

    def moments(array, of=metric_inputs.Moments.of):
        if not damaged:
            for path in home.rglob("pixels.npy"):
                damaged.append(path)
                with path.open("r+b") as file:
                    file.seek(path.stat().st_size - 8)
                    file.write(b"\x7f\x00\x00\x7f")
        return of(array)

    monkeypatch.setattr(metric_inputs.Moments, "of", staticmethod(moments))
    assert again(home, folder) == want
    assert damaged


def test_a_file_that_is_damaged_before_it_is_recorded_is_written_again(scored, home, monkeypatch):
    folder, want = scored
    chance = random.Random(0)
    damaged = []

    def describe(files, artifacts, describe=runner.describe):
        if not damaged:
            damaged.append(artifacts.local(files["gallery"]))
            flip(damaged[0], chance)
        return describe(files, artifacts)

    monkeypatch.setattr(runner, "describe", describe)
    assert again(home, folder) == want
    assert damaged


def test_an_evaluation_whose_shard_is_damaged_and_whose_checkpoint_is_gone_is_not_rescored(home):
    context = evaluation_context(home)
    with context.database.read() as session:
        run = session.get_one(Evaluation, 2)
    for path in (home / "artifacts" / "samples").rglob("*.safetensors"):
        os.truncate(path, 100)
    assert not rescore(run, suite(**SMALL), context)


def influences(home):
    return sorted((home / "artifacts" / "evaluations").rglob("influences.safetensors"))


def judged(context, computes=False, **how):
    """A gate of one checkpoint against the other, whose verdict needs their difference."""
    policy = gate_policy(
        suite="pixels@1",
        baseline={"model": "two", "step": 1},
        defaults={"min_samples": 100},
        metrics={"frechet_distance": {"max_worsening": 1e6}},
    )
    given = [context] if computes else []
    return run_gate(policy, context.database, suite(**SMALL), *given, candidate="one@1", today=TODAY, **how)


def test_a_gate_never_passes_on_damaged_influences_and_restores_them_where_it_can(home):
    context = evaluation_context(home)
    whole = judged(context)
    assert whole.exit_code == 0
    chance = random.Random(0)
    for damage in (flip, truncate, swap):
        for path in influences(home):
            damage(path, chance)
        refused = judged(context)
        assert refused.exit_code == 6, damage
        assert "its influences are damaged: score it again with --rerun" in str(refused.decision)
        again = judged(context, open_context=lambda: context)
        assert again.exit_code == 0
        assert again.decision.evidence["frechet_distance"] == whole.decision.evidence["frechet_distance"]
        assert again.decision.evidence["frechet_distance"].gap() == whole.decision.evidence["frechet_distance"].gap()
    assert judged(context).exit_code == 0, "they are there again for all others"
    with context.database.read() as session:
        kept = session.query(Artifact).filter(Artifact.kind == "influences").all()
        assert all(each.digest == digest_path(context.artifacts.local(each.path)) for each in kept)


def test_a_gate_whose_shards_are_damaged_too_is_an_error_unless_it_may_compute(home):
    context = evaluation_context(home)
    chance = random.Random(0)
    for path in [*influences(home), *(home / "artifacts" / "samples").rglob("*.safetensors")]:
        flip(path, chance)
    assert judged(context, open_context=lambda: context).exit_code == 6
    assert judged(context, computes=True).exit_code == 0, "one that may compute computes them again"


def test_influences_of_an_older_version_are_known_by_the_digest_in_the_database(home):
    strip(home)
    context = evaluation_context(home)
    for path in influences(home):
        key = path.relative_to(home / "artifacts").as_posix()
        with context.database.write() as session:
            session.query(Artifact).filter(Artifact.path == key).update({"digest": digest_path(path)})
    damaged = influences(home)[0]
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert judged(context).exit_code == 6
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert judged(context).exit_code == 0
