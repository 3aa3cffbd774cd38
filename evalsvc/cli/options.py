"""Command-line options generated from the requests of the API: one list of fields for command line,
client and server.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from evalsvc.api.schemas import CliOption
from evalsvc.core.errors import InputError

Command = TypeVar("Command", bound=Callable[..., Any])
KINDS: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "object": list[str],
    "array": list[str],
}
"""The type of an option, by the JSON type of its field."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Samples per batch.")]
PluginFiles = Annotated[list[Path] | None, typer.Option("--plugin", help="Python file that registers plug-ins.")]
Device = Annotated[str, typer.Option(help="torch device; 'auto' uses a GPU if there is one.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Skip images and audio files that cannot be read, and count them.")
]
Rerun = Annotated[bool, typer.Option("--rerun", help="Compute again, superseding stored scores.")]


def takes(request: type[BaseModel], *, without: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Replace the parameter ``asked`` of a command by one option per field of a request, and pass the request to the
    command.

    Raises:
        InputError: when the command runs, a value does not fit its field.
    """

    def decorate(command: Command) -> Command:
        options = {option.name: option for option in options_of(request, without)}

        @functools.wraps(command)
        def run(*args: Any, **given: Any) -> Any:
            values = {name: given.pop(name) for name in options if name in given}
            return command(*args, asked=_read(request, values), **given)

        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            parameters += options.values() if parameter.name == "asked" else [parameter]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run  # type: ignore[return-value]

    return decorate


def options_of(request: type[BaseModel], without: tuple[str, ...] = ()) -> Iterator[inspect.Parameter]:
    """A command parameter for each field of a request, including those of nested requests."""
    properties = request.model_json_schema()["properties"]
    for name, field in request.model_fields.items():
        if name in without:
            continue
        if inner := _within(field):
            yield from options_of(inner)
        else:
            yield _parameter(name, field, properties[name])


def _parameter(name: str, field: FieldInfo, schema: dict[str, Any]) -> inspect.Parameter:
    """The option for the JSON schema of a field; the first of several forms is used. A mapping is given as key=value
    pairs, and a list by repeating the option.
    """
    stated = _stated(field)
    form = _form(schema)
    kind = KINDS[form["type"]]
    default = None if kind == list[str] else schema.get("default", stated.default)
    annotation: Any = kind if kind is bool or default is not None else kind | None
    made = typer.Option(_flag(name, field), help=stated.help or field.description, **_bounds(form))
    order = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(_variable(name, field), order, default=default, annotation=Annotated[annotation, made])


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = schema.get("anyOf", [schema])[0]
    return first


def _bounds(form: dict[str, Any]) -> dict[str, Any]:
    over = form.get("exclusiveMaximum")
    least = form.get("minimum", form.get("exclusiveMinimum"))  # what is equal to the latter is refused in _read
    return {"min": least, "max": form.get("maximum") if over is None else over - 1}


def _within(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _stated(field: FieldInfo) -> CliOption:
    inner = [each for part in get_args(field.annotation) for each in getattr(part, "__metadata__", ())]
    return next((each for each in [*field.metadata, *inner] if isinstance(each, CliOption)), CliOption())


def _flag(name: str, field: FieldInfo) -> str:
    return _stated(field).name or f"--{name.replace('_', '-')}"


def _variable(name: str, field: FieldInfo) -> str:
    return _flag(name, field).removeprefix("--").replace("-", "_")


def _read(request: type[BaseModel], values: dict[str, Any]) -> BaseModel:
    """The request given by options. Omitted options, and empty texts that are invalid, have the default."""
    fields: dict[str, Any] = {}
    properties = request.model_json_schema()["properties"]
    for name, field in request.model_fields.items():
        if inner := _within(field):
            fields[name] = _read(inner, values)
            continue
        value = values.get(_variable(name, field))
        if isinstance(value, list):
            fields[name] = parse_options(value) if _form(properties[name])["type"] == "object" else value
        elif value is not None and (value != "" or not _form(properties[name]).get("minLength")):
            fields[name] = value
    try:
        return request.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise InputError(f"{_flag(name, request.model_fields[name])}: {first['msg']}") from None


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """Parse ``key=value`` pairs; a value that is valid JSON is parsed, any other is a string.

    Raises:
        InputError: a pair has no key, a key occurs twice, or a number is not finite.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"invalid option {pair!r}: use key=value")
        if key in options:
            raise InputError(f"option {key!r} is given twice: remove one of them")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
        try:
            json.dumps(options[key], allow_nan=False)
        except ValueError:
            raise InputError(f"option {pair!r} is not a finite number") from None
    return options
