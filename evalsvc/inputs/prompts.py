"""Prompts of generators that take them: read from a file, named by their content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import DamagedError, InputError, MissingError, first_line
from evalsvc.core.files.regular_files import open_regular

if TYPE_CHECKING:
    from evalsvc.store.artifacts import Artifacts

KEYS = ("prompt", "text", "caption")
STRUCTURED = {".json", ".csv", ".tsv", ".parquet", ".yaml", ".yml"}
"""Endings of files whose lines are no prompts."""


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a file, in order: of a ``.jsonl`` strings or objects with a ``prompt``, of any other its lines."""
    if path.suffix.lower() in STRUCTURED:
        raise InputError(
            f"prompts {path} are not read: write them to a .txt, one a line, or to a .jsonl, one an object"
        )
    try:
        # Not ``splitlines``: a prompt may hold what Unicode takes for the end of a line, and all others would move.
        with open_regular(path) as file:
            lines = file.read().decode("utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"prompts {path} cannot be read ({error})") from None
    if lines == [""]:
        raise InputError(f"{path} holds no prompts")
    prompts = tuple(_of_jsonl(path, lines) if path.suffix.lower() == ".jsonl" else (line.strip() for line in lines))
    if "" in prompts:
        raise InputError(f"{path}, line {prompts.index('') + 1} holds no prompt, and prompt i belongs to sample i")
    return prompts


def keep_prompts(artifacts: Artifacts, prompts: tuple[str, ...]) -> None:
    """Keep prompts beside the results, so that a worker on another machine finds them too."""
    artifacts.write_bytes(_key(digest_prompts(prompts)), json.dumps(prompts).encode())


def kept_prompts(artifacts: Artifacts, digest: str) -> tuple[str, ...]:
    """The prompts with this digest, as :func:`keep_prompts` left them.

    Raises:
        DamagedError: others are in their place, or none.
    """
    key = _key(digest)
    try:
        prompts = tuple(json.loads(artifacts.local(key).read_bytes()))
    except FileNotFoundError:
        raise MissingError(key) from None
    except (OSError, ValueError, TypeError) as error:
        raise DamagedError(key, f"it cannot be read: {first_line(error)}") from None
    if digest_prompts(prompts) != digest:
        raise DamagedError(key, "its content does not match its digest")
    return prompts


def _key(digest: str) -> str:
    return f"prompts/{digest}/prompts.json"


def digest_prompts(prompts: tuple[str, ...]) -> str:
    """sha256 of the prompts in order, whatever the file they come from."""
    return digest_json(list(prompts))


def _of_jsonl(path: Path, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number} is no JSON ({error})") from None
        if isinstance(record, dict):
            record = next((record[key] for key in KEYS if key in record), None)
        if not isinstance(record, str):
            raise InputError(f"{path}, line {number} is neither a string nor an object with a string {KEYS[0]!r}")
        yield record.strip()
