"""How long pages take on 2,000 checkpoints with 20 scores each: first run, and a run after another filter.

The page of items is measured on 10,000 items x 4 draws x 5 scorers.

    python benchmarks/dashboards.py

The times are of the server's work for one page, without the browser's. The first page comes in a process that was
warmed as the server is before it answers, which is told apart.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import items
from evalsvc.core.settings import Settings
from evalsvc.dashboards import access
from evalsvc.dashboards.__main__ import warm
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.session import Database
from tests.dashboards.stores import fill

APP = Path(__file__).parents[1] / "dashboards" / "app.py"
REPEATS = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["EVALSVC_HOME"] = home
        access.needs_token = lambda: False
        fill(
            Database(f"sqlite:///{home}/evalsvc.db"), [f"model-{i:02}" for i in range(20)], range(0, 100_000, 1000), 20
        )
        print(f"warming the server {timed(warm)[0]:.2f} s")
        print(f"leaderboard     first page of the server {timed(lambda: opened('leaderboard'))[0]:.2f} s")
        for view in sorted(path.stem for path in (APP.parent / "views").glob("*.py")):
            first = median(timed(lambda view=view: opened(view))[0] for _ in range(REPEATS))
            print(f"{view:15} first paint {first:.2f} s")
        page = opened("leaderboard")
        page.session_state["which.choice"] = "all"
        print(f"leaderboard     all 2,000 checkpoints {timed(page.run)[0]:.2f} s")
        page.selectbox("metric.choice").select("recall")
        print(f"leaderboard     another metric {timed(page.run)[0]:.2f} s")
        page.multiselect("family.choices").select("gan")
        print(f"leaderboard     a family {timed(page.run)[0]:.2f} s")
        page = opened("trends")
        page.multiselect("model.choices").unselect("model-03")
        print(f"trends          a model less {timed(page.run)[0]:.2f} s")
    with tempfile.TemporaryDirectory() as home:
        os.environ["EVALSVC_HOME"] = home
        settings = Settings()
        items.fill(Database(settings.database), open_artifacts(settings))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        first, page = timed(lambda: opened("items"))
        print(f"items           first page of the server {first:.2f} s, again {timed(page.run)[0]:.2f} s")
        for name, option in {"against": "reader@1", "order": "changed_best", "of": "exact/exact"}.items():
            page.selectbox(f"{name}.choice").select(option)
            print(f"items           {name} {option} {timed(page.run)[0]:.2f} s")
        page.text_input("text.text").set_value("sentence 77")
        print(f"items           a text sought {timed(page.run)[0]:.2f} s")
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"items           peak memory grew by {grown:.0f} MiB")


def opened(view: str) -> AppTest:
    page = AppTest.from_file(str(APP), default_timeout=60).switch_page(f"views/{view}.py")
    if view == "memorization":  # before its first run, Streamlit tells a page by its file, not by its URL
        page._page_hash = calc_hash("memorisation")
    return page.run()


def timed(call):
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
