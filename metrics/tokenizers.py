"""How texts are cut into tokens for n-grams, by name, so that a protocol can say which way it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

Tokenizer: TypeAlias = Callable[[str], Sequence[Hashable]]

FITTED = 1000
"""Number of texts that the default tokenizer is chosen by."""

# Scripts written without spaces: Han, kana, bopomofo, Thai, Lao, Khmer, Burmese.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_OF_UNSPACED = re.compile(f"[{_UNSPACED}]")
_MIXED = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")


def characters(text: str) -> list[str]:
    """Every character except white space.

    >>> characters("a b 中文")
    ['a', 'b', '中', '文']
    """
    return [character for character in text if not character.isspace()]


def mixed(text: str) -> list[str]:
    """Words where a script has spaces, characters where it has none, and each mark of punctuation.

    >>> mixed("GPT-2 写了一首诗。")
    ['GPT', '-', '2', '写', '了', '一', '首', '诗', '。']
    """
    return _MIXED.findall(text)


TOKENIZERS: dict[str, Tokenizer] = {"whitespace": str.split, "characters": characters, "mixed": mixed}


def fitting(texts: Sequence[str]) -> str:
    """Name of the tokenizer for these texts: ``mixed`` where most letters of the first are of scripts without spaces.

    There white space would cut sentences apart, not words: no two tokens would be equal.

    >>> fitting(["a few words"]), fitting(["GPT 写了一首短诗。"]), fitting(["the word 诗"])
    ('whitespace', 'mixed', 'whitespace')
    """
    first = "".join(texts[:FITTED])
    unspaced = len(_OF_UNSPACED.findall(first))
    return "mixed" if unspaced and 2 * unspaced > sum(map(str.isalnum, first)) else "whitespace"
