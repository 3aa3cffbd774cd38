import json
import sys
import types
import uuid

import numpy as np
import pytest
import torch

from evalsvc.builtin.demo import shipped
from evalsvc.cli import main
from evalsvc.core import cost
from evalsvc.core.cost import Cost, Meter
from evalsvc.evaluation import attempts, lifecycle
from evalsvc.evaluation.attempts import Attempt
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.store import queries
from evalsvc.store.tables import Evaluation, Failure

CPU = torch.device("cpu")


@pytest.fixture
def sockets(tmp_path, monkeypatch):
    """Two sockets with counters that begin again at 100 J, and their cores, which are part of them."""

    def write(**joules):
        for name, value in joules.items():
            (tmp_path / f"intel-rapl:{name.replace('_', ':')}" / "energy_uj").write_text(f"{int(value * 1e6)}\n")

    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1"), ("intel-rapl:0:0", "core")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(f"{name}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text("100000000\n")
    write(**{"0": 90, "1": 10, "0_0": 1})
    monkeypatch.setattr(cost, "POWERCAP", tmp_path)
    cost.energy_counter.cache_clear()
    yield write
    cost.energy_counter.cache_clear()


def test_where_the_system_does_not_forget_a_peak_that_since_the_start_is_told(tmp_path, monkeypatch):
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t100 kB\n")
    (tmp_path / "clear_refs").mkdir()
    monkeypatch.setattr(cost, "PROCESS", tmp_path)
    assert Meter(torch.device("cpu")).cost().peak_memory > 2**20


def test_the_peak_is_that_of_the_work_and_not_of_what_was_before():
    def peak(megabytes):
        meter = Meter(CPU)
        block = np.ones(megabytes * 2**17)
        del block
        return meter.cost().peak_memory

    before = peak(0)
    assert peak(512) - before > 500 * 2**20
    assert peak(0) - before < 100 * 2**20


def test_the_sockets_energy_is_added_up_over_a_counter_that_begins_again(sockets):
    meter = Meter(CPU)
    sockets(**{"0": 5, "1": 17.5, "0_0": 50})
    assert meter.cost().energy == pytest.approx(15 + 7.5)
    assert cost.energy_counter(CPU).source == "rapl"


def test_counters_that_may_not_be_read_give_no_energy(sockets, monkeypatch, tmp_path):
    def refuse(file):
        raise PermissionError(file)

    monkeypatch.setattr(cost, "_microjoules", refuse)
    assert Meter(CPU).cost().energy is None
    cost.energy_counter.cache_clear()
    monkeypatch.setattr(cost, "POWERCAP", tmp_path / "nowhere")
    assert Meter(CPU).cost().energy is None


@pytest.fixture
def nvml(monkeypatch):
    """A driver's library with one card that has used nothing yet, found by the UUID of torch."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818
        pass

    def mode(_):
        if fake.mig is None:
            raise NVMLError_NotSupported
        return fake.mig, 0

    uuid_ = uuid.uuid4()
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: types.SimpleNamespace(uuid=uuid_))
    fake = types.SimpleNamespace(
        NVMLError=NVMLError,
        NVMLError_NotSupported=NVMLError_NotSupported,
        NVML_DEVICE_MIG_ENABLE=1,
        mig=None,
        millijoules=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: {f"GPU-{uuid_}": "card"}[name],
        nvmlDeviceGetMigMode=mode,
        nvmlDeviceGetTotalEnergyConsumption=lambda _: fake.millijoules,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_a_gpu_is_found_by_its_uuid_and_its_millijoules_are_joules(nvml):
    counter = cost._nvml(torch.device("cuda:1"))
    before = counter.read()
    nvml.millijoules += 3_500
    assert counter.since(before) == pytest.approx(3.5)


def test_the_energy_of_a_whole_card_is_not_that_of_a_part_of_it(nvml, sockets):
    for nvml.mig, known in ((None, True), (0, True), (1, False)):
        assert (cost._nvml(torch.device("cuda:0")) is not None) == known
    sockets(**{"0": 50})
    assert Meter(CPU, shared=True).cost().energy is None


def test_without_a_driver_or_the_package_there_is_no_energy(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: types.SimpleNamespace(uuid=uuid.uuid4()))
    assert cost._nvml(torch.device("cuda:0")) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert cost._nvml(torch.device("cuda:0")) is None


def test_one_part_without_energy_makes_the_sum_unknown():
    row = Evaluation(device_seconds=0.0, energy=0.0)
    row.charge(Cost(1.0, 10, 2.0))
    row.charge(Cost(2.0, 5, 3.0))
    assert (row.device_seconds, row.peak_memory, row.energy) == (3.0, 10, 5.0)
    row.charge(Cost(1.0))
    row.charge(Cost(1.0, 20, 3.0))
    assert (row.device_seconds, row.peak_memory, row.energy) == (5.0, 20, None)


@pytest.fixture
def spec(context):
    suite = {"name": "s", "version": 1, "modality": "image", "reference": "digits", "samples": 100, "shard": 50}
    suite |= {
        "extractors": {"pixels": {"use": "pixels"}},
        "metrics": [{"metric": "frechet_distance", "features": "pixels/pixels"}],
    }
    family, step, path = next(each for each in shipped() if each.family == "vae")
    return plan(context, Checkpoint.open(path, family, step), family, {}, Suite.model_validate(suite))


def test_an_evaluation_costs_its_shards_and_its_metrics_and_a_model_all_that_was_done_for_it(
    context, spec, sockets, monkeypatch, capsys
):
    first = evaluate(spec, context)
    second = evaluate(spec, context, rerun=True)
    found = lifecycle.submit(context.database, type(spec).model_validate(spec.model_dump() | {"seed": 7}))
    attempt = Attempt(found.id, 1)
    attempts.record_shard(
        context.database, attempt, kind="samples", start=0, stop=50, path="x", cost=Cost(1000.0, 1, None)
    )
    attempts.fail(context.database, attempt, Failure.MODEL, "broken")
    with context.database.read() as session:
        runs = [session.get_one(Evaluation, each) for each in (first, second)]
        for run in runs:
            shards = sum(shard.seconds for shard in run.shards)
            assert run.device_seconds == pytest.approx(shards + run.provenance["seconds"]["metrics"])
            assert run.peak_memory > 50 * 2**20
            assert run.energy == 0.0
            assert run.provenance["energy_from"] == "rapl"
        (total,) = queries.costs(session).values()
    assert total.device_seconds == pytest.approx(sum(run.device_seconds for run in runs) + 1000.0)
    assert (total.metered, total.evaluations) == (2, 3)

    for command in ("models", "show"):
        monkeypatch.setattr("sys.argv", ["evalsvc", command, *["vae"][: command == "show"], "--json"])
        with pytest.raises(SystemExit):
            main.run()
        document = json.loads(capsys.readouterr().out)
        if command == "models":
            assert document[0]["cost"]["device_seconds"] == pytest.approx(total.device_seconds)
        else:
            costs = [each["cost"] for each in document["evaluations"]]
            assert [each["device_seconds"] for each in costs][1:] == [run.device_seconds for run in reversed(runs)]
            assert costs[0] == {"device_seconds": 1000.0, "peak_memory_bytes": 1, "energy_joules": None}
