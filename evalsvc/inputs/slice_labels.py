"""Labels of slices: ``wer[lang=de]`` and ``wer[worst]``, harmless and of bounded length for any tag."""

from __future__ import annotations

import hashlib

LONGEST = 100
"""Maximum length of a label, in characters."""
SHORTEST = 24
"""Characters of a label that are left for the value of a tag at least."""
WORST = "worst"
_DIGEST = 12
_ESCAPED = frozenset("[]=~\\")


def escaped(value: str) -> str:
    """A value as it stands in a label: brackets, ``=``, ``~``, backslashes and what does not print as ``\\u{...}``.

    >>> escaped("a[b]")
    'a\\\\u{5b}b\\\\u{5d}'
    """
    return "".join(f"\\u{{{ord(c):x}}}" if c in _ESCAPED or not c.isprintable() else c for c in value)


def slice_label(whole: str, by: str, value: str) -> str:
    """Label of the slice of the score ``whole`` whose tag ``by`` has this value; long values end in their digest."""
    head, shown = f"{whole}[{escaped(by)}=", escaped(value)
    room = LONGEST - len(head) - 1
    if len(shown) > room:
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
        shown = f"{shown[: room - _DIGEST - 1]}~{digest}"
    return f"{head}{shown}]"


def worst_label(whole: str) -> str:
    """Label of the worst slice of the score ``whole``."""
    return f"{whole}[{WORST}]"


def parts(label: str) -> tuple[str, str, str] | None:
    """The whole score's label, the tag and the escaped value that a slice's label consists of; ``None`` of others.

    The worst slice has no tag, and ``worst`` as its value.

    >>> parts("wer[lang=de]"), parts("wer[worst]"), parts("wer")
    (('wer', 'lang', 'de'), ('wer', '', 'worst'), None)
    """
    if not label.endswith("]") or "[" not in label:
        return None
    whole, _, rest = label[:-1].rpartition("[")
    by, equals, value = rest.partition("=")
    if equals:
        return whole, by, value
    return (whole, "", WORST) if rest == WORST else None


def is_worst(label: str) -> bool:
    """Whether a label is that of the worst slice of a score."""
    cut = parts(label)
    return cut is not None and not cut[1]


def whole_of(label: str) -> str:
    """The label of the score that this one is a slice of; itself if it is not a slice."""
    cut = parts(label)
    return cut[0] if cut else label


def fits(whole: str, by: str) -> bool:
    """Whether the labels of these slices leave enough room for the values of the tag."""
    return len(whole) + len(escaped(by)) + len("[=]") + SHORTEST <= LONGEST
