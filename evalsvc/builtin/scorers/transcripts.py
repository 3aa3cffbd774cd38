"""Normalization of transcripts: which differences of two texts are not errors of speech."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

from evalsvc.builtin.scorers.rows import needed

Form = Literal["none", "basic", "english", "by language"]


def normalizer(form: Form, language: str, scorer: str) -> Callable[[str], str]:
    """The function of a form, for texts of a language.

    ``none`` compares texts as they are. ``basic`` and ``english`` are the normalizers of Whisper (Radford et al. 2022,
    appendix C): case, punctuation and brackets do not count, and in English also contractions, fillers, numerals and
    British spelling. ``by language`` is ``english`` for English and ``basic`` for all others.
    """
    if form == "by language":
        form = "english" if language == "en" else "basic"
    return _normalizer(form, scorer)


@lru_cache(maxsize=8)
def _normalizer(form: str, scorer: str) -> Callable[[str], str]:
    if form == "none":
        return str
    found: Callable[[str], str] = (
        needed("whisper_normalizer.english", scorer, "asr").EnglishTextNormalizer()
        if form == "english"
        else needed("whisper_normalizer.basic", scorer, "asr").BasicTextNormalizer()
    )
    return found
