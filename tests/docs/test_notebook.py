"""The notebook of the tutorials runs, and shows what its stored outputs show."""

import json
import subprocess
import sys

from docs.site.notebook import NOTEBOOK
from tests.docs.pages import ROOT


def outputs(notebook):
    """The kinds of each cell's outputs."""
    return [[sorted(output.get("data", ["text"])) for output in cell.get("outputs", ())] for cell in notebook["cells"]]


def test_the_notebook_runs_and_its_outputs_are_of_the_stored_kinds(tmp_path):
    # In a process of its own: a shell of IPython changes hooks of the process for good.
    out = tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "docs.site.notebook", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stored = json.loads(NOTEBOOK.read_text())
    assert outputs(json.loads(out.read_text())) == outputs(stored)
    assert sum(map(len, outputs(stored))) >= 5
