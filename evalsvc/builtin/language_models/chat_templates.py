"""Chat templates, programs of a checkpoint's author: rendered in a process of little time, memory and reach."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from evalsvc.core.errors import CheckpointError
from evalsvc.core.sandbox import restrictions

PROCESSOR_SECONDS, SECONDS = 20, 120
MEMORY, LARGEST = 2**30, 2**24
"""Bytes: of memory beyond what Python and the library need, and of all that is rendered."""


def render(template: str, chats: Sequence[Sequence[Mapping[str, str]]], tokens: Mapping[str, object]) -> list[str]:
    """Each chat as the template writes it, ready for an answer; ``tokens`` are the special tokens that it may name.

    Raises:
        CheckpointError: the template is not one, refuses a chat, or takes more than a template needs.
    """
    asked = json.dumps({"template": template, "chats": chats, "tokens": tokens}, default=str).encode()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "evalsvc.builtin.language_models.chat_templates"],
        env=restrictions.environment() | restrictions.import_path() | {"HF_HUB_OFFLINE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        told, _ = process.communicate(asked, timeout=SECONDS)
        answer = json.loads(told) if told else {}
    except (subprocess.TimeoutExpired, ValueError):
        answer = {}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if "rendered" in answer:
        rendered: list[str] = answer["rendered"]
        return rendered
    reason = str(answer.get("reason", "takes more time or memory than a template needs"))[:200]
    raise CheckpointError(f"the chat template of this checkpoint {reason}: mend it, or leave chat out")


def _main() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    asked = json.load(sys.stdin)
    for first in ("{{ messages | tojson }}{{ strftime_now('%c') }}", "{{ raise_exception('') }}", "{% if %}"):
        with suppress(Exception):  # what it imports late, for errors too, cannot be imported below
            render_jinja_template([[{"role": "user", "content": ""}]], chat_template=first)
    restrictions.limit(MEMORY, PROCESSOR_SECONDS, LARGEST)
    restrictions.confine()
    try:
        rendered, _ = render_jinja_template(
            asked["chats"], chat_template=asked["template"], add_generation_prompt=True, **asked["tokens"]
        )
        if sum(map(len, rendered)) > LARGEST:
            raise ValueError(f"it writes more than {LARGEST} characters")
        answer = {"rendered": rendered}
    except MemoryError:
        answer = {}
    except Exception as error:
        answer = {"reason": f"cannot be rendered ({type(error).__name__}: {' '.join(str(error).split())[:160]})"}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    _main()
