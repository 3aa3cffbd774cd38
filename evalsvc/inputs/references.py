"""References: named sets of real samples whose features are extracted once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import func, select

from evalsvc.core.digests import digest_path, stamp_path
from evalsvc.core.errors import InputError
from evalsvc.core.files.system_files import is_system_file
from evalsvc.inputs.items.hub import download_snapshot
from evalsvc.inputs.items.schema import HUB
from evalsvc.inputs.published_statistics import StatisticsFile, open_statistics
from evalsvc.inputs.reading_options import AS_STORED, ReadingOptions
from evalsvc.inputs.sample_sets import open_samples, unreadable
from evalsvc.inputs.suite_entries import Split
from evalsvc.inputs.text_files import TextList
from evalsvc.plugins.interfaces import HasLabels, Reference, SampleSet, Skips
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.store import audit
from evalsvc.store.session import Database
from evalsvc.store.tables import Outcome
from evalsvc.store.tables import Reference as Row

KINDS = {"image": "image", "text": "text", "audio": "sound", "video": "video"}
LONGEST_NAME = 64
NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
"""Pattern for new references; older databases may contain other names, which suites can use."""
_StoredSplit: TypeAlias = tuple[Split, str | None, str | None, str | None, list[str], int | None, dict[str, Any]]


@dataclass(frozen=True)
class OpenReference:
    """A verified reference: one sample set and one digest per split.

    ``sources`` are the files of a split, with their stamps at the time of the verification; ``readings`` say how they
    are read.
    """

    name: str
    splits: Mapping[Split, SampleSet]
    digests: Mapping[Split, str]
    sources: dict[Split, tuple[Path, str]] = field(default_factory=dict)
    readings: Mapping[Split, ReadingOptions] = field(default_factory=dict)

    def split(self, split: Split) -> SampleSet:
        """The samples of one split; a missing held-out split raises an error that says how to add one."""
        if split not in self.splits:
            raise InputError(
                f"reference {self.name!r} has no held-out split: add it under another name with --heldout PATH"
            )
        return self.splits[split]

    def require_unchanged(self, split: Split) -> None:
        """Raise if the files of a split were modified since they were verified.

        Raises:
            InputError: they were modified.
        """
        if split not in self.sources:
            return
        path, before = self.sources[split]
        stamp = stamp_path(path, is_system_file)
        if stamp != before:
            now = map(self.readings[split].digest_of, (self.splits[split].digest(), digest_path(path)))
            if self.digests[split] not in now:
                raise _changed(self.name, path)
        self.sources[split] = path, stamp


def add_reference(
    database: Database,
    plugins: Plugins,
    name: str,
    path: Path,
    heldout: Path | None,
    *,
    skip_bad: bool = False,
    reading: ReadingOptions = AS_STORED,
    heldout_reading: ReadingOptions = AS_STORED,
) -> Row:
    """Read, digest and register a reference. Registering the same content twice is allowed; other content raises.

    Unreadable images or audio files raise an error, unless ``skip_bad`` excludes them. Suites are named after
    references in lower case, so the names of two references must not differ by case only. Of ``hub:org/name``, the
    downloaded copy is registered.
    """
    _check_name(database, plugins, name)
    path, reading = _local(path, reading)
    if heldout:
        heldout, heldout_reading = _local(heldout, heldout_reading)
    train = _inspect(path, reading, skip_bad)
    test = _inspect(heldout, heldout_reading, skip_bad) if heldout else None
    if test and test.modality != train.modality:
        raise InputError(f"{path} contains {train.modality} samples, but {heldout} contains {test.modality} samples")
    row = Row(
        name=name,
        modality=train.modality,
        path=str(path.resolve()),
        digest=reading.digest_of(train.digest()),
        stamp=stamp_path(path, is_system_file),
        count=len(train),
        skipped=list(_skipped(train)),
        reading=reading.stored,
        heldout_path=str(heldout.resolve()) if heldout else None,
        heldout_digest=heldout_reading.digest_of(test.digest()) if test else None,
        heldout_stamp=stamp_path(heldout, is_system_file) if heldout else None,
        heldout_count=len(test) if test else None,
        heldout_skipped=list(_skipped(test)),
        heldout_reading=heldout_reading.stored if test else {},
    )
    with database.write() as session:
        known = session.get(Row, name)
        # The same files may be read by newer rules: these then replace the stored digest.
        same = (
            known
            and (known.reading, known.heldout_reading) == (row.reading, row.heldout_reading)
            and _has_stamp(path, known.stamp)
            and _has_stamp(heldout, known.heldout_stamp)
        )
        if known and not same and (known.digest, known.heldout_digest) != (row.digest, row.heldout_digest):
            raise InputError(f"reference {name!r} exists with other content: choose another name")
        session.merge(row)
        facts: dict[str, audit.Fact] = {"path": row.path, "digest": row.digest[:12], "count": row.count}
        outcome = Outcome.UNCHANGED if same else Outcome.DONE
        audit.record(session, audit.Action.REFERENCE_ADD, f"reference {name}", facts, outcome=outcome)
    return row


def _check_name(database: Database, plugins: Plugins, name: str) -> None:
    with database.read() as session:
        is_new = session.get(Row, name) is None
        other = session.scalar(select(Row.name).where(func.lower(Row.name) == name.lower(), Row.name != name))
    if is_new and other:
        raise InputError(f"references {name!r} and {other!r} would differ by case only: choose another name")
    if is_new and not NAME.fullmatch(name):
        raise InputError(
            f"invalid reference name {name!r}: use up to {LONGEST_NAME} letters (a-z, A-Z), digits, '.', '_' "
            "and '-', starting with a letter, a digit or '_'"
        )
    for plugin in plugins:
        if plugin.kind is PluginKind.REFERENCE and plugin.name.lower() == name.lower():
            raise InputError(f"reference {name!r} is a plug-in ({plugin.name}): choose another name")


def open_reference(database: Database, plugins: Plugins, name: str) -> OpenReference:
    """Open the reference with this name, from the database or a plug-in; changed files raise an error."""
    with database.read() as session:
        row = session.get(Row, name)
        if row is not None:
            return _open_row(row)
        added = list(session.scalars(select(Row.name)))
    reference: Reference = plugins.get(PluginKind.REFERENCE, name, added).load()()
    splits: dict[Split, SampleSet] = {"train": reference.train}
    if reference.heldout is not None:
        splits["heldout"] = reference.heldout
    return OpenReference(name, splits, {split: samples.digest() for split, samples in splits.items()})


def _local(path: Path, reading: ReadingOptions) -> tuple[Path, ReadingOptions]:
    """The path, or the folder to which a dataset of the hub is downloaded, with the split that is there."""
    if not str(path).startswith(HUB):
        return path, reading
    folder, split = download_snapshot(str(path), reading.split)
    return folder, reading.model_copy(update={"split": split})


def _inspect(path: Path, reading: ReadingOptions, skip_bad: bool) -> SampleSet:
    """Open a sample set and read it completely once, so that a bad file is reported before an evaluation starts."""
    samples = _open(path, reading)
    if skip_bad and (bad := unreadable(samples)):
        samples = _open(path, reading, bad)
    step = 256 if samples.modality in ("image", "text") else 16
    for start in () if isinstance(samples, StatisticsFile) else range(0, len(samples), step):
        samples.read(start, min(start + step, len(samples)))
    if isinstance(samples, HasLabels):
        _ = samples.labels  # raises if they are not class labels
    if len(samples) == 1 and not isinstance(samples, StatisticsFile):
        note = samples.note if isinstance(samples, TextList) else ""
        raise InputError(f"{path} contains a single {KINDS[samples.modality]}{note}: use a set of two or more")
    return samples


def _open(path: Path, reading: ReadingOptions, skip: Sequence[str] = ()) -> SampleSet:
    statistics = None if reading.stored else open_statistics(path)
    return open_samples(path, skip, reading) if statistics is None else statistics


def _has_stamp(path: Path | None, stamp: str | None) -> bool:
    """Whether the files match their stamp; older versions included system files in it."""
    if path is None or stamp is None:
        return path is None and stamp is None
    return stamp_path(path, is_system_file) == stamp or (path.is_dir() and stamp_path(path) == stamp)


def _skipped(samples: SampleSet | None) -> tuple[str, ...]:
    return samples.skipped if isinstance(samples, Skips) else ()


def _open_row(row: Row) -> OpenReference:
    splits: dict[Split, SampleSet] = {}
    digests: dict[Split, str] = {}
    sources: dict[Split, tuple[Path, str]] = {}
    readings: dict[Split, ReadingOptions] = {}
    stored: tuple[_StoredSplit, ...] = (
        ("train", row.path, row.digest, row.stamp, row.skipped, row.count, row.reading),
        (
            "heldout",
            row.heldout_path,
            row.heldout_digest,
            row.heldout_stamp,
            row.heldout_skipped,
            row.heldout_count,
            row.heldout_reading,
        ),
    )
    for split, path, digest, stamp, skip, count, options in stored:
        if path is None or digest is None:
            continue
        reading = ReadingOptions.of(options, f"reference {row.name!r}")
        samples = _open(Path(path), reading, skip)
        sources[split] = Path(path), stamp_path(Path(path), is_system_file)  # before its content is compared
        if _has_stamp(Path(path), stamp):
            if len(samples) != count:  # hidden and system files were included when it was added
                digest = reading.digest_of(samples.digest())
        elif digest not in map(reading.digest_of, (samples.digest(), digest_path(Path(path)))):
            raise _changed(row.name, Path(path))
        splits[split], digests[split], readings[split] = samples, digest, reading
    return OpenReference(row.name, splits, digests, sources, readings)


def _changed(name: str, path: Path) -> InputError:
    return InputError(
        f"reference {name!r} has changed: {path} no longer has its registered content; restore it, or add "
        "it under another name"
    )
