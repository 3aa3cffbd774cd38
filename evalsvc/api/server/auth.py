"""Who may do what. A route without a scope cannot be built, so nothing is open by being forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from http import HTTPStatus
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from evalsvc.api.server import token_store
from evalsvc.api.server.client_addresses import address_key
from evalsvc.api.server.problems import ProblemError, responses
from evalsvc.api.server.token_store import Bearer
from evalsvc.core.errors import EvalsvcError, InputError, StorageError
from evalsvc.core.observability import logs
from evalsvc.store import audit
from evalsvc.store.audit import Action, Actor
from evalsvc.store.tables import ActorKind, Outcome, Scope

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
LARGEST_BODY = 2**20
MOST_VALUES = 20_000
"""In the JSON of one request."""
READING = {"GET", "HEAD"}
SCHEME = {"token": {"type": "http", "scheme": "bearer", "description": "A token from `evalsvc token create`."}}


def needs(scope: Scope | None, *, shared: bool = False, action: Action | None = None) -> Callable[[Endpoint], Endpoint]:
    """Above a route's function: the scope that a token needs for it; ``None`` opens it to everybody.

    ``shared`` answers are the same whoever asks, and are given to all who ask within half a second. ``action`` is what
    a route that writes records in the audit.
    """

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.evalsvc_scope, endpoint.evalsvc_shared = scope, shared  # type: ignore[attr-defined]
        endpoint.evalsvc_action = action  # type: ignore[attr-defined]
        return endpoint

    return mark


class BoundedRequest(Request):
    """A request whose JSON is refused in one sentence where it is more than a parser can hold."""

    async def json(self) -> Any:
        """The body; what Python does not parse is 422, as what does not fit is.

        It is parsed in the event loop, where many values take long and many bytes do not: they are counted first.
        """
        body = await self.body()
        if body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_VALUES:
            detail = f"the body holds more than {MOST_VALUES} values"
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        try:
            return await super().json()
        except json.JSONDecodeError:
            raise
        except RecursionError:
            detail = "the body is nested too deeply"
        except UnicodeDecodeError:
            detail = "the body is not UTF-8 text"
        except ValueError:
            detail = "the body holds a number of too many digits"
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


class GuardedRoute(APIRoute):
    """A route that looks at the token before it reads anything else of the request."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not hasattr(endpoint, "evalsvc_scope"):
            raise TypeError(f"{path} says no scope: put @needs(Scope...) above {endpoint.__name__}")
        self.scope: Scope | None = endpoint.evalsvc_scope
        self.action: Action = getattr(endpoint, "evalsvc_action", None) or Action.READ
        if self.action is Action.READ and set(options.get("methods") or ()) - READING:
            raise TypeError(f"{path} writes and says no action: add action= to @needs above {endpoint.__name__}")
        if self.scope is not None:
            described = f"{(endpoint.__doc__ or '').strip()}\n\nScope: `{self.scope}`."
            options["openapi_extra"] = {"security": [{"token": []}], "description": described} | (
                options.get("openapi_extra") or {}
            )
            writes = {"POST", "PUT"} & set(options.get("methods") or ())
            usual = responses(401, 403, 422, 429, 503, *((400, 413) if writes else ()))
            options["responses"] = usual | (options.get("responses") or {})
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the guard."""
        handler, scope = super().get_route_handler(), self.scope
        shared, writes = getattr(self.endpoint, "evalsvc_shared", False), self.methods != {"GET"}
        asynchronous = iscoroutinefunction(self.endpoint) or isasyncgenfunction(self.endpoint)  # holds no thread
        if scope is None:
            return _open_to_all(handler) if shared else handler

        async def guarded(plain: Request) -> Response:
            request = BoundedRequest(plain.scope, plain.receive, plain._send)
            state = request.app.state
            request.state.bearer = bearer = await _admit(request, scope, self.action)
            if shared:
                key = request.url.path, request.url.query, request.headers.get("if-none-match")
                answer: Response
                if state.answers.fresh(key):  # which takes no turn
                    answer = await state.answers.get(key, lambda: handler(request))
                else:
                    async with state.turns.turn(bearer.id):
                        answer = await state.answers.get(key, lambda: handler(request))
                return answer
            try:
                with audit.acting(_actor(request)):
                    if asynchronous:
                        return await handler(request)
                    await request.body()  # before the turn: a body that comes slowly holds none
                    async with state.turns.turn(bearer.id):
                        return await handler(request)
            except (ProblemError, EvalsvcError) as error:
                if writes and not isinstance(error, StorageError):
                    await refused(request, self.action, error)
                raise
            finally:
                if writes:
                    state.answers.clear()
                    state.bearers.clear()

        return guarded


def _open_to_all(handler: Callable[[Request], Coroutine[Any, Any, Response]]) -> Callable[..., Any]:
    """A handler of whose answers there is one for everybody, so that strangers do not ask the database by turns."""

    async def answered(request: Request) -> Response:
        answer: Response = await request.app.state.answers.get(request.url.path, lambda: handler(request))
        return answer

    return answered


def router(noun: str) -> APIRouter:
    """A router of guarded routes under ``/api/v1``."""
    return APIRouter(prefix="/api/v1", tags=[noun], route_class=GuardedRoute, max_body_size=LARGEST_BODY)


async def recognized(request: Request) -> Bearer | None:
    """Whose token a request came with, as of now; ``None`` for one that is unknown, revoked or expired."""
    state, secret = request.app.state, request.headers.get("authorization", "").partition(" ")[2]

    async def look_up() -> Bearer | None:
        # By address: whoever tries many tokens waits for themselves alone.
        async with state.lookups.turn(address_key(request.client.host if request.client else "")):
            return await run_in_threadpool(token_store.recognize, state.server.database, secret.strip())

    found: Bearer | None = await state.bearers.get(secret, look_up)
    return found


def _actor(request: Request) -> Actor:
    bearer: Bearer = request.state.bearer
    address = request.client.host if request.client else ""
    return Actor(ActorKind.TOKEN, bearer.name, bearer.id, address, logs.request_id.get())


async def refused(request: Request, action: Action, error: Exception) -> None:
    """Record that a known token was refused an action; the same again is recorded a few times a minute."""
    actor, server = _actor(request), request.app.state.server
    suppressed = request.app.state.refusals.admit((actor.token, action))
    if suppressed is None:
        return
    noun, _, verb = action.partition(".")
    subject = " ".join([noun, *map(str, request.path_params.values())]) if verb else request.url.path

    def write() -> None:
        facts: dict[str, audit.Fact] = {"suppressed": suppressed} if suppressed else {}
        if not isinstance(error, InputError):  # which repeats what was given: the address of a webhook is a secret
            facts["reason"] = str(error)
        with suppress(OperationalError, StorageError), audit.acting(actor), server.database.write() as session:
            audit.record(session, action, subject, facts, outcome=Outcome.REFUSED)

    await run_in_threadpool(write)


async def _admit(request: Request, scope: Scope, action: Action) -> Bearer:
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    challenge = {"www-authenticate": 'Bearer realm="evalsvc"'}
    if kind.lower() != "bearer" or not secret:
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED,
            "a token is needed: send 'Authorization: Bearer evs_...' ('evalsvc token create' makes one)",
            challenge,
        )
    bearer = await recognized(request)
    if bearer is None:
        challenge["www-authenticate"] += ', error="invalid_token"'
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "this token is unknown, revoked or expired", challenge)
    if scope not in bearer.scopes:
        request.state.bearer, error = bearer, forbidden(bearer, scope)
        await refused(request, action, error)
        raise error
    return bearer


def forbidden(bearer: Bearer, scope: Scope, what: str = "this") -> ProblemError:
    """403."""
    return ProblemError(HTTPStatus.FORBIDDEN, f"{what} takes a token of scope {scope}, which {bearer.name!r} has not")


async def _bearer(request: Request) -> Bearer:
    found: Bearer = request.state.bearer
    return found


CurrentToken = Annotated[Bearer, Depends(_bearer)]
"""Who asks, as a parameter of a route."""
