"""What is exported for spreadsheets is data to them."""

import ast
import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import evalsvc
from evalsvc import dashboards
from evalsvc.cli.main import app
from evalsvc.core.settings import Settings
from evalsvc.core.spreadsheets import as_csv, guarded
from evalsvc.store.session import Database
from tests.evalsvc.gates.store import add_checkpoint, add_scores

BEGINNINGS = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "＝",
    "＋",
    "－",
    "＠",
    "﹦",
    " =",
    "\xa0-",
    "\ufeff=",
    "\u200b@",
    "\0=",
)


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_a_formula_in_a_cell_or_a_heading_is_text(begin):
    cell = f'{begin}HYPERLINK("http://evil","x")'
    assert list(csv.reader(io.StringIO(as_csv([{cell: cell}]), newline=""))) == [[f"'{cell}"], [f"'{cell}"]]


@given(st.text(), st.sampled_from(BEGINNINGS), st.sampled_from(";\t\r\n"))
def test_no_text_becomes_a_formula_whatever_a_spreadsheet_cuts_it_at(text, begin, separator):
    written = guarded(f"{text}{separator}{begin}x")
    cells = str(written).replace("\t", ";").replace("\r", ";").replace("\n", ";").split(";")
    assert not any(cell.lstrip("\0\ufeff\u200b \xa0").startswith(tuple("=+-@＝＋－＠﹦")) for cell in cells[1:])


@pytest.mark.parametrize("text", ["-2+3", "-1_000", "-inf", "+nan", "-１", "- 1", "-1.5 s", "+cmd|' /C calc'!A1"])
def test_text_that_only_resembles_a_number_is_guarded(text):
    assert guarded(text) == f"'{text}"


def test_numbers_stay_numbers_and_all_else_is_as_it_was():
    row = {"a": -1.5, "b": "-1.5", "c": "+2e-3", "d": None, "e": "x=1", "f": -7, "g": "a-b", "h": "a;b", "i": True}
    assert as_csv([row], ["z"]).splitlines() == ["z,a,b,c,d,e,f,g,h,i", ",-1.5,-1.5,+2e-3,,x=1,-7,a-b,a;b,True"]


def test_a_cell_is_guarded_by_what_is_written_whatever_its_type():
    assert guarded(Path("=1+1")) == "'=1+1"
    assert guarded(["=1"]) == "['=1']"


def test_no_other_module_writes_csv():
    """One place guards formulas, so another one that writes CSV would not."""
    for package in (evalsvc, dashboards):
        for file in Path(str(package.__file__)).parent.rglob("*.py"):
            text = file.read_text()
            for node in ast.walk(ast.parse(text)) if "csv" in text else ():
                named = node.attr if isinstance(node, ast.Attribute) else ""
                assert named not in ("writer", "DictWriter") or file.name == "spreadsheets.py", file
                assert named != "to_csv", file
                assert not (isinstance(node, ast.ImportFrom) and node.module == "csv"), file


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
