"""Any prefix of a source is a random sample of it, the same for suites of every size."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evalsvc.analysis.human_ratings import draw
from evalsvc.builtin.demo.digits import splits
from evalsvc.cli.score_tables import taken_samples
from evalsvc.core.errors import InputError
from evalsvc.evaluation.first_samples import used_first_samples
from evalsvc.evaluation.gallery import GalleryCollector, joined, pictures_of
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.rescoring import rescore
from evalsvc.evaluation.runner import evaluate
from evalsvc.gates.sources import Computed, Stored
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.sample_order import SampleOrder, order
from evalsvc.inputs.sample_sets import open_samples, read_at
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.rng import sample_seeds
from evalsvc.plugins.samples import Images, MixedImages, SampleRequest, Texts, Videos
from evalsvc.store import queries
from evalsvc.store.tables import Evaluation

SEEDS = st.integers(0, 2**63 - 1)


@given(SEEDS, st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=50, deadline=None)
def test_items_keep_their_order_whatever_is_added_behind_them(seed, few, more):
    assert sorted(order(seed, few)) == list(range(few))
    whole = order(seed, few + more)
    assert np.array_equal(whole[whole < few], order(seed, few))


def test_a_prefix_is_a_random_sample():
    """Of 10,000 items the first 1,000 in order hold each tenth about as often, for any seed, and seeds differ."""
    for seed in (0, 1, 2**32, 2**62):
        tenths = np.bincount(order(seed, 10_000)[:1000] // 1000, minlength=10)
        assert abs(tenths - 100).max() < 5 * np.sqrt(100 * 0.9 * 0.9)
    places = np.stack([np.argsort(order(seed, 1000)) for seed in (0, 1, 2**32, 2**62)])
    assert abs(np.corrcoef(places) - np.eye(4)).max() < 5 / np.sqrt(1000)


def test_the_order_knows_nothing_of_the_noise():
    places = np.argsort(order(7, 5000))
    seeds = np.argsort(np.argsort(sample_seeds(7, 0, 5000).numpy()))
    assert abs(np.corrcoef(places, seeds)[0, 1]) < 5 / np.sqrt(5000)


def test_the_order_of_a_version_never_changes():
    assert order(2026, 12).tolist() == [2, 6, 8, 9, 7, 1, 5, 0, 3, 4, 11, 10]


@given(SEEDS, st.integers(1, 50), st.integers(0, 120), st.integers(0, 120))
@settings(max_examples=50, deadline=None)
def test_every_item_is_drawn_once_before_any_is_drawn_again(seed, of, start, more):
    whole = SampleOrder(seed=seed, of=of)
    indices = whole.indices(0, start + more)
    assert np.array_equal(indices[start:], whole.indices(start, start + more))
    for turn in range(len(indices) // of):
        assert sorted(indices[turn * of : (turn + 1) * of] - turn * of) == list(range(of))
    assert len(set(indices.tolist())) == len(indices)


# --- reading ---


class Ranges:
    """A set that reads ranges only, and tells which."""

    modality = "text"

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 20

    def digest(self):
        return "0" * 64

    def read(self, start, stop):
        self.asked.append((start, stop))
        return Texts(tuple(f"text {i}" for i in range(start, stop)))


def test_a_set_that_reads_ranges_is_read_by_the_longest_there_are():
    samples = Ranges()
    indices = [3, 4, 5, 2, 19, 0, 1, 1]
    assert read_at(samples, indices) == Texts(tuple(f"text {i}" for i in indices))
    assert samples.asked == [(3, 6), (2, 3), (19, 20), (0, 2), (1, 2)]


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), dtype=np.uint8)


def test_every_container_of_images_is_read_anywhere(tmp_path, pictures):
    (tmp_path / "folder").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "folder" / f"{i}.png")
    np.savez(tmp_path / "stored.npz", pictures)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(pictures))
    expected = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    for path in sorted(tmp_path.iterdir()):
        for indices in ([8, 0, 3], [2, 3, 4], [5, 5]):
            assert torch.equal(read_at(open_samples(path), indices).pixels, expected[indices]), path.name


def test_images_of_several_sizes_and_texts_are_read_anywhere(tmp_path, pictures):
    (tmp_path / "mixed").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture[: 3 + i % 2]).save(tmp_path / "mixed" / f"{i}.png")
    found = read_at(open_samples(tmp_path / "mixed"), [7, 2])
    assert isinstance(found, MixedImages)
    assert [item.shape[1] for item in found.items] == [4, 3]
    assert isinstance(read_at(open_samples(tmp_path / "mixed"), [4, 2]), Images)
    (tmp_path / "t.jsonl").write_text("".join(f'"{i}"\n' for i in range(9)))
    assert read_at(open_samples(tmp_path / "t.jsonl"), [7, 2]) == Texts(("7", "2"))


def test_only_what_is_taken_is_decoded_and_it_is_decoded_ahead(tmp_path, pictures, monkeypatch):
    """One of the images is damaged, and nobody who does not ask for it hears of it."""
    from evalsvc.inputs import prefetch

    (tmp_path / "set").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "set" / f"{i}.png")
    (tmp_path / "set" / "4.png").write_bytes(b"damaged")
    monkeypatch.setattr(prefetch, "WORTH", 0)
    monkeypatch.setattr(prefetch, "_cores", lambda: 1)
    samples = open_samples(tmp_path / "set")
    samples._feed._worth = 0
    taken = np.array([8, 0, 3, 7, 1, 5, 2])
    samples.read(0, 1)
    samples.expect(taken)
    expected = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    for start in (0, 2, 4):
        piece = taken[start : start + 2]
        assert torch.equal(samples.read_at(piece.tolist()).pixels, expected[piece])
        assert samples._feed._crew is not None
    assert torch.equal(samples.read_at([2]).pixels, expected[[2]])


# --- evaluations ---

SUITE = {
    "name": "small",
    "version": 1,
    "modality": "image",
    "reference": "digits",
    "samples": 100,
    "shard": 50,
    "gallery": 4,
    "extractors": {"px": {"use": "pixels"}},
    "metrics": [{"metric": "frechet_distance", "features": "px/pixels"}],
}


@pytest.fixture
def by_class(tmp_path):
    """240 digits in order of their class."""
    train, _ = splits()
    ordered = train.pixels[train.labels.argsort(stable=True)][::3][:240]
    np.savez(tmp_path / "digits_1.npz", images=ordered.permute(0, 2, 3, 1).numpy())
    return Checkpoint.open(tmp_path / "digits_1.npz", "digits", 1)


def of(context, checkpoint, seed=None, **changes):
    return plan(context, checkpoint, "samples", {}, Suite.model_validate(SUITE | changes), seed)


def scored(context, spec):
    with context.database.read() as session:
        (row,) = queries.scores(session, evaluation=evaluate(spec, context))
    return row


def test_suites_of_different_size_share_shards_and_the_shards_say_what_they_hold(context, by_class):
    small, large = of(context, by_class), of(context, by_class, samples=200)
    assert small.samples_key == large.samples_key
    evaluate(small, context)
    first, second = (context.artifacts.read_arrays(small.shard_key(shard)) for shard in small.shards)
    indices = np.concatenate([first["indices"], second["indices"]])
    assert np.array_equal(indices, order(2026, 240)[:100])
    stored = open_samples(by_class.path)
    expected = read_at(stored, indices.tolist()).pixels.flatten(1).numpy() / 255
    assert np.allclose(np.concatenate([first["px/pixels"], second["px/pixels"]]), expected)
    assert set(large.shards[:2]) == set(small.shards)


def test_the_seed_and_version_of_the_order_are_in_the_key_and_where_it_decides_in_the_protocol(context, by_class):
    part, other = scored(context, of(context, by_class)), of(context, by_class, seed=7)
    assert other.samples_key != of(context, by_class).samples_key
    assert part.facts["order"] == {"version": 1, "seed": 2026}
    whole = scored(context, of(context, by_class, samples=240, version=2))
    assert "order" not in whole.facts


def test_another_seed_of_an_evaluation_is_of_the_same_items(context, by_class):
    assert np.array_equal(of(context, by_class, 5).indices(0, 100), of(context, by_class, 6).indices(0, 100))


def test_a_set_in_order_of_class_scores_like_any_fair_part_of_it(context, by_class, tmp_path):
    ordered = scored(context, of(context, by_class)).value
    shuffled = np.load(by_class.path)["images"][np.random.default_rng(0).permutation(240)]
    np.savez(tmp_path / "shuffled_1.npz", images=shuffled)
    fair = scored(context, of(context, Checkpoint.open(tmp_path / "shuffled_1.npz", "shuffled", 1))).value
    first = np.load(by_class.path)["images"][:100]
    np.savez(tmp_path / "first_1.npz", images=first)
    unfair = scored(context, of(context, Checkpoint.open(tmp_path / "first_1.npz", "first", 1))).value
    assert unfair > 2 * max(fair, ordered)
    assert ordered == pytest.approx(fair, rel=0.35)


def test_a_spec_of_before_there_was_an_order_keeps_its_fingerprint_and_reads_the_first(context, by_class):
    now = of(context, by_class)
    old = now.model_validate({key: value for key, value in now.model_dump().items() if key != "order"})
    assert old.fingerprint != now.fingerprint
    assert "order" not in old.model_dump(exclude_none=True)
    assert old.indices(10, 13).tolist() == [10, 11, 12]
    evaluate(old, context)
    stored = open_samples(by_class.path).read(0, 50).pixels.flatten(1).numpy() / 255
    assert np.allclose(context.artifacts.read_arrays(old.shard_key(old.shards[0]))["px/pixels"], stored)


def test_a_generator_of_noise_alone_has_no_order(context):
    from evalsvc.builtin.demo import shipped

    family, step, path = next(iter(shipped()))
    spec = plan(context, Checkpoint.open(path, family, step), family, {}, Suite.model_validate(SUITE))
    assert spec.order is None


def test_a_request_anywhere_has_the_seeds_and_prompts_of_its_indices():
    prompts = tuple("abcdef")
    whole, some = SampleRequest.of(3, 0, 6, prompts=prompts), SampleRequest.at(3, torch.tensor([4, 1]), prompts=prompts)
    assert torch.equal(some.seeds, whole.seeds[[4, 1]])
    assert some.prompts == ("e", "b")
    assert torch.equal(some.normal(3), whole.normal(3)[[4, 1]])


# --- what is looked at ---


def test_galleries_say_where_their_samples_are_in_the_source(context, by_class):
    spec = of(context, by_class)
    evaluation = evaluate(spec, context)
    with context.database.read() as session:
        files = {each.kind: each.path for each in session.get_one(Evaluation, evaluation).artifacts}
    stored = open_samples(by_class.path)
    for kind, count in (("gallery", 4), ("thumbnails", 100)):
        kept = context.artifacts.read_arrays(files[kind])
        assert np.array_equal(kept["indices"], spec.indices(0, count))
        assert np.array_equal(kept["pixels"], read_at(stored, kept["indices"].tolist()).pixels)
    real = context.artifacts.read_arrays(f"reference/{spec.reference['train']}/thumbnails.safetensors")
    train, _ = splits()
    assert np.array_equal(real["indices"], order(0, 898)[:500])
    assert np.array_equal(real["pixels"], train.pixels[real["indices"]])


def test_pictures_of_a_reference_that_an_older_version_kept_are_made_anew(context, by_class):
    spec = of(context, by_class)
    key = f"reference/{spec.reference['train']}/gallery.safetensors"
    context.artifacts.write_arrays(key, {"pixels": np.zeros((9, 1, 8, 8), np.uint8)}, {"asked": "9"})
    evaluate(spec, context)
    assert context.artifacts.read_arrays(key)["indices"].tolist() == order(0, 898)[:9].tolist()


def test_clips_are_kept_from_the_first_on_in_batches_of_any_size():
    clips = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1, 1).expand(40, 2, 1, 4, 4)
    for size in (5, 7, 40):
        shown = GalleryCollector(0, 64)
        for start in range(0, 40, size):
            shown.add(Videos(clips[start : start + size]))
        files = joined([shown.arrays() | {"indices": np.arange(100, 140)}], 64)
        assert files["gallery"]["pixels"][:, 0, 0, 0, 0].tolist() == list(range(16))
        assert files["gallery"]["indices"].tolist() == list(range(100, 116))


@pytest.mark.parametrize("samples", [Ranges(), None])
def test_pictures_of_neighbours_are_those_of_their_places(samples):
    train, _ = splits()
    indices = np.array([[5, 800], [5, 6], [0, 5]])
    if samples:
        assert pictures_of(samples, indices) is None
    else:
        assert np.array_equal(pictures_of(train, indices), train.pixels[indices.ravel()])


def test_a_pair_to_rate_is_of_one_index(context):
    held = {1: [5, 9, 2], 2: [7, 9], 3: [1], 4: []}
    with context.database.read() as session:
        drawn = {draw(session, "s", held, random.Random(seed), "ann") for seed in range(20)}
        assert {(frozenset((pair.left, pair.right)), pair.sample) for pair in drawn} == {(frozenset((1, 2)), 9)}
        with pytest.raises(InputError, match="samples of the same indices"):
            draw(session, "s", {1: [5], 3: [1]}, random.Random(0), "ann")


@pytest.mark.parametrize(
    ("samples", "said"),
    [(100, "100 samples of 240 in the source, a random subset (order 1)"), (240, "240 samples of 240 in the source")],
)
def test_how_many_of_how_many_were_taken_is_kept_and_said(context, by_class, samples, said):
    evaluation = evaluate(of(context, by_class, samples=samples), context)
    with context.database.read() as session:
        provenance = session.get_one(Evaluation, evaluation).provenance
    assert provenance["samples"] == {"taken": samples, "of": 240, "order": 1}
    assert taken_samples(provenance) == said


# --- what older versions left ---


@pytest.fixture
def before(context, by_class):
    """Score as versions without an order did, under a suite of so many samples."""

    def score(samples):
        spec = of(context, by_class, samples=samples)
        old = spec.model_copy(update={"order": None})
        return old, evaluate(old, context)

    return score


@pytest.mark.parametrize(("samples", "first"), [(100, True), (240, False)])
def test_scores_of_the_first_samples_are_kept_and_count_for_no_gate(context, before, samples, first):
    old, evaluation = before(samples)
    assert used_first_samples(old.model_dump(), context.artifacts) == first
    labels = frozenset({"frechet_distance"})
    stored = Stored(context.database, old.suite, context.artifacts, labels, context.plugins)
    with context.database.read() as session:
        checkpoint = session.get_one(Evaluation, evaluation).checkpoint
        assert queries.scores(session, evaluation=evaluation)
        assert rescore(session.get_one(Evaluation, evaluation), old.suite, context) != first
    (run,) = stored.full(checkpoint, 1, None)["frechet_distance"]
    assert bool(run.outdated) == first
    assert stored.stored(checkpoint, None) == int(not first)
    (now,) = Computed(context, old.suite, labels).full(checkpoint, 1, None)["frechet_distance"]
    assert not now.outdated
    assert (now.run != evaluation) == first


def test_where_the_source_is_gone_nobody_can_tell_and_the_score_counts_for_no_gate(context, before, by_class):
    old, _ = before(240)
    by_class.path.unlink()
    assert used_first_samples(old.model_dump(), context.artifacts)


@pytest.mark.parametrize(("own", "samples", "first"), [(1, 7, False), (3, 6, False), (3, 7, True), (9, 6, True)])
def test_prompts_in_turn_were_the_first_where_some_were_asked_more_often(context, own, samples, first):
    spec = {"suite": {"samples": samples}, "generator": "causal-lm", "decoding": {"prompts": ["?"] * own}}
    assert used_first_samples(spec, context.artifacts) == first
