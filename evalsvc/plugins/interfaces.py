"""The plug-in interface: generators, extractors, references and judges.

Plug-ins register through entry points and are listed without being imported. Loading a plug-in runs its code: install
only distributions that you trust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int64

from evalsvc.core.digests import digest_json
from evalsvc.plugins.items import Condition, Drawn
from evalsvc.plugins.samples import SampleRequest, Samples

if TYPE_CHECKING:
    from torch import Tensor

Modality = Literal["image", "text", "audio", "video"]
LikelihoodKind = Literal["exact", "upper_bound", "estimate"]


@dataclass(frozen=True)
class GeneratorInfo:
    """Facts about a loaded generator. ``sample_shape`` is (c, h, w) for images, (t, c, h, w) for videos, else empty.

    ``weights`` names the weights that were selected from a checkpoint with several sets: ``ema``,
    ``model.safetensors``.

    ``models`` are names by which the model of a scorer may be the same one.

    ``takes`` are the conditions that its samples depend on, and ``needs`` those of them without which it cannot sample;
    suites that lack a needed condition, or give one that is not taken, are rejected. ``None`` declares nothing.
    """

    family: str
    modality: Modality
    sample_shape: tuple[int, ...] = ()
    weights: str = ""
    takes: frozenset[Condition] | None = None
    needs: frozenset[Condition] = frozenset()
    models: frozenset[str] = frozenset()


class Generator(Protocol):
    """Turns a checkpoint into samples.

    The registered object is a factory ``(checkpoint, device, **options) -> Generator``, usually the class itself.
    ``checkpoint`` is an :class:`evalsvc.inputs.checkpoints.Checkpoint`, ``device`` a :class:`torch.device`. If the
    factory has a parameter ``decoding``, it receives the suite's :class:`evalsvc.inputs.decoding_options.Decoding`.

    If checkpoints are folders, the factory may have an attribute ``checkpoint_files``: a static method that takes the
    folder and returns the relative names of the files that the generator reads. The digest of the checkpoint then
    covers these files only. By default it covers all files except those that no loader reads
    (:data:`evalsvc.inputs.checkpoint_folders.LEFT_OUT`).

    If options name files, whose content can change under the same name, the factory may have a static method ``pin``:
    it takes the options and returns them with absolute paths and, under ``contents``, a digest by option. What it
    returns identifies the results, and is compared again when a worker opens the generator. The factory itself does not
    receive ``contents``.

    A factory may declare its own version (:func:`evalsvc.versioned`); the default is the version of its distribution.
    """

    @property
    def info(self) -> GeneratorInfo:
        """Facts about this generator."""
        ...

    def sample(self, request: SampleRequest) -> Samples | Drawn:
        """Return exactly ``len(request)`` samples; sample i must depend only on its seed and its conditions."""
        ...


@runtime_checkable
class HoldsSamples(Protocol):
    """Optional interface of a generator with stored samples: sample i is number ``request.indices[i]`` of them.

    Declare ``held`` on the class, so that it is known before a checkpoint is opened.
    """

    @property
    def held(self) -> int:
        """Number of stored samples; a suite that requests fewer receives a random subset."""
        ...


@runtime_checkable
class FindsItems(Protocol):
    """Optional interface of a generator with stored samples that may belong to items by their ids."""

    @property
    def finds_items(self) -> bool:
        """Whether they do, instead of by ``request.indices``."""
        ...

    def find(self, item: str, draw: int) -> int:
        """Position of the sample of an item and draw; raises an :class:`InputError` if there is none."""
        ...


@runtime_checkable
class ReadsAhead(Protocol):
    """Optional interface of a sample set, or of a generator with stored samples, that can read ahead."""

    def expect(self, indices: Int64[np.ndarray, " n"]) -> None:
        """Announce the samples of the next requests, in order."""
        ...


@runtime_checkable
class PaysForSamples(Protocol):
    """Optional interface of a generator or scorer that keeps paid answers until they are stored, so as to pay once."""

    def receipt(self) -> Callable[[], None]:
        """Return a function that is called once the samples or values since the last receipt are stored."""
        ...


@dataclass(frozen=True)
class NegativeLogLikelihood:
    """Negative log-likelihoods of a batch, in nats, each over ``units`` dimensions or over its own number of tokens.

    ``facts`` are all settings that can change a value (a language model's window, prefix and dtype), the same for every
    batch; scores are comparable only if they agree.
    """

    nats: Float64[Tensor, " n"]
    units: int | Int64[Tensor, " n"]
    kind: LikelihoodKind
    facts: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Likelihood(Protocol):
    """Optional interface of a generator that can compute the likelihood of given items."""

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Negative log-likelihood of each item, given its conditions in ``request`` if it has any.

        ``request`` has one seed per item for stochastic estimates. With prompts, only the item itself counts: its
        nats and tokens without those of its prompt. A causal model encodes both as one; an encoder-decoder encodes the
        prompt, and decodes the item. Equal prompts follow each other, so that they can be read once.
        """
        ...


@dataclass(frozen=True)
class ExtractorInfo:
    """Facts about an extractor: everything that can change its outputs.

    ``modality`` is the modality of its samples, and ``also_takes`` names further ones: suites of others are rejected.
    ``outputs`` maps each output to its dimension (0 if it depends on the samples); ``weights`` is a sha256, or "none";
    ``preprocessing`` describes the resize, range and dtype in words. The remaining fields are not part of the protocol:
    ``mixed_sizes`` declares that ``extract`` accepts :class:`~evalsvc.plugins.samples.MixedImages` (other extractors
    receive the images of one size at a time), ``backend`` names the engine and the kind of device.
    """

    name: str
    modality: Modality
    outputs: Mapping[str, int]
    weights: str
    preprocessing: str
    mixed_sizes: bool = False
    backend: str = "torch"
    also_takes: frozenset[Modality] = frozenset()

    @property
    def takes(self) -> frozenset[Modality]:
        """The modalities of samples that ``extract`` takes."""
        return self.also_takes | {self.modality}

    @property
    def protocol(self) -> str:
        """Digest of everything that can change an output: features with equal protocols are comparable."""
        facts = [self.name, self.modality, dict(self.outputs), self.weights, self.preprocessing]
        return f"{self.name}-{digest_json(facts)[:12]}"


class Extractor(Protocol):
    """Turns samples into one array per output. Registered as a factory ``(device, **options) -> Extractor``.

    If the factory has a parameter ``plugins``, it receives the :class:`Plugins` in which the suite's names are looked
    up.
    """

    @property
    def info(self) -> ExtractorInfo:
        """Facts about this extractor."""
        ...

    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """Return one float32 array for each of ``info.outputs``; row i must depend only on sample i.

        Later calls must leave the arrays alone: those on a device are read at the end of a shard.
        """
        ...


@runtime_checkable
class EmbedsTexts(Protocol):
    """Optional interface of an extractor: embeddings of texts in the space of the samples, one row per text."""

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Embeddings whose cosine similarity with the embeddings of samples is meaningful."""
        ...


class SampleSet(Protocol):
    """Stored samples with random access by range; sequential reads are the cheapest."""

    @property
    def modality(self) -> Modality:
        """Modality of the samples."""
        ...

    def __len__(self) -> int: ...

    def digest(self) -> str:
        """sha256 of the current content."""
        ...

    def read(self, start: int, stop: int) -> Samples:
        """Samples ``start`` to ``stop``. An unreadable sample raises an :class:`InputError` that names it."""
        ...


@runtime_checkable
class ReadsAt(Protocol):
    """Optional interface of a sample set with random access by index; other sets are read range by range."""

    def read_at(self, indices: Sequence[int]) -> Samples:
        """The samples at these indices, in this order; raises like ``read``."""
        ...


@runtime_checkable
class HasLabels(Protocol):
    """Optional interface of a sample set whose samples have class labels."""

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The label of each sample, 0 or more; -1 if it has none."""
        ...


@runtime_checkable
class Skips(Protocol):
    """Optional interface of a sample set that skips listed files."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """Their names."""
        ...


@dataclass(frozen=True)
class Reference:
    """Real samples: a training split and a held-out split that models never saw. Registered as a factory ``()``."""

    name: str
    train: SampleSet
    heldout: SampleSet | None = None


CheckpointFiles = Callable[[Path], Iterable[str]]
"""A function from a folder to the relative names of the files that a generator reads."""


Answer = Literal["first", "second", "tie", "unparsed"]


ANSWERS: tuple[Answer, ...] = ("first", "second", "tie", "unparsed")


@dataclass(frozen=True)
class JudgeInfo:
    """Facts about a judge: its name, a description of everything that can change its answers, and its models."""

    name: str
    protocol: str
    models: frozenset[str] = frozenset()


class Judge(Protocol):
    """Registered under ``evalsvc.judges`` as a factory ``(device, **options) -> Judge``."""

    @property
    def info(self) -> JudgeInfo:
        """Facts about this judge."""
        ...

    def compare(self, prompt: str, first: str, second: str) -> Answer:
        """Return the better of two answers to a prompt; ``unparsed`` if the verdict could not be parsed."""
        ...
