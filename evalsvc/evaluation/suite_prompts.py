"""Prompts of a suite, stored with its results, so that workers on other machines can read them."""

from __future__ import annotations

from pathlib import Path

from evalsvc.core.errors import DamagedError, InputError
from evalsvc.core.files.verification import report
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.inputs.prompts import digest_prompts, load_prompts, read_prompts, store_prompts
from evalsvc.inputs.suites import Suite


def prompts_of(context: EvaluationContext, suite: Suite) -> tuple[str, ...]:
    """The prompts of a suite, empty if it has none.

    Raises:
        InputError: the file has changed since the suite was read, or cannot be read.
    """
    if suite.prompts is None:
        return ()
    digest = suite.prompts.sha256
    if digest not in context.prompts:
        try:
            prompts = load_prompts(context.artifacts, digest)
        except DamagedError as error:
            report(error)
            try:
                prompts = read_prompts(Path(suite.prompts.path))
            except InputError as unreadable:
                raise InputError(f"artifact {error.key} ({error.reason}) cannot be restored: {unreadable}") from None
            if digest_prompts(prompts) != digest:
                raise InputError(
                    f"{suite.prompts.path} has changed since suite {suite.id} was read: restore it, or raise the "
                    "suite's version"
                ) from None
            store_prompts(context.artifacts, prompts)
        context.prompts[digest] = prompts
    return context.prompts[digest]


def holds_prompts(context: EvaluationContext, suite: Suite) -> bool:
    """Whether the prompts of a suite are stored already, so that its file is not read."""
    if suite.prompts is None:
        return False
    try:
        load_prompts(context.artifacts, suite.prompts.sha256)
    except DamagedError:
        return False
    return True
