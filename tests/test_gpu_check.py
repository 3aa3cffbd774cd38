"""The check of a device passes where the device is the CPU, and tells what differs, raises or has no time."""

import json
import math
import re
import time
import tomllib

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from benchmarks.gpu import bootstrap, check, metrics, precision, wheels
from benchmarks.gpu.agreement import COUNTS, SUMS, TOLERANCES, distance, numbers, same_bits, tolerance
from benchmarks.gpu.bench import _table as bench_table
from benchmarks.gpu.bench import report
from benchmarks.gpu.lines import ROOT, DiffersError, Lines, NotHereError
from benchmarks.gpu.timing import Bench
from evalsvc.metrics.functional import frechet_distance
from evalsvc.metrics.registry import METRICS
from tests.pretended_device import PretendedDevice
from tests.shapes import unchecked

HOST_ONLY = {"texts", "train_texts", "values", "failures", "sums", "states"}


def test_the_quick_check_passes_on_the_cpu_and_writes_every_line(tmp_path):
    with unchecked():
        assert check.main(["--device", "cpu", "--quick", "--out", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "gpu-check.jsonl").read_text().splitlines()]
    assert {line["part"] for line in lines} == set(check.QUICK)
    assert {line["verdict"] for line in lines} == {"ok"}
    assert all(line["detail"] for line in lines)
    assert not [line for line in lines if line["part"] == "metrics" and line["detail"] == "refused alike"]


def test_every_metric_has_a_case_unless_its_inputs_are_of_the_host():
    covered = {case.spec.name for case in metrics.cases()}
    left = {name: set(spec.inputs) for name, spec in METRICS.items() if name not in covered}
    assert all(inputs & HOST_ONLY for inputs in left.values()), left
    assert set(metrics.OPTIONS) | set(TOLERANCES) <= covered
    assert all(each.why for each in [SUMS, COUNTS, *TOLERANCES.values()])


def test_what_differs_raises_or_has_no_time_is_told(tmp_path, capsys):
    def differs():
        raise DiffersError("by 1")

    def broken():
        raise ValueError("no such kernel")

    def absent():
        raise NotHereError("no card")

    lines = Lines(tmp_path / "lines.jsonl", 60)
    for name, work in (("a", lambda: "fine"), ("b", differs), ("c", broken), ("d", absent)):
        lines.check("part", name, work)
    lines.check("part", "e", lambda: "long", needs=100)
    assert [line.verdict for line in lines.written] == ["ok", "differs", "raises", "skipped", "skipped"]
    assert [line.detail for line in lines.written if line.verdict != "raises"] == ["fine", "by 1", "no card", "time"]
    assert re.fullmatch(r"ValueError \(test_gpu_check.py:\d+\): no such kernel", lines.written[2].detail)
    assert [line.what for line in lines.failed] == ["b", "c"]
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_a_value_an_error_or_an_influence_that_is_off_is_found():
    x = np.random.default_rng(0).standard_normal((60, 4))
    found = numbers(frechet_distance(x, x + 1))
    assert distance(found, dict(found), SUMS)
    for name in found:
        moved = {**found, name: found[name] + 1e-3 * max(1, np.abs(found[name]).max())}
        with pytest.raises(DiffersError, match=name.split("/")[-1].split()[-1]):
            distance(found, moved, SUMS)
        assert not same_bits(found, moved)
    with pytest.raises(DiffersError, match="only one of both has stderr"):
        distance(found, {name: value for name, value in found.items() if name != "stderr"}, SUMS)


def test_a_metric_without_a_tolerance_of_its_own_is_a_sum():
    assert tolerance("vendi_score") is SUMS
    assert tolerance("authenticity") is COUNTS


def test_of_equal_distances_only_the_values_are_held_where_errors_follow_ranks():
    tied = tolerance("prdc").where_tied()
    assert (tied.value, tied.error) == (tolerance("prdc").value, math.inf)
    assert tolerance("frechet_distance").where_tied() is SUMS


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_device_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match=r"^device 'cuda' cannot be used here \(.*\): pass another with --device$"):
        check.main(["--device", "cuda", "--out", str(tmp_path)])


def test_tensor_cores_that_are_allowed_and_not_guarded_against_are_found():
    with PretendedDevice() as device:
        a, b = precision._random(64, 512), precision._random(512, 64)
        with precision.allowed():
            found = a.to(device.device) @ b.to(device.device)
        with pytest.raises(DiffersError, match="not float32's"):
            precision._full(found, a.double() @ b.double())
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_benchmark_tells_what_a_call_reaches_of_a_rate_and_how_much_longer_the_peer_takes(tmp_path):
    bench = Bench(torch.device("cpu"), Lines(tmp_path / "lines.jsonl", 60), tmp_path)
    bench.run("rates", "sleeps", lambda: time.sleep(0.002), amount=2e6, keep="float32")
    bench.run(
        "metrics", "sleeps longer", lambda: time.sleep(0.004), amount=2e6, of="float32", peer=("other", bench.wait)
    )
    first, second = bench.rows
    assert first.rate.endswith("FLOP/s")
    assert second.share.endswith("% of float32")
    assert second.peer.startswith("other: ")
    assert "Nothing of evalsvc has run on a GPU yet" in report(bench, [])
    assert "| metrics | sleeps longer |" in "\n".join(bench_table(bench.rows))


def test_wheels_are_carried_where_what_is_there_does_not_fit():
    there = wheels.installed()
    assert there["torch"]
    assert there["pandas"] == "", "any version"
    asked = [Requirement(each) for each in ("transformers>=5.23", "torch>=2.10", "pandas>=99", "alembic>=1")]
    assert wheels.unfit({"transformers": "5.17.0", "torch": "2.11.0", "pandas": ""}, asked) == {"transformers"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(wheels.EXTRAS) <= set(project["optional-dependencies"])


def test_without_wheels_a_bare_machine_is_told_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "WHEELS", tmp_path)
    with pytest.raises(SystemExit, match="run `make gpu-wheels`"):
        bootstrap.main([])
    assert bootstrap._device(["--quick", "--device", "cuda:1"]) == ["--device", "cuda:1"]
    assert bootstrap._device(["--quick"]) == []
    assert float(bootstrap._left(time.monotonic() - 300)) == pytest.approx(bootstrap.SECONDS - 300, abs=1)
    assert bootstrap._left(time.monotonic() - 900) == "0.0"
