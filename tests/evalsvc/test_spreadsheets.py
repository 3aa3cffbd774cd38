"""What is exported for spreadsheets is data to them."""

import csv
import io

import pandas as pd
import pytest
from typer.testing import CliRunner

from evalsvc.cli.main import app
from evalsvc.settings import Settings
from evalsvc.spreadsheets import FORMULA, as_csv
from evalsvc.store.session import Database
from tests.evalsvc.gates.store import add_checkpoint, add_scores


@pytest.mark.parametrize("begin", FORMULA)
def test_a_formula_in_a_cell_or_a_heading_is_text(begin):
    cell = f'{begin}HYPERLINK("http://evil","x")'
    assert list(csv.reader(io.StringIO(as_csv([{cell: cell}]), newline=""))) == [[f"'{cell}"], [f"'{cell}"]]


def test_numbers_stay_numbers_and_all_else_is_as_it_was():
    row = {"a": -1.5, "b": "-1.5", "c": "+2e-3", "d": None, "e": "x=1", "f": "-1.5 s", "g": "a-b", "h": " =1"}
    assert as_csv([row], ["z"]).splitlines() == ["z,a,b,c,d,e,f,g,h", ",-1.5,-1.5,+2e-3,,x=1,'-1.5 s,a-b, =1"]


def test_export_writes_every_column_and_no_formula(home, tmp_path):
    database = Database(Settings(home=home).database)
    out = tmp_path / "out.csv"
    assert CliRunner().invoke(app, ["export", str(out)]).exit_code == 0
    (columns,) = csv.reader(io.StringIO(out.read_text()))
    assert {"model", "step", "label", "value", "created_at"} <= set(columns)
    with database.write() as session:
        for step, model in enumerate(("=1+2", "@SUM(1)", "-x", "flow")):
            add_scores(session, add_checkpoint(session, model, step), {"distance": -1.5})
    assert CliRunner().invoke(app, ["export", str(out)]).exit_code == 0
    frame = pd.read_csv(out)
    assert list(frame.columns) == columns
    assert sorted(frame["model"]) == ["'-x", "'=1+2", "'@SUM(1)", "flow"]
    assert frame["value"].tolist() == [-1.5] * 4
