"""Prompts for generators: read from a file, identified by their content."""

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
"""Suffixes of files whose lines are not prompts."""


def read_prompts(path: Path) -> tuple[str, ...]:
    """Read the prompts of a file in order: strings or objects with ``prompt`` in a ``.jsonl``, lines in other files."""
    if path.suffix.lower() in STRUCTURED:
        table = path.suffix.lower() in {".csv", ".tsv", ".parquet"}
        way = f"replace 'prompts' by 'items: {{file: {path.name}, prompt: COLUMN}}', or " if table else ""
        raise InputError(
            f"cannot read prompts from {path}: {way}write them to a .txt, one per line, or to a .jsonl, one object per "
            "line"
        )
    try:
        # Not ``splitlines``: a prompt may contain Unicode line separators, which would shift all later prompts.
        with open_regular(path) as file:
            lines = file.read().decode("utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read prompts from {path} ({error})") from None
    if lines == [""]:
        raise InputError(f"{path} contains no prompts")
    prompts = tuple(_of_jsonl(path, lines) if path.suffix.lower() == ".jsonl" else (line.strip() for line in lines))
    if "" in prompts:
        raise InputError(
            f"{path}, line {prompts.index('') + 1} is empty, but prompt i belongs to sample i: fill or remove it"
        )
    return prompts


def store_prompts(artifacts: Artifacts, prompts: tuple[str, ...]) -> None:
    """Store prompts with the results, so that workers on other machines can read them."""
    artifacts.write_bytes(_key(digest_prompts(prompts)), json.dumps(prompts).encode())


def load_prompts(artifacts: Artifacts, digest: str) -> tuple[str, ...]:
    """The prompts with this digest, as stored by :func:`store_prompts`.

    Raises:
        DamagedError: the file has other content or is missing.
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
    """sha256 of the prompts in order, independent of their file."""
    return digest_json(list(prompts))


def _of_jsonl(path: Path, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number} is not valid JSON ({error})") from None
        if isinstance(record, dict):
            record = next((record[key] for key in KEYS if key in record), None)
        if not isinstance(record, str):
            raise InputError(f"{path}, line {number} is neither a string nor an object with a string {KEYS[0]!r}")
        yield record.strip()
