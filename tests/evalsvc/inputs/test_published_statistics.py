import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from evalsvc.cli.main import app
from evalsvc.core.errors import InputError
from evalsvc.evaluation import opening
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs import published_statistics
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.published_statistics import Facts, StatisticsFile, convert, open_statistics
from evalsvc.inputs.references import add_reference, open_reference
from evalsvc.inputs.suites import GIVEN, Suite, load_suite, shipped_suites
from evalsvc.metrics.functional import frechet_distance
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.store import queries

SHA = "a" * 64
PROJECTION = torch.randn(64, 2048, generator=torch.Generator().manual_seed(1)) / 8
LITERATURE = ("fid50k@1", "clean-fid50k@1", "kid50k@1", "pr50k3@1")


def info(preprocess="tf1", name="inception-v3", weights=SHA, precision="float32"):
    return ExtractorInfo(name, "image", {"pool3": 2048}, weights, f"{preprocess}: as published, {precision}")


class Toy:
    """Under Inception's name and width, a projection of the pixels."""

    info = info()

    def extract(self, samples):
        return {"pool3": samples.pixels.flatten(1).float() / 255 @ PROJECTION}


@pytest.fixture(scope="module")
def features():
    pixels = torch.rand(300, 64, generator=torch.Generator().manual_seed(2))
    return (pixels @ PROJECTION).numpy().astype(np.float64)


@pytest.fixture(scope="module")
def published(features, tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "stats.npz"
    np.savez(path, mu=features.mean(0), sigma=np.cov(features, rowvar=False))
    return path


def converted(source, target, **more):
    convert(source, target, **{"count": 300, "preprocess": "tf1", "network": SHA} | more)
    statistics = open_statistics(target)
    assert isinstance(statistics, StatisticsFile)
    return statistics


def test_published_statistics_give_the_distance_that_their_images_would(features, published, tmp_path):
    statistics = converted(published, tmp_path / "own.npz")
    other = features[:100] + 0.1
    assert np.isclose(
        frechet_distance(other, statistics.moments(info(), "pool3")).value,
        frechet_distance(other, features).value,
        rtol=1e-9,
    )
    assert len(statistics) == 300


def test_either_ddof_gives_the_same_moments(features, published, tmp_path):
    np.savez(tmp_path / "population.npz", mu=features.mean(0), sigma=np.cov(features, rowvar=False, ddof=0))
    np.savez(tmp_path / "stated.npz", mu=features.mean(0), sigma=np.cov(features, rowvar=False, ddof=0), ddof=0)
    by_convention = converted(published, tmp_path / "a.npz")
    by_caller = converted(tmp_path / "population.npz", tmp_path / "b.npz", ddof=0)
    by_file = converted(tmp_path / "stated.npz", tmp_path / "c.npz")
    assert [s.facts.ddof for s in (by_convention, by_caller, by_file)] == [1, 0, 0]
    assert "convention" in by_convention.facts.ddof_known_by
    assert (by_caller.facts.ddof_known_by, by_file.facts.ddof_known_by) == ("the caller", "the file")
    first, *others = (s.moments(info(), "pool3").covariance for s in (by_convention, by_caller, by_file))
    for covariance in others:
        assert torch.allclose(covariance, first, rtol=1e-12, atol=1e-15)


def test_adms_spatial_statistics_come_along_and_its_images_stay_a_reference(features, tmp_path):
    mu_s, sigma_s = np.zeros(2023), np.eye(2023)
    images = np.zeros((4, 8, 8, 3), dtype=np.uint8)
    arrays = {"mu": features.mean(0), "sigma": np.cov(features, rowvar=False), "mu_s": mu_s, "sigma_s": sigma_s}
    np.savez(tmp_path / "adm.npz", arr_0=images, **arrays)
    statistics = converted(tmp_path / "adm.npz", tmp_path / "own.npz")
    assert statistics.moments(info(), "sfid").covariance.shape == (2023, 2023)
    assert open_statistics(tmp_path / "adm.npz") is None


def test_pickles_are_never_opened_and_the_error_says_what_to_convert(tmp_path):
    (tmp_path / "edm.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    for attempt in (open_statistics, lambda path: convert(path, tmp_path / "x.npz", count=2, preprocess="tf1")):
        with pytest.raises(InputError, match=r"edm.pkl is a pickle.*numpy.savez"):
            attempt(tmp_path / "edm.pkl")


def test_what_cannot_be_compared_is_refused(published, tmp_path):
    statistics = converted(published, tmp_path / "own.npz")
    for other in (info("clean"), info(name="vgg16"), info(weights="b" * 64), info(precision="bfloat16")):
        with pytest.raises(InputError, match="are not comparable"):
            statistics.moments(other, "pool3")
    with pytest.raises(InputError, match="no statistics of 'sfid'"):
        statistics.moments(info(), "sfid")
    with pytest.raises(InputError, match="not images"):
        statistics.read(0, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(2048)}, "contains mu"),
        ({"mu": np.zeros(5), "sigma": np.eye(5)}, "expected width 2048"),
        ({"mu": np.full(2048, np.nan), "sigma": np.eye(2048)}, "NaN"),
        ({"mu": np.zeros(2048), "sigma": np.triu(np.ones((2048, 2048)))}, "not symmetric"),
        ({"mu": np.zeros(2048), "sigma": np.eye(2048), "ddof": 3}, "ddof 3"),
        ({"mu": np.zeros(2048), "sigma": np.eye(2048), "ddof": "one"}, "ddof 'one'"),
        ({"mu": np.zeros(2048), "sigma": np.eye(2048), "ddof": [0, 1]}, r"ddof \[0, 1\]"),
        ({"mu": np.full(2048, "0"), "sigma": np.eye(2048)}, "'mu' has dtype str.*, expected real numbers"),
        ({"mu": np.zeros(2048), "sigma": np.eye(2048) * 1j}, "'sigma' has dtype complex128, expected real numbers"),
        ({"mu": np.zeros(2048), "sigma": np.eye(2048, dtype=np.float16)}, "'sigma' is in half precision"),
    ],
)
def test_malformed_statistics_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "bad.npz", tmp_path / "out.npz", count=100, preprocess="tf1")
    assert not (tmp_path / "out.npz").exists()


def test_damaged_statistics_give_the_same_moments_or_a_sentence(tmp_path):
    facts = Facts(count=99, ddof=1, ddof_known_by="the file", preprocess="tf1", weights=SHA, source=SHA)
    told = np.frombuffer(facts.model_dump_json().encode(), np.uint8)
    np.savez(tmp_path / "whole.npz", evalsvc=told, mu=np.arange(3.0), sigma=np.eye(3))
    content = (tmp_path / "whole.npz").read_bytes()
    refused = 0
    for offset in range(0, len(content), 4):
        path = tmp_path / f"{offset % 7}.npz"
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 9]) + content[offset + 1 :])
        published_statistics._moments.cache_clear()
        try:
            opened = published_statistics.open_statistics(path)
            moments = published_statistics._moments(path, "pool3", 99) if opened else None
        except InputError:
            refused += 1
            continue
        assert opened is None or (opened.facts == facts and moments.mean.tolist() == [0, 1, 2])
    assert refused > len(content) / 8


def test_a_covariance_with_eigenvalues_below_zero_is_refused_and_one_with_rounding_is_not(features, tmp_path):
    mu, sigma = features.mean(0), np.cov(features, rowvar=False)
    np.savez(tmp_path / "single.npz", mu=mu.astype(np.float32), sigma=sigma.astype(np.float32))
    converted(tmp_path / "single.npz", tmp_path / "own.npz")
    # Its diagonal stays above 0.
    np.savez(tmp_path / "bad.npz", mu=mu, sigma=sigma - 0.5 * sigma.diagonal().min() * np.eye(2048))
    with pytest.raises(InputError, match="the covariance of pool3 has negative eigenvalues"):
        converted(tmp_path / "bad.npz", tmp_path / "out.npz")


def test_the_published_file_is_never_written_over(published):
    before = published.read_bytes()
    with pytest.raises(InputError, match="is the published file itself: choose another name for the converted file"):
        converted(published, published)
    assert published.read_bytes() == before


def test_a_file_with_more_beside_its_moments_is_no_set_of_images(published, tmp_path):
    with np.load(published) as arrays:
        np.savez(tmp_path / "counted.npz", **arrays, num=300)
    with pytest.raises(InputError, match="contains a mean and a covariance without the number of images"):
        open_statistics(tmp_path / "counted.npz")


def test_images_that_come_with_moments_of_others_are_said_to_be_a_reference_alone(home, published, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    with np.load(published) as arrays:
        np.savez(tmp_path / "adm.npz", arr_0=pixels, **arrays)
    added = CliRunner().invoke(app, ["reference", "add", "adm", str(tmp_path / "adm.npz")])
    assert "reference adm: 6 samples" in added.output
    assert "a mean and a covariance, which do not belong to these 6 images" in added.output


def test_raw_statistics_as_a_reference_say_how_to_convert_them(published):
    with pytest.raises(InputError, match="evalsvc reference statistics .* --count N --preprocess tf1"):
        open_statistics(published)


def test_an_evaluation_runs_against_statistics_end_to_end(context, published, tmp_path, monkeypatch):
    converted(published, tmp_path / "own.npz")
    add_reference(context.database, context.plugins, "paper", tmp_path / "own.npz", None)
    monkeypatch.setattr(opening, "extractor", lambda *_: Toy())
    pictures = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "made_1.npy", pictures)
    suite = load_suite("fid50k").on("paper").model_copy(update={"samples": 40})
    spec = plan(context, Checkpoint.open(tmp_path / "made_1.npy", "made", 1), "samples", {}, suite)
    with context.database.read() as session:
        scores = queries.scores(session, evaluation=evaluate(spec, context))
    statistics = open_reference(context.database, context.plugins, "paper").split("train")
    made = torch.from_numpy(pictures).flatten(1).float() / 255 @ PROJECTION
    expected = frechet_distance(made.numpy(), statistics.moments(info(), "pool3"))
    assert [float(score.value) for score in scores] == pytest.approx([expected.value])
    with pytest.raises(InputError, match="kernel_distance needs the images of reference 'paper'"):
        plan(
            context,
            Checkpoint.open(tmp_path / "made_1.npy", "made", 1),
            "samples",
            {},
            load_suite("kid50k").on("paper"),
        )


def test_the_literature_suites_ship_and_leave_only_the_reference_open():
    assert set(LITERATURE) <= set(shipped_suites())
    for name in LITERATURE:
        suite = load_suite(name)
        assert (suite.samples, suite.reference) == (50_000, GIVEN)
        with pytest.raises(InputError, match="has no reference"):
            suite.on("")
        with pytest.raises(InputError, match="'CelebA HQ' cannot be part of a suite's name"):
            suite.on("CelebA HQ")
        chosen = suite.on("cifar10-train")
        assert chosen.id == f"{suite.name}-cifar10-train@1"
        assert chosen.digest != suite.on("lsun").digest
        assert isinstance(chosen, Suite)
    digits = load_suite("digits")
    assert digits.on("") is digits
    with pytest.raises(InputError, match="has its own reference"):
        digits.on("mnist")


def test_the_command_converts_and_says_what_it_knows(published, tmp_path):
    done = CliRunner().invoke(
        app,
        ["reference", "statistics", str(published), str(tmp_path / "o.npz"), "--count", "300", "--preprocess", "clean"],
    )
    assert done.exit_code == 0
    assert "300 images, ddof 1" in done.stderr
    with pytest.raises(InputError, match="preprocess 'bilinear'"):
        convert(published, tmp_path / "p.npz", count=300, preprocess="bilinear")
