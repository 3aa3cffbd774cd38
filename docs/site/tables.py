"""Markdown tables, and tables of what a pydantic model may hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]


def code(text: object) -> str:
    """Text as code in a cell of a table."""
    return f"`{text}`".replace("|", "\\|")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, without columns that hold nothing; a line break within a cell becomes a space."""
    if not rows:
        return ""
    filled = [place for place in range(len(head)) if any(row[place] for row in rows)]
    head, rows = [head[place] for place in filled], [[row[place] for place in filled] for row in rows]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in lines) + "\n"


def schema_sections(schema: Schema, level: str = "##") -> Iterator[str]:
    """A section with a table for each model of a JSON schema, the outermost first."""
    definitions = schema.get("$defs", {})
    outer = {str(schema["title"]): schema} if schema.get("properties") else {}
    for name, each in {**outer, **definitions}.items():
        yield from schema_section(name, each, level)


def schema_section(name: str, schema: Schema, level: str = "##") -> Iterator[str]:
    """Heading, description and table of one model."""
    yield f"{level} {name}\n"
    if description := schema.get("description"):
        yield f"{plain(description)}\n"
    if "enum" in schema:
        yield f"One of {', '.join(code(value) for value in schema['enum'])}.\n"
    if properties := schema.get("properties"):
        required = schema.get("required", ())
        yield table(
            ("key", "type", "default", "meaning"),
            [(code(key), kind(each), _default(key, each, required), plain(each.get("description", "")))
             for key, each in properties.items()],
        )  # fmt: skip


def kind(schema: Schema) -> str:
    """The type that a schema asks for, in a few words; models are links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return " or ".join(code(json.dumps(value)) for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(kind(each) for each in schema[several]))
    if schema.get("type") == "array":
        items = schema.get("items") or next(iter(schema.get("prefixItems", ())), {})
        return f"list of {kind(items)}"
    if schema.get("type") == "object":
        values = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
        return next((f"mapping to {kind(each)}" for each in values if isinstance(each, Mapping) and each), "mapping")
    return str(schema.get("format", schema.get("type", "any"))) + _range(schema)


def _range(schema: Schema) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    return f", {', '.join(limits)}" if limits else ""


def _default(key: str, schema: Schema, required: Sequence[str]) -> str:
    if key in required:
        return "required"
    return code(json.dumps(schema["default"], ensure_ascii=False)) if "default" in schema else ""


def plain(text: str) -> str:
    """A docstring without its cross-references."""
    for role in (":class:", ":func:", ":mod:", ":data:"):
        text = text.replace(f"{role}`~", "`").replace(f"{role}`", "`")
    return text.replace("``", "`").replace("|", "\\|")
