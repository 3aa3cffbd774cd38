"""How the samples of a file or folder are read: which column, split and rows, at which rate, in which clips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError

Positive = Annotated[float, Field(gt=0, le=1e6)]
Name = Annotated[str, Field(max_length=200)]


def _conditions(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class ReadingOptions(BaseModel):
    """How the samples of a file or folder are read; by default, as the file says.

    What a format does not have is refused by it (a split of a ``.wav``), never ignored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    column: Name = ""
    """Column, array or member that has the samples, where a file has several."""
    labels: Name = ""
    """Column or array of the class labels; by default the one that is called so."""
    split: Name = ""
    """Split of a folder of datasets."""
    where: Annotated[tuple[Name, ...], BeforeValidator(_conditions)] = ()
    """Conditions that all rows meet, such as label=3."""
    rate: Annotated[int, Field(ge=1000, le=768_000)] | None = None
    """Sample rate of sounds in Hz, to which all are resampled."""
    window: Positive | None = None
    """Length of the windows in seconds into which sounds are cut."""
    frames: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Length of video clips in frames."""
    fps: Positive | None = None
    """Frames per second of video clips."""

    @classmethod
    def of(cls, given: Mapping[str, Any], what: str) -> ReadingOptions:
        """The options from their plain form; ``what`` ("generator 'samples'") is named in errors.

        Raises:
            InputError: an option is unknown or invalid.
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            reason = "unknown" if first["type"] == "extra_forbidden" else first["msg"]
            raise InputError(f"option {name} of {what}: {reason} (options: {', '.join(OPTIONS)})") from None

    @classmethod
    def among(cls, options: Mapping[str, Any]) -> ReadingOptions:
        """The reading options among those of the generator ``samples``."""
        return cls.of({name: value for name, value in options.items() if name in OPTIONS}, "generator 'samples'")

    @property
    def stored(self) -> dict[str, Any]:
        """The options that are not the default, in their plain form; empty if all are."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def digest_of(self, content: str) -> str:
        """Digest of samples that are read in this way from files with the digest ``content``."""
        return digest_json([content, self.stored]) if self.stored else content

    def require_only(self, path: object, *names: str) -> None:
        """Raise unless every given option is one of ``names``, the options of the format of ``path``."""
        if other := next((name for name in self.stored if name not in names), None):
            raise InputError(
                f"option {other} does not apply to {path}: "
                + (f"use {' or '.join(names)}, or " if names else "")
                + "omit it"
            )


OPTIONS = tuple(ReadingOptions.model_fields)
"""Names of the options."""

AS_STORED = ReadingOptions()
"""The default: as the file says."""
