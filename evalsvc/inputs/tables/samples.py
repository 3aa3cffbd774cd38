"""Sample sets of the rows of a table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from jaxtyping import Int64

from evalsvc.core.errors import InputError
from evalsvc.inputs.images.decoding import BadImageError
from evalsvc.inputs.images.files import EncodedImages, ImageDecoder
from evalsvc.inputs.items.cells import CellError
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Texts


class Rows(Protocol):
    """The rows of a table that are samples, by their place among them."""

    path: Path
    skipped: tuple[str, ...]

    def __len__(self) -> int: ...

    def name(self, place: int) -> str:
        """The name of a row in errors and in lists of skipped rows."""
        ...

    def content(self, place: int) -> bytes:
        """The content of a row; raises a :class:`CellError` if it has none."""
        ...

    def digest(self) -> str:
        """sha256 of the current content of the files."""
        ...

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The label of each row; -1 if it has none."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty if they have none."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The ids of the rows; empty if they have none."""
        ...


class OfRows:
    """Parts that all sample sets of rows share."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self.skipped = rows, rows.skipped

    def __len__(self) -> int:
        return len(self._rows)

    def digest(self) -> str:
        """sha256 of the current content of the files."""
        return self._rows.digest()

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The label of each row; -1 if it has none."""
        return self._rows.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty if they have none."""
        return self._rows.classes

    @property
    def names(self) -> Sequence[str]:
        """The ids of the rows; empty if they have none."""
        return self._rows.names


class TextRows(OfRows):
    """Texts in a column."""

    modality: Modality = "text"

    def read(self, start: int, stop: int) -> Texts:
        """Texts ``start`` to ``stop``; a row without a text raises an error that names it."""
        return self.read_at(range(start, min(stop, len(self))))

    def read_at(self, indices: Sequence[int]) -> Texts:
        """The texts at these indices, in this order."""
        return Texts(tuple(map(self._text, indices)))

    def _text(self, place: int) -> str:
        try:
            return self._rows.content(place).decode()
        except UnicodeDecodeError as error:
            reason = f"it is not UTF-8, byte {error.start}"
        except CellError as error:
            reason = str(error)
        raise InputError(f"{self._rows.path}: {self._rows.name(place)} has no text ({reason}): drop or repair it")


class ImageRows(OfRows, EncodedImages):
    """Encoded images in a column, decoded ahead."""

    def __init__(self, rows: Rows) -> None:
        OfRows.__init__(self, rows)
        EncodedImages.__init__(self, _Decoder(_Source(rows)), _Names(rows))


class _Name(str):
    """The name of a row, which knows its place."""

    place: int


class _Names(Sequence[str]):
    """Names of rows, each of which is made when it is used."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        if not 0 <= place < len(self):
            raise IndexError(place)  # which ends a loop over all
        name = _Name(self._rows.name(place))
        name.place = place
        return name


class _Source:
    """Encoded images by the names of their rows."""

    def __init__(self, rows: Rows) -> None:
        self.path, self._rows = rows.path, rows

    def read(self, name: str) -> bytes:
        """The encoded image."""
        assert isinstance(name, _Name)
        try:
            return self._rows.content(name.place)
        except CellError as error:
            raise BadImageError(str(error)) from None

    def open(self, name: str) -> IO[bytes]:
        """The encoded image as a file."""
        return io.BytesIO(self.read(name))


class _Decoder(ImageDecoder):
    """Hands encoded images to the decoding processes, which cannot open a table."""

    def content(self, name: str) -> bytes:
        """The encoded image; empty if it cannot be read, which the error on demand explains."""
        try:
            return self.source.read(name)
        except (BadImageError, OSError):
            return b""

    def command(self) -> list[str]:
        """Of :mod:`evalsvc.inputs.images.decoding_process`, without a path."""
        return ["evalsvc.inputs.images.decoding_process", ""]
