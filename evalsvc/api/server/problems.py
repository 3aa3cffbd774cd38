"""Errors as RFC 9457 problem documents: one sentence for people, a type for programs, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from evalsvc.api import schemas
from evalsvc.core.errors import (
    AmbiguousError,
    EvalsvcError,
    ForbiddenError,
    InputError,
    ModelError,
    QuotaError,
    StorageError,
    WithdrawnError,
    first_line,
)
from evalsvc.core.observability import logs
from evalsvc.store.faults import sentence

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger("evalsvc.api.server")


class ProblemError(Exception):
    """Raised by a route to respond with a problem."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def not_found(detail: object) -> ProblemError:
    """404 Not Found."""
    return ProblemError(HTTPStatus.NOT_FOUND, str(detail))


def no_checkpoint(error: InputError) -> Exception:
    """404 for an unknown name, 409 with the choices for an ambiguous one."""
    return error if isinstance(error, AmbiguousError) else not_found(error)


def answer(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: list[schemas.FieldError] | None = None,
    *,
    title: str = "",
    choices: Sequence[str] = (),
) -> Response:
    """A problem as a response; its type is derived from its title, by default that of the status."""
    title = title or HTTPStatus(status).phrase
    problem = schemas.Problem(
        type=f"urn:evalsvc:problem:{title.lower().replace(' ', '-')}",
        title=title,
        status=status,
        detail=detail,
        errors=errors or [],
        choices=list(choices),
    )
    return Response(problem.model_dump_json(), status, dict(headers or {}), MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI descriptions of the problems of a route."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Convert every error of the app to a problem."""

    @app.exception_handler(ProblemError)
    async def problem(_: Request, error: ProblemError) -> Response:
        return answer(error.status, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        errors = [_field_error(each) for each in error.errors()]
        first = f"{errors[0].pointer.lstrip('/')}: {errors[0].detail}" if errors else "invalid request"
        return answer(HTTPStatus.UNPROCESSABLE_ENTITY, first, errors=errors)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        detail = error.detail
        if error.status_code == HTTPStatus.NOT_FOUND:
            detail = "unknown path: see /api/v1/openapi.json"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"{request.method} is not allowed here"
        return answer(error.status_code, detail, error.headers)

    @app.exception_handler(EvalsvcError)
    async def refused(_: Request, error: EvalsvcError) -> Response:
        if isinstance(error, StorageError):
            log.error("%s", error)
            return _unavailable(str(error))
        if isinstance(error, QuotaError):
            later = {"retry-after": str(error.retry_after)}
            return answer(HTTPStatus.TOO_MANY_REQUESTS, str(error), later, title="Quota Exceeded")
        if isinstance(error, AmbiguousError):
            return answer(HTTPStatus.CONFLICT, str(error), title="Ambiguous Name", choices=error.choices)
        if isinstance(error, ForbiddenError):
            return answer(HTTPStatus.FORBIDDEN, str(error))
        status = HTTPStatus.CONFLICT if isinstance(error, WithdrawnError) else HTTPStatus.UNPROCESSABLE_ENTITY
        return answer(status, f"{'the model is at fault: ' if isinstance(error, ModelError) else ''}{error}")

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return answer(HTTPStatus.BAD_REQUEST, "the connection ended before the request was complete")

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeout)
    async def database(_: Request, error: Exception) -> Response:
        # Without the statement and its parameters, which contain data of clients.
        log.error("%s", sentence(error) if isinstance(error, OperationalError) else first_line(error))
        return _unavailable("the database is unavailable: try again")

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        log.exception("unexpected", exc_info=error)
        # This handler runs outside of the middleware that adds the request id to all other responses.
        headers = {"x-request-id": logs.request_id.get()}
        return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal server error: see the server's log", headers)


def _unavailable(detail: str) -> Response:
    return answer(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"retry-after": "2"})


def _field_error(error: Mapping[str, Any]) -> schemas.FieldError:
    reason = {"extra_forbidden": "unknown field", "missing": "this field is required"}.get(error["type"])
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in error["loc"])
    return schemas.FieldError(pointer=pointer, detail=reason or str(error["msg"]).removeprefix("Value error, "))
