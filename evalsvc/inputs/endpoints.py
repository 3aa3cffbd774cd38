"""Client of HTTP endpoints with OpenAI's completions API: vLLM, the llama.cpp server, TGI, and OpenAI."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
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
LONGEST_WAIT = 120.0
"""Seconds between two attempts that a server may ask for by ``Retry-After``; longer waits are an error."""
OF_ONE_REQUEST = {400, 413, 422, 451}
"""Statuses that refuse the content of a request; others are about the key, the address or the server."""
MILLION = 1e6
LARGEST = 64 * 2**20
"""Maximum size of a response in bytes."""


class RefusedError(ModelError):
    """The server responds, but refuses the request; ``reason`` is a line for clients.

    ``of_one`` says that the content of the request was refused: others may be answered.
    """

    def __init__(self, message: str, *, detail: str = "", reason: str = "", of_one: bool = False) -> None:
        super().__init__(message, detail=detail)
        self.reason, self.of_one = reason, of_one


@dataclass(frozen=True)
class Written:
    """A text with its cost: generated tokens, US dollars, and seconds of its request; NaN is unknown.

    ``failure`` is the reason why there is no text, although the server answered.
    """

    text: str
    tokens: float = math.nan
    price: float = math.nan
    seconds: float = math.nan
    failure: str = ""


class Price(BaseModel):
    """Price of a million tokens, in US dollars."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    completion: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


def _plain(url: str) -> str:
    try:
        http_client.Target.parse(url)
    except InputError as error:
        raise ValueError(str(error)) from None
    return url


class Endpoint(BaseModel):
    """Address and model of an endpoint. The API key is read from the environment variable ``key_variable``.

    ``dialect`` says which options beyond OpenAI's the server supports; with ``openai`` they must be neutral.
    ``timeout`` is in seconds, for one request and its response. With a ``price``, the cost of each text is known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, Field(pattern="^https?://"), AfterValidator(_plain)]
    model: Annotated[str, Field(min_length=1)]
    dialect: Literal["vllm", "llama.cpp", "openai"] = "vllm"
    key_variable: str = "OPENAI_API_KEY"
    parallel: Annotated[int, Field(ge=1, le=256)] = 16
    timeout: Annotated[float, Field(gt=0, le=86400)] = 120.0
    price: Price | None = None

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
        """sha256 of everything that affects responses, without keys, timeouts, concurrency and prices."""
        return digest_json(["endpoint", self.url.rstrip("/"), self.model, self.dialect])

    @property
    def called(self) -> str:
        """Name of the endpoint in messages; without its address, since clients read them."""
        return f"the server of model {self.model!r}"

    def write(self, prompt: Prompt, decoding: Decoding, seed: int) -> Written:
        """Generate one text for one prompt, cut before stop strings.

        Raises:
            RefusedError: the server refuses the request.
            ModelError: it did not respond.
        """
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
        chat = decoding.chat or not isinstance(prompt, str)
        more = {"messages": messages_of(prompt, decoding.system)} if chat else {"prompt": prompt}
        answer, seconds = self._post("chat/completions" if chat else "completions", asked | more)
        choice = _choice(answer)
        message = choice.get("message")
        text = (message.get("content") if isinstance(message, dict) else None) if chat else choice.get("text")
        tokens, price = self._cost(answer)
        if not isinstance(text, str):
            return Written("", tokens, price, seconds, f"{self.called} returned no text")
        return Written(decoding.cut(text), tokens, price, seconds)

    def log_likelihood(self, text: str, prompt: str = "") -> tuple[float, int]:
        """Log-likelihood of a text after a prompt in nats, and its number of tokens.

        Spaces at the end of the prompt belong to the text, and so does every token that begins in it. The very first
        token has no probability and does not count.
        """
        start, text = len(prompt.rstrip()), prompt + text
        asked = {"model": self.model, "prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0.0}
        logprobs = _choice(self._post("completions", asked)[0]).get("logprobs") or {}
        values, offsets = logprobs.get("token_logprobs"), logprobs.get("text_offset")
        if not values or not offsets or len(values) != len(offsets) or offsets[0] != 0:
            raise RefusedError(
                f"{self.called} does not return log-probabilities of prompts: use a server that supports echo "
                "with logprobs",
                detail=self.url,
            )
        kept = [
            value
            for value, offset in zip(values, offsets, strict=True)
            if start <= offset < len(text) and value is not None
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

    def _cost(self, answer: Any) -> tuple[float, float]:
        """Generated tokens and price of an answer."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        counts = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
        if self.price is None:
            return counts[1], math.nan
        return counts[1], (counts[0] * self.price.prompt + counts[1] * self.price.completion) / MILLION

    def _post(self, path: str, body: Mapping[str, Any]) -> tuple[Any, float]:
        """The JSON of the answer, and the seconds of the attempt that was answered."""
        headers, key = {"content-type": "application/json"}, os.environ.get(self.key_variable, "").strip()
        if key:
            headers["authorization"] = f"Bearer {key}"

        def hidden(text: str) -> str:  # servers quote wrong keys
            return f"{url}: {text.replace(key, HIDDEN) if key else text}"

        url, content = f"{self.url.rstrip('/')}/{path}", json.dumps(body).encode()
        reason, wait = "", 0.0
        for attempt in range(TRIES):
            if attempt:
                time.sleep(wait or 0.25 * 2**attempt)
            begun, wait = time.perf_counter(), 0.0
            try:
                answer = http_client.run(self._send(url, content, headers))
                if answer.is_success:
                    return json.loads(answer.body), time.perf_counter() - begun
            except http_client.OutboundError as error:
                reason = f"{error} {error.detail}".strip()
            except (ValueError, RecursionError) as error:
                reason = f"not JSON: {error}"
            else:
                reason = f"{answer.status}: {answer.body[:400].decode(errors='replace')}"
                if answer.status not in BUSY:
                    raise RefusedError(
                        f"{self.called} refused the request",
                        detail=hidden(reason),
                        reason=f"{self.called} refused the prompt ({answer.status // 100}xx)",
                        of_one=answer.status in OF_ONE_REQUEST,
                    )
                wait = _seconds(answer.retry_after)
                if wait > LONGEST_WAIT:
                    raise ModelError(
                        f"{self.called} is busy for more than {LONGEST_WAIT:g} s: run the same command again later",
                        detail=hidden(reason),
                    )
        raise ModelError(
            f"{self.called} did not respond in {TRIES} attempts: check that it is running", detail=hidden(reason)
        )

    async def _send(self, url: str, content: bytes, headers: Mapping[str, str]) -> http_client.Answer:
        """Send one request. The operator's files may name any host; proxies of the environment apply."""
        return await http_client.post_anywhere(url, content, headers, seconds=self.timeout, most=LARGEST)


def _choice(answer: Any) -> dict[str, Any]:
    """The first choice of an answer; empty if there is none."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _count(usage: Any, name: str) -> float:
    count = usage.get(name) if isinstance(usage, dict) else None
    fits = isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**53
    return float(count) if fits and count is not None else math.nan


def _seconds(retry_after: str) -> float:
    """Seconds that a header asks to wait, by number or by date; 0 if it asks for none, or cannot be read."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
