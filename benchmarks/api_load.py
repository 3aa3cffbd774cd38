"""Reads a second from the HTTP API while an evaluation runs on the same machine: ``python -m benchmarks.api_load``.

A real server process, a real evaluation in another, and a load of reads that does not wait for answers (open loop):
every request is sent at its time, and its latency counts from then, so that a server that stalls pays for the stall.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

import numpy as np

from benchmarks.growth import fill
from evalsvc.store.session import Database
from tests.postgres import postgres_server

PORT = 8643
"""Below those that the system gives to outgoing connections, one of which could take it before the server does."""
COMMAND = [sys.executable, "-m", "evalsvc"]
READS = {
    "/api/v1/leaderboard": 3,
    "/api/v1/evaluations?limit=20": 3,
    "/api/v1/evaluations/{id}": 6,
    "/api/v1/scores?limit=50": 3,
    "/api/v1/models": 2,
    "/api/v1/checkpoints?limit=20": 1,
    "/api/v1/comparison?a=gan&b=vae": 1,
    "/healthz": 1,
}
"""What is read, and in which proportion."""


async def load(port: int, token: str, rate: float, seconds: float, evaluations: int) -> dict[str, object]:
    """Latencies in milliseconds of ``rate`` requests a second over as many kept connections as it takes."""
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    taken: list[tuple[str, float, int]] = []
    chooser = random.Random(1)

    async def one(path: str, due: float) -> None:
        # The server closes connections that were idle for long; what has reached their end is asked anew.
        while idle and idle[-1][0].at_eof():
            idle.pop()[1].close()
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n".encode())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            await one(path, due)
            return
        await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        taken.append((path.partition("?")[0], 1000 * (time.perf_counter() - due), int(head[9:12])))
        idle.append((reader, writer))

    started, tasks = time.perf_counter() + 0.1, []
    for number in range(int(rate * seconds)):
        due = started + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        path = chooser.choices(list(READS), list(READS.values()))[0]
        tasks.append(asyncio.create_task(one(path.format(id=chooser.randint(1, evaluations)), due)))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    spent = time.perf_counter() - started
    latencies = np.array([milliseconds for _, milliseconds, _ in taken])
    by_path = {}
    for path in sorted({each[0].rstrip("0123456789") for each in taken}):
        own = [milliseconds for where, milliseconds, _ in taken if where.rstrip("0123456789") == path]
        by_path[path] = {"requests": len(own), "p50": np.percentile(own, 50), "p99": np.percentile(own, 99)}
    return {
        "requests": len(taken),
        "per_second": len(taken) / spent,
        "not_200": sum(status != 200 for _, _, status in taken),
        "connections": len(idle),
        "p50_ms": np.percentile(latencies, 50),
        "p95_ms": np.percentile(latencies, 95),
        "p99_ms": np.percentile(latencies, 99),
        "max_ms": latencies.max(),
        "paths": by_path,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--checkpoints", type=int, default=0, help="so many more in the store, with 20 scores each")
    parser.add_argument("--idle", action="store_true", help="without an evaluation beside it")
    asked = parser.parse_args()
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        environment = os.environ | {"EVALSVC_HOME": home, "OMP_NUM_THREADS": "1"}
        if asked.database == "postgresql":
            environment["EVALSVC_DATABASE_URL"] = stack.enter_context(postgres_server()).get_uri()
        run = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*COMMAND, "demo"], check=True, **run)
        if asked.checkpoints:
            fill(Database(environment.get("EVALSVC_DATABASE_URL") or f"sqlite:///{home}/evalsvc.db"), asked.checkpoints)
        made = subprocess.run([*COMMAND, "token", "create", "load"], env=environment, capture_output=True, text=True)
        server = subprocess.Popen([*COMMAND, "serve", "--port", str(PORT)], env=environment)
        beside = None if asked.idle else subprocess.Popen([*COMMAND, "demo", "--rerun"], **run)
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", PORT)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.1)
            time.sleep(0 if asked.idle else 5)  # until the evaluation really computes
            asyncio.run(load(PORT, made.stdout.strip(), asked.rate, 2, 20))
            found = asyncio.run(load(PORT, made.stdout.strip(), asked.rate, asked.seconds, 20))
            found["evaluation_running"] = beside is not None and beside.poll() is None
            found["machine"] = f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}"
        finally:
            for process in (server, beside):
                if process is not None:
                    process.kill()
                    process.wait()
    print(json.dumps(found, indent=2, default=lambda value: round(float(value), 2)))


if __name__ == "__main__":
    main()
