"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer.main

from docs.site.tables import code, table
from evalsvc.cli.main import app

INTRODUCTION = """# Command line

Every command, with its arguments and options. Reading commands print tables, or one JSON document with `--json`. Data
goes to standard output, messages to standard error. A mistake of the user ends with exit code 2 and one sentence.
"""


def commands_page() -> str:
    """Markdown of every command that is not hidden, under the headings of ``evalsvc --help``."""
    parts, heading = [INTRODUCTION], ""
    for name, command in _shown(typer.main.get_command(app)):
        if command.rich_help_panel != heading:
            heading = command.rich_help_panel
            parts.append(f"## {heading}\n")
        parts += _sections(command, ("evalsvc", name))
    return "\n".join(parts)


def _shown(command: Any) -> list[tuple[str, Any]]:
    """The commands of a group, those of one heading together."""
    inner = [(name, each) for name, each in getattr(command, "commands", {}).items() if not each.hidden]
    headings = list(dict.fromkeys(each.rich_help_panel for _, each in inner))
    return sorted(inner, key=lambda item: headings.index(item[1].rich_help_panel))


def _sections(command: Any, words: tuple[str, ...]) -> Iterator[str]:
    inner = _shown(command)
    if not inner or command.invoke_without_command:
        yield from _section(command, words)
    for name, each in inner:
        yield from _sections(each, (*words, name))


def _section(command: Any, words: tuple[str, ...]) -> Iterator[str]:
    context = command.context_class(command, info_name=" ".join(words))
    yield f"### {' '.join(words)}\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    yield f"```text\n{' '.join([*words, *command.collect_usage_pieces(context)])}\n```\n"
    records = [each.get_help_record(context) for each in command.params if each.name != "help"]
    if rows := [(code(names), help_) for names, help_ in filter(None, records)]:
        yield table(("argument or option", "meaning"), rows)
