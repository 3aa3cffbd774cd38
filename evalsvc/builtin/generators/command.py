"""Samples that a program of the operator writes, one run a sample."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import torch
import yaml
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from scipy.io import wavfile

from evalsvc.builtin.generators.options import options_of
from evalsvc.builtin.generators.program import Command, FailedError, Runner, absolute
from evalsvc.core.digests import CONTENTS
from evalsvc.core.errors import InputError, ModelError, first_line
from evalsvc.core.files.bounded_yaml import LARGEST, load_yaml
from evalsvc.core.files.regular_files import open_regular
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.images.decoding import MAX_BYTES
from evalsvc.inputs.items.media import SUFFIXES, check_alike, decoded
from evalsvc.plugins.interfaces import GeneratorInfo, Modality
from evalsvc.plugins.items import Condition, Drawn, Usage, text_of
from evalsvc.plugins.registry import versioned
from evalsvc.plugins.samples import Audio, Images, SampleRequest, Samples, Texts, Videos, concatenate

WHO = "generator 'command'"
MODALITIES: dict[str, Modality] = {**SUFFIXES, ".txt": "text"}
"""Modality of a sample by the suffix of its file."""
SEEDS = 2**31
"""Programs receive a sample's seed modulo this number, which every integer type holds."""


class CommandOptions(BaseModel):
    """A program, and how its samples are read."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """Program and arguments, with placeholders."""
    suffix: Annotated[str, StringConstraints(to_lower=True)]
    """Suffix of the file that the program writes: .wav, .png, .txt, ..."""
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 60
    """Seconds of one run."""
    parallel: Annotated[int, Field(ge=1, le=256)] = 1
    """Number of simultaneous runs."""

    @field_validator("suffix")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in MODALITIES:
            raise ValueError(f"use one of {', '.join(MODALITIES)}")
        return value


@versioned("0.1.0")
class CommandSamples:
    """The plug-in ``command``; its options are those of :class:`CommandOptions`.

    With the option ``command``, the checkpoint is ``{checkpoint}``: a file or folder of weights. Without it, the
    checkpoint is a YAML or JSON file of the options.
    """

    operators_only = True
    """Clients of the API never use it, even if the server file lists it: they would choose programs or their input."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, **options: Any) -> None:
        of_file = "command" not in options
        self._options = options_of(CommandOptions, {**(_read(checkpoint.path) if of_file else {}), **options}, WHO)
        self._command = Command(self._options.command, WHO)
        if of_file and "checkpoint" in self._command.placeholders:
            raise InputError(
                f"{checkpoint.path} is the command itself: give the command as option command, to pass weights as "
                "{checkpoint}"
            )
        self._checkpoint, self._modality = str(checkpoint.path), MODALITIES[self._options.suffix]
        self._blank: Samples | None = None
        takes = frozenset(each for each in get_args(Condition) if each in self._command.placeholders)
        family, digest = Path(self._options.command[0]).name, self._command.digest
        self.info = GeneratorInfo(family, self._modality, weights=f"program {digest[:12]}", takes=takes, needs=takes)

    @staticmethod
    def pin(options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with absolute paths of files, and the digest of the program and of these files."""
        if "command" not in options:
            return dict(options)
        asked = options_of(CommandOptions, {"suffix": ".txt", **options}, WHO)
        words = [absolute(word) for word in asked.command]
        return {**options, "command": words, CONTENTS: {"command": Command(words, WHO).digest}}

    def sample(self, request: SampleRequest) -> Drawn:
        """One run of the program for each sample, with failures and seconds.

        Raises:
            ModelError: all runs failed, and none was successful before.
        """
        runner, pool = Runner(self._options.timeout), ThreadPoolExecutor(self._options.parallel)
        try:
            runs = list(pool.map(lambda i: self._run(runner, request.take([i])), range(len(request))))
        except BaseException:  # Ctrl-C, or a deadline
            runner.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        made, seconds = [each for each, _ in runs], [taken for _, taken in runs]
        failures = {row: each for row, each in enumerate(made) if isinstance(each, str)}
        samples = [each for each in made if not isinstance(each, str)]
        if samples:
            self._blank = _blank(samples[0])
        elif self._blank is None:
            raise ModelError(f"{WHO} failed for all {len(request)} samples of a batch: {failures[0]}")
        parts = [self._blank if isinstance(each, str) else each for each in made]
        check_alike(parts, [f"sample {int(index)}" for index in request.indices])
        unknown = torch.full((len(request),), torch.nan, dtype=torch.float64)
        return Drawn(concatenate(parts), failures, Usage(torch.tensor(seconds, dtype=torch.float64), unknown, unknown))

    def _run(self, runner: Runner, request: SampleRequest) -> tuple[Samples | str, float]:
        """The sample of a request of one, or the reason of its failure; and the seconds that it took."""
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="evalsvc-command-", ignore_cleanup_errors=True) as folder:
            output = Path(folder) / f"output{self._options.suffix}"
            try:
                runner.run(self._command.filled(self._values(request, output)), Path(folder))
                made: Samples | str = self._read(output)
            except FailedError as error:
                made = first_line(error)
        return made, time.perf_counter() - begun

    def _values(self, request: SampleRequest, output: Path) -> dict[str, str]:
        """Values of the placeholders for a request of one sample."""
        values = {
            "seed": str(int(request.seeds[0]) % SEEDS),
            "index": str(int(request.indices[0])),
            "output": str(output),
            "checkpoint": self._checkpoint,
        }
        used = self._command.placeholders
        if "prompt" in used:
            values["prompt"] = text_of(_given(request.prompts, "prompt")[0])
        if "label" in used:
            values["label"] = str(int(_given(request.labels, "label")[0]))
            if values["label"] == "-1":
                raise FailedError("its item has no label")
        if "source" in used:
            values["source"] = _written(_given(request.sources, "source"), output.with_name("source"))
        return values

    def _read(self, output: Path) -> Samples:
        program = Path(self._options.command[0]).name
        try:
            with open_regular(output) as file:
                content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise FailedError(f"{program} wrote more than {MAX_BYTES:,} bytes")
            if self._modality == "text":
                return Texts((content.decode().removesuffix("\n"),))
            return decoded(content, output.name)
        except FileNotFoundError:
            raise FailedError(f"{program} wrote no {{output}}") from None
        except (InputError, OSError, UnicodeError) as error:
            raise FailedError(f"the file that {program} wrote {first_line(error)}") from None


def _read(path: Path) -> dict[str, Any]:
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise InputError(f"{WHO} needs option command, or a .yaml or .json file with command and suffix (got {path})")
    try:
        with open_regular(path) as file:
            options = load_yaml(file.read(4 * LARGEST + 1).decode())
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML ({first_line(error)}): correct it") from None
    if not isinstance(options, dict):
        raise InputError(f"{path} does not contain options: write command and suffix")
    return options


def _given(value: Any, condition: Condition) -> Any:
    if value is None or not len(value):
        raise InputError(
            f"the command of {WHO} contains {{{condition}}}, but the suite does not give any: add it to the items"
        )
    return value


def _written(source: Samples, place: Path) -> str:
    """The path of a file with one source: a PNG, a WAV, a text, or the frames of a video (t, h, w, c) as ``.npy``."""
    if isinstance(source, Texts):
        path = place.with_suffix(".txt")
        path.write_text(source.items[0], encoding="utf-8")
    elif isinstance(source, Audio):
        path = place.with_suffix(".wav")
        wavfile.write(path, source.rate, source.waves[0].cpu().numpy())
    elif isinstance(source, Videos):
        path = place.with_suffix(".npy")
        np.save(path, source.pixels[0].permute(0, 2, 3, 1).cpu().numpy())
    else:
        path = place.with_suffix(".png")
        pixels = source.items[0].permute(1, 2, 0).cpu().numpy()
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)
    return str(path)


def _blank(sample: Samples) -> Samples:
    """A sample in place of one that failed: black, silent or empty."""
    if isinstance(sample, Texts):
        return Texts(("",))
    if isinstance(sample, Audio):
        return Audio((torch.zeros_like(sample.waves[0]),), sample.rate)
    if isinstance(sample, Images | Videos):
        return type(sample)(torch.zeros_like(sample.pixels))
    raise TypeError(sample)
