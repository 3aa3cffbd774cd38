"""The application: routes, middleware, problems, and the sender of webhooks."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from evalsvc.api import schemas
from evalsvc.api.server import leaderboard_stream, problems, webhook_delivery
from evalsvc.api.server.auth import SCHEME
from evalsvc.api.server.bind_address import LOCAL
from evalsvc.api.server.middleware import Guards
from evalsvc.api.server.monitoring import Monitor
from evalsvc.api.server.progress_feed import ProgressFeed
from evalsvc.api.server.request_coalescing import Coalesced
from evalsvc.api.server.routes import (
    aliases,
    audit,
    evaluations,
    files,
    gates,
    health,
    items,
    models,
    ratings,
    scores,
    suites,
    tokens,
    workers,
)
from evalsvc.api.server.routes import webhooks as hooks
from evalsvc.api.server.shares import Shares
from evalsvc.api.server.state import Server
from evalsvc.api.server.token_store import Bearer
from evalsvc.core.observability import tracing
from evalsvc.core.observability.rate_limit import RateLimit

NOUNS = (
    models,
    aliases,
    suites,
    evaluations,
    scores,
    ratings,
    items,
    gates,
    files,
    workers,
    tokens,
    hooks,
    audit,
    health,
)


def create_app(server: Server, hosts: Collection[str] = LOCAL) -> FastAPI:
    """Create the API for an open server that accepts these host names."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sender = asyncio.create_task(
            webhook_delivery.keep_delivering(server.database, server.settings.webhook_private_hosts, server.keys)
        )
        yield
        sender.cancel()
        server.task_processes.close()

    app = FastAPI(
        title="evalsvc",
        version=importlib.metadata.version("evalsvc"),
        summary="Scores of generative models with their uncertainty, leaderboards, release gates.",
        lifespan=lifespan,
        telemetry={"tracing": tracing.enabled(), "metrics": False, "logs": False, "operation_spans": False},
        openapi_url=None,  # served by a guarded route of ours instead
    )
    app.state.server, app.state.monitor = server, Monitor(server.database)
    app.state.answers, app.state.bearers = (
        Coalesced[Response](0.5, leaderboard_stream.weight),
        Coalesced[Bearer | None](1.0),
    )
    settings = server.settings
    app.state.feed = ProgressFeed(partial(evaluations.read, server))
    app.state.streams = Shares("event streams", settings.streams, settings.streams_per_token, 0)
    app.state.pieces = Shares("leaderboard parts", leaderboard_stream.AT_ONCE, 1, 512)
    # Together less than the number of threads (40), so that no kind of work can occupy all of them.
    app.state.uploading = Shares("uploads", 16, 4, 16)
    app.state.turns, app.state.lookups = Shares("requests", 12, 2, 512), Shares("unknown tokens", 2, 1, 512)
    app.state.refusals = RateLimit(10, 60)
    for noun in NOUNS:
        app.include_router(noun.router)
    problems.install(app)
    app.add_middleware(Guards, hosts=hosts, monitor=app.state.monitor, per_address=settings.connections_per_address)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components = schema.setdefault("components", {})
        components["securitySchemes"] = SCHEME
        for model in (schemas.FieldError, schemas.Problem):
            components["schemas"][model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"]["Problem"].pop("$defs")
        app.openapi_schema = schema
    return app.openapi_schema
