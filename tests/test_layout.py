import re
from pathlib import Path

from benchmarks.layout import Layout, table

ROOT = Path(__file__).parents[1]
CONTRACT = '[[tool.importlinter.contracts]]\ntype = "layers"\nlayers = ["evalsvc.top", "(evalsvc.low)", "metrics"]\n'
FILES = {
    "pyproject.toml": CONTRACT,
    "evalsvc/__init__.py": "from evalsvc.top import a\n",
    "evalsvc/loose.py": "def f():\n    import evalsvc.top.a\n",
    "evalsvc/top/__init__.py": "",
    "evalsvc/top/a.py": "from .b import x\nfrom evalsvc.low import c\nfrom metrics.m import y\n",
    "evalsvc/top/b.py": "x = 1\n",
    "evalsvc/low/__init__.py": "",
    "evalsvc/low/c.py": "from evalsvc.top.b import x\n" + "".join(f"line{i} = {i}\n" for i in range(301)),
    "metrics/__init__.py": "",
    "metrics/m.py": "import evalsvc.loose\ny = 1\n" + "".join(f"line{i} = {i}\n" for i in range(6)),
}


def write(root: Path) -> Path:
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_rooms_floors_arrows_and_circles_are_counted(tmp_path):
    found = Layout(write(tmp_path)).figures()
    assert (found["rooms"], found["loose modules"], found["modules"]) == (4, 1, 8)
    assert (found["arrows"], found["arrows up"]) == (5, 1), "low imports top"
    assert (found["circles of rooms"], found["floors"]) == (1, 1), "loose, top, low and metrics are one circle"
    assert (found["circles of modules"], found["rooms without a declared layer"]) == (1, 1)
    assert found["imports that stay in a room, %"] == round(100 / 6, 1)
    assert (found["modules over 300 lines"], found["lines that stand twice (6 or more in a row)"]) == (1, 12)


def test_a_folder_and_the_link_to_it_are_one_room(tmp_path):
    before = Layout(write(tmp_path)).figures()
    (tmp_path / "evalsvc" / "metrics").symlink_to("../metrics")
    assert Layout(tmp_path).figures() == before
    assert "| rooms | 4 |" in table({"now": before})


def test_every_path_that_contributing_names_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:evalsvc|metrics|dashboards|alembic|tests|benchmarks|docs|examples)/[\w./-]*)`", text))
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_rooms_import_only_from_below_and_nothing_is_loose():
    figures = Layout(ROOT).figures()
    assert figures["rooms"] == 14, "twelve in evalsvc/, and the two that are links"
    nothing = ("loose modules", "arrows up", "circles of rooms", "rooms without a declared layer")
    assert {name: figures[name] for name in nothing} == dict.fromkeys(nothing, 0)


def test_what_is_long_is_listed_with_the_reason():
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## What is longer")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    layout = Layout(ROOT)
    long = {each.rpartition(":")[0] for each in layout.long_modules() + layout.long_functions()}
    assert listed == {re.sub(r"^evalsvc/(?=metrics/|dashboards/)", "", name) for name in long}


def test_processes_of_python_import_nothing_from_the_folder_that_somebody_is_in():
    starts = {
        f"{path.relative_to(ROOT)}: {start}"
        for path in (ROOT / "evalsvc").rglob("*.py")
        for start in re.findall(r"\[\s*sys\.executable,[^\]]*", path.read_text())
    }
    assert len(starts) > 7
    assert not {start for start in starts if '"-P"' not in start}, "it may hold a torch.py"
