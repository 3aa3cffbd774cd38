"""Precision, recall, density and coverage of two n x 2048 files: does the memory stay within 3 GB over the inputs?

``python benchmarks/manifold_memory.py [n]``; n is 50,000 unless given. The inputs are mapped files: their pages are the
system's to drop, so what counts is memory of the process itself (RssAnon), sampled while it runs.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from features import WIDTH, features

LIMIT_GB = 3.0


def write_features(path: Path, n: int, seed: int, shift: float) -> np.ndarray:
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, WIDTH))
    for start in range(0, n, 4096):
        file[start : start + 4096] = features(min(4096, n - start), seed * 1000 + start // 4096, shift)
    file.flush()
    return np.load(path, mmap_mode="r")


def anonymous_gb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 2**20


def main() -> None:
    from evalsvc.metrics.functional import prdc

    n = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory() as folder:
        reference, generated = (write_features(Path(folder, f"{i}.npy"), n, i, 0.05 * i) for i in (1, 2))
        before, peak, done = anonymous_gb(), [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                peak[0] = max(peak[0], anonymous_gb())

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        scores = prdc(generated, reference)
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    for name, score in scores.items():
        print(f"{name:10s} {score.value:.4f} +- {score.stderr:.4f}")
    over = peak[0] - before
    print(f"n = {n}: {seconds:.0f} s, {4e-9 * WIDTH * n**2 / seconds:.0f} GF/s, peak {over:.2f} GB over the inputs")
    if over > LIMIT_GB:
        sys.exit(f"more than {LIMIT_GB} GB")


if __name__ == "__main__":
    main()
