"""Messages, docstrings and comments are plain technical English with American spelling."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOMS = sorted(
    str(folder.relative_to(REPOSITORY))
    for folder in [*(REPOSITORY / "evalsvc").iterdir(), REPOSITORY / "metrics", REPOSITORY / "dashboards"]
    if folder.is_dir() and not folder.is_symlink() and folder.name != "__pycache__"
)

DIALECT = {
    r"(?<!\bthere )\b(is|are|was|were|be) no (?!longer|more\b|less\b|later\b)": "negate the verb: 'is not a ...'",
    r"(?<!\bthere )\b(is|are|was|were) (none|neither nor)\b": "say 'is not ...', or 'None'",
    r"\b(hold|know|bring|name|say|state|tell|read|make|give)s? (no|none|nothing)\b": "negate the verb",
    r"^(What|Who|Whoever|Whatever|Such|That|All that)\b": "begin with a noun or an imperative",
    r"\b(of|for|from|with|by|in|than|but|like) (what|whom)\b": "give the relative clause a noun",
    r"\b(what|who|which|where|how)ever\b": "name the thing",
    r"\b(anew|thrice|for ever|in vain|to no purpose|hence)\b": "use the everyday word",
    r"\b(any more|heard of|given out|to be had|c[ao]me of (it|them)|nothing of)\b": "use the standard term",
    r"\b(are|is|was|were) due\b": "say 'expected'",
    r"\b(strangers?|nobody|somebody)\b": "name the role: user, client, operator, process",
    r"\bmake sure\b|\bmend(s|ed)?\b|\bpromised?\b": "say 'check', 'repair', 'declare'",
}
"""Patterns to avoid, each with the advice that replaces it."""

BRITISH = re.compile(
    r"\b\w*(neighbour|colour|behaviour|favour|honour|grey|licence|catalogue|artefact|centre[ds]?\b|fibre|metre\b|defence"
    r"|(?:memor|normal|recogn|organ|optim|initial|serial|summar|standard|token|final|real|util|minim|maxim|character|emphas"
    r"|categor|general|priorit|synchron|parallel|visual|random|quant|local|penal|stabil|custom)is(?:e[ds]?|ing|ation)\b"
    r"|analyse[ds]?\b|(?:cancel|label|travel|model|signal|total|level)l(?:ed|ing)\b|judgement|whilst|towards\b)",
    re.IGNORECASE,
)

EXCEPTIONS = dict.fromkeys(
    (
        "none: torchmetrics.{} gives no error",
        "none: a single sample says nothing about the spread between samples",
        "none: a single document says nothing about the spread between documents",
    ),
    "the method of a score, which is stored",
) | dict.fromkeys(
    (
        "centre square, Pillow bicubic to {0} in whole levels, CLIP mean and std",
        "Pillow bicubic of the short side to {0}, centre crop, CLIP mean and std",
        "8x8 as they are, RGB to grey by ITU-R 601 luma, -1 to 1, float32",
        "TF1 bilinear to 299 without half-pixel centres, (x - 128) / 128",
        "TF1 bilinear to 224 without half-pixel centres, ImageNet mean and std, float32",
    ),
    "the preprocessing of an extractor, which is part of its protocol",
)
"""Texts that break a rule on purpose, each with its reason."""


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring, message and comment of a module; placeholders of f-strings become ``{}``.

    A text without a space is a key or a name, which may be stored, and code in backticks is not language.
    """
    parts: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts.update(id(part) for part in ast.walk(node))
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = node.value
        else:
            continue
        if " " in text.strip():
            yield node.lineno, _language(text)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], _language(token.string.lstrip("# "))


def _language(text: str) -> str:
    return re.sub(r"``.*?``|`[^`\s]+`|'[^'\s]+'", "{}", " ".join(text.split()))


def faults(source: str) -> list[str]:
    """One line for each text that breaks a rule."""
    lines = []
    for line, text in texts(source):
        if text in EXCEPTIONS:
            continue
        for pattern, advice in DIALECT.items():
            if match := re.search(pattern, text):
                lines.append(f"line {line}: {match.group()!r} in {text!r}: {advice}")
        if match := BRITISH.search(text):
            lines.append(f"line {line}: {match.group()!r} in {text!r}: use American spelling")
    return lines


@pytest.mark.parametrize("room", ROOMS)
def test_room_speaks_plain_technical_english(room: str) -> None:
    broken = [
        f"{file.relative_to(REPOSITORY)} {fault}"
        for file in sorted((REPOSITORY / room).rglob("*.py"))
        for fault in faults(file.read_text())
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    "text",
    [
        "this cursor is none that was given out",
        "'x' is no name of a model",
        "What plug-ins promised, checked at the border",
        "attempt 1 brings nothing any more",
        "the memorisation of the nearest neighbours",
        "the digest of what was read",
    ],
)
def test_dialect_is_recognized(text: str) -> None:
    assert faults(f'raise ValueError("{text}")')


@pytest.mark.parametrize(
    "text",
    ["there is no generator {}: did you mean {}?", "Suite key ``neighbours`` sets k", "the run is no longer active"],
)
def test_plain_sentences_pass(text: str) -> None:
    assert not faults(f'raise ValueError("{text}")')
