"""Counters of worker processes: summed over processes, kept over restarts, served by the supervisor."""

import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from evalsvc.api.server.monitoring import Monitor
from evalsvc.core.errors import InputError
from evalsvc.queue.worker_metrics import WorkerMetrics, count_in, serve_metrics
from evalsvc.store.session import Database
from evalsvc.store.tables import Delivery, Gate, Webhook

COUNTING = """
import os, sys
from pathlib import Path
from evalsvc.queue.worker_metrics import WorkerMetrics, count_in
count_in(Path(sys.argv[1]), sys.argv[2])
metrics = WorkerMetrics()
metrics.started("slot")
metrics.computed("samples", 2.0)
metrics.retried("samples", "infrastructure")
metrics.failed("metrics", "model")
metrics.count_event("handed_over")
os._exit(75)
"""
ALERTS = Path(__file__).parents[3] / "examples" / "deploy" / "alerts.yaml"


def read(text):
    """Values by name and labels, in the order of the alphabet."""
    families = text_string_to_metric_families(text.decode())
    return {(each.name, *sorted(each.labels.values())): each.value for family in families for each in family.samples}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_counts_of_processes_are_summed_and_outlive_them():
    port = free_port()
    with serve_metrics("127.0.0.1", port) as folder:
        for place in ("slot-0", "slot-0", "slot-1"):
            command = [sys.executable, "-c", COUNTING, str(folder), place]
            assert subprocess.run(command, timeout=60, check=False).returncode == 75
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            samples = read(answer.read())
        assert samples["evalsvc_shard_seconds_sum", "samples"] == 6
        assert samples["evalsvc_shard_seconds_count", "samples"] == 3
        assert samples["evalsvc_worker_starts_total", "slot"] == 3
        assert samples["evalsvc_shard_retries_total", "infrastructure", "samples"] == 3
        assert samples["evalsvc_shard_failures_total", "metrics", "model"] == 3
        assert samples["evalsvc_queue_events_total", "handed_over"] == 3
        assert len(list(folder.iterdir())) == 4, "two places, and two kinds of metric in each"
        with (
            pytest.raises(InputError, match=f"metrics cannot be served at 127.0.0.1:{port}"),
            serve_metrics("127.0.0.1", port),
        ):
            pass
    assert not folder.exists()


def test_without_the_package_workers_count_nothing_and_say_so_if_asked_to_serve(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    metrics = WorkerMetrics()
    metrics.computed("samples", 1.0)
    metrics.count_event("refused")
    with pytest.raises(InputError, match=re.escape("pip install 'evalsvc[worker]'")), serve_metrics("127.0.0.1", 1):
        pass


def names(text):
    return set(re.findall(r"^(evalsvc_\w+)", text, re.MULTILINE))


def test_the_store_is_told_by_labels_of_few_values(home):
    database = Database(f"sqlite:///{home.parent}/x.db")
    with database.write() as session:
        for number, status in enumerate(["PASS", "PASS", "FAIL"]):
            facts = {"policy": {}, "evidence": {}, "verdict": {}, "exit_code": 0, "shadow": False, "baseline": ""}
            session.add(
                Gate(suite="s@1", model=f"m{number}", step=1, digest="d", policy_digest="p", status=status, **facts)
            )
        hook = Webhook(url="https://a.test/x", events=[], secret="x")
        session.add(hook)
        session.flush()
        session.add(Delivery(webhook_id=hook.id, event="gate.decided", body={}))
    samples = read(Monitor(database).text())
    assert [samples["evalsvc_gates", status] for status in ("PASS", "FAIL", "ERROR")] == [2, 1, 0]
    assert samples["evalsvc_webhook_backlog",] == 1
    assert 0 <= samples["evalsvc_webhook_backlog_age_seconds",] < 60
    assert samples["evalsvc_webhooks_failing",] == 0


def test_alerts_ask_for_metrics_and_values_that_exist(home, tmp_path):
    from prometheus_client import generate_latest

    monitor = Monitor(Database(f"sqlite:///{tmp_path}/x.db"))
    monitor.observe("GET", "/x", 500, 0.1)
    metrics = WorkerMetrics()
    metrics.started("slot")
    metrics.computed("samples", 1.0)
    metrics.retried("samples", "model")
    for event in ("dead_letter", "worker_lost"):
        metrics.count_event(event)
    text = monitor.text().decode() + generate_latest(metrics.registry).decode()
    known = names(text)
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    assert len(group["rules"]) >= 10
    for rule in group["rules"]:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert re.fullmatch(r"[A-Z]\w+", rule["alert"])
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "action"}
        used = set(re.findall(r"evalsvc_\w+", rule["expr"]))
        assert used
        assert used <= known, rule["alert"]
        assert rule["expr"].count("(") == rule["expr"].count(")")
        for label, value in re.findall(r'(\w+)="([^"]*)"', rule["expr"]):
            assert f'{label}="{value}"' in text, rule["alert"]


def test_where_a_process_counts_is_set_before_anything_is_counted(tmp_path, monkeypatch):
    from prometheus_client import values

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    count_in(tmp_path, "slot-7")
    WorkerMetrics().count_event("refused")
    assert [file.name for file in tmp_path.glob("counter*")] == ["counter_slot-7.db"]
