"""What a look at items costs: ``python -m benchmarks.items``.

Two checkpoints with 10,000 items x 4 draws x 5 scorers of texts, filled without computing anything. The times are
seconds of wall time in this process, the least of three; memory is what they add to the peak of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlalchemy import select

from evalsvc.core.digests import digest_configuration, digest_json
from evalsvc.core.settings import Settings
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.inputs.items.storage import store_items
from evalsvc.inputs.suites import Suite
from evalsvc.store import tables
from evalsvc.store.artifacts import Artifacts, open_artifacts
from evalsvc.store.session import Database
from evalsvc.store.tables import Status, now

SCORERS = ("wer", "cer", "exact", "length", "seconds")
LANGUAGES = ("de", "en", "fr", "zh")
SHARD = 500


def suite_of(items: ItemSet, scorers: int, draws: int) -> Suite:
    """A suite of texts with word error rates by language and further scorers."""
    named = SCORERS[:scorers]
    return Suite.model_validate(
        {
            "name": "spoken",
            "version": 1,
            "modality": "text",
            "samples": len(items) * draws,
            "shard": SHARD,
            "items": {
                "file": "items.jsonl",
                "tags": ["lang"],
                "draws": draws,
                "count": len(items),
                "conditions": items.conditions,
                "sha256": items.sha256,
            },
            "scorers": {
                "asr" if name == "wer" else name: {
                    "use": name,
                    "quantities": [
                        {"name": name, "direction": "higher" if name == "exact" else "lower", "unit": "share", "low": 0}
                    ],
                }
                for name in named
            },
            "metrics": [
                {"metric": "mean", "of": f"{'asr' if name == 'wer' else name}/{name}", "label": name} for name in named
            ],
        }
    )


def items_of(count: int, hostile: str = "") -> ItemSet:
    """An item set; every hundredth prompt starts with ``hostile``."""
    places = range(count)
    return ItemSet(
        ids=tuple(f"item-{place:05}" for place in places),
        positions=np.arange(count),
        prompts=tuple(
            f"{hostile if place % 100 == 0 else ''}Read aloud: sentence {place} of {count}." for place in places
        ),
        targets=tuple((f"sentence {place} of {count}",) for place in places),
        groups=tuple(f"speaker {place % 97}" for place in places),
        tags={"lang": tuple(LANGUAGES[place % 4] for place in places)},
    )


def fill(
    database: Database, artifacts: Artifacts, items: int = 10_000, draws: int = 4, scorers: int = 5, hostile: str = ""
) -> Suite:
    """Add the checkpoints reader@1 and reader@2, of which the second got worse on German items and better on others.

    Of each scorer, one sample of 50 is not applicable and one of 100 failed.
    """
    rows = items_of(items, hostile)
    suite = suite_of(rows, scorers, draws)
    store_items(artifacts, rows, {})
    with database.write() as session:
        body = suite.model_dump(mode="json")
        session.add(tables.Suite(name=suite.name, version=suite.version, digest=suite.digest, body=body))
        session.add(tables.Protocol(id="mean", facts={"samples": len(rows) * draws}))
        session.add(tables.Model(name="reader", family="reader"))
    for step in (1, 2):
        arrays = _values(suite, items, draws, step)
        folder = f"draws/{digest_json([rows.sha256, step])[:32]}"
        for start in range(0, items * draws, SHARD):
            stop = min(start + SHARD, items * draws)
            texts = [
                f"{hostile if place % (100 * draws) == 0 else ''}sentence {place // draws} said in way {step}"
                for place in range(start, stop)
            ]
            held = np.frombuffer(json.dumps(texts).encode(), np.uint8)
            artifacts.write_arrays(f"{folder}/{start}-{stop}.safetensors", {"texts": held})
        key = f"evaluations/{step:032x}/items.safetensors"
        artifacts.write_arrays(key, arrays, {"items": rows.sha256, "samples": folder})
        _add_evaluation(database, suite, step, key, arrays)
    return suite


def _values(suite: Suite, items: int, draws: int, step: int) -> dict[str, np.ndarray]:
    rng, count = np.random.default_rng(step), items * draws
    arrays: dict[str, np.ndarray] = {
        "item": np.repeat(np.arange(items, dtype=np.int32), draws),
        "draw": np.tile(np.arange(draws, dtype=np.int32), items),
    }
    reasons: dict[str, dict[str, str]] = {}
    difficulty = np.random.default_rng(0).beta(2, 8, items).repeat(draws)
    german = (arrays["item"] % 4 == 0) & (step == 2)
    for label, scorer in suite.scorers.items():
        values = np.clip(difficulty + 0.05 * rng.standard_normal(count) + np.where(german, 0.3, -0.01 * step), 0, None)
        outcomes = np.zeros(count, np.int8)
        outcomes[49::50], outcomes[98::100] = 1, 2
        values[outcomes > 0] = np.nan
        reasons[label] = {
            str(place): "the target is empty" if outcomes[place] == 1 else "the endpoint refused: status 400"
            for place in np.flatnonzero(outcomes)
        }
        arrays |= {f"{label}/{scorer.quantities[0].name}": values, f"{label}.outcomes": outcomes}
    return arrays | {"reasons": np.frombuffer(json.dumps(reasons).encode(), np.uint8)}


def _add_evaluation(database: Database, suite: Suite, step: int, key: str, arrays: dict[str, np.ndarray]) -> None:
    with database.write() as session:
        model = session.scalars(select(tables.Model).where(tables.Model.name == "reader")).one()
        held = session.scalars(select(tables.Suite).where(tables.Suite.name == suite.name)).one()
        checkpoint = tables.Checkpoint(
            model_id=model.id,
            step=step,
            digest=f"{step:064x}",
            path="gone",
            generator="openai-compatible",
            options={},
            configuration=digest_configuration("openai-compatible", "", {}),
        )
        session.add(checkpoint)
        session.flush()
        run = tables.Evaluation(
            checkpoint_id=checkpoint.id,
            suite_id=held.id,
            fingerprint=f"{step:064x}",
            status=Status.SUCCEEDED,
            spec={
                "seed": 1,
                "suite": suite.model_dump(mode="json"),
                "scorers": {label: f"{label}-0" for label in suite.scorers},
            },
            provenance={"samples_per_second": 100.0, "not_applicable": {}},
            finished_at=now(),
        )
        run.artifacts.append(tables.Artifact(kind="items", path=key, digest="0" * 64, bytes=1))
        for position, (label, (use, quantity)) in enumerate(suite.measured.items()):
            values = arrays[use.of]
            value = float(np.nanmean(values)) if not label.endswith("_failed") else 0.01
            run.scores.append(
                tables.Score(
                    position=position,
                    label=label,
                    quantity=quantity.name,
                    value=value,
                    stderr=0.01,
                    ci_low=value - 0.02,
                    ci_high=value + 0.02,
                    n=len(values),
                    direction=str(quantity.direction),
                    unit=quantity.unit,
                    stderr_method="spread between samples",
                    details={},
                    protocol_id="mean",
                )
            )
        session.add(run)


def measured() -> dict[str, float]:
    """Seconds of each look, the least of three."""
    from evalsvc.cli.backends.local import Local

    here = Local()
    looks = {
        "items --of wer --worst 20": lambda: here.items("reader@2", "wer", 20, None, None),
        "compare --of wer": lambda: here.compare_items("reader@1", "reader@2", "wer", 10, None),
    }
    found = {}
    for name, look in looks.items():
        times = []
        for _ in range(3):
            started = time.perf_counter()
            look()
            times.append(time.perf_counter() - started)
        found[name] = min(times)
    return found


def main() -> None:
    """Fill a store and print what looks at it cost."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--items", type=int, default=10_000)
    asked.add_argument("--home", type=Path, help="Fill this folder, and keep it.")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = options.home or Path(temporary)
        os.environ["EVALSVC_HOME"] = str(home)
        settings = Settings()
        fill(Database(settings.database), open_artifacts(settings), options.items)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name, seconds in measured().items():
            print(f"{name:30} {seconds:.2f} s")
        print(f"peak memory grew by {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
