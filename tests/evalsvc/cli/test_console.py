"""Text from outside in a terminal: it is read as written, and does nothing."""

import io

import pytest
from rich.text import Text
from sqlalchemy import update
from typer.testing import CliRunner

from evalsvc.cli import console, progress_bars
from evalsvc.cli.browse import print_scores
from evalsvc.cli.main import app
from evalsvc.evaluation import lifecycle
from evalsvc.store import queries
from evalsvc.store.session import Database
from evalsvc.store.tables import Checkpoint, Evaluation, Gate, Promotion, Score
from tests.dashboards.stores import add_failure, add_gate, fill

HOSTILE = (
    "[/x]",
    "[bold]b[/bold] [link=http://evil.test]l[/link]",
    ":smile: [red]",
    "a\x1b[31mred\x1b]0;title\x07",
    "one\nerror: forged\r\x85two",
    "\u202egnp.exe\u202c \u2066x\u2069 \u200b\ufeff",
    "\\[/] \\",
)


@pytest.fixture
def screen(monkeypatch):
    """What a terminal 200 characters wide gets."""
    made = io.StringIO()
    monkeypatch.setattr(console.out, "_file", made)
    monkeypatch.setattr(console.out, "_width", 200)
    return made


def seen(text):
    return text if text.isprintable() else text.encode("unicode_escape").decode()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_string_is_printed_as_it_is_and_as_one_line_wherever_it_stands(text, screen):
    made = console.table(text, text, "other")
    made.add_row(text, console.styled(text, "green"))
    made.add_row("", console.lines([text]))
    for printed in (text, console.styled(text, "bold"), made):
        console.out.print(printed, soft_wrap=True)
    assert screen.getvalue().count(seen(text)) == 7
    assert screen.getvalue().count("\n") == 9
    console.out.print(Text(text))  # of a Text, Rich itself has dropped some already
    assert all(each.isprintable() or each == "\n" for each in screen.getvalue())


def test_a_bar_shows_a_name_as_it_is(screen, monkeypatch):
    monkeypatch.setattr(progress_bars, "err", console.out)
    monkeypatch.setattr(console.out, "_force_terminal", True)
    monkeypatch.setattr(console.out, "is_interactive", True)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bars.progress_bars() as bars:
        for text in HOSTILE:
            bars.stage(text, 1)(1)
        bars._progress.refresh()
    assert "[/x]" in screen.getvalue()
    assert r"a\x1b[31mred" in screen.getvalue()
    assert "\nerror: forged" not in screen.getvalue()


@pytest.mark.parametrize("command", ["::error::forged", "##[error]forged", "##vso[task.complete]x"])
def test_no_name_is_a_command_to_a_job_where_a_line_is_wrapped(command, screen):
    made = console.table(f"{'x' * 180} {command} {command}", "one")
    made.add_row("1")
    console.out.print(made)
    console.out.print(f"{'x' * 199} {command} a::b {command}")
    for line in screen.getvalue().splitlines():
        assert not line.strip().startswith(("::", "##")), line
    assert "a::b" in screen.getvalue()


@pytest.fixture
def store(home):
    """A store whose names, labels, units, paths, reasons and errors are all hostile; and an evaluation on its queue."""
    database = Database(f"sqlite:///{home.resolve()}/evalsvc.db")
    fill(database, list(HOSTILE), range(0, 2000, 1000), labels=len(HOSTILE), family=HOSTILE[0])
    facts = {
        "seconds": {HOSTILE[0]: 1.0},
        "packages": {HOSTILE[3]: HOSTILE[0]},
        "samples_per_second": 1.0,
        "device": HOSTILE[0],
        "device_name": HOSTILE[3],
        "threads": 1,
        "seed": 1,
        "git_commit": HOSTILE[0],
        "not_applicable": {HOSTILE[0]: HOSTILE[3]},
    }
    with database.write() as session:
        for position, text in enumerate(HOSTILE):
            changed = {"label": text, "quantity": text, "unit": text, "stderr_method": text}
            session.execute(update(Score).where(Score.position == position).values(**changed))
        session.execute(update(Checkpoint).values(path=HOSTILE[3], generator=HOSTILE[0], options={"o": HOSTILE[0]}))
        session.execute(update(Evaluation).values(provenance=facts))
        session.add(
            Promotion(alias=HOSTILE[0], checkpoint_id=1, kind="set", gate_id=None, by=HOSTILE[3], reason=HOSTILE[0])
        )
    for place, text in enumerate(HOSTILE, 1):
        add_failure(database, place, 5000, text)
        add_gate(database, text, 1000)
    lifecycle.retry(database, len(HOSTILE) * 2 + 1)
    return database


def test_no_command_stumbles_over_a_name_or_lets_it_act(store):
    for command in (
        ["leaderboard", "--all"],
        ["compare", f"{HOSTILE[0]}@0", f"{HOSTILE[3]}@1000"],
        *(["show", f"{name}@1000"] for name in HOSTILE),
        ["show", f"{HOSTILE[0]}@5000"],
        ["models"],
        ["checkpoints"],
        ["status", "--limit", "99"],
        ["gate", "history"],
        ["gate", "explain"],
        ["alias", "list"],
        ["alias", "history", HOSTILE[0]],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, (command, done.exception)
        assert all(each.isprintable() or each == "\n" for each in done.output), command
        assert not any(line.startswith("error: forged") for line in done.output.splitlines()), command


def test_a_score_whose_label_is_markup_is_shown_after_it_was_stored(store, screen):
    with store.read() as session:
        rows = queries.scores(session, evaluation=1)
    print_scores(rows, {})
    assert "[/x] ↓" in screen.getvalue() or "[/x] ↑" in screen.getvalue()


def test_a_decision_is_shown_with_its_reasons_as_they_are(store):
    with store.read() as session:
        assert session.query(Gate).count() == len(HOSTILE)
    shown = CliRunner().invoke(app, ["gate", "history"]).stdout
    assert "[/x]" in shown
