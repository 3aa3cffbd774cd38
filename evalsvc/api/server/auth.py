"""Authorization. A route without a declared scope cannot be created, so no route is open by mistake."""

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
"""Maximum number of values in the JSON of one request."""
READING = {"GET", "HEAD"}
SCHEME = {"token": {"type": "http", "scheme": "bearer", "description": "A token from `evalsvc token create`."}}


def needs(scope: Scope | None, *, shared: bool = False, action: Action | None = None) -> Callable[[Endpoint], Endpoint]:
    """Declare the scope that a route requires; ``None`` opens it to everyone.

    The responses of ``shared`` routes are the same for all clients and are reused for half a second. ``action`` is the
    audit action of a route that writes.
    """

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.evalsvc_scope, endpoint.evalsvc_shared = scope, shared  # type: ignore[attr-defined]
        endpoint.evalsvc_action = action  # type: ignore[attr-defined]
        return endpoint

    return mark


class BoundedRequest(Request):
    """A request that rejects JSON which exceeds the limits of the parser."""

    async def json(self) -> Any:
        """The parsed body; unparsable JSON is 422, like an invalid one.

        It is parsed in the event loop, where many values take long but many bytes do not, so the values are counted
        first.
        """
        body = await self.body()
        if body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_VALUES:
            detail = f"the body has more than {MOST_VALUES} values"
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
            detail = "the body contains a number with too many digits"
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


class GuardedRoute(APIRoute):
    """A route that checks the token before it reads anything else of the request."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not hasattr(endpoint, "evalsvc_scope"):
            raise TypeError(f"{path} does not declare a scope: put @needs(Scope...) above {endpoint.__name__}")
        self.scope: Scope | None = endpoint.evalsvc_scope
        self.action: Action = getattr(endpoint, "evalsvc_action", None) or Action.READ
        if self.action is Action.READ and set(options.get("methods") or ()) - READING:
            raise TypeError(
                f"{path} writes but does not declare an action: add action= to @needs above {endpoint.__name__}"
            )
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
        """The handler, wrapped by the authorization check."""
        handler, scope = super().get_route_handler(), self.scope
        shared, writes = getattr(self.endpoint, "evalsvc_shared", False), self.methods != {"GET"}
        asynchronous = iscoroutinefunction(self.endpoint) or isasyncgenfunction(
            self.endpoint
        )  # does not occupy a thread
        if scope is None:
            return _open_to_all(handler) if shared else handler

        async def guarded(plain: Request) -> Response:
            request = BoundedRequest(plain.scope, plain.receive, plain._send)
            state = request.app.state
            request.state.bearer = bearer = await _admit(request, scope, self.action)
            if shared:
                key = request.url.path, request.url.query, request.headers.get("if-none-match")
                answer: Response
                if state.answers.fresh(key):  # does not take a turn
                    answer = await state.answers.get(key, lambda: handler(request))
                else:
                    async with state.turns.turn(bearer.id):
                        answer = await state.answers.get(key, lambda: handler(request))
                return answer
            try:
                with audit.acting(_actor(request)):
                    if asynchronous:
                        return await handler(request)
                    await request.body()  # before the turn: a slowly sent body must not occupy one
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
    """A handler whose response is the same for everyone, cached so that unauthenticated clients cannot load the
    database.
    """

    async def answered(request: Request) -> Response:
        answer: Response = await request.app.state.answers.get(request.url.path, lambda: handler(request))
        return answer

    return answered


def router(noun: str) -> APIRouter:
    """A router of guarded routes under ``/api/v1``."""
    return APIRouter(prefix="/api/v1", tags=[noun], route_class=GuardedRoute, max_body_size=LARGEST_BODY)


async def recognized(request: Request) -> Bearer | None:
    """The owner of a request's token at this moment; ``None`` if the token is unknown, revoked or expired."""
    state, secret = request.app.state, request.headers.get("authorization", "").partition(" ")[2]

    async def look_up() -> Bearer | None:
        # By address: a client that tries many tokens delays only itself.
        async with state.lookups.turn(address_key(request.client.host if request.client else "")):
            return await run_in_threadpool(token_store.recognize, state.server.database, secret.strip())

    found: Bearer | None = await state.bearers.get(secret, look_up)
    return found


def _actor(request: Request) -> Actor:
    bearer: Bearer = request.state.bearer
    address = request.client.host if request.client else ""
    return Actor(ActorKind.TOKEN, bearer.name, bearer.id, address, logs.request_id.get())


async def refused(request: Request, action: Action, error: Exception) -> None:
    """Record that a known token was refused an action; repetitions are recorded at most a few times per minute."""
    actor, server = _actor(request), request.app.state.server
    suppressed = request.app.state.refusals.admit((actor.token, action))
    if suppressed is None:
        return
    noun, _, verb = action.partition(".")
    subject = " ".join([noun, *map(str, request.path_params.values())]) if verb else request.url.path

    def write() -> None:
        facts: dict[str, audit.Fact] = {"suppressed": suppressed} if suppressed else {}
        if not isinstance(error, InputError):  # it repeats the request, and the URL of a webhook is a secret
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
            "a token is required: send 'Authorization: Bearer evs_...' (create one with 'evalsvc token create')",
            challenge,
        )
    bearer = await recognized(request)
    if bearer is None:
        challenge["www-authenticate"] += ', error="invalid_token"'
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "invalid token: it is unknown, revoked or expired", challenge)
    if scope not in bearer.scopes:
        request.state.bearer, error = bearer, forbidden(bearer, scope)
        await refused(request, action, error)
        raise error
    return bearer


def forbidden(bearer: Bearer, scope: Scope, what: str = "this") -> ProblemError:
    """403 Forbidden."""
    return ProblemError(
        HTTPStatus.FORBIDDEN, f"{what} requires scope {scope}, which token {bearer.name!r} does not have"
    )


async def _bearer(request: Request) -> Bearer:
    found: Bearer = request.state.bearer
    return found


CurrentToken = Annotated[Bearer, Depends(_bearer)]
"""The token of the request, as a parameter of a route."""
