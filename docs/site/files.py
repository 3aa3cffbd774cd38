"""The references of files that users write, suites and policies, and of the environment's variables."""

from __future__ import annotations

from docs.site.tables import code, plain, schema_sections, table
from evalsvc.api.server.state import ServerSettings
from evalsvc.core.settings import Settings
from evalsvc.gates.policy import json_schema
from evalsvc.inputs.suites import SHIPPED, Suite

SUITES = """# Suites

A suite is a YAML file that says what is sampled, extracted and measured. An unknown key is an error. [The
tutorial](../tutorials/own-suite.md) writes one step by step; `evalsvc suite validate FILE` checks one.
"""
POLICIES = """# Gate policies

A policy is a YAML file that says what a release must hold. An unknown key, or a key given twice, is an error. [The
guide](../guides/gates.md) explains how it is judged; `evalsvc gate init` writes a first one, and `evalsvc gate
schema` prints the JSON Schema for editors.
"""
SETTINGS = """# Environment variables

A variable that is set and empty, or misspelt, is an error. The [guide to the HTTP
API](../guides/api.md#settings-of-the-server) and the [guide to deployment](../guides/deploy.md) explain those that
an operator sets.
"""


def suites_page() -> str:
    """Markdown of the keys of a suite, and of every suite that is shipped."""
    shipped = [
        f"### {path.stem}\n\n```yaml\n{path.read_text().strip()}\n```\n" for path in sorted(SHIPPED.glob("*.yaml"))
    ]
    return "\n".join([SUITES, *schema_sections(Suite.model_json_schema()), "## Shipped suites\n", *shipped])


def policies_page() -> str:
    """Markdown of the keys of a policy."""
    return "\n".join([POLICIES, *schema_sections(json_schema())])


def settings_page() -> str:
    """Markdown of every variable that a process reads."""
    parts = [SETTINGS]
    for title, settings in (("Every process", Settings), ("The server", ServerSettings)):
        rows = [
            (code(f"EVALSVC_{name.upper()}"), _value(field.get_default()), plain(field.description or ""))
            for name, field in settings.model_fields.items()
        ]
        parts += [f"## {title}\n", table(("variable", "default", "meaning"), rows)]
    return "\n".join(parts)


def _value(default: object) -> str:
    """A default as code; nothing where it is empty."""
    shown = ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return code(shown) if default is not None and shown else ""
