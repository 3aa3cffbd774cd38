"""Real workers of a database, to be killed: what the tests and the benchmarks of the queue share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import bindparam, create_engine, select, text
from sqlalchemy.engine import make_url

from evalsvc.core.settings import Settings
from evalsvc.evaluation import lifecycle
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.lifecycle import Deadlines
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.progress import Progress, progress, workers
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint as Weights
from evalsvc.inputs.suites import Suite, load_suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store.session import Database
from evalsvc.store.tables import Checkpoint, Evaluation, Score, Shard, Worker

HEARTBEAT, DEAD_AFTER = 0.5, 3.0

# What a generator does it writes down, so that a test can tell who computed what, when, and how often.
PLUGIN = """
import os, time
from pathlib import Path
from evalsvc import GeneratorInfo, register
from evalsvc import Images

LOG = Path(os.environ["FLEET_LOG"])


def log(*words):
    os.utime(LOG)  # the file system's time: this process's own clock may be off
    with LOG.open("a") as file:
        file.write(" ".join(map(str, (LOG.stat().st_mtime, os.getpid(), os.getppid(), *words))) + "\\n")


@register("generators", os.environ.get("FLEET_GENERATOR", "fleet"))
class Fleet:
    info = GeneratorInfo("fleet", "image", (1, 8, 8))

    def __init__(self, checkpoint, device, seconds=0.1, poison=-1, hangs=-1):
        self.name, self.seconds, self.poison, self.hangs = checkpoint.digest[:12], seconds, poison, hangs
        self.level = float(checkpoint.tensors()["level"])

    def sample(self, request):
        first = int(request.indices[0])
        log(self.name, first)
        if first == self.poison:
            os.kill(os.getpid(), 9)
        time.sleep(3600 if first == self.hangs else self.seconds)
        return Images.from_unit(self.level + 0.2 * request.normal(1, 8, 8))
"""
SUITE = """
name: fleet
version: 1
modality: image
reference: digits
samples: {samples}
shard: {shard}
gallery: 10
extractors:
  pixels: {{use: pixels}}
metrics:
  - {{metric: frechet_distance, features: pixels/pixels}}
  - {{metric: precision_recall, features: pixels/pixels}}
"""


@dataclass(frozen=True)
class Call:
    """One call of the generator."""

    at: float
    pid: int
    parent: int
    checkpoint: str
    start: int


class Fleet:
    """A home, a database, checkpoints to submit, and ``evalsvc worker`` processes."""

    def __init__(
        self,
        folder: Path,
        database_url: str,
        batch: int = 20,
        samples: int = 200,
        shard: int = 40,
        heartbeat: float = HEARTBEAT,
        dead_after: float = DEAD_AFTER,
    ) -> None:
        self.watch = {"EVALSVC_HEARTBEAT": str(heartbeat), "EVALSVC_DEAD_AFTER": str(dead_after)}
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.batch, self.shard = folder, batch, shard
        self.log = folder / "calls.log"
        self.log.touch()
        self.plugin = folder / "fleet.py"
        self.plugin.write_text(PLUGIN)
        self.suite = folder / "fleet.yaml"
        self.suite.write_text(SUITE.format(samples=samples, shard=shard))
        self.database_url = database_url
        self.home, self.store = folder / "home", folder / "store"
        self.supervisors: list[subprocess.Popen[bytes]] = []
        os.environ["FLEET_LOG"] = str(self.log)
        self.context = self.evaluation_context(self.home, database_url)

    @property
    def database(self) -> Database:
        return self.context.database

    def evaluation_context(self, home: Path, database_url: str = "") -> EvaluationContext:
        settings = Settings(home=home, database_url=database_url, artifacts=str(self.store) if database_url else "")
        return EvaluationContext(settings, Plugins((self.plugin,)), "cpu", self.batch)

    def checkpoint(self, number: int) -> Weights:
        import torch
        from safetensors.torch import save_file

        path = self.folder / f"weights_{number}.safetensors"
        if not path.exists():
            save_file({"level": torch.tensor(0.2 + 0.01 * number)}, path)
        return Weights.open(path, "fleet", number)

    def name(self, number: int) -> str:
        """What the generator calls a checkpoint in its log."""
        return self.checkpoint(number).digest[:12]

    def submit(self, number: int, deadlines: Deadlines | None = None, priority: int = 10, **options: float) -> int:
        """The id of the evaluation of one more checkpoint."""
        spec = plan(self.context, self.checkpoint(number), "fleet", options, load_suite(str(self.suite)))
        return lifecycle.submit(self.database, spec, priority=priority, deadlines=deadlines or Deadlines()).id

    def undisturbed(self, numbers: Iterable[int], *suites: Suite) -> dict[int, list[dict[str, object]]]:
        """Scores of the same checkpoints under each suite, computed without a queue, in a home of their own."""
        context = self.evaluation_context(self.folder / "undisturbed")
        calls = self.log.read_bytes()
        found: dict[int, list[dict[str, object]]] = {}
        for number in numbers:
            specs = [plan(context, self.checkpoint(number), "fleet", {"seconds": 0}, suite) for suite in suites]
            found[number] = [scores(context.database, evaluate(spec, context)) for spec in specs]
        self.log.write_bytes(calls)
        return found

    # --- processes ---

    @property
    def environment(self) -> dict[str, str]:
        """Of every process that belongs to it."""
        return os.environ | {
            "EVALSVC_HOME": str(self.home),
            "EVALSVC_DATABASE_URL": self.database_url,
            "EVALSVC_ARTIFACTS": str(self.store),
            **self.watch,
            "FLEET_LOG": str(self.log),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, slots: int = 3, home: Path | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """One more supervisor with its coordinator and slots."""
        variables = {"EVALSVC_HOME": str(home)} if home else {}
        command = [sys.executable, "-m", "evalsvc", "worker", "--devices", ",".join(["cpu"] * slots)]
        command += ["--plugin", str(self.plugin), "--batch-size", str(self.batch)]
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment | variables | environment, stderr=log, stdout=log)
        self.supervisors.append(process)
        return process

    def stop(self) -> None:
        """End everything at once, whatever state it is in."""
        for process in self.supervisors:
            process.kill()
            process.wait()
        for row in self.workers():
            kill(row.pid, signal.SIGKILL)
        self.database.engine.dispose()

    def workers(self, role: str | None = None) -> list[Worker]:
        with self.database.read() as session:
            return [row for row in workers(session) if role in (None, row.role)]

    # --- looking ---

    def worker(self, name: str) -> Worker:
        with self.database.read() as session:
            return session.get_one(Worker, name)

    def calls(self) -> list[Call]:
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [Call(float(at), int(pid), int(parent), name, int(start)) for at, pid, parent, name, start in lines]

    def machines(self, number: int) -> set[int]:
        """The supervisors whose slots computed something of a checkpoint."""
        return {call.parent for call in self.calls() if call.checkpoint == self.name(number)}

    def progress(self) -> list[Progress]:
        with self.database.read() as session:
            return progress(session)

    def shards(self) -> list[Shard]:
        with self.database.read() as session:
            return list(session.scalars(select(Shard)))

    def files(self) -> dict[Path, int]:
        """Shard files and the moment each was written."""
        return {path: path.stat().st_mtime_ns for path in self.store.glob("samples/*/[!.]*-*.safetensors")}

    def wait(self, what: Callable[[], object], seconds: float = 300, every: float = 0.05) -> None:
        until = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < until, f"{[*self.progress()]}\n{(self.folder / 'worker.log').read_text()[-5000:]}"
            time.sleep(every)

    def ended(self) -> bool:
        return all(each.ended for each in self.progress())

    def computed_after_finished(self) -> list[Call]:
        """Calls for a shard whose file was there already: there must be none."""
        query = select(Checkpoint.digest, Shard.start, Shard.path).join(
            Evaluation, Shard.evaluation_id == Evaluation.id
        )
        with self.database.read() as session:
            rows = session.execute(query.join(Checkpoint, Evaluation.checkpoint_id == Checkpoint.id)).all()
        written = {(digest[:12], start): (self.store / path).stat().st_mtime for digest, start, path in rows}
        shards = (
            (call, written.get((call.checkpoint, call.start // self.shard * self.shard))) for call in self.calls()
        )
        return [call for call, finished in shards if finished is not None and call.at > finished + 0.05]

    def orphans(self, workers: set[str]) -> int:
        """Jobs that the engine still holds for these workers."""
        url = make_url(self.database_url)
        table = "dbos.workflow_status"
        if url.get_backend_name() == "sqlite":
            url, table = url.set(database=str(Path(url.database or "").with_suffix(".engine.db"))), "workflow_status"
        query = text(f"SELECT count(*) FROM {table} WHERE status = 'PENDING' AND executor_id IN :workers")
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                return connection.execute(
                    query.bindparams(bindparam("workers", expanding=True)), {"workers": sorted(workers)}
                ).scalar_one()
        finally:
            engine.dispose()


def scores(database: Database, evaluation: int) -> dict[str, object]:
    """Everything about each score that a run could change."""
    with database.read() as session:
        rows = session.scalars(select(Score).where(Score.evaluation_id == evaluation)).all()
        return {row.label: (row.value, row.stderr, row.ci_low, row.ci_high, row.n, row.protocol_id) for row in rows}


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
