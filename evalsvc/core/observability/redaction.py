"""Redaction of secrets in URLs and connection strings, for messages, logs and stored errors."""

from __future__ import annotations

import re

HIDDEN = "***"

_PASSWORD = re.compile(
    r"(?P<before>(?:https?://[^\s:@/]*:(?!\d{1,5}(?:[/?#\s]|$))|(?<!http)(?<!https)://[^\s:@/]*:))"  # (not a port)
    r"(?!password@)"  # examples of the documentation
    r"\S{1,256}(?=@)"  # bounded, like all repetitions here, so that a message of 100 kB does not take seconds
)
_WORDS = "password|passwd|passphrase|secret"
_PARAMETER = re.compile(
    r"(?P<before>[?&;](?:[\w.-]{0,64}"
    rf"(?:{_WORDS}|token|credential|signature|api[_-]?key|access[_-]?key|sslkey|auth)"
    r"[\w.-]{0,64}"
    r"|pass|passfile|pwd|key|sig|sas|code)=)"
    r"(?:[^&\s#]*[^&\s#'\"),.:;]|[^&\s#]+)",
    re.IGNORECASE,
)
_FACT = re.compile(
    rf"(?P<before>\b\w{{0,64}}(?:{_WORDS})\w{{0,64}}\s?=\s?)(?:'[^']*'|\"[^\"]*\"|[^\s&,;]+)", re.IGNORECASE
)
_OURS = re.compile(r"(?P<before>\b(?:evs|whsec)_)[A-Za-z0-9_+/=-]{16,}")


def redacted(text: str) -> str:
    """Text with the secrets of URLs and connection strings replaced by ``***``.

    These are passwords before an ``@``, values of parameters and settings whose names indicate passwords, keys or
    tokens, and all API tokens and webhook secrets of evalsvc.
    """
    for pattern in (_PASSWORD, _PARAMETER, _FACT, _OURS):
        text = pattern.sub(rf"\g<before>{HIDDEN}", text)
    return text
