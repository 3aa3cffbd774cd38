"""Images in the rows of a Parquet file, decoded by us, and by a loop over pyarrow and Pillow."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image
from race import Contenders

GROUP, BATCH = 100, 64
"""Rows of a group, as ``datasets`` writes images, and rows of a batch."""


def jpegs() -> Contenders:
    return _of(_file("JPEG", rows=1500, side=224))


def jpegs_ten_times() -> Contenders:
    return _of(_file("JPEG", rows=15_000, side=224))


def pngs() -> Contenders:
    return _of(_file("PNG", rows=10_000, side=32))


def _of(path: Path) -> Contenders:
    return {"evalsvc": lambda: _ours(path), "pyarrow and Pillow": lambda: _loop(path)}


def _ours(path: Path) -> float:
    """From opening the file to the pixels of every row; the file is in the cache."""
    from evalsvc.inputs.sample_sets import open_samples

    samples = open_samples(path)
    batches = (samples.read(start, start + BATCH) for start in range(0, len(samples), BATCH))
    return float(sum(int(batch.pixels[:, 0, 0, 0].sum()) for batch in batches))


def _loop(path: Path) -> float:
    total = 0
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(BATCH, columns=["image"]):
        images = [np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in batch.column(0).to_pylist()]
        total += int(np.stack(images)[:, 0, 0, 0].sum(dtype=np.int64))
    return float(total)


def _file(kind: str, rows: int, side: int) -> Path:
    rng = np.random.default_rng(0)
    cells = []
    for i in range(rows):
        small = Image.fromarray(rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((side, side), Image.Resampling.BICUBIC).save(file, kind)
        cells.append({"bytes": file.getvalue(), "path": f"{i}.{kind.lower()}"})
    path = Path(tempfile.mkdtemp()) / "images.parquet"
    pyarrow.parquet.write_table(pa.table({"image": cells, "label": np.arange(rows) % 10}), path, row_group_size=GROUP)
    return path
