"""Obvious, slow definitions to compare with."""

from collections import Counter


def ngrams(text, n):
    tokens = text.split()
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def distinct(texts, n):
    grams = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(grams)) / len(grams)


def repetition(texts, n):
    repeated = total = 0
    for text in texts:
        seen = set()
        for gram in ngrams(text, n):
            repeated += gram in seen
            seen.add(gram)
            total += 1
    return repeated / total


def clipped_matches(texts, i, n):
    best = Counter()
    for j, other in enumerate(texts):
        if j != i:
            best |= Counter(ngrams(other, n))
    return sum((Counter(ngrams(texts[i], n)) & best).values())
