"""What a plain read costs while one client holds streams and half-sent requests: ``python -m benchmarks.stall``.

A real server process on an empty machine; every read is a connection of its own. The reads are never those that the
server has just answered, so each asks the database.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from evalsvc.api.server import token_store
from evalsvc.store.session import Database
from evalsvc.store.tables import Scope
from tests.evalsvc.gates.store import add_checkpoint, add_scores

HALF = b"POST /api/v1/uploads?name=x.pt HTTP/1.1\r\nHost: localhost\r\nX-a: "


def fill(home: Path) -> tuple[int, str, str]:
    """An evaluation in progress among a hundred, and the tokens of one who holds streams and of one who reads."""
    database = Database(f"sqlite:///{home}/evalsvc.db")
    with database.write() as session:
        for number in range(100):
            run = add_scores(session, add_checkpoint(session, f"model{number}", 1), {"recall": (0.5, 0.01)})
        run.status = "running"
        session.flush()
        evaluation = run.id
    holder, reader = (token_store.create(database, name, [Scope.READ])[1] for name in ("holder", "reader"))
    return evaluation, holder, reader


async def ask(port: int, path: str, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
    """A request on a connection of its own, and the status of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n".encode())
    return reader, writer, int((await reader.readuntil(b"\r\n\r\n"))[9:12])


async def reads(port: int, token: str, pid: int, count: int = 60) -> dict[str, float]:
    """Milliseconds of plain reads, a few each second, and the server's share of a core meanwhile."""
    taken, spent, began = [], _processor_time(pid), time.perf_counter()
    for number in range(count):
        started = time.perf_counter()
        _, writer, status = await ask(port, f"/api/v1/models?limit={number % 200 + 1}", token)
        taken.append(1000 * (time.perf_counter() - started))
        writer.close()
        assert status == 200, status
        await asyncio.sleep(0.1)
    share = (_processor_time(pid) - spent) / (time.perf_counter() - began)
    times = {"median_ms": statistics.median(taken), "p95_ms": sorted(taken)[int(0.95 * count)], "max_ms": max(taken)}
    return {name: round(value, 3) for name, value in (times | {"server_cores": share}).items()}


@asynccontextmanager
async def streams(port: int, evaluation: int, token: str, count: int) -> AsyncIterator[int]:
    """Streams of events; how many of them the server holds."""
    held = [await ask(port, f"/api/v1/evaluations/{evaluation}/events", token) for _ in range(count)]
    yield sum(status == 200 for *_, status in held)
    for _, writer, _ in held:
        writer.close()


async def hold_half_sent(port: int, count: int) -> None:
    """Connections that never finish their head, each opened again as soon as the server closes it."""

    async def hold() -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(HALF)
                while await reader.read(4096):
                    pass
                writer.close()
            except OSError:
                await asyncio.sleep(0.2)

    await asyncio.gather(*(hold() for _ in range(count)))


@asynccontextmanager
async def half_sent(port: int, count: int) -> AsyncIterator[None]:
    """The same from a process of its own, so that reads do not wait for it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stall", "--half", str(count), "--attack", str(port)],
        stderr=subprocess.DEVNULL,
    )
    await asyncio.sleep(8)
    yield
    process.kill()
    process.wait()


async def measure(
    port: int, evaluation: int, holder: str, reader: str, held: int, half: int, pid: int
) -> dict[str, object]:
    """Reads alone, beside each of the two, and beside both."""
    found: dict[str, object] = {"alone": await reads(port, reader, pid)}
    async with streams(port, evaluation, holder, held) as count:
        found[f"{count} streams"] = await reads(port, reader, pid)
    async with half_sent(port, half):
        found[f"{half} half-sent heads"] = await reads(port, reader, pid)
    async with streams(port, evaluation, holder, held) as count, half_sent(port, half):
        found[f"{count} streams and {half} half-sent heads"] = await reads(port, reader, pid)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--half", type=int, default=1200)
    parser.add_argument("--attack", type=int, metavar="PORT", help="hold half-sent heads there, and nothing else")
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if asked.attack:
        asyncio.run(hold_half_sent(asked.attack, asked.half))
    with tempfile.TemporaryDirectory() as home:
        evaluation, holder, reader = fill(Path(home))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "evalsvc", "serve", "--port", str(port)]
        environment = os.environ | {"EVALSVC_HOME": home, "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.1)
            time.sleep(10)  # until the processes that open checkpoints have started
            found = asyncio.run(measure(port, evaluation, holder, reader, asked.streams, asked.half, server.pid))
            found["cores"] = os.cpu_count()
        finally:
            server.kill()
            server.wait()
    print(json.dumps(found, indent=2))


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
