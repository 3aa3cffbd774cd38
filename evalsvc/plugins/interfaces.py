"""The plug-in interface: what a generator, an extractor and a reference are, and how they are found.

Plug-ins register through entry points and are found without being imported; loading one runs its code, so
install only distributions you trust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from evalsvc.core.digests import digest_json
from evalsvc.plugins.samples import SampleRequest, Samples

Modality = Literal["image", "text", "audio", "video"]
LikelihoodKind = Literal["exact", "upper_bound", "estimate"]


# --- contracts ---


@dataclass(frozen=True)
class GeneratorInfo:
    """What a loaded generator makes. ``sample_shape`` is (c, h, w) for images, (t, c, h, w) for videos, else empty.

    ``weights`` names what was loaded of a checkpoint that holds more: ``ema``, ``model.safetensors``.
    """

    family: str
    modality: Modality
    sample_shape: tuple[int, ...] = ()
    weights: str = ""


class Generator(Protocol):
    """Turns a checkpoint into samples.

    The registered object is a factory ``(checkpoint, device, **options) -> Generator``, most simply the class
    itself. ``checkpoint`` is an :class:`evalsvc.inputs.checkpoints.Checkpoint`, ``device`` a :class:`torch.device`. A
    factory that has a parameter ``decoding`` is given the suite's :class:`evalsvc.inputs.decoding_options.Decoding`.

    Where checkpoints are folders, a factory may have an attribute ``checkpoint_files``: a function (a static method)
    that is given the folder and gives the names, relative to it, of the files that are read. Only they make two
    checkpoints different. Without it all files count but what no loader reads
    (:data:`evalsvc.inputs.checkpoint_folders.LEFT_OUT`).

    A factory may state a version of its own (:func:`evalsvc.versioned`); without it, results count as those of the
    version of its distribution.
    """

    @property
    def info(self) -> GeneratorInfo:
        """What this generator makes."""
        ...

    def sample(self, request: SampleRequest) -> Samples:
        """Exactly ``len(request)`` samples; sample i depends on ``request.seeds[i]`` alone, and on its prompt."""
        ...


@runtime_checkable
class HoldsSamples(Protocol):
    """Optional ability of a generator: its samples exist already. Sample i is number ``request.indices[i]`` of them.

    Declare ``held`` on the class, so that it is known before a checkpoint is opened.
    """

    @property
    def held(self) -> int:
        """How many there are; a suite that asks for fewer is given a random part of them."""
        ...


@runtime_checkable
class ReadsAhead(Protocol):
    """Optional ability of a generator that holds its samples: reading before it is asked."""

    def expect(self, indices: Int64[np.ndarray, " n"]) -> None:
        """These samples are asked for next, in this order."""
        ...


@dataclass(frozen=True)
class NegativeLogLikelihood:
    """Negative log-likelihoods of a batch, in nats, each over ``units`` dimensions, or over its own number of tokens.

    ``facts`` are all settings that can change a number (a language model's window, prefix and dtype), the same for
    every batch; scores are compared only where they agree.
    """

    nats: Float64[Tensor, " n"]
    units: int | Int64[Tensor, " n"]
    kind: LikelihoodKind
    facts: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Likelihood(Protocol):
    """Optional ability of a generator: how likely it holds given items."""

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Negative log-likelihood of each item; ``request`` carries one seed an item for whatever is random."""
        ...


@dataclass(frozen=True)
class ExtractorInfo:
    """What an extractor computes, and all that can change its numbers.

    ``outputs`` maps each output to its dimension (0 where it depends on the samples); ``weights`` is a sha256, or
    "none"; ``preprocessing`` names the resize, range and dtype as a reader would. What follows changes no protocol:
    ``mixed_sizes`` says that ``extract`` takes :class:`~evalsvc.plugins.samples.MixedImages` too (others are given the
    images of one size at a time), ``backend`` names the engine and the kind of device that compute.
    """

    name: str
    modality: Modality
    outputs: Mapping[str, int]
    weights: str
    preprocessing: str
    mixed_sizes: bool = False
    backend: str = "torch"

    @property
    def protocol(self) -> str:
        """Digest of all that can change a number: features of equal protocol are comparable."""
        facts = [self.name, self.modality, dict(self.outputs), self.weights, self.preprocessing]
        return f"{self.name}-{digest_json(facts)[:12]}"


class Extractor(Protocol):
    """Turns samples into one array a sample. Registered as a factory ``(device, **options) -> Extractor``.

    A factory that has a parameter ``plugins`` is given the :class:`Plugins` that the suite's names are looked up in.
    """

    @property
    def info(self) -> ExtractorInfo:
        """What this extractor computes."""
        ...

    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """One float32 array for each of ``info.outputs``; row i depends on sample i alone."""
        ...


@runtime_checkable
class EmbedsTexts(Protocol):
    """Optional ability of an extractor: texts in the space of its samples, one row a text."""

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Embeddings that a cosine with those of samples means something for."""
        ...


class SampleSet(Protocol):
    """Stored samples, readable by position; most cheaply from first to last."""

    @property
    def modality(self) -> Modality:
        """What the samples are."""
        ...

    def __len__(self) -> int: ...

    def digest(self) -> str:
        """sha256 of the content as it is now."""
        ...

    def read(self, start: int, stop: int) -> Samples:
        """Samples ``start`` to ``stop``; anything unreadable is an :class:`InputError` that names it."""
        ...


@runtime_checkable
class ReadsAt(Protocol):
    """Optional ability of a sample set: samples anywhere in it; others are read range by range."""

    def read_at(self, indices: Sequence[int]) -> Samples:
        """The samples at these indices, in this order; errors as of ``read``."""
        ...


@runtime_checkable
class Skips(Protocol):
    """Optional ability of a sample set: files that it was told to leave out, by name."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """Their names."""
        ...


@dataclass(frozen=True)
class Reference:
    """Real samples: what models were trained on, and a half they never saw. Registered as a factory ``()``."""

    name: str
    train: SampleSet
    heldout: SampleSet | None = None


# --- discovery ---


CheckpointFiles = Callable[[Path], Iterable[str]]
"""Given a folder, the names of the files in it that are read, relative to it."""


Answer = Literal["first", "second", "tie", "unparsed"]


ANSWERS: tuple[Answer, ...] = ("first", "second", "tie", "unparsed")


@dataclass(frozen=True)
class JudgeInfo:
    """A judge's name, all that can change its answers in words, and the models it is (by name or digest)."""

    name: str
    protocol: str
    models: frozenset[str] = frozenset()


class Judge(Protocol):
    """Registered under ``evalsvc.judges`` as a factory ``(device, **options) -> Judge``."""

    @property
    def info(self) -> JudgeInfo:
        """What this judge is."""
        ...

    def compare(self, prompt: str, first: str, second: str) -> Answer:
        """The better of two answers to a prompt; ``unparsed`` where no verdict could be read."""
        ...
