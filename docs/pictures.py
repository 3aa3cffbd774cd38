"""The README's pictures, from what `evalsvc demo` left behind: `make pictures`."""

import io
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
from PIL import Image
from rich.console import Console

from evalsvc.analysis import leaderboard
from evalsvc.analysis.items import items_of_checkpoints
from evalsvc.builtin.demo import shipped, shipped_by_class
from evalsvc.cli import console, score_tables
from evalsvc.core.settings import Settings
from evalsvc.inputs import stored_checkpoints
from evalsvc.store import queries
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation

IMAGES = Path(__file__).parent / "images"
SUITE, BY_CLASS = "digits@1", "digits-by-class@1"
SHOWN = ("frechet_distance", "precision", "recall", "coverage", "authenticity", "bits_per_dim_heldout")


def board(rows: list[queries.ScoreRow]) -> None:
    """The leaderboard as the terminal shows it, its most telling columns."""
    recorder = Console(record=True, width=195, file=io.StringIO())
    made = next(iter(leaderboard.boards([row for row in rows if row.label in SHOWN])))
    for part in score_tables.board_tables(made, recorder.width):
        recorder.print(part)
    recorder.save_svg(str(IMAGES / "leaderboard.svg"), title="evalsvc leaderboard")


def trend(rows: list[queries.ScoreRow]) -> None:
    """Frechet distance and recall over training, with 95 % intervals."""
    frame = pd.DataFrame([vars(row) for row in rows if row.label in ("frechet_distance", "recall")])
    frame["step"] = frame["step"].clip(lower=50)
    charts = []
    for label, title, scale in (
        ("frechet_distance", "Fréchet distance (lower is better)", alt.Scale(type="log")),
        ("recall", "recall (higher is better)", alt.Scale(domain=[0, 1])),
    ):
        base = alt.Chart(frame.query(f"label == '{label}'")).encode(
            x=alt.X("step:Q", title="training step (0 is drawn at 50)", scale=alt.Scale(type="log")),
            color=alt.Color("model:N", scale=alt.Scale(scheme="tableau10"), title=None),
        )
        line = base.mark_line(point=True).encode(y=alt.Y("value:Q", title=title, scale=scale))
        band = base.mark_area(opacity=0.2).encode(y=alt.Y("ci_low:Q", title=title), y2="ci_high:Q")
        charts.append((band + line).properties(width=380, height=260))
    alt.hconcat(*charts).configure(background="white").save(IMAGES / "trend.png", scale_factor=2)


def grid(database: Database) -> None:
    """The same eight seeds of every family, a row a checkpoint: what training changed."""
    artifacts = open_artifacts(Settings())
    columns = []
    with database.read() as session:
        for family in dict.fromkeys(each.family for each in shipped()):
            strips = []
            for checkpoint in queries.checkpoints(session, family):
                run = session.get_one(Evaluation, queries.evaluations(session, checkpoint.id)[0].id)
                key = next(artifact.path for artifact in run.artifacts if artifact.kind == "gallery")
                pixels = artifacts.read_arrays(key)["pixels"][:8, 0]
                strips.append(np.concatenate([np.pad(image, 1, constant_values=60) for image in pixels], axis=1))
            columns.append(np.pad(np.concatenate(strips[-6:]), ((0, 0), (0, 6)), constant_values=255))
    sheet = Image.fromarray(np.concatenate(columns, axis=1)[:, :-6])
    sheet.resize((sheet.width * 3, sheet.height * 3), Image.Resampling.NEAREST).save(IMAGES / "samples.png")


def by_class(database: Database) -> None:
    """Two samples of each class, 0 to 9, of the last class-conditional checkpoints: one of them lost a class."""
    artifacts, blocks = open_artifacts(Settings()), []
    with database.read() as session:
        for family in dict.fromkeys(each.family for each in shipped_by_class()):
            checkpoint = stored_checkpoints.find(session, family)
            (table,) = items_of_checkpoints(session, artifacts, [checkpoint], BY_CLASS)
            run = session.get_one(Evaluation, table.evaluation)
            key = next(artifact.path for artifact in run.artifacts if artifact.kind == "gallery")
            pixels = artifacts.read_arrays(key)["pixels"][:, 0]
            labels = table.item_set.labels[table.items[: len(pixels)]]
            pairs = [pixels[labels == label][:2] for label in range(10)]
            columns = [np.concatenate([np.pad(image, 1, constant_values=60) for image in pair]) for pair in pairs]
            blocks.append(np.pad(np.concatenate(columns, axis=1), ((0, 4), (0, 0)), constant_values=255))
    sheet = Image.fromarray(np.concatenate(blocks)[:-4])
    sheet.resize((sheet.width * 4, sheet.height * 4), Image.Resampling.NEAREST).save(IMAGES / "by-class.png")


if __name__ == "__main__":
    opened = Database(Settings().database)
    with opened.read() as reading:
        scores = queries.scores(reading, suite=SUITE)
    console.out.print(f"{len(scores)} scores")
    board(scores)
    trend(scores)
    grid(opened)
    by_class(opened)
