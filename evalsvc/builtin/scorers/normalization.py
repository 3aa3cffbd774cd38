"""Normalization of texts before they are compared."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import Literal

from evalsvc.builtin.scorers.rows import checked

Form = Literal["none", "strip", "quasi"]
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Normalization:
    """Which differences between texts do not count.

    ``form`` is ``none``; ``strip``, white space at both ends, as HELM's ``exact_match``; or ``quasi``, case, ASCII
    punctuation, English articles and white space, as SQuAD's evaluation script and HELM's ``quasi_exact_match``.
    ``ignore_case`` and ``ignore_punctuation`` are those of ``exact_match`` in lm-evaluation-harness. Characters are
    compared by their code points: a composed and a decomposed accent differ.
    """

    form: Form = "none"
    ignore_case: bool = False
    ignore_punctuation: bool = False

    @classmethod
    def of(cls, scorer: str, form: Form, ignore_case: bool, ignore_punctuation: bool) -> Normalization:
        """From the options of a scorer, whose types are checked."""
        return cls(
            checked(scorer, "normalize", form, Form),
            checked(scorer, "ignore_case", ignore_case, bool),
            checked(scorer, "ignore_punctuation", ignore_punctuation, bool),
        )

    def __call__(self, text: str) -> str:
        """The text without the differences that do not count."""
        if self.ignore_case or self.form == "quasi":
            text = text.lower()
        if self.ignore_punctuation or self.form == "quasi":
            text = text.translate(_PUNCTUATION)
        if self.form == "quasi":
            return " ".join(_ARTICLES.sub(" ", text).split())
        return text.strip() if self.form == "strip" else text

    @property
    def facts(self) -> dict[str, str]:
        """Everything that can change a normalized text."""
        return {
            "normalize": self.form,
            "ignore_case": str(self.ignore_case),
            "ignore_punctuation": str(self.ignore_punctuation),
        }
