"""A callback of the Hugging Face Trainer: ``callbacks=[EvaluateCheckpoints("prose-lm@1", "causal-lm")]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from evalsvc.integrations.submitter import Submitter


class EvaluateCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Has every checkpoint that the Trainer saves evaluated; training does not wait for it.

    ``save_total_limit`` may delete a checkpoint before a worker has read it: keep enough of them. ``model`` names the
    model, by default the output folder. ``submit`` are options of :class:`~evalsvc.integrations.submitter.Submitter`.
    """

    def __init__(self, suite: str, generator: str, *, model: str | None = None, **submit: Any) -> None:
        self._model = model
        self.submitter = Submitter(suite, generator, **submit)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Submit the checkpoint, which is whole by now."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir or ".").resolve()
            checkpoint = folder / f"checkpoint-{state.global_step}"
            self.submitter.put(lambda: checkpoint, self._model or folder.name, state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Submit what still waits."""
        if state.is_world_process_zero:
            self.submitter.close()
