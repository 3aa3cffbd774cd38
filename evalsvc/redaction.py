"""Hide what is secret in an address before anybody sees it: in messages, in logs, in stored errors."""

from __future__ import annotations

import re

HIDDEN = "***"

_PASSWORD = re.compile(
    r"(?P<before>(?:https?://[^\s:@/]*:(?!\d{1,5}(?:[/?#\s]|$))|(?<!http)(?<!https)://[^\s:@/]*:))"  # (not a port)
    r"(?!password@)"  # our own examples
    r"\S+(?=@)"
)
_WORDS = "password|passwd|passphrase|secret"
_PARAMETER = re.compile(
    rf"(?P<before>[?&;](?:[\w.-]*(?:{_WORDS}|token|credential|signature|api[_-]?key|access[_-]?key|sslkey|auth)[\w.-]*"
    r"|pass|passfile|pwd|key|sig|sas|code)=)"
    r"(?:[^&\s#]*[^&\s#'\"),.:;]|[^&\s#]+)",
    re.IGNORECASE,
)
_FACT = re.compile(rf"(?P<before>\b\w*(?:{_WORDS})\w*\s?=\s?)(?:'[^']*'|\"[^\"]*\"|[^\s&,;]+)", re.IGNORECASE)


def redacted(text: str) -> str:
    """Text with the passwords of its URLs and connection strings replaced by ``***``.

    Those before an ``@``, and values of parameters and settings whose names speak of passwords, keys or tokens.
    """
    for pattern in (_PASSWORD, _PARAMETER, _FACT):
        text = pattern.sub(rf"\g<before>{HIDDEN}", text)
    return text
