"""Built-in judges: a served language model, and recorded human preferences."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from evalsvc.builtin.judge_prompts import filled, require_fields
from evalsvc.core.digests import digest_json, digest_path
from evalsvc.core.errors import InputError, ModelError
from evalsvc.core.files.regular_files import open_regular
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.server_file import open_endpoint
from evalsvc.plugins.interfaces import Answer, JudgeInfo

TEMPLATE = """Two assistants answered the same request. Decide whose answer is better: more correct, more fluent,
more useful. The order in which they are shown means nothing.

[Request]
{prompt}

[Answer A]
{first}

[Answer B]
{second}

Say briefly why, and end with one line that is exactly "VERDICT: A", "VERDICT: B" or "VERDICT: TIE"."""
_VERDICT = re.compile(r"^\W*VERDICT:\W*(A|B|TIE)\W*$", re.IGNORECASE | re.MULTILINE)
_MEANING: dict[str, Answer] = {"A": "first", "B": "second", "TIE": "tie"}


class ServedJudge:
    """The plug-in ``llm-judge``: a chat model behind ``endpoint``.

    ``endpoint`` is the JSON file of an openai-compatible generator or ``endpoint:NAME`` of the server file. Decoding is
    greedy. ``template`` is a text with ``{prompt}``, ``{first}`` and ``{second}``; the last verdict in an answer
    counts.
    """

    def __init__(self, device: torch.device, *, endpoint: str, template: str = TEMPLATE, max_tokens: int = 512) -> None:
        require_fields("judge 'llm-judge'", template, ("prompt", "first", "second"))
        self._endpoint, self._template = open_endpoint(endpoint), template
        self._decoding = Decoding(chat=True, temperature=0, max_tokens=max_tokens)
        facts = [self._endpoint.url, self._endpoint.model, template, max_tokens]
        if self._endpoint.dialect != "vllm":  # judgments from before dialects counted keep their protocol
            facts.append(self._endpoint.dialect)
        self.info = JudgeInfo(
            f"llm-judge {self._endpoint.model}", digest_json(facts), frozenset({self._endpoint.model})
        )

    def compare(self, prompt: str, first: str, second: str) -> Answer:
        """Send one question to the server."""
        asked = filled(self._template, {"prompt": prompt, "first": first, "second": second})
        written = self._endpoint.write(asked, self._decoding, 0)
        if written.failure:
            raise ModelError(written.failure)
        verdicts = _VERDICT.findall(written.text)
        return _MEANING[verdicts[-1].upper()] if verdicts else "unparsed"


class Preferences:
    """The plug-in ``preferences``: human preferences from a JSONL of objects ``prompt, a, b, winner`` (a, b or tie).

    A pair with several judgments gets the majority, or a tie if they are split; a pair without judgments is unparsed.
    """

    def __init__(self, device: torch.device, *, path: str) -> None:
        file = Path(path)
        self._votes: dict[tuple[str, str, str], int] = {}
        try:
            with open_regular(file) as opened:
                lines = opened.read().decode("utf-8-sig").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read preferences {file} ({error})") from None
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                vote = {"a": 1, "b": -1, "tie": 0}[row["winner"]]
                prompt, a, b = (str(row[name]) for name in ("prompt", "a", "b"))
            except (ValueError, KeyError, TypeError, RecursionError):
                raise InputError(
                    f"{file}, line {number} has no prompt, a, b and winner (a, b or tie) as a JSON object"
                ) from None
            for key, sign in (((prompt, a, b), 1), ((prompt, b, a), -1)):
                self._votes[key] = self._votes.get(key, 0) + sign * vote
        self.info = JudgeInfo("preferences", digest_path(file))

    def compare(self, prompt: str, first: str, second: str) -> Answer:
        """The majority of the judgments of these two answers, in either order."""
        votes = self._votes.get((prompt, first, second))
        return "unparsed" if votes is None else "first" if votes > 0 else "second" if votes < 0 else "tie"
