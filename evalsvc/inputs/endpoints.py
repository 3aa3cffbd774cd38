"""Client of HTTP endpoints with OpenAI's completions API: vLLM, the llama.cpp server, TGI, and OpenAI."""

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
from evalsvc.plugins.items import Prompt, messages_of

T = TypeVar("T")
U = TypeVar("U")

TRIES = 5
BUSY = {408, 429, 500, 502, 503, 504}
LARGEST = 64 * 2**20
"""Maximum size of a response in bytes."""


class RefusedError(ModelError):
    """The server responds, but refuses the request."""


def _plain(url: str) -> str:
    try:
        http_client.Target.parse(url)
    except InputError as error:
        raise ValueError(str(error)) from None
    return url


class Endpoint(BaseModel):
    """Address and model of an endpoint. The API key is read from the environment variable ``key_variable``.

    ``dialect`` says which options beyond OpenAI's the server supports; with ``openai`` they must be neutral.
    ``timeout`` is in seconds, for one request and its response.
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
        """Read a JSON file."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise InputError(f"invalid endpoint file {path}: {where}: {first['msg']}") from None
        except OSError as error:
            raise InputError(f"cannot read endpoint file {path} ({error.strerror})") from None

    @property
    def digest(self) -> str:
        """sha256 of everything that affects responses, without keys, timeouts and concurrency."""
        return digest_json(["endpoint", self.url.rstrip("/"), self.model, self.dialect])

    @property
    def called(self) -> str:
        """Name of the endpoint in messages; without its address, since clients read them."""
        return f"the server of model {self.model!r}"

    def write(self, prompt: Prompt, decoding: Decoding, seed: int) -> str:
        """Generate one text for one prompt, cut before stop strings."""
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
        if decoding.chat or not isinstance(prompt, str):
            asked["messages"] = messages_of(prompt, decoding.system)
            text = self._choice("chat/completions", asked).get("message", {}).get("content")
        else:
            text = self._choice("completions", asked | {"prompt": prompt}).get("text")
        if not isinstance(text, str):
            raise ModelError(f"{self.called} returned no text", detail=self.url)
        return decoding.cut(text)

    def log_likelihood(self, text: str) -> tuple[float, int]:
        """Log-likelihood of a text in nats, and its number of tokens without the first, which has no probability."""
        asked = {"model": self.model, "prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0.0}
        logprobs = self._choice("completions", asked).get("logprobs") or {}
        values, offsets = logprobs.get("token_logprobs"), logprobs.get("text_offset")
        if not values or not offsets or len(values) != len(offsets) or offsets[0] != 0:
            raise RefusedError(
                f"{self.called} does not return log-probabilities of prompts: use a server that supports echo "
                "with logprobs",
                detail=self.url,
            )
        kept = [
            value for value, offset in zip(values, offsets, strict=True) if offset < len(text) and value is not None
        ]
        return float(sum(kept)), len(kept)

    def each(self, work: Callable[[T], U], items: Iterable[T]) -> list[U]:
        """Map ``work`` over the items concurrently; results are in order."""
        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(work, items))

    def _beyond_openai(self, decoding: Decoding) -> dict[str, Any]:
        """Options for which a server would otherwise use the checkpoint's own defaults."""
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
                f"{self.called} uses the dialect 'openai', which supports neither top_k nor repetition_penalty: "
                "omit them"
            )
        return {}

    def _choice(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._post(path, body)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not choices or not isinstance(choices, list) or not isinstance(choices[0], dict):
            raise ModelError(f"{self.called} returned no choices", detail=f"{self.url}: {str(answer)[:400]}")
        choice: dict[str, Any] = choices[0]
        return choice

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        headers, key = {"content-type": "application/json"}, os.environ.get(self.key_variable, "").strip()
        if key:
            headers["authorization"] = f"Bearer {key}"

        def hidden(text: str) -> str:  # servers quote wrong keys
            return f"{url}: {text.replace(key, HIDDEN) if key else text}"

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
            f"{self.called} did not respond in {TRIES} attempts: check that it is running", detail=hidden(reason)
        )

    async def _send(self, url: str, content: bytes, headers: Mapping[str, str]) -> http_client.Answer:
        """Send one request. The operator's files may name any host; proxies of the environment apply."""
        return await http_client.post_anywhere(url, content, headers, seconds=self.timeout, most=LARGEST)
