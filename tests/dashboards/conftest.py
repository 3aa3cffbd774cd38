from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from evalsvc.builtin.demo import shipped
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.gates.policy import parse_policy
from evalsvc.gates.promote import promote
from evalsvc.gates.runner import run_gate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.registry import Plugins
from evalsvc.store.session import Database
from evalsvc.store.tables import now

from .stores import DIGITS, HOSTILE, add_failure, add_gate, add_twins, fill

APP = Path(__file__).parents[2] / "dashboards" / "app.py"
VIEWS = sorted(path.stem for path in (APP.parent / "views").glob("*.py"))
SHARE = {("gan", 1000), ("gan", 4000), ("flow", 2000), ("flow", 4000)}
POLICY = f"""
version: 1
suite: digits@1
baseline: {{alias: production}}
metrics:
  frechet_distance: {{max: 40, max_worsening: 5.0}}
  recall: {{min: 0.6, max_worsening_rel: 0.15}}
waivers: [{{metric: recall, reason: known, by: ann, expires: {now().date() + timedelta(30)}}}]
"""
Open = Callable[..., AppTest]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a small share of the demo, with two gate decisions; made once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "dashboards"
    shared.mkdir(exist_ok=True)
    with FileLock(shared / "lock"):
        home = shared / "home"
        if not (shared / "done").exists():
            context = EvaluationContext(Settings(home=home, database_url="", artifacts=""), Plugins(), "cpu")
            for family, step, path in shipped():
                if (family, step) in SHARE:
                    evaluate(plan(context, Checkpoint.open(path, family, step), family, {}, DIGITS), context)
            promote(context.database, "production", "flow@2000", None)
            for candidate in ("gan@1000", "flow@4000"):
                run_gate(parse_policy(POLICY), context.database, DIGITS, candidate=candidate)
            context.database.engine.dispose()
            (shared / "done").touch()
    return home


@pytest.fixture(autouse=True)
def without_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine tenths of a page's time here went into Streamlit's search for components of others in all packages.

    A server searches once; what opens a page in this process is a server anew each time.
    """
    monkeypatch.setattr("streamlit.components.v2.manifest_scanner.scan_component_manifests", list)


@pytest.fixture(autouse=True)
def at_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that run a page in this process have no server that could say where it listens."""
    monkeypatch.setattr("evalsvc.dashboards.access.needs_token", lambda: False)


@pytest.fixture
def use_home(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Database]:
    """Make a folder the home of this process."""
    monkeypatch.delenv("EVALSVC_DATABASE_URL", raising=False)
    monkeypatch.delenv("EVALSVC_ARTIFACTS", raising=False)

    def use(home: Path) -> Database:
        monkeypatch.setenv("EVALSVC_HOME", str(home))
        return Database(Settings().database)

    return use


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 checkpoints with 20 scores each."""
    home = tmp_path_factory.mktemp("many")
    fill(Database(f"sqlite:///{home}/evalsvc.db"), [f"model-{i:02}" for i in range(20)], range(0, 100_000, 1000), 20)
    return home


@pytest.fixture(params=["empty", "demo", "many", "failed", "hostile", "twins"])
def store(request: pytest.FixtureRequest, use_home: Callable[[Path], Database], tmp_path: Path) -> str:
    """The name of the store that is now in force."""
    if request.param in ("demo", "many"):
        use_home(request.getfixturevalue(request.param))
    else:
        database = use_home(tmp_path)
        if request.param == "failed":
            fill(database, ["gan"], range(0, 5000, 1000))
            add_failure(database, 1, 2500, "the generator returned 3 of 40 samples with NaN or infinite values")
        elif request.param == "twins":
            fill(database, ["gan", "vae"], range(0, 3000, 1000))
            add_twins(database, 2000)
        elif request.param == "hostile":
            fill(database, list(HOSTILE), range(0, 3000, 1000), family=HOSTILE[1][:90])
            add_failure(database, 1, 1500, HOSTILE[0])
            for name in HOSTILE:
                add_gate(database, name, 2000)
    return request.param


@pytest.fixture
def page() -> Open:
    """Open a page by its name, as if its address held these parameters."""

    def open_page(view: str, /, **parameters: str) -> AppTest:
        at = AppTest.from_file(str(APP), default_timeout=120)
        for key, value in parameters.items():
            at.query_params[key] = value
        at.switch_page(f"views/{view}.py")
        if view == "memorization":  # before its first run, Streamlit tells a page by its file, not by its URL
            at._page_hash = calc_hash("memorisation")
        return at.run()

    return open_page
