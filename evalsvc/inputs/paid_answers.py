"""Answers of paid endpoints, kept until the samples that need them are stored, so that none is paid for twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from evalsvc.core.files.atomic_files import atomic_write, put

KEPT_SECONDS = 86_400.0
"""An interrupted evaluation that goes on within a day pays for no answer again; older answers are deleted."""


class PaidAnswers:
    """Answers in a folder, one file each, by the digest of their request."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._used = folder, set[str]()
        oldest = time.time() - KEPT_SECONDS
        for file in folder.glob("*.json"):
            with suppress(OSError):
                if file.stat().st_mtime < oldest:
                    file.unlink()

    def get(self, request: str) -> dict[str, Any] | None:
        """The answer to a request, if it is there."""
        try:
            answer = json.loads(self._file(request).read_bytes())
        except (OSError, ValueError):
            return None
        self._used.add(request)
        return answer if isinstance(answer, dict) else None

    def add(self, request: str, answer: dict[str, Any]) -> None:
        """Keep an answer."""
        with atomic_write(self._file(request)) as temporary:
            temporary.write_text(json.dumps(answer))
            put(temporary, self._file(request))
        self._used.add(request)

    def receipt(self) -> Callable[[], None]:
        """A function that deletes the answers that were read or added since the last receipt."""
        used, self._used = self._used, set()

        def settle() -> None:
            for request in used:
                with suppress(OSError):
                    self._file(request).unlink()

        return settle

    def _file(self, request: str) -> Path:
        return self._folder / f"{request}.json"
