import json
import threading
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sqlalchemy import func, select

from evalsvc.core.errors import EvalsvcError, InputError, ModelError, StorageError
from evalsvc.core.settings import Settings
from evalsvc.evaluation import opening, runner
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.metrics import pairs
from evalsvc.metrics.functional import frechet_distance, nearest_neighbors
from evalsvc.metrics.score import MetricError
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Images
from evalsvc.store import queries
from evalsvc.store.tables import Evaluation, Score, Shard, Status


class Blobs:
    """Grey squares whose brightness is the checkpoint's; counts what it was asked for."""

    info = GeneratorInfo("blobs", "image", (1, 8, 8))
    made = 0
    stop_after = None

    def __init__(self, checkpoint, device):
        self.level = checkpoint.tensors()["level"].to(device)

    def sample(self, request):
        if type(self).stop_after is not None and type(self).made >= type(self).stop_after:
            raise KeyboardInterrupt
        type(self).made += len(request)
        return Images.from_unit(self.level + 0.2 * request.normal(1, 8, 8))


class LikelyBlobs(Blobs):
    def nll(self, items, request):
        nats = (items.pixels.flatten(1).double() / 255 - self.level).square().sum(1)
        return NegativeLogLikelihood(nats + request.uniform().double(), 64, "estimate")


@pytest.fixture(autouse=True)
def fresh_counters():
    for kind in (Blobs, LikelyBlobs):
        kind.made, kind.stop_after = 0, None


def plugins(**generators):
    found = Plugins()
    for name, kind in generators.items():
        found.add(Plugin(PluginKind.GENERATOR, name, "tests", "1", lambda kind=kind: kind))
    return found


def evaluation_context(home, database_url="", artifacts=""):
    settings = Settings(home=home, database_url=database_url, artifacts=artifacts)
    return EvaluationContext(settings, plugins(blobs=Blobs, likely=LikelyBlobs), "cpu", batch_size=40)


@pytest.fixture
def context(home):
    return evaluation_context(home)


@pytest.fixture
def either_context(home, database_url):
    """On SQLite, and again on Postgres."""
    return evaluation_context(home, database_url)


def suite(**changes):
    return Suite.model_validate(
        {
            "name": "pixels",
            "version": 1,
            "modality": "image",
            "reference": "digits",
            "samples": 300,
            "shard": 100,
            "gallery": 10,
            "neighbours": "pixels/pixels",
            "extractors": {"pixels": {"use": "pixels"}},
            "metrics": [
                {"metric": "frechet_distance", "features": "pixels/pixels"},
                {"metric": "precision_recall", "features": "pixels/pixels"},
                {"metric": "bits_per_dim", "against": "heldout"},
            ],
        }
        | changes
    )


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "blobs_10.safetensors"
    save_file({"level": torch.tensor(0.3)}, path)
    return Checkpoint.open(path, "blobs", 10)


def scores(context, evaluation):
    with context.database.read() as session:
        return {row.label: row.value for row in queries.scores(session, evaluation=evaluation)}


def inodes(context, spec):
    """A shard that is made anew is another file."""
    return [context.artifacts.local(spec.shard_key(shard)).stat().st_ino for shard in spec.shards]


def count(context, what):
    with context.database.read() as session:
        return session.scalar(select(func.count()).select_from(what))


def test_the_same_fingerprint_answers_from_the_database(context, checkpoint):
    spec = plan(context, checkpoint, "blobs", {}, suite())
    first = evaluate(spec, context)
    made = Blobs.made
    assert evaluate(plan(context, checkpoint, "blobs", {}, suite()), context) == first
    assert Blobs.made == made


def test_rerun_computes_again_and_supersedes(either_context, checkpoint):
    spec = plan(either_context, checkpoint, "blobs", {}, suite())
    first = evaluate(spec, either_context)
    made = Blobs.made
    second = evaluate(spec, either_context, rerun=True)
    assert second != first
    assert Blobs.made == 2 * made
    with either_context.database.read() as session:
        assert session.get(Evaluation, first).status == Status.SUPERSEDED
        assert {row.evaluation_id for row in queries.scores(session)} == {second}


def test_a_rerun_that_was_stopped_goes_on_as_one_and_leaves_no_old_shard(context, checkpoint):
    spec = plan(context, checkpoint, "blobs", {}, suite())
    evaluate(spec, context)
    made = inodes(context, spec)
    Blobs.made, Blobs.stop_after = 0, 150
    with pytest.raises(KeyboardInterrupt):
        evaluate(spec, context, rerun=True)
    Blobs.made, Blobs.stop_after = 0, None
    evaluate(spec, context)
    assert Blobs.made == 200, "the first shard had been made anew"
    again = inodes(context, spec)
    assert all(new != old for new, old in zip(again, made, strict=True))


def test_a_rerun_takes_nothing_from_under_an_evaluation_that_shares_its_samples(context, checkpoint, monkeypatch):
    spec = plan(context, checkpoint, "blobs", {}, suite())
    evaluate(spec, context)

    def once_a_rerun_has_begun(*args, reduce=runner.reduce):
        Blobs.stop_after = Blobs.made
        with pytest.raises(KeyboardInterrupt):
            evaluate(spec, context, rerun=True)
        return reduce(*args)

    monkeypatch.setattr(runner, "reduce", once_a_rerun_has_begun)
    evaluate(plan(context, checkpoint, "blobs", {}, suite(version=2, samples=400)), context)


def test_a_rerun_joins_its_features_anew(context, checkpoint):
    spec = plan(context, checkpoint, "blobs", {}, suite())
    first = scores(context, evaluate(spec, context))
    joined = context.artifacts.local(f"{spec.features_key}/pixels.pixels.npy")
    np.save(joined, np.load(joined) + 1)
    assert scores(context, evaluate(spec, context, rerun=True)) == first


def test_a_stopped_run_goes_on_and_gives_the_same_scores(either_context, checkpoint, tmp_path):
    undisturbed = evaluation_context(tmp_path / "other")
    expected = scores(undisturbed, evaluate(plan(undisturbed, checkpoint, "blobs", {}, suite()), undisturbed))
    spec = plan(either_context, checkpoint, "blobs", {}, suite())
    Blobs.made, Blobs.stop_after = 0, 150
    with pytest.raises(KeyboardInterrupt):
        evaluate(spec, either_context)
    assert count(either_context, Score) == 0
    assert count(either_context, Shard) == 1
    Blobs.made, Blobs.stop_after = 0, None
    assert scores(either_context, evaluate(spec, either_context)) == expected
    assert Blobs.made == 200, "the finished shard of 100 is not computed again"
    assert count(either_context, Evaluation) == 1


def test_a_second_machine_goes_on_with_what_the_first_left_in_the_object_store(context, checkpoint, bucket, tmp_path):
    spec = plan(context, checkpoint, "likely", {}, suite())
    expected = scores(context, evaluate(spec, context))
    here, there = (evaluation_context(tmp_path / name, artifacts=f"{bucket}/shards") for name in ("here", "there"))
    LikelyBlobs.made, LikelyBlobs.stop_after = 0, 150
    with pytest.raises(KeyboardInterrupt):
        evaluate(spec, here)
    LikelyBlobs.made, LikelyBlobs.stop_after = 0, None
    assert scores(there, evaluate(spec, there)) == expected
    assert LikelyBlobs.made == 200, "the shard of 100 that the first machine finished is not computed again"
    assert scores(here, evaluate(spec, here)) == expected
    assert LikelyBlobs.made == 200


def test_shards_and_batches_do_not_change_a_score(context, checkpoint):
    values = []
    for shard, batch in ((100, 40), (300, 7), (33, 300)):
        context.batches.size = batch
        changed = suite(shard=shard, name=f"pixels-{shard}")
        values.append(scores(context, evaluate(plan(context, checkpoint, "blobs", {}, changed), context)))
    assert values[0] == values[1] == values[2]


def test_a_full_device_halves_the_batch_and_changes_no_score(context, checkpoint, monkeypatch):
    expected = scores(context, evaluate(plan(context, checkpoint, "blobs", {}, suite()), context))
    asked = []

    def sample(self, request, whole=Blobs.sample):
        asked.append(len(request))
        if len(request) > 12:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(self, request)

    monkeypatch.setattr(Blobs, "sample", sample)
    again = evaluate(plan(context, checkpoint, "blobs", {}, suite()), context, rerun=True)
    assert scores(context, again) == expected
    assert asked[:3] == [40, 20, 10]
    assert max(asked[2:]) == 10


def test_a_score_of_two_kinds_of_engine_says_so(context, checkpoint):
    spec = plan(context, checkpoint, "blobs", {}, suite())
    number = evaluate(spec, context)
    first = spec.shard_key(spec.shards_of("samples")[0])
    noted = json.loads(context.artifacts.read_metadata(first)["engines"])
    assert noted == {"generator": "cpu", "pixels": "torch"}
    assert not any("computed by" in said for said in methods(context, number))
    elsewhere = {"engines": json.dumps(noted | {"pixels": "torch-cuda"})}
    context.artifacts.write_arrays(first, context.artifacts.read_arrays(first), elsewhere)
    mixed = methods(context, evaluate(plan(context, checkpoint, "blobs", {}, suite(version=2)), context))
    assert all(said.endswith("; computed by torch and torch-cuda") for said in mixed)


def methods(context, number):
    with context.database.read() as session:
        return session.scalars(select(Score.stderr_method).where(Score.evaluation_id == number)).all()


def test_another_metric_needs_no_new_samples(context, checkpoint):
    evaluate(plan(context, checkpoint, "blobs", {}, suite()), context)
    made = Blobs.made
    more = suite(version=2, metrics=[{"metric": "vendi_score", "features": "pixels/pixels"}])
    evaluate(plan(context, checkpoint, "blobs", {}, more), context)
    assert Blobs.made == made


def test_more_samples_keep_the_shards_that_are_there(context, checkpoint):
    evaluate(plan(context, checkpoint, "blobs", {}, suite()), context)
    made = Blobs.made
    evaluate(plan(context, checkpoint, "blobs", {}, suite(version=2, samples=500)), context)
    assert Blobs.made == made + 200


def test_what_can_change_a_number_changes_the_fingerprint_and_names_do_not(context, checkpoint):
    base = plan(context, checkpoint, "blobs", {}, suite())
    renamed = Checkpoint(model="other", step=99, path=checkpoint.path, digest=checkpoint.digest)
    assert plan(context, renamed, "blobs", {}, suite()).fingerprint == base.fingerprint
    others = [
        plan(context, checkpoint, "likely", {}, suite()),
        plan(context, checkpoint, "blobs", {}, suite(), seed=1),
        plan(context, checkpoint, "blobs", {}, suite(samples=301)),
        base.model_copy(update={"checkpoint": "0" * 64}),
    ]
    assert len({type(base).model_validate(spec.model_dump()).fingerprint for spec in [base, *others]}) == 5


def test_a_spec_survives_its_journey_as_json(context, checkpoint):
    spec = plan(context, checkpoint, "likely", {}, suite())
    again = type(spec).model_validate_json(spec.model_dump_json())
    assert again.fingerprint == spec.fingerprint
    assert again.shards == spec.shards


def test_every_score_has_an_error_a_protocol_and_provenance(context, checkpoint):
    evaluation = evaluate(plan(context, checkpoint, "likely", {}, suite()), context)
    with context.database.read() as session:
        rows = queries.scores(session, evaluation=evaluation)
        provenance = session.get(Evaluation, evaluation).provenance
    assert {row.label for row in rows} == {"frechet_distance", "precision", "recall", "bits_per_dim_heldout"}
    for row in rows:
        assert row.ci_low <= row.value <= row.ci_high
        assert row.stderr is not None
    assert {"packages", "git_commit", "seed", "device", "seconds", "samples_per_second"} <= set(provenance)
    kinds = {row.label: row.facts.get("kind") for row in rows}
    assert kinds["bits_per_dim_heldout"] == "estimate"


def test_the_balls_of_the_reference_are_found_once_and_change_no_score(context, checkpoint, monkeypatch):
    spec = plan(context, checkpoint, "blobs", {}, suite())
    first = scores(context, evaluate(spec, context))
    monkeypatch.setattr("evalsvc.metrics.balls.neighbor_radii", lambda *_: pytest.fail("found before"))
    assert scores(context, evaluate(spec, context, rerun=True)) == first


def test_pair_metrics_share_one_pass_and_pairs_of_the_reference_are_passed_once(context, checkpoint, monkeypatch):
    uses = [
        {"metric": metric, "features": "pixels/pixels", "options": options}
        for metric, options in {
            "kernel_distance": {"subsets": None},
            "precision_recall": {},
            "density_coverage": {},
            "authenticity": {},
        }.items()
    ]
    spec = plan(context, checkpoint, "blobs", {}, suite(metrics=uses, samples=600))
    first, kept = outcome(context, evaluate(spec, context))
    passes = []
    monkeypatch.setattr(pairs, "sweep", lambda x, y, sweep=pairs.sweep, **how: passes.append(how) or sweep(x, y, **how))
    again, kept_again = outcome(context, evaluate(spec, context, rerun=True))
    assert again == first
    assert passes == [{"symmetric": True}, {"symmetric": True}, {}]
    train, heldout = (read_reference(context, split) for split in ("train", "heldout"))
    np.testing.assert_allclose(kept["heldout"], nearest_neighbors(heldout, train).distances[:, 0], rtol=1e-6)
    np.testing.assert_array_equal(kept_again["heldout"], kept["heldout"])
    assert len(kept["distances"]) == 600


def outcome(context, evaluation):
    """Its scores, and the neighbours it shows."""
    return scores(context, evaluation), context.artifacts.read_arrays(files_of(context, evaluation)["neighbours"])


def files_of(context, evaluation):
    with context.database.read() as session:
        return {artifact.kind: artifact.path for artifact in session.get(Evaluation, evaluation).artifacts}


def read_reference(context, split):
    pixels = opening.reference(context, "digits").split(split)
    return pixels.read(0, len(pixels)).pixels.flatten(1).float().div(255).numpy()


def test_the_moments_of_the_reference_are_found_once_and_change_no_score(home, context, checkpoint, monkeypatch):
    spec = plan(context, checkpoint, "blobs", {}, suite())
    first = scores(context, evaluate(spec, context))
    (kept,) = home.rglob("pixels.moments.safetensors")
    reference = np.load(kept.with_name("pixels.npy"))
    (generated,) = home.rglob("features-300/pixels.pixels.npy")
    assert first["frechet_distance"] == frechet_distance(np.load(generated), reference).value
    monkeypatch.setattr("evalsvc.evaluation.metric_inputs.Moments.of", lambda *_: pytest.fail("found before"))
    assert scores(context, evaluate(spec, context, rerun=True)) == first


def test_a_metric_that_does_not_apply_says_why(context, checkpoint):
    evaluation = evaluate(plan(context, checkpoint, "blobs", {}, suite()), context)
    with context.database.read() as session:
        provenance = session.get(Evaluation, evaluation).provenance
    assert provenance["not_applicable"] == {"bits_per_dim_heldout": "generator 'blobs' provides no likelihood"}


def test_neighbours_of_an_output_that_there_is_not_are_refused_before_any_sample_is_drawn(context, checkpoint):
    with pytest.raises(InputError, match="neighbours needs 'pixels/nope', but extractor 'pixels' returns pixels"):
        plan(context, checkpoint, "blobs", {}, suite(neighbours="pixels/nope"))


def test_gallery_and_neighbours_are_kept(context, checkpoint):
    files = files_of(context, evaluate(plan(context, checkpoint, "blobs", {}, suite()), context))
    assert context.artifacts.read_arrays(files["gallery"])["pixels"].shape == (10, 1, 8, 8)
    neighbours = context.artifacts.read_arrays(files["neighbours"])
    assert neighbours["distances"].shape == neighbours["indices"].shape == (300, 3)
    assert np.all(np.diff(neighbours["distances"], axis=1) >= 0)


def test_the_reference_shows_as_many_pictures_as_the_suite_that_asks_for_most(context, checkpoint):
    key = f"reference/{opening.reference(context, 'digits').digests['train']}/gallery.safetensors"
    found = []
    for size in (0, 4, 12, 6):
        evaluate(plan(context, checkpoint, "blobs", {}, suite(gallery=size, name=f"pixels-{size}")), context)
        found.append(len(context.artifacts.read_arrays(key)["pixels"]) if context.artifacts.exists(key) else 0)
    assert found == [0, 4, 12, 12]


def test_pictures_of_the_reference_are_all_there_after_a_stop_between_them(context, checkpoint, monkeypatch):
    written, pictures = context.artifacts.write_arrays, []

    def stopped_at_the_second(key, arrays, metadata=None):
        if key.startswith("reference/") and key.endswith(("gallery.safetensors", "thumbnails.safetensors")):
            pictures.append(key)
            if len(pictures) == 2:
                raise KeyboardInterrupt
        written(key, arrays, metadata)

    monkeypatch.setattr(context.artifacts, "write_arrays", stopped_at_the_second)
    asked = plan(context, checkpoint, "blobs", {}, suite())
    with pytest.raises(KeyboardInterrupt):
        evaluate(asked, context)
    evaluate(asked, context)
    assert all(map(context.artifacts.exists, pictures))


def test_a_set_that_copies_ten_images_is_precise_and_has_no_recall(context, tmp_path):
    train = opening.reference(context, "digits").split("train").read(0, 10).pixels.numpy()
    np.savez(tmp_path / "collapsed_1.npz", np.tile(train, (30, 1, 1, 1)))
    np.savez(tmp_path / "noise_1.npz", np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8), dtype=np.uint8))
    found = {}
    for name in ("collapsed", "noise"):
        opened = Checkpoint.open(tmp_path / f"{name}_1.npz", name, 1)
        found[name] = scores(context, evaluate(plan(context, opened, "samples", {}, suite()), context))
    assert found["collapsed"]["precision"] > 0.95
    assert found["collapsed"]["recall"] < 0.05
    assert found["noise"]["precision"] < 0.05
    assert found["noise"]["recall"] < 0.05


def test_a_model_that_copies_its_training_set_looks_perfect_and_is_caught(context, tmp_path):
    splits = {
        split: opening.reference(context, "digits").split(split).read(0, 800).pixels.numpy()
        for split in ("train", "heldout")
    }
    metrics = ["frechet_distance", "authenticity", "ct_score"]
    uses = [{"metric": metric, "features": "pixels/pixels"} for metric in metrics]
    found = {}
    for split, pixels in splits.items():
        np.savez(tmp_path / f"{split}_1.npz", pixels)
        opened = Checkpoint.open(tmp_path / f"{split}_1.npz", split, 1)
        spec = plan(context, opened, "samples", {}, suite(samples=800, metrics=uses))
        found[split] = scores(context, evaluate(spec, context))
    assert found["train"]["frechet_distance"] < found["heldout"]["frechet_distance"]
    assert found["train"]["authenticity"] < 0.05 < 0.3 < found["heldout"]["authenticity"]
    assert found["train"]["ct_score"] < -5 < -3 < found["heldout"]["ct_score"]


def test_two_processes_with_one_fingerprint_make_one_evaluation(either_context, checkpoint):
    spec = plan(either_context, checkpoint, "blobs", {}, suite())
    found = []
    threads = [threading.Thread(target=lambda: found.append(evaluate(spec, either_context))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert Blobs.made == 300


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda r: Images(torch.zeros(len(r) - 1, 1, 8, 8, dtype=torch.uint8)), "returned 39 samples, expected 40"),
        (lambda r: Images.from_unit(torch.full((len(r), 1, 8, 8), torch.nan)), "NaN"),
        (lambda r: Images(torch.zeros(len(r), 1, 9, 8, dtype=torch.uint8)), r"\(40, 1, 9, 8\)"),
    ],
)
def test_a_broken_generator_fails_by_name_and_leaves_no_scores(context, checkpoint, monkeypatch, answer, complaint):
    monkeypatch.setattr(Blobs, "sample", lambda self, request: answer(request))
    spec = plan(context, checkpoint, "blobs", {}, suite())
    with pytest.raises(ModelError, match=complaint):
        evaluate(spec, context)
    assert count(context, Score) == count(context, Shard) == 0
    with context.database.read() as session:
        row = session.scalars(select(Evaluation)).one()
        assert row.status == Status.FAILED
        assert "generator 'blobs'" in row.error or "generator returned" in row.error


def test_a_failed_evaluation_can_be_tried_again(either_context, checkpoint, monkeypatch):
    spec = plan(either_context, checkpoint, "blobs", {}, suite())
    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "sample", lambda self, request: 1 / 0)
        with pytest.raises(EvalsvcError, match="ZeroDivisionError"):
            evaluate(spec, either_context)
    assert scores(either_context, evaluate(spec, either_context))


def test_a_full_disk_in_mid_run_keeps_what_is_done(context, checkpoint, monkeypatch):
    spec = plan(context, checkpoint, "blobs", {}, suite())
    write = context.artifacts.write_arrays

    def full(key, *rest):
        if key.endswith("200-300.safetensors"):
            raise StorageError("No space left on device")
        return write(key, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(context.artifacts, "write_arrays", full)
        with pytest.raises(StorageError):
            evaluate(spec, context)
    made = Blobs.made
    assert scores(context, evaluate(spec, context))
    assert Blobs.made == made + 100


def test_too_few_samples_for_a_metric_is_an_error_that_names_it(context, checkpoint):
    small = suite(samples=3)
    with pytest.raises(MetricError, match=r"3|k"):
        evaluate(plan(context, checkpoint, "blobs", {}, small), context)


def test_too_few_stored_samples_say_what_to_do(context, tmp_path):
    np.savez(tmp_path / "few_1.npz", np.zeros((50, 8, 8), np.uint8))
    with pytest.raises(InputError, match="contains 50 samples"):
        plan(context, Checkpoint.open(tmp_path / "few_1.npz", "few", 1), "samples", {}, suite())


def test_a_changed_suite_needs_a_new_version(context, checkpoint):
    evaluate(plan(context, checkpoint, "blobs", {}, suite()), context)
    with pytest.raises(InputError, match="raise its version to 2"):
        evaluate(plan(context, checkpoint, "blobs", {}, suite(samples=200)), context)


@pytest.mark.parametrize(
    ("changes", "generator", "complaint"),
    [
        ({"extractors": {"pixels": {"use": "pixels", "options": {"size": 3}}}}, "blobs", "does not take these options"),
        (
            {"metrics": [{"metric": "vendi_score", "features": "pixels/logits"}]},
            "blobs",
            "extractor 'pixels' returns pixels",
        ),
        ({"reference": "digit"}, "blobs", "no reference 'digit'; the nearest are digits"),
        ({"modality": "text"}, "blobs", "scores text samples, but generator 'blobs' makes image samples"),
        ({}, "blob", "no generator 'blob'; the nearest are blobs"),
    ],
)
def test_what_does_not_fit_shows_before_any_work(context, checkpoint, changes, generator, complaint):
    with pytest.raises(InputError, match=complaint):
        plan(context, checkpoint, generator, {}, suite(**changes))
    assert Blobs.made == 0


def test_memory_does_not_grow_with_the_number_of_samples(context, checkpoint):
    def peak(samples):
        changed = suite(
            name=f"n{samples}", samples=samples, metrics=[{"metric": "frechet_distance", "features": "pixels/pixels"}]
        )
        spec = plan(context, checkpoint, "blobs", {}, changed.model_copy(update={"neighbours": ""}))
        evaluate(spec, context)
        tracemalloc.start()
        evaluate(plan(context, checkpoint, "blobs", {}, spec.suite, seed=samples), context)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(4000) < 1.5 * peak(500)
