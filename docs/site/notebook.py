"""The notebook of the tutorials: executed by ``python -m docs.site.notebook [OUT]``, and a page of the site."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from docs.site.sources import ROOT

NOTEBOOK = ROOT / "docs" / "tutorials" / "notebook.ipynb"
SHOWN = ("text/html", "image/png", "text/plain")
"""What of an output is kept, the best first."""
Cell = dict[str, Any]


def executed(notebook: Cell) -> Cell:
    """The notebook with the outputs that its cells have now, one after the other in one fresh IPython shell.

    Raises:
        RuntimeError: a cell raised; the error that it names is the cause.
    """
    from IPython.core.displayhook import CapturingDisplayHook
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from traitlets.config import Config

    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    cells = []
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            with capture_output() as captured:
                shell.display_trap.hook = CapturingDisplayHook(shell=shell, outputs=shell.display_pub.outputs)
                result = shell.run_cell(source)
            if not result.success:
                raise RuntimeError(f"cell {number} of the notebook failed") from (
                    result.error_in_exec or result.error_before_exec
                )
            cell = cell | {"execution_count": None, "outputs": _outputs(captured)}
        cells.append(cell)
    return notebook | {"cells": cells}


def _outputs(captured: Any) -> list[Cell]:
    """Standard output and displayed values in the form of a notebook; each value in its best form, and as text."""
    stream = [{"output_type": "stream", "name": "stdout", "text": captured.stdout}] if captured.stdout else []
    shown = []
    for output in captured.outputs:
        best = next(kind for kind in SHOWN if kind in output.data)
        data = {kind: output.data[kind] for kind in (best, "text/plain") if kind in output.data}
        shown.append({"output_type": "display_data", "metadata": {}, "data": data})
    return stream + shown


def notebook_page() -> str:
    """Markdown of the notebook as it is stored, outputs included."""
    return "\n\n".join(_shown(cell) for cell in json.loads(NOTEBOOK.read_text())["cells"]) + "\n"


def _shown(cell: Cell) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *(_output(output) for output in cell["outputs"])])


def _output(output: Cell) -> str:
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    data = {kind: "".join(value) for kind, value in output["data"].items()}
    if "text/html" in data:
        # An empty line would end the block of HTML, and Markdown would read the rest.
        return "<div>\n" + re.sub(r"\n\s*\n", "\n", data["text/html"]).strip() + "\n</div>"
    if "image/png" in data:
        return f'<img alt="output" src="data:image/png;base64,{data["image/png"].strip()}">'
    return f"```text\n{data['text/plain'].rstrip()}\n```"


def main(out: Path) -> None:
    """Execute the notebook on an empty store and write it, with its outputs, to ``out``."""
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"EVALSVC_HOME": home, "IPYTHONDIR": f"{home}/ipython"}
        done = executed(json.loads(NOTEBOOK.read_text()))
    out.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOK)
