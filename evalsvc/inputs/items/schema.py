"""The ``items:`` of a suite: where they are, which columns they have, and how many samples of each are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evalsvc.core.errors import InputError
from evalsvc.core.patterns import Pattern

HUB = "hub:"
"""Prefix of the name of a dataset of the hub."""
FileName = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=4096)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_by_name=True, serialize_by_alias=True
    )


PROMPT = "prompt"
"""The column of a file whose lines are texts."""
AS_PUBLISHED = {"id": "task_id", "prompt": "prompt", "target": "target"}
"""Columns of the formats of benchmarks, unless the suite names others."""
_OF_FILES = (
    "split",
    "format",
    "id",
    "prompt",
    "label",
    "source",
    "target",
    "choices",
    "answer",
    "group",
    "tags",
    "examples",
)


class LabelItems(_Strict):
    """Items that are class labels, 0 to ``classes`` - 1."""

    classes: Annotated[int, Field(ge=1, le=100_000)]
    """Number of classes."""
    frequencies: Annotated[Literal["balanced", "reference"], Field(alias="as")] = "balanced"
    """`balanced`: as many samples of each class; `reference`: the class frequencies of the reference."""


class Examples(_Strict):
    """Solved examples before the prompt of each item: the same for all items, except the item itself."""

    count: Annotated[int, Field(ge=1, le=100)]
    """Number of examples."""
    file: FileName = ""
    """File of the examples, with the same columns, relative to the suite; by default the items themselves."""
    split: str = ""
    """Split of the examples, as for items."""
    separator: str = "\n\n"
    """Text between examples."""
    before_answer: str = " "
    """Text between the prompt of an example and its answer."""


class Items(_Strict):
    """Items of a suite: a file with a row each, or class labels; and what was read from it."""

    file: FileName = ""
    """A .jsonl (or .jsonl.gz), .json, .csv, .tsv, .parquet or .txt or a folder of datasets, relative to the suite; or
    `hub:org/name`."""
    split: str = ""
    """Split of a dataset of the hub, or of a folder of datasets."""
    revision: str = ""
    """Revision of a dataset of the hub."""
    format: Literal["", "humaneval", "mbpp"] = ""
    """The file is that of a benchmark as it is published, with prompts and tests of programs, and needs no columns."""
    labels: LabelItems | None = None
    """Class labels instead of a file."""
    id: str = ""
    """Column with a unique name of each item; by default `id` if there is one, else the digest of its conditions."""
    prompt: str = ""
    """Column with the prompt (a text, or the messages of a chat), or a template over columns: `Q: {question}`."""
    label: str = ""
    """Column with the class label, an integer of 0 or more."""
    source: str = ""
    """Column with the source: an image, sound or video, or the name of such a file beside the item file."""
    target: str = ""
    """Column with the right answer or answers, or a template over columns, or a file as for `source`."""
    choices: str = ""
    """Column with the choices of a multiple choice, a list of texts."""
    answer: str = ""
    """Column with the right choice: its index, letter or text."""
    group: str = ""
    """Column whose equal values mark items that are not independent (one document, one speaker)."""
    tags: tuple[str, ...] = ()
    """Columns by which scores can be sliced."""
    examples: Examples | None = None
    """Solved examples before each prompt (few-shot): the first target, or the right choice, is the answer."""
    draws: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Number of samples of each item."""
    repeat: bool = False
    """Draw further samples of the items if the suite asks for more than items x draws."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """A text ends before the first of these strings when it is scored."""
    extract: str = ""
    """Pattern (RE2) whose first group, or first match, in a text is the answer that is scored; without a match, ""."""
    count: int = 0
    """Number of items; filled in when the suite is read."""
    conditions: Sha256 | None = None
    """Digest of the ids and the conditions of the generator; filled in when the suite is read."""
    sha256: Sha256 | None = None
    """Digest of the whole content; filled in when the suite is read."""

    @model_validator(mode="before")
    @classmethod
    def _published(cls, given: Any) -> Any:
        return {**AS_PUBLISHED, **given} if isinstance(given, dict) and given.get("format") else given

    @model_validator(mode="after")
    def _consistent(self) -> Items:
        if bool(self.file) is bool(self.labels):
            raise ValueError("name either a 'file' or 'labels: {classes: N}'")
        given = (name for name in _OF_FILES if getattr(self, name) != type(self).model_fields[name].default)
        if self.labels and (name := next(given, None)):
            raise ValueError(f"{name!r} applies to a file of items, and these are class labels: remove it")
        if self.revision and not self.of_hub:
            raise ValueError("'revision' applies to datasets of the hub: remove it")
        if self.answer and not (self.choices or self.target):
            raise ValueError("'answer' names the right one of 'choices': add 'choices', or name the column in 'target'")
        if self.examples and not (self.prompt and (self.target or self.answer)):
            raise ValueError("'examples' need 'prompt' and 'target', or 'choices' and 'answer': add them")
        if self.extract:
            try:
                Pattern(self.extract, "'extract'")
            except InputError as error:
                raise ValueError(str(error)) from None
        return self

    def found_in(self, folder: Path) -> Items:
        """The items with absolute paths of files, which are relative to a folder; names on the hub stay."""
        examples = self.examples and self.examples.model_copy(update={"file": _found(self.examples.file, folder)})
        return self.model_copy(update={"file": _found(self.file, folder), "examples": examples})

    @property
    def of_hub(self) -> bool:
        """Whether the file is a dataset of the hub."""
        return self.file.startswith(HUB)

    @property
    def follows_reference(self) -> bool:
        """Whether labels have the frequencies of the reference's training samples."""
        return self.labels is not None and self.labels.frequencies == "reference"

    @property
    def drawn(self) -> dict[str, Any]:
        """Identity of the conditions of the samples, as scores record it."""
        return {"items": self.conditions, "draws": self.draws}

    @property
    def scored(self) -> dict[str, Any]:
        """Identity of the targets of samples, as scores of scorers record it."""
        return {"sha256": self.sha256, "stop": list(self.stop), "extract": self.extract}

    @property
    def facts(self) -> dict[str, Any]:
        """Identity of the items in a suite's digest, independent of the file's location and column names."""
        kept: dict[str, Any] = {"sha256": self.sha256, "draws": self.draws, "stop": self.stop, "extract": self.extract}
        return kept | ({"labels": self.labels.model_dump()} if self.labels else {})


def _found(file: str, folder: Path) -> str:
    return file if not file or file.startswith(HUB) else str((folder / file).absolute())
