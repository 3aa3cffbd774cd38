"""Optional interfaces of sample sets and generators whose samples are encoded files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from evalsvc.plugins.samples import SampleRequest


@runtime_checkable
class HasFiles(Protocol):
    """Optional interface of a sample set whose samples are encoded files."""

    def file(self, index: int) -> bytes:
        """The content of the file of a sample; an unreadable file raises an :class:`InputError` that names it."""
        ...


@runtime_checkable
class KeepsFiles(Protocol):
    """Optional interface of a generator with stored samples that may be encoded files, which marks are read from."""

    @property
    def keeps_files(self) -> bool:
        """Whether each sample is a file."""
        ...

    def files(self, request: SampleRequest) -> tuple[Callable[[], bytes], ...]:
        """For each sample, a function that reads its file; it raises an :class:`InputError` if that fails."""
        ...
