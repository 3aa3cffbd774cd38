"""Rendering of chat templates, which are programs of a checkpoint's author, in a sandboxed process."""

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
"""Bytes of memory in addition to Python and the library, and of all rendered text."""


def render(template: str, chats: Sequence[Sequence[Mapping[str, str]]], tokens: Mapping[str, object]) -> list[str]:
    """Render each chat with the template, ready for an answer; ``tokens`` are the special tokens that it may use.

    Raises:
        CheckpointError: the template is invalid, rejects a chat, or exceeds a limit.
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
        output, _ = process.communicate(asked, timeout=SECONDS)
        answer = json.loads(output) if output else {}
    except (subprocess.TimeoutExpired, ValueError):
        answer = {}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if "rendered" in answer:
        rendered: list[str] = answer["rendered"]
        return rendered
    reason = str(answer.get("reason", "exceeds the limits of time or memory for templates"))[:200]
    system = any(message["role"] == "system" for chat in chats for message in chat)
    way_out = "omit the system message, or repair it" if system else "repair it, or omit 'chat'"
    raise CheckpointError(f"the chat template of this checkpoint {reason}: {way_out}")


def _main() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    asked = json.load(sys.stdin)
    for first in ("{{ messages | tojson }}{{ strftime_now('%c') }}", "{{ raise_exception('') }}", "{% if %}"):
        with suppress(Exception):  # lazy imports, including those for errors, are impossible below
            render_jinja_template([[{"role": "user", "content": ""}]], chat_template=first)
    restrictions.limit(MEMORY, PROCESSOR_SECONDS, LARGEST)
    restrictions.confine()
    try:
        rendered, _ = render_jinja_template(
            asked["chats"], chat_template=asked["template"], add_generation_prompt=True, **asked["tokens"]
        )
        if sum(map(len, rendered)) > LARGEST:
            raise ValueError(f"it renders more than {LARGEST} characters")
        answer = {"rendered": rendered}
    except MemoryError:
        answer = {}
    except Exception as error:
        answer = {"reason": f"cannot be rendered ({type(error).__name__}: {' '.join(str(error).split())[:160]})"}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    _main()
