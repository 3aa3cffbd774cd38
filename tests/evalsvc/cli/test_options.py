"""An option of a command is a field of a request: command line, ``--server``, client and server have the same."""

import inspect
import json

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from evalsvc.api import schemas
from evalsvc.api.client import Client
from evalsvc.api.server.task_handlers import TaskHandlers
from evalsvc.cli import options, remote
from evalsvc.cli.main import app
from evalsvc.evaluation import lifecycle

ONLY_HERE = {
    "gate run": {
        "generator": "a server judges what it has stored and scores no file",
        "option": "as --generator",
        "model": "as --generator",
        "step": "as --generator",
        "model_pattern": "as --generator",
        "step_pattern": "as --generator",
        "stored": "a server judges nothing else",
        "timeout": "a server has its own",
        "report": "reports are files of this machine",
        "device": "a server computes nothing for a gate",
        "batch_size": "as --device",
        "plugin": "the operator installs the plug-ins of a server",
    }
}
"""Options by command that make no sense with ``--server``, and why."""


def commands(group, words=()):
    """Every command below a group by its words."""
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, (*words, name))
        else:
            yield " ".join((*words, name)), each


HERE, THERE = (dict(commands(typer.main.get_command(each))) for each in (app, remote.app))


def described(command):
    """What each parameter is called, holds and says."""
    facts = ("opts", "default", "required", "nargs", "multiple", "min", "max", "help")
    return {
        each.name: [each.type_descriptor.annotation, *(getattr(each, fact, None) for fact in facts)]
        for each in command.params
    }


def test_what_a_server_answers_is_asked_as_on_its_own_machine():
    assert set(THERE) < set(HERE)
    for words, there in THERE.items():
        here, only = described(HERE[words]), ONLY_HERE.get(words, {})
        assert described(there) == {name: each for name, each in here.items() if name not in only}, words
        assert set(only) <= set(here), words


@pytest.mark.parametrize(
    ("command", "request_", "asks"),
    [
        ("submit", schemas.EvaluationOptions, Client.submit),
        ("gate run", schemas.GateOptions, Client.gate),
        ("alias set", schemas.PromoteOptions, Client.promote),
    ],
)
def test_a_field_of_a_request_is_an_option_and_a_parameter_of_the_client(command, request_, asks):
    taken = inspect.signature(asks).parameters
    for name, field in request_.model_fields.items():
        default = taken[name].default
        assert default is inspect.Parameter.empty if field.is_required() else default in (field.default, None), name
    for option in options.options_of(request_):
        for parameters in (HERE[command].params, THERE[command].params):
            (found,) = [each for each in parameters if each.name == option.name]
            assert found.opts == [f"--{option.name.replace('_', '-')}"]
            assert found.help, option.name


def test_the_client_asks_for_every_field_of_an_evaluation_and_the_server_reads_each():
    fields = set(schemas.EvaluationCreate.model_fields)
    assert set(inspect.signature(Client.submit).parameters) - {"self"} == fields
    read = inspect.getsource(TaskHandlers)
    assert [name for name in fields - {"path", "upload"} if f"asked.{name}" not in read] == []
    assert set(lifecycle.Deadlines.model_fields) == set(schemas.Deadlines.model_fields)


class Asked(BaseModel):
    """A request."""

    name: str = Field(description="A name.")
    level: int | None = Field(default=None, ge=1, lt=9, description="A level.")
    seconds: float = Field(default=1.5, gt=0, description="Seconds.")
    tags: dict[str, object] = Field(default={}, description="Tags.")
    quiet_mode: bool = Field(default=False, description="Quiet.")


made = typer.Typer()


@made.command()
@options.takes(Asked)
def ask(asked: Asked, other: str = "") -> None:
    """A command."""
    typer.echo(asked.model_dump_json())


def test_a_command_is_given_the_request_that_its_options_state():
    stated = ["--name", "x", "--level", "8", "--tags", "a=1", "--tags", "b=c", "--quiet-mode", "--other", "y"]
    assert json.loads(CliRunner().invoke(made, stated).stdout) == {
        "name": "x",
        "level": 8,
        "seconds": 1.5,
        "tags": {"a": 1, "b": "c"},
        "quiet_mode": True,
    }


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (["--name", "x", "--level", "9"], "less than or equal to 8"),
        (["--name", "x", "--seconds", "0"], "--seconds: Input should be greater than 0"),
        (["--level", "3"], "--name: Field required"),
        (["--name", "x", "--tags", "a"], "use key=value"),
    ],
)
def test_an_option_that_does_not_fit_its_field_is_named(stated, said):
    done = CliRunner().invoke(made, stated)
    assert said in f"{done.output} {done.exception}"
    assert done.exit_code
