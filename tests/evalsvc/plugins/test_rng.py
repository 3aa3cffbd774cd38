import math

import pytest
import torch
from scipy import stats

from evalsvc.plugins import rng
from evalsvc.plugins.samples import SampleRequest

ONES = 0xFFFFFFFF


def words(counter, key):
    tensors = [torch.tensor(word) for word in (*counter, *key)]
    return [int(word) for word in rng.philox(tuple(tensors[:4]), tuple(tensors[4:]))]


# Known-answer vectors of the Random123 distribution, kat_vectors, philox4x32-10.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, expected):
    assert words(counter, key) == list(expected)


def test_a_sample_does_not_depend_on_its_batch():
    whole = SampleRequest.of(7, 0, 100)
    part = SampleRequest.of(7, 40, 60)
    assert torch.equal(whole.seeds[40:60], part.seeds)
    assert torch.equal(whole.normal(3, 5)[40:60], part.normal(3, 5))
    assert torch.equal(whole.uniform(9)[40:60], part.uniform(9))


def test_a_longer_draw_begins_with_the_shorter_one():
    request = SampleRequest.of(7, 0, 10)
    assert torch.equal(request.normal(8)[:, :5], request.normal(5))


@pytest.mark.parametrize("n", [1, 3, 1500])
def test_streams_drawn_at_once_are_those_drawn_one_by_one(n):
    request, streams = SampleRequest.of(7, 0, n), range(2, 12, 3)
    at_once = request.normals(9, 7, streams=streams)
    assert torch.equal(at_once, torch.stack([request.normal(9, 7, stream=stream) for stream in streams]))
    assert at_once.is_contiguous()


def test_seeds_of_different_runs_and_samples_are_all_different():
    seeds = torch.cat([rng.sample_seeds(run, 0, 10_000) for run in range(5)])
    assert len(seeds.unique()) == 50_000
    assert int(seeds.min()) >= 0


def test_normals_are_standard_normal():
    x = SampleRequest.of(1, 0, 2_000).normal(50).flatten().numpy()
    assert stats.kstest(x, "norm").pvalue > 0.01


def test_uniforms_are_uniform_on_the_open_interval():
    x = SampleRequest.of(1, 0, 2_000).uniform(50).flatten()
    assert stats.kstest(x.numpy(), "uniform").pvalue > 0.01
    assert float(x.min()) > 0
    assert float(x.max()) < 1


def test_the_extreme_words_stay_inside_the_open_interval():
    for word in (0, ONES):
        value = torch.tensor(((word >> 9) + 0.5) * 2.0**-23, dtype=torch.float32)
        assert 0 < float(value) < 1


def test_streams_and_neighbours_are_uncorrelated():
    request = SampleRequest.of(1, 0, 20_000)
    a, b = request.normal(2), request.normal(2, stream=1)
    pairs = [(a[:, 0], b[:, 0]), (a[:, 0], a[:, 1]), (a[:-1, 0], a[1:, 0])]
    for x, y in pairs:
        correlation = float(torch.corrcoef(torch.stack((x[: len(y)], y)))[0, 1])
        assert abs(correlation) < 4 / math.sqrt(20_000)
