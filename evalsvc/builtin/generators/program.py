"""Programs of the operator that write one sample: their arguments, and one run within limits."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError, one_line
from evalsvc.core.observability.redaction import redacted
from evalsvc.inputs.checkpoint_folders import digest_unchanged

PLACEHOLDERS = ("prompt", "label", "source", "seed", "index", "output", "checkpoint")
LONGEST_REASON = 200
"""Maximum length of a program's message about its failure, in characters."""
_PLACEHOLDER = re.compile(r"(?<!\$)\{(\w+)\}")  # ${name} is of a shell
_SCRIPT = re.compile(r"-\w*[ce]")
_INTERPRETER = re.compile(r"(ba|da|k|z|fi)?sh|python[\d.]*|perl|ruby|node")
"""Programs that run the argument of ``-c`` or ``-e``."""
_TAIL = 4096


class FailedError(Exception):
    """A run that made no sample; the message is its reason."""


class Command:
    """A program and its arguments, with placeholders for the values of a sample.

    Raises:
        InputError: a placeholder is unknown, ``{output}`` is missing, a shell would read a prompt, or the program is
            not installed.
    """

    def __init__(self, words: Sequence[str], who: str) -> None:
        self._words = [absolute(word) for word in words]
        self.placeholders = frozenset(name for word in words for name in _PLACEHOLDER.findall(word))
        if unknown := sorted(self.placeholders - set(PLACEHOLDERS)):
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise InputError(f"option command of {who} contains {{{unknown[0]}}}: use {known}")
        if "output" not in self.placeholders:
            raise InputError(f"option command of {who} does not say where the sample is written: add {{output}}")
        if script := next(_scripts_with_values(words), None):
            raise InputError(
                f"option command of {who} has a value in the script {script!r}, which would run it: put the "
                'placeholder behind the script, and "$0", "$1", ... into it'
            )
        program = shutil.which(self._words[0])
        if program is None:
            raise InputError(
                f"program {words[0]!r} of {who} does not exist on this machine: install it, or give its path"
            )
        self.program = program

    @property
    def digest(self) -> str:
        """sha256 of the words, with the contents of the program and of files among its arguments."""
        contents = (
            digest_unchanged(Path(word)) if Path(word).is_absolute() and is_file(word) else word
            for word in self._words[1:]
        )
        return digest_json([digest_unchanged(Path(self.program)), *contents])

    def filled(self, values: Mapping[str, str]) -> list[str]:
        """The program and its arguments for one sample.

        Raises:
            FailedError: an argument would begin with ``-`` because of its value, and no ``--`` comes before it.
        """
        arguments = [self.program]
        for i, word in enumerate(self._words[1:], start=1):
            argument = _PLACEHOLDER.sub(lambda match: values[match[1]], word)
            if argument.startswith("-") and not word.startswith("-") and "--" not in self._words[:i]:
                raise FailedError(
                    f"{word} begins with '-', which the program could read as an option: put '--' before it in the "
                    "command"
                )
            arguments.append(argument)
        return arguments


def _scripts_with_values(words: Sequence[str]) -> Iterator[str]:
    """Scripts of interpreters into which a prompt or a path would be put, and read as code."""
    for i, (option, word) in enumerate(pairwise(words)):
        if _SCRIPT.fullmatch(option) and {"prompt", "checkpoint"} & {*_PLACEHOLDER.findall(word)}:
            yield from (word for each in words[:i] if _INTERPRETER.fullmatch(Path(each).name))


def is_file(word: str) -> bool:
    """Whether an argument names a file that exists: a path, or a name with a suffix."""
    if _PLACEHOLDER.search(word) or not (os.sep in word or Path(word).suffix):
        return False
    with suppress(OSError, ValueError):  # a text that no file can be named
        return Path(word).is_file()
    return False


def absolute(word: str) -> str:
    """An argument; the name of a file by its absolute path, since programs run in another folder."""
    return str(Path(word).absolute()) if is_file(word) else word


class Runner:
    """Runs of programs, each in a process group of its own that ends with it."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._running = seconds, set[subprocess.Popen[bytes]]()
        self._lock, self._stopped = threading.Lock(), False

    def run(self, arguments: Sequence[str], folder: Path) -> None:
        """Run a program in ``folder``, without input; its messages are a file there.

        Raises:
            FailedError: it could not be started, exited with another code than 0, or was too slow.
        """
        said = folder / "stderr"
        with said.open("wb") as log:
            process = self._started(arguments, folder, log.fileno())
        try:
            code = process.wait(self._seconds)
        except subprocess.TimeoutExpired:
            raise FailedError(f"{Path(arguments[0]).name} took longer than {self._seconds:g} s") from None
        finally:
            with self._lock:
                self._running.discard(process)
            _end(process)
        if code:
            raise FailedError(f"{Path(arguments[0]).name} exited with code {code}{_last_line(said)}")

    def stop(self) -> None:
        """End all programs that run, and start no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _end(process)

    def _started(self, arguments: Sequence[str], folder: Path, log: int) -> subprocess.Popen[bytes]:
        # Our own settings, such as the address and password of the database, are not for programs.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EVALSVC_")}
        with self._lock:
            if self._stopped:
                raise FailedError("interrupted")
            try:
                process = subprocess.Popen(
                    arguments,
                    cwd=folder,
                    env=environment | {"TMPDIR": str(folder)},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:  # too long, or with a NUL character
                raise FailedError(f"{Path(arguments[0]).name} could not be started ({error})") from None
            self._running.add(process)
            return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(said: Path) -> str:
    with said.open("rb") as file:
        file.seek(-min(_TAIL, said.stat().st_size), os.SEEK_END)
        lines = file.read().decode(errors="replace").strip().splitlines()
    return f": {redacted(one_line(lines[-1].strip()))[:LONGEST_REASON]}" if lines else ""
