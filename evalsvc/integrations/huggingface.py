"""A callback for the Hugging Face Trainer: ``callbacks=[EvaluateCheckpoints("prose-lm@1", "causal-lm")]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from evalsvc.integrations.submitter import Submitter


class EvaluateCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Submit every checkpoint that the Trainer saves for evaluation; training does not wait.

    ``save_total_limit`` may delete a checkpoint before a worker has read it: keep enough of them. ``model`` is the name
    of the model, by default the output folder. ``submit`` are options of
    :class:`~evalsvc.integrations.submitter.Submitter`.
    """

    def __init__(self, suite: str, generator: str, *, model: str | None = None, **submit: Any) -> None:
        self._model = model
        self.submitter = Submitter(suite, generator, **submit)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Submit the checkpoint, which is complete at this point."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir or ".").resolve()
            checkpoint = folder / f"checkpoint-{state.global_step}"
            self.submitter.put(lambda: checkpoint, self._model or folder.name, state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Submit the remaining checkpoints."""
        if state.is_world_process_zero:
            self.submitter.close()
