"""Child processes that isolate themselves, and then run a program or its tests; forked by one that has Python ready."""

from __future__ import annotations

import os
import signal
import socket

from evalsvc.core.programs import answer, testing
from evalsvc.core.programs.lines import read_lines, write_line
from evalsvc.core.sandbox import namespaces, restrictions

READY = b'"ready"\n'


def main() -> None:
    """Fork a child for each pair of pipes that comes through the socket at standard input; return its descriptor."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children, and theirs, leave no zombies
    restrictions.adopt_orphans()
    host = socket.socket(fileno=os.dup(0))
    while True:
        asked, pipes, _, _ = socket.recv_fds(host, 1, 2)
        if not asked:
            return
        child = os.fork()
        if not child:
            _run(*pipes)
            return
        process = os.pidfd_open(child)
        socket.send_fds(host, [b"1"], [process])
        for each in (process, *pipes):
            os.close(each)


def _run(requests: int, replies: int) -> None:
    """Read a task, and serve it on the same descriptors, isolated."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    requests, replies = restrictions.keep_only(requests, replies)
    task = next(read_lines(requests))
    os.environ.clear()
    try:
        namespaces.isolate(task["memory"], task["seconds"], task["written"])
    except (OSError, ValueError) as error:
        write_line(replies, {"refused": str(error)})
        return
    os.write(replies, READY)
    if task["role"] == "script":
        answer.run_script(task["sources"], requests, replies)
    elif task["role"] == "functions":
        answer.serve_functions(task["sources"], requests, replies)
    else:
        testing.serve_tests(task["setup"], task["tests"], requests, replies)
