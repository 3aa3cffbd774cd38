"""Child process that isolates itself, and then runs a program or its tests."""

from __future__ import annotations

import os

from evalsvc.core.programs import answer, testing
from evalsvc.core.programs.lines import read_lines, write_line
from evalsvc.core.sandbox import namespaces, restrictions

READY = b'"ready"\n'


def main() -> None:
    """Read a task from standard input, and serve it there and on standard output, isolated."""
    requests, replies = restrictions.keep_only(0, 1)
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
