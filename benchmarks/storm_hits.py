"""What the storm strikes with: each blow leaves the fleet as an outage, a crash or a bad disk would."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.engine import make_url

from evalsvc.api.server import token_store
from evalsvc.store.session import HEAD
from evalsvc.store.tables import Checkpoint, Evaluation, Model, Reference, Scope, Worker
from tests.e2e.fleet import Fleet, kill

HOUR = 3600
OLD = "0005"
"""Revision of the databases that are upgraded."""
SERVER_FILE = "clients: {generators: {fleet: [seconds]}}\n"
POLICY = "version: 1\nsuite: {suite}\ndefaults: {{min_samples: 1}}\nmetrics: {{frechet_distance: {{max: 100000}}}}\n"
MAKE_OLD = """
import sys
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from evalsvc.store.session import migrations
with create_engine(sys.argv[1]).begin() as connection:
    config = Config()
    config.set_main_option("script_location", str(migrations()))
    config.attributes["connection"] = connection
    command.upgrade(config, sys.argv[2])
"""


class Hits:
    """A fleet of machines with a server, and everything that may happen to them."""

    def __init__(self, fleet: Fleet, machines: int, chance: random.Random, port: int) -> None:
        self.fleet, self.machines, self.chance = fleet, machines, chance
        self.ids: dict[int, int] = {}
        """Evaluations of the numbered checkpoints."""
        self.gated: list[int] = []
        self.damaged: set[Path] = set()
        self._number = 0
        self._port = port
        self._clocks = [fleet.folder / f"clock-{number}" for number in range(machines)]
        self._off = [0] * machines
        self._full = fleet.folder / "disk-is-full"
        self._server_file = fleet.folder / "server.yaml"
        self._server_file.write_text(SERVER_FILE)
        self._policy = fleet.folder / "policy.yaml"
        self._policy.write_text(POLICY.format(suite=fleet.suite))
        self._watched = fleet.folder / "watched"
        self._watched.mkdir()
        self._real = _images(fleet.folder / "real")
        self._token = token_store.create(fleet.database, "storm", [Scope.SUBMIT])[1]
        self._statements: dict[str, int] = {}
        for clock in self._clocks:
            clock.write_bytes(struct.pack("q", 0))
        self._shim = _clock_shim(fleet.folder)
        for number in range(machines):
            self.start_machine(number)
        self.server = self._serve()

    @property
    def postgres(self) -> bool:
        return self.fleet.database_url.startswith("postgresql")

    @property
    def blows(self) -> dict[str, tuple[int, Callable[[], str]]]:
        """By name: how often in proportion, and the blow itself, which says what it did."""
        found: dict[str, tuple[int, Callable[[], str]]] = {
            "slot": (14, lambda: self.kill_worker("slot")),
            "coordinator": (8, lambda: self.kill_worker("coordinator")),
            "machine": (5, self.lose_machine),
            "damaged file": (24, self.damage),
            "server": (4, self.kill_server),
            "submit": (4, self.kill_submit),
            "watch": (4, self.kill_watch),
            "gate run": (4, self.kill_gate),
            "reference add": (4, self.kill_reference_add),
            "db upgrade": (4, self.kill_upgrade),
            "full disk": (8, self.fill_disk),
            "clock": (8, self.shift_clock),
        }
        if self.postgres:
            found["cut connections"] = (10, self.cut_connections)
        return found

    # --- work ---

    def submit(self) -> None:
        """One more evaluation."""
        number = self._next()
        self.ids[number] = self.fleet.submit(number, seconds=0.5)

    def _next(self) -> int:
        self._number += 1
        return self._number

    # --- processes of the queue ---

    def start_machine(self, number: int) -> None:
        environment = {"STORM_FULL_DISK": str(self._full), "PYTHONPATH": _inside()}
        environment |= {"LD_PRELOAD": str(self._shim), "STORM_CLOCK": str(self._clocks[number])}
        self.fleet.supervisors.insert(number, self.fleet.start(3 // self.machines, **environment))
        self.fleet.supervisors.pop()  # where start() put it

    def kill_worker(self, role: str) -> str:
        self.fleet.wait(lambda: self.fleet.workers(role))
        rows = self.fleet.workers(role)
        row = self.chance.choice([row for row in rows if self.fleet.orphans({row.id})] or rows)
        kill(row.pid)
        return self._recovery({row.id})

    def lose_machine(self) -> str:
        number = self.chance.randrange(self.machines)
        supervisor = self.fleet.supervisors.pop(number)

        def its_own() -> list[Worker]:
            return [row for row in self.fleet.workers() if _parent(row.pid) == supervisor.pid]

        self.fleet.wait(its_own)  # it may have started just now
        rows = its_own()
        for pid in (supervisor.pid, *(row.pid for row in rows)):
            kill(pid)
        supervisor.wait()
        self.start_machine(number)
        return self._recovery({row.id for row in rows})

    def _recovery(self, victims: set[str]) -> str:
        held, since = self.fleet.orphans(victims), time.monotonic()
        self.fleet.wait(lambda: not self.fleet.orphans(victims))
        return f"held {held} jobs, taken over in {time.monotonic() - since:.1f} s"

    # --- files, clocks, connections ---

    def damage(self) -> str:
        store = self.fleet.store
        self.fleet.wait(self.fleet.files)
        shards = sorted(self.fleet.files())
        others = [path for path in store.glob("reference/**/*.*") if path.suffix in (".npy", ".safetensors")]
        others += store.glob("samples/*/features-*/*.npy")
        path = self.chance.choice(sorted(others) if others and self.chance.random() < 0.4 else shards)
        kind = self.chance.choice(["a bit of", "half of", "all of"])
        with suppress(FileNotFoundError):  # a rerun or a sweep was faster
            body = bytearray(path.read_bytes())
            if kind == "a bit of" and body:
                body[self.chance.randrange(len(body))] ^= 1 << self.chance.randrange(8)
            else:
                del body[len(body) // 2 if kind == "half of" else 0 :]
            with path.open("r+b") as file:
                file.write(body)
                file.truncate()
            self.damaged.add(path)
        return f"{kind} {path.relative_to(store)}"

    def fill_disk(self) -> str:
        seconds = self.chance.uniform(1, 4)
        self._full.touch()
        time.sleep(seconds)
        self._full.unlink()
        return f"for {seconds:.1f} s"

    def shift_clock(self) -> str:
        number = self.chance.randrange(self.machines)
        self._off[number] = self.chance.choice([each for each in (-HOUR, 0, HOUR) if each != self._off[number]])
        with self._clocks[number].open("r+b") as file:  # in place: processes have it mapped
            file.write(struct.pack("q", self._off[number]))
        return f"of machine {number} is {self._off[number]:+d} s off"

    def cut_connections(self) -> str:
        query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
        with self.fleet.database.engine.connect() as connection:
            count = connection.execute(text(f"{query} AND pid <> pg_backend_pid()")).scalar_one()
        return f"{count} of them"

    # --- the server ---

    def kill_server(self) -> str:
        number = self._next()
        path = self.fleet.checkpoint(number).path
        body = {"path": str(path), "generator": "fleet", "model": "fleet", "step": number}
        body |= {"suite": "fleet@1", "options": {"seconds": 0.5}}
        delay = self.chance.uniform(0, 1)

        def send(timeout: float) -> int | None:
            headers = {"Authorization": f"Bearer {self._token}"}
            try:
                url = f"http://127.0.0.1:{self._port}/api/v1/evaluations"
                answer = httpx.post(url, json=body, headers=headers, timeout=timeout, trust_env=False)
            except httpx.TransportError:
                return None
            if answer.status_code in (429, 503):
                return None
            assert answer.status_code in (200, 202), answer.text
            return int(answer.json()["id"])

        send(delay or 0.01)  # cut off by the client, and then by the end of the server
        kill(self.server.pid)
        self.server.wait()
        self.server = self._serve()
        until = time.monotonic() + 240
        while (found := send(60)) is None:
            assert time.monotonic() < until, "the server does not come back"
            time.sleep(0.5)
        self.ids[number] = found
        return f"{delay:.2f} s into a submission"

    def _serve(self) -> subprocess.Popen[bytes]:
        environment = {
            "EVALSVC_CHECKPOINT_ROOTS": str(self.fleet.folder),
            "EVALSVC_SERVER_FILE": str(self._server_file),
        }
        command = [*_EVALSVC, "serve", "--port", str(self._port), "--plugin", str(self.fleet.plugin)]
        with (self.fleet.folder / "server.log").open("ab") as log:
            return subprocess.Popen(command, env=self.fleet.environment | environment, stdout=log, stderr=log)

    # --- commands, killed at their n-th statement ---

    def kill_submit(self) -> str:
        number = self._next()
        path = self.fleet.checkpoint(number).path
        told, again = self._killed("submit", ["submit", str(path), "--model", "fleet", *self._work()])
        self.ids[number] = int(again.split()[-1])
        return told

    def kill_watch(self) -> str:
        number = self._next()
        shutil.copy(self.fleet.checkpoint(number).path, self._watched)
        command = ["watch", str(self._watched), "--pattern", "weights_*", "--model", "fleet"]
        command += ["--settle", "0.1", "--every", "0.2", *self._work()]
        at = self.chance.randrange(1, 60)
        process = self._start(command, at)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        kill(process.pid)
        process.communicate()
        again = self._start(command)
        query = select(Evaluation.id).join(Checkpoint).join(Model)

        def found() -> int | None:
            with self.fleet.database.read() as session:
                return session.scalar(query.where(Model.name == "fleet", Checkpoint.step == number))

        self.fleet.wait(found)
        kill(again.pid)
        again.communicate()
        self.ids[number] = found() or 0
        return f"at statement {at}"

    def kill_gate(self) -> str:
        number = self._next()
        path = self.fleet.checkpoint(number).path
        command = ["gate", "run", str(self._policy), "--candidate", str(path), "--model", "gated", *self._work(0.01)]
        told, _ = self._killed("gate run", [*command, "--device", "cpu", "--batch-size", str(self.fleet.batch)])
        self.gated.append(number)
        return told

    def kill_reference_add(self) -> str:
        name = f"real-{self._next()}"
        told, _ = self._killed("reference add", ["reference", "add", name, str(self._real)])
        with self.fleet.database.read() as session:
            assert session.get_one(Reference, name).count == len(list(self._real.iterdir()))
        return told

    def kill_upgrade(self) -> str:
        url = self._old_database("killed")
        told, _ = self._killed("db upgrade", ["db", "upgrade"], EVALSVC_DATABASE_URL=url)
        assert _schema(url) == self._whole_schema, "a killed upgrade left something behind"
        return told

    @cached_property
    def _whole_schema(self) -> list[object]:
        """Of an upgrade that nothing stopped."""
        url = self._old_database("whole")
        self._run(["db", "upgrade"], EVALSVC_DATABASE_URL=url)
        return _schema(url)

    def _old_database(self, name: str) -> str:
        if self.postgres:
            name = f"{name}_{self._next()}"
            with self.fleet.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            url = make_url(self.fleet.database_url).set(drivername="postgresql+psycopg", database=name)
        else:
            url = make_url(f"sqlite:///{self.fleet.folder}/{name}-{self._next()}.db")
        shown = url.render_as_string(hide_password=False)
        subprocess.run([sys.executable, "-c", MAKE_OLD, shown, OLD], check=True, stderr=subprocess.DEVNULL)
        return shown

    def _work(self, seconds: float = 0.5) -> list[str]:
        work = ["--generator", "fleet", "--option", f"seconds={seconds}", "--plugin", str(self.fleet.plugin)]
        return work if seconds < 0.5 else [*work, "--suite", str(self.fleet.suite)]

    def _killed(self, name: str, command: list[str], **environment: str) -> tuple[str, str]:
        """Kill a command at a random statement and give it once more; at which, and the second one's output."""
        at = self.chance.randint(1, self._statements.get(name, 12))
        process = self._start(command, at, **environment)
        process.communicate()
        reached = process.returncode == -signal.SIGKILL
        # Later ones come by more statements, until one ends before it is killed.
        self._statements[name] = max(at + 6, self._statements.get(name, 0)) if reached else max(3, at - 1)
        return f"at statement {at}" if reached else f"before statement {at}", self._run(command, **environment)

    def _run(self, command: list[str], **environment: str) -> str:
        for _ in range(20):
            process = self._start(command, **environment)
            out, error = process.communicate()
            if process.returncode == 0:
                return out
            # Connections were cut, or the server of the database is restarting: a person would try again.
            assert "database" in error, f"{command}: exit {process.returncode}\n{error}"
            time.sleep(1)
        raise AssertionError(f"{command}: {error}")

    def _start(self, command: list[str], kill_at: int = 0, **environment: str) -> subprocess.Popen[str]:
        inside = {"PYTHONPATH": _inside(), "STORM_KILL_AT": str(kill_at)} if kill_at else {}
        pipe = subprocess.PIPE
        every = self.fleet.environment | inside | environment
        return subprocess.Popen([*_EVALSVC, *command], env=every, stdout=pipe, stderr=pipe, text=True)


_EVALSVC = [sys.executable, "-m", "evalsvc"]


def _inside() -> str:
    return os.pathsep.join([str(Path(__file__).parent / "storm_inside"), os.environ.get("PYTHONPATH", "")])


def _clock_shim(folder: Path) -> Path:
    """The library that puts the clock of a process off."""
    library = folder / "clock.so"
    source = Path(__file__).parent / "storm_inside" / "clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    return library


def _images(folder: Path) -> Path:
    folder.mkdir()
    random_ = np.random.default_rng(0)
    for number in range(60):
        pixels = random_.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def _schema(url: str) -> list[object]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found: list[object] = [connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()]
    assert found == [HEAD]
    tables = inspect(engine)
    for table in sorted(tables.get_table_names()):
        columns = sorted((each["name"], str(each["type"]), each["nullable"]) for each in tables.get_columns(table))
        found += [table, columns, sorted(str(each["name"]) for each in tables.get_indexes(table))]
    engine.dispose()
    return found


def _parent(pid: int) -> int:
    with suppress(FileNotFoundError):  # it has just ended
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
