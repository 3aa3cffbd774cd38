"""The reference of the HTTP API, from its OpenAPI document."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.site.tables import Schema, code, kind, plain, schema_section, table
from evalsvc.api.server.app import create_app
from evalsvc.api.server.state import Server, ServerSettings
from evalsvc.core.settings import Settings

INTRODUCTION = """# HTTP API

Every route, with what it takes and answers. `GET /api/v1/openapi.json` of a server is the same as a document for
tools. A request carries its token in `Authorization: Bearer evs_...`; errors are problem documents (RFC 9457). [The
guide](../guides/api.md) says how to start a server and who may do what.
"""
METHODS = ("get", "post", "put", "delete", "patch")


def http_page() -> str:
    """Markdown of every route and every model that travels."""
    document = _openapi()
    routes = [line for path, item in document["paths"].items() for line in _routes(path, item)]
    models = document["components"]["schemas"]
    shown = [line for name in sorted(models) for line in schema_section(name, models[name], "###")]
    return "\n".join([INTRODUCTION, "## Routes\n", *routes, "## Models\n", *shown])


def _openapi() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        server = Server.open(Settings(home=Path(home)), ServerSettings())
        try:
            return create_app(server).openapi()
        finally:
            server.task_processes.close()
            server.database.engine.dispose()


def _routes(path: str, item: Schema) -> Iterator[str]:
    for method in METHODS:
        if method in item:
            yield from _route(f"{method.upper()} {path}", item[method])


def _route(title: str, route: Schema) -> Iterator[str]:
    yield f"### {title}\n"
    yield plain(route.get("description", route["summary"])) + "\n"
    parameters = [
        (code(each["name"]), each["in"], kind(each.get("schema", {})), plain(each.get("description", "")))
        for each in route.get("parameters", ())
    ]
    yield table(("parameter", "in", "type", "meaning"), parameters)
    if body := route.get("requestBody"):
        yield f"Body: {_contents(body)}.\n"
    answers = route["responses"].items()
    errors = ", ".join(code(status) for status, each in sorted(answers) if "Problem" in _contents(each))
    good = [(status, each) for status, each in answers if "Problem" not in _contents(each)]
    for status, each in good:
        answer = _contents(each) or "no content"
        yield f"Answers {code(status)}: {answer}." + (f" Errors: {errors}.\n" if each is good[-1][1] else "\n")


def _contents(message: Schema) -> str:
    """The models of a body, by media type."""
    contents = message.get("content", {})
    return ", ".join(f"{kind(each.get('schema', {}))} ({code(media)})" for media, each in contents.items())
