"""How long pages take on 2,000 checkpoints with 20 scores each: first run, and a run after another filter.

    python benchmarks/dashboards.py

The times are of the server's work for one page, without the browser's. The first page comes in a process that was
warmed as the server is before it answers, which is told apart.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

sys.path.insert(0, str(Path(__file__).parents[1]))
from evalsvc.dashboards import access
from evalsvc.dashboards.__main__ import warm
from evalsvc.store.session import Database
from tests.dashboards.stores import fill

APP = Path(__file__).parents[1] / "dashboards" / "app.py"
REPEATS = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"EVALSVC_HOME": home, "EVALSVC_DATABASE_URL": ""}
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
