"""A typed client of the HTTP API. It depends only on the API schemas.

>>> client = Client("https://evals.example.com", token="evs_...")           # doctest: +SKIP
>>> run = client.submit(path="/checkpoints/flow/step_4000.safetensors", generator="flow", suite="digits@1")
>>> client.wait(run.id).scores
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from evalsvc.api import schemas
from evalsvc.core.environment import variable

Answer = TypeVar("Answer", bound=BaseModel)
LONG = 180.0
"""Timeout in seconds of requests that make the server load a checkpoint, which itself stops after 120 seconds."""
_BOARDS = TypeAdapter(list[schemas.Board])
ATTEMPTS = 4
"""Number of tries of an idempotent request if the server is unavailable or busy."""
LONGEST_PAUSE = 30.0
"""Maximum seconds of a Retry-After that the client waits; a longer one, such as for a quota, fails at once."""


class ClientError(Exception):
    """The server refused a request or could not be reached; the message is one sentence.

    ``status`` is the HTTP status, 0 if the server could not be reached. For an ambiguous name it is 409, and
    ``problem.choices`` are unambiguous names.
    """

    def __init__(self, detail: str, status: int = 0, problem: schemas.Problem | None = None) -> None:
        super().__init__(detail)
        self.status, self.problem = status, problem


class Client:
    """A client of one server. ``server`` and ``token`` default to ``EVALSVC_SERVER`` and ``EVALSVC_TOKEN``."""

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        address = server or variable("EVALSVC_SERVER") or ""
        if not address.startswith(("http://", "https://")):
            raise ClientError(f"invalid server {address!r}: pass a URL, or set EVALSVC_SERVER")
        secret = token or variable("EVALSVC_TOKEN") or ""
        if not secret:
            raise ClientError("no token: pass one, or set EVALSVC_TOKEN (create one with 'evalsvc token create')")
        self.server = address.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self.server}/api/v1",
            headers={"authorization": f"Bearer {secret}", "user-agent": "evalsvc-client"},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            follow_redirects=False,  # the token must not be sent to another server
            transport=transport,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def about(self) -> schemas.About:
        """The server's version, and the permissions of this token."""
        return self._ask(schemas.About, "GET", f"{self.server}/api/v1")

    def models(self) -> Iterator[schemas.Model]:
        """The models, by name."""
        return self._pages(schemas.Model, "/models")

    def checkpoints(self, model: str | None = None) -> Iterator[schemas.Checkpoint]:
        """Checkpoints, newest first."""
        return self._pages(schemas.Checkpoint, "/checkpoints", model=model)

    def checkpoint(self, name: str) -> schemas.Checkpoint:
        """The checkpoint that a model@step, model, alias or digest refers to."""
        return next(self._pages(schemas.Checkpoint, "/checkpoints", name=name))

    def suites(self) -> Iterator[schemas.Suite]:
        """Suites available by name."""
        return self._pages(schemas.Suite, "/suites")

    def references(self) -> Iterator[schemas.Reference]:
        """Registered references."""
        return self._pages(schemas.Reference, "/references")

    def workers(self) -> Iterator[schemas.Worker]:
        """Running worker processes."""
        return self._pages(schemas.Worker, "/workers")

    def upload(self, file: Path) -> schemas.Upload:
        """Upload a checkpoint file; evaluations refer to it by its digest."""
        with file.open("rb") as body:
            answer = self._send("POST", "/uploads", once=True, params={"name": file.name}, content=body, timeout=LONG)
        return _read(schemas.Upload, answer)

    def submit(
        self,
        *,
        path: str | Path | None = None,
        upload: str | None = None,
        checkpoint: str | None = None,
        endpoint: str | None = None,
        generator: str | None = None,
        options: dict[str, Any] | None = None,
        model: str | None = None,
        step: int | None = None,
        suite: str | dict[str, Any],
        reference: str | None = None,
        seed: int | None = None,
        priority: int = 10,
        deadlines: schemas.Deadlines | None = None,
        rerun: bool = False,
        skip_bad: bool = False,
    ) -> schemas.Evaluation:
        """Submit an evaluation. Submitting the same evaluation again returns the existing one. Options:
        ``schemas.EvaluationCreate``.
        """
        try:
            asked = schemas.EvaluationCreate(
                path=None if path is None else str(path),
                upload=upload,
                checkpoint=checkpoint,
                endpoint=endpoint,
                generator=generator,
                options=options or {},
                model=model,
                step=step,
                suite=suite,
                reference=reference,
                seed=seed,
                priority=priority,
                deadlines=deadlines or schemas.Deadlines(),
                rerun=rerun,
                skip_bad=skip_bad,
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ClientError(f"{where}: {first['msg']}".lstrip(": ").replace("Value error, ", ""), 422) from None
        # Servers refuse fields that they do not know; an older server takes a request that leaves out new ones.
        body = asked.model_dump(mode="json", exclude_defaults=True)
        # Idempotent, unless the evaluation is to be computed again.
        return self._ask(schemas.Evaluation, "POST", "/evaluations", once=rerun, json=body, timeout=LONG)

    def evaluations(self, *statuses: str) -> Iterator[schemas.Evaluation]:
        """Evaluations, newest first; ``status`` filters them."""
        return self._pages(schemas.Evaluation, "/evaluations", status=statuses or None)

    def evaluation(self, id: int) -> schemas.EvaluationDetail:
        """One evaluation with its scores."""
        return self._ask(schemas.EvaluationDetail, "GET", f"/evaluations/{id}")

    def cancel(self, id: int) -> schemas.Evaluation:
        """Cancel an evaluation."""
        return self._ask(schemas.Evaluation, "POST", f"/evaluations/{id}/cancel")

    def retry(self, id: int) -> schemas.Evaluation:
        """Retry a failed or canceled evaluation."""
        return self._ask(schemas.Evaluation, "POST", f"/evaluations/{id}/retry", once=True)

    def events(self, id: int) -> Iterator[schemas.Evaluation]:
        """Yield the evaluation after each change until it has ended; an interrupted stream is resumed."""
        attempt = 0
        while True:
            try:
                with self._http.stream("GET", f"/evaluations/{id}/events", timeout=60.0) as answer:
                    if answer.is_error:
                        answer.read()
                        raise _refused(answer)
                    for line in answer.iter_lines():
                        if line.startswith("data:"):
                            now = schemas.Evaluation.model_validate_json(line.removeprefix("data:"))
                            yield now
                            if now.ended:
                                return
                            attempt = 0
                broken = httpx.TransportError("the event stream ended before the evaluation")
            except httpx.TransportError as error:
                broken = error
            attempt += 1
            if attempt == ATTEMPTS:
                raise self._unreached(broken) from broken
            time.sleep(_pause(attempt - 1, None))

    def wait(self, id: int, timeout: float | None = None) -> schemas.EvaluationDetail:
        """Wait until the evaluation has ended, with any status, and return it.

        Raises:
            ClientError: it has not ended after ``timeout`` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            now = self.evaluation(id)
            if now.ended:
                return now
            if end is not None and time.monotonic() >= end:
                raise ClientError(f"evaluation {id} is still {now.status} after {timeout:g} seconds")
            time.sleep(1.0 if end is None else max(0.0, min(1.0, end - time.monotonic())))

    def scores(
        self,
        suite: str | None = None,
        model: str | None = None,
        step: int | None = None,
        label: str | None = None,
        *,
        digest: str | None = None,
        configuration: str | None = None,
    ) -> Iterator[schemas.Score]:
        """Current scores, newest first; digests may be shortened to 8 or more digits."""
        which = {"digest": digest, "configuration": configuration}
        return self._pages(schemas.Score, "/scores", suite=suite, model=model, step=step, label=label, **which)

    def leaderboard(
        self, suite: str | None = None, metric: str | None = None, which: str = "latest", reference: str = "sampled"
    ) -> list[schemas.Board]:
        """Models ranked by one score, one board per protocol; for references like this one, or on this (``fixed``)."""
        asked = _given(suite=suite, metric=metric, which=which, reference=reference)
        answer = self._send("GET", "/leaderboard", params=asked)
        try:
            return _BOARDS.validate_json(answer.content)
        except ValidationError:
            raise _unexpected(answer) from None

    def ratings(self, suite: str | None = None) -> schemas.Ratings:
        """Ratings by people's votes, the agreement of raters, and rates of people and judges together."""
        return self._ask(schemas.Ratings, "GET", "/ratings", params=_given(suite=suite))

    def compare(self, a: str, b: str, suite: str | None = None, *, label: str | None = None) -> schemas.Comparison:
        """Differences between two checkpoints, b minus a, of all scores or of the one with a label, such as a slice."""
        asked = _given(a=a, b=b, suite=suite, label=label)
        return self._ask(schemas.Comparison, "GET", "/comparison", params=asked)

    def items(
        self,
        checkpoint: str,
        of: str | None = None,
        limit: int = 50,
        *,
        suite: str | None = None,
        sort: str = "worst",
        by: str | None = None,
        cursor: str | None = None,
    ) -> schemas.ItemListing:
        """Samples of a checkpoint from the worst value, or the ``best``; ``next`` of the answer is the next page's
        ``cursor``.
        """
        asked = _given(checkpoint=checkpoint, of=of, limit=limit, suite=suite, sort=sort, by=by, cursor=cursor)
        return self._ask(schemas.ItemListing, "GET", "/items", params=asked)

    def compare_items(
        self, a: str, b: str, of: str | None = None, limit: int = 10, *, suite: str | None = None
    ) -> schemas.ItemComparison:
        """Items that got worse and better between two checkpoints, b minus a."""
        asked = _given(a=a, b=b, of=of, limit=limit, suite=suite)
        return self._ask(schemas.ItemComparison, "GET", "/comparison/items", params=asked)

    def sample(self, evaluation: int, sample: int) -> bytes:
        """Download a kept sample: UTF-8 text, PNG or WAV."""
        return self._send("GET", f"/evaluations/{evaluation}/samples/{sample}").content

    def artifact(self, id: int) -> bytes:
        """Download the file of an artifact."""
        return self._send("GET", f"/artifacts/{id}").content

    def gate(
        self,
        policy: str | Path | dict[str, Any],
        candidate: str | None = None,
        *,
        seed: int | None = None,
        shadow: bool = False,
        warn_only: bool = False,
    ) -> schemas.GateDetail:
        """Judge stored scores under a policy: a file, its text, or its mapping. Never retried, because each decision is
        recorded.
        """
        body = policy.read_text() if isinstance(policy, Path) else policy
        asked = _given(policy=body, candidate=candidate, seed=seed, shadow=shadow, warn_only=warn_only)
        return self._ask(schemas.GateDetail, "POST", "/gates", once=True, json=asked, timeout=LONG)

    def gates(self, model: str | None = None, suite: str | None = None) -> Iterator[schemas.Gate]:
        """Gate decisions, newest first."""
        return self._pages(schemas.Gate, "/gates", model=model, suite=suite)

    def aliases(self) -> Iterator[schemas.Alias]:
        """Every alias, by name."""
        return self._pages(schemas.Alias, "/aliases")

    def promote(
        self, alias: str, checkpoint: str, gate: int | None = None, *, reason: str | None = None
    ) -> schemas.Alias:
        """Point an alias to a checkpoint: by a gate that it passed, or as admin, with a reason if the alias is
        protected.
        """
        asked = _given(checkpoint=checkpoint, gate=gate, reason=reason)
        return self._ask(schemas.Alias, "PUT", _alias(alias), json=asked)

    def promotions(self, alias: str) -> Iterator[schemas.Promotion]:
        """The moves of an alias, newest first."""
        return self._pages(schemas.Promotion, f"{_alias(alias)}/history")

    def protect(self, alias: str, policy: str | Path | dict[str, Any]) -> schemas.Protection:
        """Pin a policy to an alias, as admin: a file, its text, or its mapping."""
        body = policy.read_text() if isinstance(policy, Path) else policy
        return self._ask(
            schemas.Protection, "PUT", f"{_alias(alias)}/protection", once=True, json={"policy": body}, timeout=LONG
        )

    def protection(self, alias: str) -> schemas.Protection:
        """The policy whose decisions alone may move an alias."""
        return self._ask(schemas.Protection, "GET", f"{_alias(alias)}/protection")

    def unprotect(self, alias: str) -> None:
        """End the protection of an alias, as admin."""
        self._send("DELETE", f"{_alias(alias)}/protection", once=True)

    def _pages(self, kind: type[Answer], path: str, **params: Any) -> Iterator[Answer]:
        cursor = None
        while True:
            page = self._send("GET", path, params=_given(**params, cursor=cursor)).json()
            yield from map(kind.model_validate, page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    def _ask(self, kind: type[Answer], method: str, path: str, *, once: bool = False, **request: Any) -> Answer:
        return _read(kind, self._send(method, path, once=once, **request))

    def _send(self, method: str, path: str, *, once: bool = False, **request: Any) -> httpx.Response:
        """Send a request; retry an idempotent one while the server is unavailable or busy."""
        attempts = 1 if once else ATTEMPTS
        for attempt in range(attempts):
            last = attempt == attempts - 1
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                if last:
                    raise self._unreached(error) from error
                time.sleep(_pause(attempt, None))
                continue
            if answer.is_success:
                return answer
            pause = _pause(attempt, answer.headers.get("retry-after"))
            if last or answer.status_code not in (429, 502, 503, 504) or pause > LONGEST_PAUSE:
                raise _refused(answer)
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _unreached(self, error: Exception) -> ClientError:
        return ClientError(f"cannot reach {self.server} ({error or type(error).__name__})")


def _read(kind: type[Answer], answer: httpx.Response) -> Answer:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError:
        raise _unexpected(answer) from None


def _unexpected(answer: httpx.Response) -> ClientError:
    return ClientError(
        f"unexpected response from {answer.url}: client and server versions may differ", answer.status_code
    )


def _alias(name: str) -> str:
    return f"/aliases/{quote(name, safe='')}"


def _refused(answer: httpx.Response) -> ClientError:
    try:
        problem = schemas.Problem.model_validate_json(answer.content)
    except ValidationError:
        return ClientError(f"{answer.url} answered {answer.status_code}", answer.status_code)
    return ClientError(problem.detail, answer.status_code, problem)


def _pause(attempt: int, asked: str | None) -> float:
    return float(asked[:9]) if asked and asked.isdecimal() else 0.25 * 2.0**attempt


def _given(**params: Any) -> dict[str, Any]:
    return {key: value for key, value in params.items() if value is not None}
