"""Sizes of documents besides tokens: words and bytes of the original text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64


def count_words(texts: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """Number of words separated by white space."""
    return np.array([len(text.split()) for text in texts], dtype=np.int64)


def count_bytes(texts: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """Number of bytes in UTF-8."""
    return np.array([len(text.encode()) for text in texts], dtype=np.int64)
