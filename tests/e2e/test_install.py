"""What a stranger does: install the wheel into an empty environment, and work from an empty folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
FAMILIES = ("autoregressive", "ddpm", "flow", "gan", "vae")


@pytest.fixture(scope="module")
def installed(tmp_path_factory, built):
    """A virtual environment with the built wheel and the example plug-in package, and nothing of this checkout."""
    folder = tmp_path_factory.mktemp("installed")
    uv = [sys.executable, "-m", "uv"]
    constraints = ROOT / "constraints.txt"

    def call(*arguments):
        done = subprocess.run(list(map(str, arguments)), cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    call(*uv, "venv", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    call(*uv, "pip", "install", "--python", python, "-c", constraints, built.wheel_from_sdist)
    call(*uv, "pip", "install", "--python", python, "--no-deps", ROOT / "examples" / "plugin-package")
    return folder


@pytest.fixture(scope="module")
def run(installed):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("EVALSVC_", "PYTHONPATH"))}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    (installed / "work").mkdir()
    for name in ("metrics", "dashboards"):  # names that a user's own files beside a training script have, too
        (installed / "work" / f"{name}.py").write_text("raise SystemExit('imported')\n")

    def run(*arguments):
        done = subprocess.run(
            [installed / "venv" / "bin" / arguments[0], *map(str, arguments[1:])],
            cwd=installed / "work",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def demo(run):
    return run("evalsvc", "demo")


@pytest.fixture(scope="module")
def exported(run, demo, installed):
    run("evalsvc", "export", "scores.parquet")
    return pd.read_parquet(installed / "work" / "scores.parquet")


def test_the_demo_prints_a_trend_for_each_family_and_a_leaderboard(demo):
    trends, board = demo.split("ranked by frechet_distance")
    assert all(family in trends and family in board for family in FAMILIES)


def test_the_checkpoint_that_lost_a_class_has_a_good_distance_and_a_worst_slice_that_says_which(demo, exported):
    (line,) = [line for line in demo.splitlines() if "conditional-gan-without-3" in line]
    assert line.count("label=3") == 2
    distance = exported.query("suite == 'digits-by-class@1' and label == 'frechet_distance'").set_index("model")[
        "value"
    ]
    assert distance["conditional-gan-without-3"] < distance["conditional-flow"].max()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_frechet_distance_falls_with_training(exported, family):
    rows = exported.query(f"model == '{family}' and label == 'frechet_distance'").sort_values("step")
    assert len(rows) >= 5
    assert rows["value"].is_monotonic_decreasing, list(rows["value"])
    assert rows["ci_high"].iloc[-1] < rows["ci_low"].iloc[0]


def test_the_collapsed_gan_shows_in_recall(exported):
    rows = exported.query("model == 'gan' and label == 'recall'").set_index("step")["value"]
    assert rows[500] < 0.5 * rows[rows.index.max()]


def test_every_score_of_the_demo_has_an_error_bar(exported):
    assert len(exported) >= 5 * 5 * 9
    assert exported[["value", "stderr", "ci_low", "ci_high"]].notna().all().all()


def test_the_second_demo_answers_from_the_database(run, demo, installed):
    shards = {path: path.stat().st_mtime_ns for path in (installed / "work").rglob("*.safetensors")}
    assert run("evalsvc", "demo") == demo
    assert shards == {path: path.stat().st_mtime_ns for path in (installed / "work").rglob("*.safetensors")}


def test_leaderboard_compare_and_show_work_on_what_the_demo_left(run, demo):
    boards = json.loads(run("evalsvc", "leaderboard", "--json"))
    assert {entry["model"] for entry in boards[0]["entries"]} == set(FAMILIES)
    assert boards[0]["entries"][0]["rank"] == 1
    compared = json.loads(run("evalsvc", "compare", "gan@500", "gan", "--json"))
    verdicts = {difference["score"]: difference["verdict"] for difference in compared["differences"]}
    assert verdicts["frechet_distance"] == verdicts["recall"] == "better"
    shown = json.loads(run("evalsvc", "show", "flow", "--json"))
    assert shown["evaluations"][0]["provenance"]["packages"]["evalsvc"]


def test_exact_and_bounded_likelihoods_never_share_a_board(run, demo):
    boards = json.loads(run("evalsvc", "leaderboard", "--metric", "bits_per_dim_heldout", "--json"))
    groups = [{entry["model"] for entry in board["entries"]} for board in boards]
    assert {"autoregressive"} in groups
    assert {"vae", "flow", "ddpm"} in groups


def test_the_example_plugin_is_found_checked_and_scored(run, demo, installed):
    plugins = {plugin["name"]: plugin for plugin in json.loads(run("evalsvc", "plugins", "list", "--check", "--json"))}
    assert plugins["eigendigits"] | {"status": "ok", "distribution": "eigendigits"} == plugins["eigendigits"]
    run("python", "-m", "eigendigits.fit", "runs")
    run("evalsvc", "plugins", "check", "eigendigits", "--checkpoint", "runs/pca_8.safetensors")
    found = json.loads(run("evalsvc", "score", "runs/*.safetensors", "--generator", "eigendigits", "--json"))
    assert [evaluation["step"] for evaluation in found] == [2, 8, 32]
    distances = [evaluation["scores"][0]["value"] for evaluation in found]
    assert distances == sorted(distances, reverse=True)


def test_a_suite_and_the_database_work_from_the_wheel(run):
    # Unlike the script, 'python -m' looks for modules in this folder first, and there are some of ours by name.
    assert "name: digits" in run("python", "-m", "evalsvc", "suite", "show", "digits@1")
    run("evalsvc", "db", "upgrade")
