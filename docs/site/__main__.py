"""Build the documentation site into ``build/site/html``: ``python -m docs.site``. A warning is an error."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from docs.site.commands import commands_page
from docs.site.design import design_page
from docs.site.files import policies_page, settings_page, suites_page
from docs.site.http_api import http_page
from docs.site.metric_table import metrics_page
from docs.site.notebook import notebook_page
from docs.site.python_api import python_page
from docs.site.sources import ROOT, copy_sources

GENERATED = {
    "design/index.md": design_page,
    "reference/commands.md": commands_page,
    "reference/suites.md": suites_page,
    "reference/policies.md": policies_page,
    "reference/http.md": http_page,
    "reference/python.md": python_page,
    "reference/metrics.md": metrics_page,
    "reference/settings.md": settings_page,
    "tutorials/notebook.md": notebook_page,
}
COLORS = re.compile(r"\x1b\[[0-9;]*m")


def assemble(folder: Path) -> None:
    """Write every page of the site, and its configuration, into an empty ``folder``."""
    copy_sources(folder / "pages")
    for name, page in GENERATED.items():
        path = folder / "pages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page())
    shutil.copyfile(Path(__file__).with_name("zensical.toml"), folder / "zensical.toml")


def build(folder: Path) -> tuple[int, str]:
    """Let Zensical make HTML of an assembled folder; its exit code, and what it said."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(folder / "zensical.toml")]
    built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return built.returncode, COLORS.sub("", built.stdout)


def make(folder: Path) -> tuple[int, str]:
    """Build the whole site in ``folder``; the exit code, and what Zensical said."""
    shutil.rmtree(folder, ignore_errors=True)
    assemble(folder)
    return build(folder)


def main() -> int:
    """Build the whole site; the exit code."""
    code, messages = make(ROOT / "build" / "site")
    sys.stderr.write(messages)
    return code


if __name__ == "__main__":
    sys.exit(main())
