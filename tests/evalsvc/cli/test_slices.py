"""Scores are not drowned in their slices: the worst ten of each are printed, JSON has all."""

import json

from sqlalchemy import select
from typer.testing import CliRunner

from benchmarks.items import fill
from evalsvc.cli import console
from evalsvc.cli.main import app
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation, Score


def test_show_lists_the_worst_ten_slices_under_their_score(home, monkeypatch):
    monkeypatch.setattr(console.out, "width", 200)
    database = Database(f"sqlite:///{home.resolve()}/evalsvc.db")
    fill(database, Artifacts(home / "artifacts"), items=20, draws=1, scorers=2)
    with database.write() as session:
        run = session.scalars(select(Evaluation.id).order_by(Evaluation.id.desc())).first()
        facts = {"quantity": "wer", "n": 20, "direction": "lower", "unit": "share", "stderr_method": "none"}
        facts |= {"evaluation_id": run, "slice_of": "wer", "details": {}, "protocol_id": "mean"}
        values = {f"wer[lang={place:02}]": place / 100 for place in range(14)} | {"wer[worst]": 0.13}
        session.add_all(
            Score(label=label, value=value, position=10 + place, **facts)
            for place, (label, value) in enumerate(values.items())
        )
    expected = ["wer[worst]", *(f"wer[lang={place:02}]" for place in range(13, -1, -1))]
    shown = CliRunner().invoke(app, ["show", "reader@2"]).stdout
    words = [line.split()[1] for line in shown.splitlines() if line.startswith("│ ")]
    assert words[:12] == ["wer", *expected[:10], "asr_failed"]
    assert "wer: the worst 10 of 15 slices; --json lists all" in shown
    [document] = json.loads(CliRunner().invoke(app, ["show", "reader@2", "--json"]).stdout)["evaluations"]
    by_label = {each["label"]: each for each in document["scores"]}
    assert [each["label"] for each in by_label["wer"]["slices"]] == expected
    assert "slices" not in by_label["cer"]
