"""Sets of existing samples: which reader opens a file or folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from evalsvc.core.digests import walk
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import require_regular
from evalsvc.core.files.system_files import is_system_file
from evalsvc.inputs.array_files import open_array
from evalsvc.inputs.binary_images import PICKLES, is_binary, open_binary
from evalsvc.inputs.hdf5_files import SUFFIXES as HDF5
from evalsvc.inputs.hdf5_files import open_hdf5
from evalsvc.inputs.images.decoding import IMAGE_SUFFIXES
from evalsvc.inputs.images.files import ImageFiles
from evalsvc.inputs.reading_options import AS_STORED, ReadingOptions
from evalsvc.inputs.sounds.decoding import SOUND_SUFFIXES
from evalsvc.inputs.sounds.files import SoundFiles
from evalsvc.inputs.tables import opening as tables
from evalsvc.inputs.text_files import open_texts
from evalsvc.inputs.videos.arrays import ClipArrays
from evalsvc.inputs.videos.clips import VIDEO_SUFFIXES, Clip
from evalsvc.inputs.videos.files import VideoFiles
from evalsvc.inputs.videos.frame_folders import FrameFolders
from evalsvc.plugins.interfaces import ReadsAt, SampleSet
from evalsvc.plugins.samples import Samples, concatenate

_UNPACK = "unpack it and pass its content"
_AS_JSONL = 'write its texts to a .jsonl, one {"text": ...} per line'
INSTEAD = {
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".tgz", ".7z", ".rar"), _UNPACK),
    **dict.fromkeys((".json", ".csv", ".tsv", ".yaml", ".yml", ".md"), _AS_JSONL),
    **dict.fromkeys(IMAGE_SUFFIXES | SOUND_SUFFIXES | VIDEO_SUFFIXES, "pass its folder"),
}
"""Files that cannot be read, by suffix, and the way out."""


@runtime_checkable
class _Decodes(Protocol):
    """A sample set of encoded files, some of which may be damaged."""

    def unreadable(self) -> tuple[str, ...]:
        """Names of all files that cannot be read."""
        ...


@dataclass(frozen=True)
class Given:
    """A file or folder, how it is read, and the names to leave out."""

    path: Path
    skip: Collection[str]
    reading: ReadingOptions

    @cached_property
    def suffixes(self) -> frozenset[str]:
        """The suffix of the file, or those of all files of the folder, in lower case."""
        names = walk(self.path, ordered=False, exclude_files=is_system_file) if self.path.is_dir() else [self.path.name]
        return frozenset(PurePosixPath(name).suffix.lower() for name in names)

    def named(self, *suffixes: str) -> list[str]:
        """Sorted names of the files of the folder with one of these suffixes, without hidden and system files."""
        names = walk(self.path, exclude_files=is_system_file)
        return [name for name in names if PurePosixPath(name).suffix.lower() in suffixes]


def open_samples(path: Path, skip: Collection[str] = (), reading: ReadingOptions = AS_STORED) -> SampleSet:
    """Open the sample set at ``path``: a folder, an archive, or a file of arrays or texts; ``reading`` says how.

    Hidden and system files are excluded, and so are the images or audio files named in ``skip``.
    """
    if not path.exists():
        shards = ": pass the folder of the shards, with the option split" if "{" in path.name else ""
        raise InputError(f"{path} does not exist{shards}")
    require_regular(path)
    given = Given(path, skip, reading)
    if reading.column and given.suffixes & tables.SUFFIXES:  # files beside a table are those that it names
        return tables.open_table(path, skip, reading)
    for opener in _OPENERS:
        if (samples := opener(given)) is not None:
            return samples
    raise _unknown(given)


def read_at(samples: SampleSet, indices: Sequence[int]) -> Samples:
    """The samples at these indices, in this order; sets without random access are read range by range."""
    if isinstance(samples, ReadsAt):
        return samples.read_at(indices)
    starts = [i for i, index in enumerate(indices) if i == 0 or index != indices[i - 1] + 1]
    ranges = pairwise([*starts, len(indices)])
    return concatenate([samples.read(indices[a], indices[b - 1] + 1) for a, b in ranges])


def unreadable(samples: SampleSet) -> tuple[str, ...]:
    """Names of the image or audio files of a set that cannot be read; decodes every file."""
    return samples.unreadable() if isinstance(samples, _Decodes) else ()


def _sounds(given: Given) -> SampleSet | None:
    beside_images = ".wav" not in given.suffixes and given.suffixes & IMAGE_SUFFIXES
    if not given.path.is_dir() or not given.suffixes & SOUND_SUFFIXES or beside_images:
        return None
    return SoundFiles(given.path, given.named(*SOUND_SUFFIXES), given.skip, given.reading)


def _images(given: Given) -> SampleSet | None:
    if not (given.suffixes & IMAGE_SUFFIXES if given.path.is_dir() else ".zip" in given.suffixes):
        return None
    given.reading.require_only(given.path)
    return ImageFiles(given.path, given.skip)


def _videos(given: Given) -> SampleSet | None:
    """Videos in a folder. Frames in folders are told from images, and videos among images, by the options alone."""
    path, reading, suffixes = given.path, given.reading, given.suffixes
    if not path.is_dir():
        return None
    asked = bool(reading.frames or reading.fps)
    if suffixes & VIDEO_SUFFIXES and (asked or not suffixes & (IMAGE_SUFFIXES | {".wav"})):
        reading.require_only(path, "frames", "fps")
        return VideoFiles(path, given.named(*VIDEO_SUFFIXES), Clip(reading.frames, reading.fps), given.skip)
    if reading.frames and suffixes & IMAGE_SUFFIXES:
        reading.require_only(path, "frames")
        return FrameFolders(path, given.named(*IMAGE_SUFFIXES), reading.frames, given.skip)
    return None


def _tables(given: Given) -> SampleSet | None:
    if not given.suffixes & tables.SUFFIXES:
        return None
    return tables.open_table(given.path, given.skip, given.reading)


def _texts(given: Given) -> SampleSet | None:
    path = given.path
    files = [path / name for name in walk(path, exclude_files=is_system_file)] if path.is_dir() else [path]
    if (texts := open_texts(path, files)) is not None:
        given.reading.require_only(path)
    return texts


def _binaries(given: Given) -> SampleSet | None:
    path = given.path
    every = walk(path, exclude_files=is_system_file) if path.is_dir() else [path.name]
    names = [name for name in every if is_binary(path / name if path.is_dir() else path)]
    return open_binary(path, names, given.reading) if names else None


def _arrays(given: Given) -> SampleSet | None:
    path, reading = given.path, given.reading
    if not path.is_dir() and given.suffixes & HDF5:
        return open_hdf5(path, reading)
    if not path.is_dir():
        return open_array(path, reading) if given.suffixes & {".npz", ".npy"} else None
    if ".npy" not in given.suffixes:
        return None
    reading.require_only(path, "frames")
    return ClipArrays(path, given.named(".npy"), reading.frames, given.skip)


_OPENERS: tuple[Callable[[Given], SampleSet | None], ...] = (
    _videos,
    _sounds,
    _images,
    _tables,
    _binaries,
    _texts,
    _arrays,
)
"""One for each family of formats: the first that knows what is given opens it."""


def _unknown(given: Given) -> InputError:
    names = walk(given.path, exclude_files=is_system_file) if given.path.is_dir() else [given.path.name]
    if pickle := next((name for name in names if PICKLES.fullmatch(PurePosixPath(name).name)), None):
        return InputError(f"{given.path}: {pickle} is a pickle, which may run code: use the binary version (.bin)")
    if given.path.is_dir():
        held = ", ".join(sorted(given.suffixes - {""})[:5])
        return InputError(
            f"{given.path} contains no images (looked for {', '.join(sorted(IMAGE_SUFFIXES))}), no sounds, no videos "
            "and no texts" + (f", but {held}" if held else "")
        )
    suffix = given.path.suffix.lower()
    other = "use a folder, .zip, .npz or .npy of images, a folder of sounds, .txt or .jsonl of texts, .parquet or .tar"
    way_out = INSTEAD.get(suffix, other)
    return InputError(f"{given.path}: cannot read {suffix or 'files without a suffix'} as samples: {way_out}")
