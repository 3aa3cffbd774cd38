"""An HTTP endpoint that speaks the completions API of OpenAI: vLLM, the llama.cpp server, TGI, and OpenAI itself."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from evalsvc.core import http_client
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError, ModelError
from evalsvc.core.observability.redaction import HIDDEN
from evalsvc.inputs.decoding_options import Decoding

T = TypeVar("T")
U = TypeVar("U")

TRIES = 5
BUSY = {408, 429, 500, 502, 503, 504}
LARGEST = 64 * 2**20
"""Bytes of an answer."""


class RefusedError(ModelError):
    """The server answers, and will not do what it was asked."""


def _plain(url: str) -> str:
    try:
        http_client.Target.parse(url)
    except InputError as error:
        raise ValueError(str(error)) from None
    return url


class Endpoint(BaseModel):
    """Where a model is served. The API key is in the environment variable that ``key_variable`` names, never in a file.

    ``dialect`` says which options beyond OpenAI's own the server knows; under ``openai`` they must be neutral.
    ``timeout`` is in seconds, for one request with its answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, Field(pattern="^https?://"), AfterValidator(_plain)]
    model: Annotated[str, Field(min_length=1)]
    dialect: Literal["vllm", "llama.cpp", "openai"] = "vllm"
    key_variable: str = "OPENAI_API_KEY"
    parallel: Annotated[int, Field(ge=1, le=256)] = 16
    timeout: Annotated[float, Field(gt=0, le=86400)] = 120.0

    @classmethod
    def read(cls, path: Path) -> Endpoint:
        """From a JSON file."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise InputError(f"{path} does not describe an endpoint: {where}: {first['msg']}") from None
        except OSError as error:
            raise InputError(f"{path} cannot be read as the description of an endpoint ({error.strerror})") from None

    @property
    def digest(self) -> str:
        """sha256 of what is asked and where; keys, time-outs and how many ask at once change no number."""
        return digest_json(["endpoint", self.url.rstrip("/"), self.model, self.dialect])

    @property
    def called(self) -> str:
        """The endpoint in messages, which clients read too: they are told no address."""
        return f"the server of model {self.model!r}"

    def write(self, prompt: str, decoding: Decoding, seed: int) -> str:
        """One text after one prompt, stop strings cut off."""
        asked: dict[str, Any] = {
            "model": self.model,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "max_tokens": decoding.max_tokens,
            "seed": seed % 2**31,
            **self._beyond_openai(decoding),
        }
        if decoding.stop:
            asked["stop"] = list(decoding.stop)
        if decoding.chat:
            system = [{"role": "system", "content": decoding.system}] if decoding.system else []
            asked["messages"] = [*system, {"role": "user", "content": prompt}]
            text = self._choice("chat/completions", asked).get("message", {}).get("content")
        else:
            text = self._choice("completions", asked | {"prompt": prompt}).get("text")
        if not isinstance(text, str):
            raise ModelError(f"{self.called} answered without a text", detail=self.url)
        return decoding.cut(text)

    def log_likelihood(self, text: str) -> tuple[float, int]:
        """Log-likelihood of a text in nats, and over how many tokens; the server's first token has none."""
        asked = {"model": self.model, "prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0.0}
        found = self._choice("completions", asked).get("logprobs") or {}
        values, offsets = found.get("token_logprobs"), found.get("text_offset")
        if not values or not offsets or len(values) != len(offsets) or offsets[0] != 0:
            raise RefusedError(
                f"{self.called} returns no log-probabilities of prompts (echo with logprobs)", detail=self.url
            )
        kept = [
            value for value, offset in zip(values, offsets, strict=True) if offset < len(text) and value is not None
        ]
        return float(sum(kept)), len(kept)

    def each(self, work: Callable[[T], U], items: Iterable[T]) -> list[U]:
        """``work`` on every item, several at once, results in order."""
        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(work, items))

    def _beyond_openai(self, decoding: Decoding) -> dict[str, Any]:
        """What a server would otherwise take from the checkpoint's own defaults."""
        if self.dialect == "vllm":
            return {
                "top_k": decoding.top_k or -1,
                "repetition_penalty": decoding.repetition_penalty,
                "min_p": 0.0,
            }
        if self.dialect == "llama.cpp":
            return {"top_k": decoding.top_k, "repeat_penalty": decoding.repetition_penalty, "min_p": 0.0}
        if decoding.top_k or decoding.repetition_penalty != 1:
            raise InputError(
                f"{self.called} speaks the dialect 'openai', which has neither top_k nor repetition_penalty: omit them"
            )
        return {}

    def _choice(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._post(path, body)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not choices or not isinstance(choices, list) or not isinstance(choices[0], dict):
            raise ModelError(f"{self.called} answered without choices", detail=f"{self.url}: {str(answer)[:400]}")
        choice: dict[str, Any] = choices[0]
        return choice

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        headers, key = {"content-type": "application/json"}, os.environ.get(self.key_variable, "").strip()
        if key:
            headers["authorization"] = f"Bearer {key}"

        def hidden(told: str) -> str:  # servers tell which key was wrong
            return f"{url}: {told.replace(key, HIDDEN) if key else told}"

        url, content = f"{self.url.rstrip('/')}/{path}", json.dumps(body).encode()
        reason = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(0.25 * 2**attempt)
            try:
                answer = http_client.run(self._send(url, content, headers))
                if answer.is_success:
                    return json.loads(answer.body)
            except http_client.OutboundError as error:
                reason = f"{error} {error.detail}".strip()
            except (ValueError, RecursionError) as error:
                reason = f"not JSON: {error}"
            else:
                reason = f"{answer.status}: {answer.body[:400].decode(errors='replace')}"
                if answer.status not in BUSY:
                    raise RefusedError(f"{self.called} refused the request", detail=hidden(reason))
        raise ModelError(
            f"{self.called} gave no usable answer in {TRIES} tries: check that it is up", detail=hidden(reason)
        )

    async def _send(self, url: str, content: bytes, headers: Mapping[str, str]) -> http_client.Answer:
        """One request. A file of the operator's may name any host, and proxies of the environment lead to it."""
        return await http_client.post_anywhere(url, content, headers, seconds=self.timeout, most=LARGEST)
