"""Everything opened that an evaluation works with: database, files, plug-ins on a device. Opened once, used often."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evalsvc.builtin.generators.stored import StoredSamples
from evalsvc.core.batching import Batches
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import (
    CheckpointError,
    DamagedError,
    EvalsvcError,
    IncompatibleWorkerError,
    InputError,
    first_line,
)
from evalsvc.core.files.verification import report
from evalsvc.core.settings import Settings
from evalsvc.evaluation.earlier_digests import move_earlier
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.content_watch import ContentWatch
from evalsvc.inputs.decoding_options import OPTIONS, Decoding
from evalsvc.inputs.prompts import digest_prompts, keep_prompts, kept_prompts, read_prompts
from evalsvc.inputs.published_statistics import StatisticsFile
from evalsvc.inputs.references import OpenReference, open_reference
from evalsvc.inputs.sample_order import SampleOrder, order_of
from evalsvc.inputs.suites import ExtractorUse, Split, Suite
from evalsvc.plugins.interfaces import EmbedsTexts, Extractor, Generator, HoldsSamples, Judge, Likelihood
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.store import tables
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.session import Database

Advance = Callable[[int], None]
Progress = Callable[[str, int], Advance]
"""Given a stage's name and its total, returns the function that is told of every step done."""


def silent(_stage: str, _total: int) -> Advance:
    """A progress that shows nothing."""
    return lambda _done: None


class EvaluationContext:
    """Opened rooms and tools. Plug-ins are loaded on first use and kept; of generators only the last is kept."""

    def __init__(
        self,
        settings: Settings,
        plugins: Plugins,
        device: str = "auto",
        batch_size: int = 250,
        progress: Progress = silent,
    ) -> None:
        self.database = Database(settings.database)
        self.artifacts = open_artifacts(settings)
        self.plugins = plugins
        self.device = pick_device(device)
        self.batches = Batches(batch_size)
        self.progress = progress
        self._extractors: dict[str, Extractor] = {}
        self._references: dict[str, OpenReference] = {}
        self._prompts: dict[str, tuple[str, ...]] = {}
        self._generator: tuple[str, Generator] | None = None
        self._content = ContentWatch()

    def extractor(self, use: ExtractorUse) -> Extractor:
        """The extractor of a suite's entry."""
        key = digest_json(use.model_dump())
        if key not in self._extractors:
            factory = self.plugins.get(PluginKind.EXTRACTOR, use.use).load()
            options = use.options
            if "plugins" in inspect.signature(factory).parameters:
                options = options | {"plugins": self.plugins}
            self._extractors[key] = _build(f"extractor {use.use!r}", factory, (self.device,), options)
        return self._extractors[key]

    def judge(self, name: str, options: Mapping[str, Any]) -> Judge:
        """The judge of this name."""
        factory = self.plugins.get(PluginKind.JUDGE, name).load()
        judge: Judge = _build(f"judge {name!r}", factory, (self.device,), options)
        return judge

    def reference(self, name: str) -> OpenReference:
        """The reference of this name, its content checked once."""
        if name not in self._references:
            self._references[name] = open_reference(self.database, self.plugins, name)
        return self._references[name]

    def reference_of(self, spec: EvaluationSpec) -> OpenReference:
        """The reference that an evaluation compares with."""
        assert spec.suite.reference is not None
        return self.reference(spec.suite.reference)

    def prompts(self, suite: Suite) -> tuple[str, ...]:
        """The prompts of a suite, kept beside its results, so that a worker on another machine finds them too."""
        if suite.prompts is None:
            return ()
        digest = suite.prompts.sha256
        if digest not in self._prompts:
            try:
                found = kept_prompts(self.artifacts, digest)
            except DamagedError as error:
                report(error)
                try:
                    found = read_prompts(Path(suite.prompts.path))
                except InputError as unreadable:
                    raise InputError(f"artifact {error.key} ({error.reason}) cannot be written: {unreadable}") from None
                if digest_prompts(found) != digest:
                    raise InputError(
                        f"{suite.prompts.path} has changed since suite {suite.id} was read: restore it, or raise the "
                        "suite's version"
                    ) from None
                keep_prompts(self.artifacts, found)
            self._prompts[digest] = found
        return self._prompts[digest]

    def holds_prompts(self, suite: Suite) -> bool:
        """Whether the prompts of a suite are kept here already, so that its file is not read."""
        if suite.prompts is None:
            return False
        try:
            kept_prompts(self.artifacts, suite.prompts.sha256)
        except DamagedError:
            return False
        return True

    def decoding(self, name: str, asked: Decoding | None, options: Mapping[str, Any]) -> Decoding | None:
        """How a generator that writes will do it: as ``asked``, but for the options that say otherwise."""
        factory = self.plugins.get(PluginKind.GENERATOR, name).load()
        if "decoding" not in inspect.signature(factory).parameters:
            return None
        return (asked or Decoding()).but({key: value for key, value in options.items() if key in OPTIONS})

    def generator(
        self, name: str, checkpoint: Checkpoint, options: Mapping[str, Any], decoding: Decoding | None = None
    ) -> Generator:
        """The generator loaded with this checkpoint."""
        if decoding:
            options = {key: value for key, value in options.items() if key not in OPTIONS}
        key = digest_json([name, checkpoint.digest, dict(options), decoding and decoding.model_dump()])
        if self._generator is None or self._generator[0] != key:
            self._generator = None
            factory = self.plugins.get(PluginKind.GENERATOR, name).load()
            given = {**options, "decoding": decoding} if decoding else options
            files = self.plugins.checkpoint_files(name)
            self._content.require(checkpoint, files)
            built = _build(f"generator {name!r}", factory, (checkpoint, self.device), given)
            self._content.require(checkpoint, files)
            self._generator = key, built
        return self._generator[1]

    def generator_of(self, spec: EvaluationSpec) -> Generator:
        """The generator of a spec."""
        return self.generator(spec.generator, _checkpoint_of(spec), spec.options, spec.decoding)

    def require_content(self, spec: EvaluationSpec) -> None:
        """Make sure that stored samples, which are read one by one, are still those that were digested. Where they are
        no longer there, their shards are all that is left of them, and nothing was read.

        Raises:
            CheckpointError: they were changed; the shards that may hold other samples are removed.
        """
        if not Path(spec.path).exists() or not self._reads_samples(spec.generator):
            return  # weights are read once, when the generator is built
        try:
            self._content.require(_checkpoint_of(spec), self.plugins.checkpoint_files(spec.generator))
        except CheckpointError:
            self.artifacts.remove(spec.samples_key)
            raise

    def _reads_samples(self, generator: str) -> bool:
        try:
            return self.plugins.get(PluginKind.GENERATOR, generator).load() is StoredSamples
        except InputError:  # a plug-in that is not installed here, of which only shards are there
            return False

    def spec(
        self, checkpoint: Checkpoint, generator: str, options: Mapping[str, Any], suite: Suite, seed: int | None = None
    ) -> EvaluationSpec:
        """Open all that an evaluation needs and freeze it; whatever does not fit shows here, before any work."""
        plugin = self.plugins.get(PluginKind.GENERATOR, generator)
        move_earlier(self.database, lambda: self.artifacts, checkpoint, generator)
        decoding = self.decoding(generator, suite.decoding, options)
        loaded = self.generator(generator, checkpoint, options, decoding)
        if loaded.info.modality != suite.modality:
            raise InputError(
                f"suite {suite.id} scores {suite.modality} samples, and generator {generator!r} makes "
                f"{loaded.info.modality} samples"
            )
        extractors = {label: self.extractor(use).info for label, use in suite.extractors.items()}
        asked = [(use.metric, array) for use in suite.metrics for array in sorted(use.arrays)]
        for what, array in [*asked, ("neighbours", suite.neighbours)] if suite.neighbours else asked:
            label, _, output = array.partition("/")
            if output not in extractors[label].outputs:
                raise InputError(
                    f"suite {suite.id}: {what} asks for {array!r}; extractor {label!r} gives "
                    f"{', '.join(extractors[label].outputs)}"
                )
        if suite.prompts and len(prompts := self.prompts(suite)) < suite.samples:
            raise InputError(
                f"{suite.prompts.path} holds {len(prompts)} prompts and suite {suite.id} draws {suite.samples} "
                "samples: add prompts, or draw fewer"
            )
        for use in suite.metrics:
            embedder = suite.extractors.get(use.features.partition("/")[0])
            if "prompts" in use.spec.inputs and embedder and not isinstance(self.extractor(embedder), EmbedsTexts):
                raise InputError(f"suite {suite.id}: extractor {embedder.use!r} embeds no prompts; 'clip' does")
        reference = self.reference(suite.reference) if suite.reference else None
        splits: dict[Split, int] = {}
        if reference:
            wanted = {split for use in suite.metrics for split in use.splits}
            if suite.neighbours:
                wanted.add("train")
            if "heldout" in reference.splits and any(use.has_control for use in suite.metrics):
                wanted.add("heldout")
            splits = {split: len(reference.split(split)) for split in sorted(wanted)}
            for split in splits:
                if isinstance(statistics := reference.split(split), StatisticsFile):
                    statistics.check(suite, split, extractors)
        if isinstance(loaded, HoldsSamples) and loaded.held < suite.samples:
            note = loaded.note if isinstance(loaded, StoredSamples) else ""
            raise InputError(
                f"{checkpoint.path} holds {loaded.held} samples and suite {suite.id} scores {suite.samples}"
                f"{note}: add samples, or use a suite that asks for fewer"
            )
        return EvaluationSpec(
            model=checkpoint.model,
            step=checkpoint.step,
            path=str(checkpoint.path),
            checkpoint=checkpoint.digest,
            generator=generator,
            generator_version=plugin.told,
            options=dict(options),
            suite=suite,
            seed=suite.seed if seed is None else seed,
            reference={split: reference.digests[split] for split in splits} if reference else {},
            reference_counts=splits,
            extractors={label: info.protocol for label, info in extractors.items()},
            likelihood=isinstance(loaded, Likelihood),
            family=loaded.info.family,
            decoding=decoding,
            weights=loaded.info.weights,
            order=self._order(suite, loaded, decoding),
        )

    def _order(self, suite: Suite, loaded: Generator, decoding: Decoding | None) -> SampleOrder | None:
        # By the suite's seed: an evaluation with another seed is of the same items, with other noise.
        return order_of(
            suite.seed,
            prompts=len(self.prompts(suite)) if suite.prompts else None,
            held=loaded.held if isinstance(loaded, HoldsSamples) else None,
            own=len(decoding.prompts) if decoding else 0,
        )

    def check(self, spec: EvaluationSpec) -> None:
        """Whether this machine would compute what was asked for: the same checkpoint, plug-ins and references.

        Raises:
            UnfitError: something differs from what it was where the evaluation was submitted.
        """
        plugin = self.plugins.get(PluginKind.GENERATOR, spec.generator)
        here = {f"generator {spec.generator!r}": plugin.told}
        there = {f"generator {spec.generator!r}": spec.generator_version}
        for label, use in spec.suite.extractors.items():
            here[f"extractor {use.use!r}"] = self.extractor(use).info.protocol
            there[f"extractor {use.use!r}"] = spec.extractors[label]
        for split, digest in spec.reference.items():
            what = f"reference {spec.suite.reference!r} ({split})"
            here[what], there[what] = self.reference(spec.suite.reference or "").digests[split], digest
        for what, wanted in there.items():
            if here[what] != wanted:
                raise IncompatibleWorkerError(
                    f"{what} is {here[what]} here and was {wanted} where the evaluation was submitted: bring "
                    "both to one version"
                )
        try:
            self._content.require(_checkpoint_of(spec), self.plugins.checkpoint_files(spec.generator))
        except CheckpointError as error:
            raise IncompatibleWorkerError(
                f"checkpoint {spec.path} has changed since it was submitted: submit it again"
            ) from error

    def reopen(self, row: tables.Checkpoint) -> Checkpoint:
        """What a row names, as it lies on disk.

        Raises:
            CheckpointError: its content is another now.
        """
        files = self.plugins.checkpoint_files(row.generator)
        opened = Checkpoint.open(Path(row.path), row.model.name, row.step, files)
        if row.digest != opened.digest and not replace(opened, digest=row.digest).is_still(files):
            raise CheckpointError(
                f"{row.path} is no longer {row.model.name}@{row.step} as it was scored, its content has changed: "
                "restore it, or score it anew"
            )
        return opened


def _checkpoint_of(spec: EvaluationSpec) -> Checkpoint:
    return Checkpoint(spec.model, spec.step, Path(spec.path), spec.checkpoint)


def pick_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device, else Apple's GPU, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        tried = torch.empty(0, device=name)
        tried.cpu()  # 'meta' holds nothing that could be read
        return tried.device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used here ({first_line(error)})") from None


def _build(what: str, factory: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    try:
        return factory(*arguments, **options)
    except EvalsvcError:
        raise
    except TypeError as error:
        raise InputError(f"{what} does not take these options ({error})") from error
    except Exception as error:
        raise InputError(f"{what} could not be built ({type(error).__name__}: {error})") from error
