import json
import shutil

import pytest
import torch

from evalsvc.builtin.demo import shipped
from evalsvc.cli import doctor_checks, main
from evalsvc.cli.doctor_checks import Level, examine
from evalsvc.core.settings import Settings
from evalsvc.evaluation import lifecycle
from evalsvc.evaluation.planning import plan
from evalsvc.inputs import published_weights
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import load_suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store.session import HEAD, Database
from evalsvc.store.tables import Worker, now
from tests.pretended_device import pretended


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSVC_WEIGHTS_DIR", str(tmp_path / "weights"))


def findings(home, plugins=None, **settings):
    found = list(examine(Settings(home=home, **settings), plugins or Plugins()))
    assert len({finding.thing for finding in found}) == len(found)
    return {finding.thing: finding for finding in found}


def broken(found):
    return {thing for thing, finding in found.items() if finding.level is Level.BROKEN}


def test_where_all_is_well_nothing_is_broken_and_everything_is_named(home):
    found = findings(home)
    assert broken(found) == set()
    assert {"database", "migrations", "queue", "disk", "artifacts", "cpu", "weights", "plug-ins"} <= found.keys()
    assert HEAD in found["migrations"].detail
    assert ("gpu" in found) == (not torch.cuda.is_available() and not torch.backends.mps.is_available())


def test_a_database_that_does_not_answer_is_broken_and_the_rest_is_still_looked_at(home):
    found = findings(home, database_url="postgresql://nobody:secret@127.0.0.1:1/nothing")
    assert broken(found) == {"database"}
    assert "secret" not in found["database"].detail
    assert {"disk", "artifacts", "plug-ins"} <= found.keys()


def test_work_without_a_worker_is_broken_and_with_one_is_not(context, home):
    family, step, path = shipped()[0]
    spec = plan(context, Checkpoint.open(path, family, step), family, {}, load_suite("digits"))
    lifecycle.submit(context.database, spec)
    assert "start 'evalsvc worker'" in findings(home)["queue"].detail
    with context.database.write() as session:
        times = {"started_at": now(), "seen_at": now()}
        session.add(Worker(id="w", role="slot", host="h", pid=1, device="cpu", status="alive", **times))
    queue = findings(home)["queue"]
    assert queue.level is Level.OK
    assert "waiting evaluations: 1" in queue.detail


def test_a_store_that_cannot_be_written_is_broken(home, bucket):
    assert broken(findings(home, artifacts=f"{bucket}-of-nobody/x")) == {"artifacts"}
    assert broken(findings(home, artifacts=f"{bucket}/x")) == set()


def test_little_room_is_a_warning_and_none_is_broken(home, monkeypatch):
    for free, level in ((20e9, Level.OK), (5e9, Level.WARNING), (5e8, Level.BROKEN)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(30e9, 0, free))
        assert findings(home)["disk"].level is level


def test_damaged_weights_and_broken_plug_ins_are_named(home, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / published_weights.get("vgg16").file_names[0]).write_bytes(b"cut")
    (tmp_path / "plug.py").write_text(
        "from evalsvc import register\n\n@register('generators', 'gan')\nclass Twice: pass\n"
    )
    found = findings(home, Plugins((tmp_path / "plug.py",)))
    assert broken(found) == {"weights vgg16", "generator gan"}
    assert "delete it" in found["weights vgg16"].detail
    assert "both register" in found["generator gan"].detail


@pytest.mark.parametrize(
    "text",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  Release Build  (builder@host)\n",
    ],
)
def test_a_card_is_shown_as_torch_reports_it_and_a_driver_without_a_card_says_what_is_missing(
    text, tmp_path, monkeypatch
):
    (tmp_path / "version").write_text(text)
    monkeypatch.setattr(doctor_checks, "NVIDIA_DRIVER", tmp_path / "version")
    for cuda, cards, said in (
        (None, 0, "install torch for CUDA"),
        ("13.0", 0, "torch for CUDA 13.0 finds no GPU with NVIDIA driver 535.104.05: check CUDA_VISIBLE_DEVICES"),
        ("13.0", 1, "NVIDIA 535.104.05, torch for CUDA 13.0"),
    ):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda cards=cards: cards)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
        with pretended():
            found = {finding.thing: finding for finding in doctor_checks._devices()}
        assert said in found["driver" if cards else "gpu"].detail
    detail = found["cuda:0"].detail
    assert detail == "pretended device, compute capability 9.0, 64.0 of 80.0 GB free"
    (tmp_path / "version").unlink()
    assert doctor_checks._nvidia_driver() == ""


def test_a_database_of_a_newer_version_is_broken(home):
    opened = Database(Settings(home=home).database)
    with opened.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert "upgrade evalsvc" in findings(home)["database"].detail


@pytest.mark.parametrize(("url", "code"), [("", 0), ("postgresql://nobody@127.0.0.1:1/nothing", 1)])
def test_the_exit_code_says_whether_something_is_broken(home, monkeypatch, capsys, url, code):
    if url:
        monkeypatch.setenv("EVALSVC_DATABASE_URL", url)
    monkeypatch.setattr("sys.argv", ["evalsvc", "doctor", "--json"])
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == code
    levels = {finding["thing"]: finding["level"] for finding in json.loads(capsys.readouterr().out)}
    assert levels["database"] == ("broken" if code else "ok")
