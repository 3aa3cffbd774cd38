"""Client of HTTP endpoints with OpenAI's completions API: vLLM, llama.cpp, ``transformers serve``, TGI, and OpenAI."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from evalsvc.core import http_client
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.core.observability.redaction import HIDDEN
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.endpoint_requests import Pace, RefusedError, ask
from evalsvc.inputs.token_prices import Price, count
from evalsvc.plugins.items import Prompt, messages_of

T = TypeVar("T")
U = TypeVar("U")

LARGEST = 64 * 2**20
"""Maximum size of a response in bytes."""
LENGTH, ITS_OTHER_NAME = "max_tokens", "max_completion_tokens"
"""Names of the limit of tokens: OpenAI's reasoning models refuse the first, and many servers do not know the second."""


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
    dialect: Literal["vllm", "llama.cpp", "transformers", "openai"] = "vllm"
    key_variable: str = "OPENAI_API_KEY"
    parallel: Annotated[int, Field(ge=1, le=256)] = 16
    timeout: Annotated[float, Field(gt=0, le=86400)] = 120.0
    price: Price | None = None
    _pace: Pace = PrivateAttr()
    _length: str = PrivateAttr(LENGTH)

    def model_post_init(self, _context: Any) -> None:
        """Start at full speed."""
        self._pace = Pace(self.parallel)

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
        chat = decoding.chat or not isinstance(prompt, str)
        asked: dict[str, Any] = {
            "model": self.model,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": seed % 2**31,
            **self._beyond_openai(decoding),
            **self._schema(decoding, chat),
            **({"messages": messages_of(prompt, decoding.system)} if chat else {"prompt": prompt}),
        }
        if decoding.stop and not decoding.reasoning_end:  # reasoning may contain them
            asked["stop"] = list(decoding.stop)
        answer, seconds = self._within(decoding.max_tokens, "chat/completions" if chat else "completions", asked)
        text, failure = self._text(_choice(answer), chat, decoding)
        usage = answer.get("usage") if isinstance(answer, dict) else None
        price = math.nan if self.price is None else self.price.of(usage)
        return Written(text, count(usage, "completion_tokens"), price, seconds, failure)

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
        """Map ``work`` over the items concurrently; results are in order. The first error ends all that wait."""
        with ThreadPoolExecutor(self.parallel) as pool:
            try:
                futures = [pool.submit(work, item) for item in items]
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
                return [future.result() for future in futures]
            except BaseException:
                self._pace.ended.set()
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                self._pace.ended.clear()

    def _within(self, tokens: int, path: str, asked: Mapping[str, Any]) -> tuple[Any, float]:
        """The answer to a request whose limit of tokens has the name that the model accepts."""
        name = self._length
        try:
            return self._post(path, {**asked, name: tokens})
        except RefusedError as error:
            if name == ITS_OTHER_NAME or ITS_OTHER_NAME not in error.detail:
                raise
        self._length = ITS_OTHER_NAME
        return self._post(path, {**asked, ITS_OTHER_NAME: tokens})

    def _text(self, choice: Mapping[str, Any], chat: bool, decoding: Decoding) -> tuple[str, str]:
        """The text of an answer without its reasoning, or the reason why there is none."""
        message = choice.get("message") if chat else {"content": choice.get("text")}
        text = message.get("content") if isinstance(message, dict) else None
        if choice.get("finish_reason") == "content_filter":
            return "", f"{self.called} withheld the text by its content filter"
        reasoned = isinstance(message, dict) and (message.get("reasoning_content") or message.get("reasoning"))
        if reasoned and not text:
            return "", f"no answer after the reasoning, within {decoding.max_tokens} tokens"
        if not isinstance(text, str):
            return "", f"{self.called} returned no text"
        answer = decoding.cut(text.lstrip()) if reasoned else decoding.answer(text)
        return ("", decoding.no_answer) if answer is None else (answer, "")

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
        if self.dialect == "transformers":  # it is greedy at every temperature unless it is told to sample
            own = {
                "do_sample": decoding.temperature > 0,
                "top_k": decoding.top_k,
                "repetition_penalty": decoding.repetition_penalty,
            }
            return {"generation_config": json.dumps(own)}
        if decoding.top_k or decoding.repetition_penalty != 1:
            raise InputError(
                f"{self.called} uses the dialect 'openai', which supports neither top_k nor repetition_penalty: "
                "omit them"
            )
        return {}

    def _schema(self, decoding: Decoding, chat: bool) -> dict[str, Any]:
        """The option that makes an answer match a JSON schema."""
        if not decoding.json_schema:
            return {}
        schema = json.loads(decoding.json_schema)
        if self.dialect == "transformers" or (self.dialect == "openai" and not chat):
            raise InputError(
                f"{self.called} uses the dialect {self.dialect!r}, which supports no json_schema"
                + (": omit it" if chat else " without chat: add chat: true")
            )
        if self.dialect == "llama.cpp" and not chat:
            return {"json_schema": schema}
        named = {"name": "answer", "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}

    def _post(self, path: str, body: Mapping[str, Any]) -> tuple[Any, float]:
        """The JSON of the answer, and the seconds of the attempt that was answered."""
        headers, key = {"content-type": "application/json"}, os.environ.get(self.key_variable, "").strip()
        if key:
            headers["authorization"] = f"Bearer {key}"

        def hidden(text: str) -> str:  # servers quote wrong keys
            return f"{url}: {text.replace(key, HIDDEN) if key else text}"

        url, content = f"{self.url.rstrip('/')}/{path}", json.dumps(body).encode()
        return ask(lambda: http_client.run(self._send(url, content, headers)), self.called, hidden, self._pace)

    async def _send(self, url: str, content: bytes, headers: Mapping[str, str]) -> http_client.Answer:
        """Send one request. The operator's files may name any host; proxies of the environment apply."""
        return await http_client.post_anywhere(url, content, headers, seconds=self.timeout, most=LARGEST)


def _choice(answer: Any) -> dict[str, Any]:
    """The first choice of an answer; empty if there is none."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}
