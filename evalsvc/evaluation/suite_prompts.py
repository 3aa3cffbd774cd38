"""Prompts of a suite, stored with its results, so that workers on other machines can read them."""

from __future__ import annotations

from pathlib import Path

from evalsvc.core.errors import DamagedError, InputError
from evalsvc.core.files.verification import report
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.inputs.prompts import digest_prompts, keep_prompts, kept_prompts, read_prompts
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
            found = kept_prompts(context.artifacts, digest)
        except DamagedError as error:
            report(error)
            try:
                found = read_prompts(Path(suite.prompts.path))
            except InputError as unreadable:
                raise InputError(f"artifact {error.key} ({error.reason}) cannot be restored: {unreadable}") from None
            if digest_prompts(found) != digest:
                raise InputError(
                    f"{suite.prompts.path} has changed since suite {suite.id} was read: restore it, or raise the "
                    "suite's version"
                ) from None
            keep_prompts(context.artifacts, found)
        context.prompts[digest] = found
    return context.prompts[digest]


def holds_prompts(context: EvaluationContext, suite: Suite) -> bool:
    """Whether the prompts of a suite are stored already, so that its file is not read."""
    if suite.prompts is None:
        return False
    try:
        kept_prompts(context.artifacts, suite.prompts.sha256)
    except DamagedError:
        return False
    return True
