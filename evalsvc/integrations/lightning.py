"""A Lightning callback: ``Trainer(callbacks=[EvaluateCheckpoints("digits@1", "my-gan", every_n_steps=1000)])``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from evalsvc.integrations.submitter import Submitter

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    from pytorch_lightning import Callback, LightningModule, Trainer

Weights = Callable[[LightningModule], Mapping[str, Tensor]]


class EvaluateCheckpoints(Callback):  # type: ignore[misc]
    """Write the weights as safetensors every ``every_n_steps`` steps, and submit them for evaluation.

    Training waits only for the copy of the weights to the host; writing and submitting run in the background.
    Lightning's own checkpoints, which ``evalsvc watch`` reads, are not needed. ``weights`` selects the tensors: by
    default those of the module; ``lambda module: module.generator.state_dict()`` for a GAN; the averaged weights if
    there are any. ``model`` is the name of the model, by default the folder. ``submit`` are options of
    :class:`~evalsvc.integrations.submitter.Submitter`.
    """

    def __init__(
        self,
        suite: str,
        generator: str,
        *,
        every_n_steps: int,
        folder: str | Path = "evalsvc-checkpoints",
        weights: Weights = lambda module: module.state_dict(),
        model: str | None = None,
        **submit: Any,
    ) -> None:
        self._every, self._folder, self._weights = every_n_steps, Path(folder), weights
        self._model = model or self._folder.resolve().name
        self._last = 0
        self.submitter = Submitter(suite, generator, **submit)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Copy the weights at every ``every_n_steps``-th step."""
        step = trainer.global_step
        # With several optimizers or gradient accumulation, the step does not increase by one per batch.
        if step // self._every == self._last // self._every:
            return
        self._last = step
        tensors = self._weights(pl_module)  # on every rank: gathering sharded weights is a collective operation
        if trainer.is_global_zero:
            copied = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
            self.submitter.put(lambda: self._write(copied, step), self._model, step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Submit the remaining checkpoints."""
        self.submitter.close()

    def _write(self, tensors: dict[str, Tensor], step: int) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step_{step}.safetensors"
        temporary = path.with_suffix(".tmp")
        # Tensors that share memory are written separately.
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        return temporary.replace(path)
