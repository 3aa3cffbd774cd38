"""Real features: digits of scikit-learn, crops of its two photographs, sentences of docstrings."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

CACHE = Path("benchmarks/uncertainty/.cache")
CROPS, SENTENCES = 2_000, 4_000


def digits() -> np.ndarray:
    """1,797 digits of 8 x 8 pixels (1797, 64)."""
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().data)


def photographs() -> np.ndarray:
    """EfficientNet-Lite0 of random crops, 64 to 320 pixels wide and half of them mirrored (2000, 1280)."""

    def found() -> np.ndarray:
        import torch
        from sklearn.datasets import load_sample_images

        from evalsvc.builtin.extractors.efficientnet import EfficientNetLite0
        from evalsvc.plugins.samples import Images

        rng, extractor = np.random.default_rng(0), EfficientNetLite0(torch.device("cpu"))
        images, rows = load_sample_images().images, []
        for _ in range(CROPS):
            image, size = images[rng.integers(len(images))], int(rng.integers(64, 321))
            top, left = (int(rng.integers(0, extent - size + 1)) for extent in image.shape[:2])
            crop = image[top : top + size, left : left + size][:, :: rng.choice([-1, 1])]
            pixels = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))[None]
            rows.append(extractor.extract(Images(pixels))["features"].numpy())
        return np.concatenate(rows).astype(np.float64)

    return _cached("photographs", found)


def prose() -> np.ndarray:
    """MiniLM of sentences from docstrings of the standard library and of numpy: 4,000 of them (n, 384)."""

    def found() -> np.ndarray:
        import torch

        from evalsvc.builtin.extractors.text_embeddings import minilm
        from evalsvc.plugins.samples import Texts

        sentences = np.random.default_rng(0).permutation(sorted(_sentences()))[:SENTENCES]
        encoder, found = minilm(torch.device("cpu")), []
        for start in range(0, len(sentences), 64):
            batch = Texts(tuple(map(str, sentences[start : start + 64])))
            found.append(np.asarray(encoder.extract(batch)["embedding"], np.float64))
        return np.concatenate(found)

    return _cached("prose", found)


def _sentences() -> set[str]:
    import ast
    import sysconfig

    found = set()
    for folder in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib") + "/numpy"):
        for path in Path(folder).glob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
            docs = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
            for text in docs:
                found |= {" ".join(each.split()) for each in re.findall(r"[A-Z][^.>|=]{40,300}\.", text)}
    return found


def _cached(name: str, found: Callable[[], np.ndarray]) -> np.ndarray:
    path = CACHE / f"{name}.npy"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        np.save(path, found())
    return np.asarray(np.load(path))
