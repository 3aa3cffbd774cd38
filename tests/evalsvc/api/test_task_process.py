"""Tasks in processes of their own: a slow one, and one that ends its process, keep nobody else waiting."""

import asyncio
import os
import signal

import pytest

from evalsvc.api.server.bounded_process import BoundedProcess
from evalsvc.api.server.problems import ProblemError
from evalsvc.api.server.task_process import Crew, TaskProcesses
from evalsvc.store import audit
from evalsvc.store.audit import Actor
from evalsvc.store.tables import ActorKind

CHILD = """
import os, signal, subprocess, sys, time
from multiprocessing.connection import Connection

pipe = Connection(int(sys.argv[1]))
held = []
while True:
    (task, arguments, actor) = pipe.recv()
    if task == "sleep":
        time.sleep(1000)
    elif task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif task == "half":
        os.write(pipe.fileno(), b"\\0\\0\\1\\0half")
        time.sleep(1000)
    elif task == "leave":
        # A descendant that holds the pipe and outlives its parent.
        other = subprocess.Popen(["sleep", "1000"], pass_fds=[pipe.fileno()], start_new_session=True)
        open(arguments[0], "w").write(str(other.pid))
        time.sleep(1000)
    pipe.send((None, (os.getpid(), os.getpgrp())))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "a_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return "a_child"


@pytest.fixture
def crew(module):
    made = Crew("tasks", "it crashed", (), 2, 30)
    made.processes[:] = made._idle[:] = [BoundedProcess(module, []) for _ in range(2)]
    yield made
    for process in made.processes:
        process.end()


def ask(crew, token, task, *arguments):
    with audit.acting(Actor(ActorKind.TOKEN, "t", token)):
        return asyncio.create_task(crew.ask(task, *arguments))


def test_one_token_that_hangs_keeps_no_other_waiting(crew):
    async def run():
        hung = [ask(crew, 1, "sleep") for _ in range(5)]
        await asyncio.sleep(0)
        answers = [await ask(crew, token, "pid") for token in (2, 3, 2)]
        assert not any(each.done() for each in hung)
        assert len(set(answers)) == 1
        for each in hung[1:]:
            each.cancel()
        crew.processes[0].end()
        crew.processes[1].end()
        with pytest.raises(ProblemError, match="it crashed"):
            await hung[0]
        assert (await ask(crew, 1, "pid"))[0] > 0

    asyncio.run(run())


@pytest.mark.parametrize("task", ["sleep", "half", "leave"])
def test_the_limit_holds_whatever_the_task_does(module, tmp_path, task):
    process = BoundedProcess(module, [])
    pid, group = process.ask(30, ("pid", (), None))[1]
    assert pid == group == process.pid
    with pytest.raises(TimeoutError, match="this took more than 1 seconds"):
        process.ask(1, (task, (str(tmp_path / "pid"),), None))
    assert process.pid is None
    if task == "leave":
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert process.ask(30, ("pid", (), None))[1][0] != pid
    process.end()


def test_a_process_that_ends_in_its_task_costs_that_task(module):
    process = BoundedProcess(module, [])
    with pytest.raises(EOFError):
        process.ask(30, ("die", (), None))
    assert process.ask(30, ("pid", (), None))[0] is None
    process.end()


def test_a_process_that_kept_too_much_memory_is_replaced(module, monkeypatch):
    process = BoundedProcess(module, [])
    first = process.ask(30, ("pid", (), None))[1]
    assert process.ask(30, ("pid", (), None))[1] == first
    monkeypatch.setattr("evalsvc.api.server.bounded_process.LARGEST", 1)
    process.ask(30, ("pid", (), None))
    assert process.pid is None


def test_a_long_line_is_refused_and_a_gate_waits_for_no_checkpoint():
    async def run():
        room = TaskProcesses()
        assert not set(room.opening.processes) & set(room.deciding.processes)
        room.opening.shares.waiting = 0
        async with room.opening.shares.turn(1):
            with pytest.raises(ProblemError, match="you have 1 concurrent checkpoints being loaded"):
                await ask(room.opening, 1, "submit")

    asyncio.run(run())
