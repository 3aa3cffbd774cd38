"""Whether texts were copied from the training set: long runs of its tokens, and documents that are nearly its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from evalsvc.metrics.influence import ABOUT_TRAINING
from evalsvc.metrics.ngram_index import Corpus, check_texts, numbered
from evalsvc.metrics.proportions import mean_of_flags
from evalsvc.metrics.registry import Quantity, metric
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.tokenizers import Tokenizer, mixed
from evalsvc.metrics.units import Groups, Units

SHINGLE = 5
HASHES = 128
RECALL = (0.05, 0.95)
"""Weights of false and of missed candidates: false ones are compared exactly and dropped, missed ones are lost."""


@metric(
    Quantity(
        "copied_share",
        Direction.LOWER,
        "share of texts",
        low=0.0,
        high=1.0,
        unbiased_in_n=True,
        title="Share of copied texts",
        title_zh="照抄文本比例",
    ),
    version=1,
)
def copied_share(
    texts: Sequence[str],
    train_texts: Sequence[str],
    length: int = 50,
    tokenizer: Tokenizer = mixed,
    heldout_texts: Sequence[str] | None = None,
    groups: Groups | None = None,
) -> Score:
    """Share of texts with ``length`` or more consecutive tokens that a training document has too. Lower is better.

    Exact: runs are compared token by token, not by hashes. ``details`` holds the length of the longest run that any
    text shares with the training set, and, where ``heldout_texts`` are given, their own share: quotations and
    boilerplate make it more than nothing, and copying shows as the difference. 50 tokens is the length of Carlini et
    al. (2023).

    Raises:
        MetricError: there are no texts or no training texts, or ``length`` is under 1.

    >>> score = copied_share(["we saw the old mill burn", "no"], ["they saw the old mill turn"], length=4)
    >>> score.value, score.details["longest"]
    (0.5, 4.0)
    """
    if length < 1:
        raise MetricError(f"copied_share: length={length} must be at least 1 token")
    heldout = list(heldout_texts or ())
    for name, given in (("texts", texts), ("train_texts", train_texts)):
        check_texts(given, f"copied_share of {name}")
    runs = _Runs(texts, heldout, train_texts, tokenizer)
    copied = runs.shared(length)
    n = len(texts)
    details = {"longest": float(runs.longest(n))}
    if heldout:
        details["heldout"] = float(copied[n : n + len(heldout)].mean())
    return mean_of_flags("copied_share", copied[:n], Units.of(n, groups), details, ABOUT_TRAINING)


@metric(
    Quantity(
        "near_duplicate_share",
        Direction.LOWER,
        "share of texts",
        low=0.0,
        high=1.0,
        unbiased_in_n=True,
        title="Share of near duplicates",
        title_zh="近似重复文本比例",
    ),
    version=1,
)
def near_duplicate_share(
    texts: Sequence[str],
    train_texts: Sequence[str],
    threshold: float = 0.8,
    tokenizer: Tokenizer = mixed,
    groups: Groups | None = None,
) -> Score:
    """Share of texts that overlap with one training document by ``threshold`` or more. Lower is better.

    Overlap is Jaccard's: 5-token shingles in both over those in either. Candidates come from MinHash of 128
    permutations with locality-sensitive hashing, tuned to miss few, and are then compared exactly.

    Raises:
        MetricError: there are no texts or no training texts, ``threshold`` is not within (0, 1], or datasketch is
            not installed.

    >>> near_duplicate_share(["one two three four five six", "x"], ["one two three four five six"]).value
    0.5
    """
    if not 0 < threshold <= 1:
        raise MetricError(f"near_duplicate_share: threshold={threshold} is not within (0, 1]")
    for name, given in (("texts", texts), ("train_texts", train_texts)):
        check_texts(given, f"near_duplicate_share of {name}")
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise MetricError("near_duplicate_share needs MinHash: pip install datasketch") from None
    trained = [_shingles(text, tokenizer) for text in train_texts]
    index = MinHashLSH(threshold, HASHES, weights=RECALL)
    for number, sketch in enumerate(MinHash.generator(trained, num_perm=HASHES)):
        if trained[number]:
            index.insert(number, sketch)
    found = np.zeros(len(texts), bool)
    written = [_shingles(text, tokenizer) for text in texts]
    for number, (shingles, sketch) in enumerate(zip(written, MinHash.generator(written, num_perm=HASHES), strict=True)):
        candidates = index.query(sketch) if shingles else []
        found[number] = any(_jaccard(shingles, trained[candidate]) >= threshold for candidate in candidates)
    return mean_of_flags("near_duplicate_share", found, Units.of(len(texts), groups), reference=ABOUT_TRAINING)


def _shingles(text: str, tokenizer: Tokenizer) -> set[bytes]:
    tokens = [str(token) for token in tokenizer(text)]
    starts = range(max(1, len(tokens) - SHINGLE + 1)) if tokens else ()
    return {"\0".join(tokens[start : start + SHINGLE]).encode("utf-8", "surrogatepass") for start in starts}


def _jaccard(a: set[bytes], b: set[bytes]) -> float:
    return len(a & b) / len(a | b)


class _Runs:
    """Runs of tokens by number: two runs of one length are equal where their numbers are.

    Numbers of runs of 2, 4, 8, ... tokens come from those of half the length (Karp, Miller and Rosenberg, 1972); a run
    of any length is named by the two longest of these that cover it.
    """

    def __init__(
        self, texts: Sequence[str], heldout: Sequence[str], train: Sequence[str], tokenizer: Tokenizer
    ) -> None:
        corpus = Corpus.of([*texts, *heldout, *train], tokenizer, "copied_share")
        self._lengths, self._asked = corpus.lengths, len(texts) + len(heldout)
        self._owner = np.repeat(np.arange(len(corpus)), corpus.lengths)
        self._until_end = np.repeat(np.cumsum(corpus.lengths), corpus.lengths) - np.arange(len(corpus.tokens))
        self._levels = [corpus.tokens]

    def shared(self, length: int) -> Bool[np.ndarray, " asked"]:
        """Which texts hold a run of this length that the training set holds too."""
        found = np.zeros(self._asked, dtype=bool)
        starts = np.flatnonzero(self._until_end >= length)
        if len(starts):
            power = length.bit_length() - 1
            level = self._level(power)
            runs = numbered(level[starts] * (level.max() + 1) + level[starts + length - 2**power])
            asked = self._owner[starts] < self._asked
            found[self._owner[starts[asked][np.isin(runs[asked], runs[~asked])]]] = True
        return found

    def longest(self, texts: int) -> int:
        """Tokens of the longest run that one of the first ``texts`` texts shares with the training set."""
        low, high = 0, int(self._lengths[:texts].max(initial=0))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.shared(middle)[:texts].any() else (low, middle - 1)
        return low

    def _level(self, power: int) -> Int64[np.ndarray, " tokens"]:
        """Numbers of the runs of ``2 ** power`` tokens from each position; those past a document's end mean nothing."""
        while len(self._levels) <= power:
            last, step = self._levels[-1], 2 ** (len(self._levels) - 1)
            ahead = np.concatenate([last[step:], np.zeros(min(step, len(last)), dtype=np.int64)])
            self._levels.append(numbered(last * (last.max() + 1) + ahead))
        return self._levels[power]
