"""Where every n-gram of a corpus occurs: integers in NumPy arrays, one sort an order, linear memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Int64

from evalsvc.metrics.score import MetricError
from evalsvc.metrics.tokenizers import TOKENIZERS, Tokenizer, fitting

MAX_ORDER = 16
"""Longest n-gram with a name in the registry; longer ones are the document itself."""


@dataclass(frozen=True, slots=True)
class Occurrences:
    """How often each n-gram of one order occurs in each document that has it, sorted by n-gram, then document."""

    gram: Int64[np.ndarray, " pairs"]
    document: Int64[np.ndarray, " pairs"]
    count: Int64[np.ndarray, " pairs"]
    starts: Int64[np.ndarray, " grams"]
    """Where the pairs of each n-gram begin."""

    @property
    def documents_per_gram(self) -> Int64[np.ndarray, " grams"]:
        """In how many documents each n-gram occurs."""
        return np.diff(self.starts, append=len(self.gram))

    def by(self, owner: Int64[np.ndarray, " documents"], owners: int) -> Occurrences:
        """The same with the documents of one owner as one; ``count`` is then how many of them have the n-gram."""
        return _occurrences(self.gram, owner[self.document], owners)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents as one run of token numbers."""

    tokens: Int64[np.ndarray, " tokens"]
    lengths: Int64[np.ndarray, " documents"]

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Tokenizer | None, metric: str, minimum: int = 1) -> Corpus:
        """Tokenize ``texts``, without a tokenizer by the one that fits them.

        Raises :class:`MetricError` in the name of ``metric`` unless there are ``minimum`` texts.
        """
        check_texts(texts, metric, minimum)
        documents = [*map(tokenizer or TOKENIZERS[fitting(texts)], texts)]
        lengths = np.array([len(document) for document in documents], dtype=np.int64)
        numbers = {token: number for number, token in enumerate(dict.fromkeys(chain.from_iterable(documents)))}
        run = map(numbers.__getitem__, chain.from_iterable(documents))
        return cls(np.fromiter(run, dtype=np.int64, count=int(lengths.sum())), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def ngrams_per_document(self, order: int) -> Int64[np.ndarray, " documents"]:
        """How many n-grams each document has, repeated ones included."""
        counts: Int64[np.ndarray, " documents"] = np.maximum(self.lengths - order + 1, 0)
        return counts

    def orders(self, highest: int) -> Iterator[Occurrences]:
        """Occurrences of the n-grams of order 1, 2, ... ``highest``; none crosses from one document to the next.

        An n-gram is numbered from the number of its first n - 1 tokens and its last token, so that every order costs
        the same.
        """
        owner = np.repeat(np.arange(len(self)), self.lengths)
        until_end = np.repeat(np.cumsum(self.lengths), self.lengths) - np.arange(len(self.tokens))
        vocabulary = int(self.tokens.max(initial=0)) + 1
        position = np.arange(len(self.tokens))
        gram = np.zeros_like(self.tokens)
        for order in range(1, highest + 1):
            fits = until_end[position] >= order
            position, gram = position[fits], gram[fits]
            gram = numbered(gram * vocabulary + self.tokens[position + order - 1])
            yield _occurrences(gram, owner[position], len(self))


def check_order(n: int, metric: str) -> None:
    """Raise :class:`MetricError` unless ``n`` is an order the registry names."""
    if not 1 <= n <= MAX_ORDER:
        raise MetricError(f"{metric}: n={n} is not a valid n-gram order; choose 1 to {MAX_ORDER}")


def check_texts(texts: Sequence[str], metric: str, minimum: int = 1) -> None:
    """Raise :class:`MetricError` unless ``texts`` are at least ``minimum`` strings."""
    if isinstance(texts, str):
        raise MetricError(f"{metric}: texts is a single string; pass a list of texts")
    if len(texts) < minimum:
        raise MetricError(f"{metric}: {len(texts)} texts; at least {minimum} are needed")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise MetricError(f"{metric}: text {i} is a {type(text).__name__}, not a string")


def numbered(keys: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Equal keys get equal numbers, 0, 1, 2, ... in the order of the keys."""
    order = np.argsort(keys)
    ranked = keys[order]
    numbers = np.empty_like(keys)
    numbers[order[:1]] = 0
    numbers[order[1:]] = np.cumsum(ranked[1:] != ranked[:-1])
    return numbers


def _occurrences(gram: Int64[np.ndarray, " n"], document: Int64[np.ndarray, " n"], documents: int) -> Occurrences:
    pairs = np.sort(gram * documents + document)
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    grams, owners = np.divmod(pairs[first], documents)
    return Occurrences(
        gram=grams,
        document=owners,
        count=np.diff(first, append=len(pairs)),
        starts=np.flatnonzero(np.diff(grams, prepend=-1)),
    )
