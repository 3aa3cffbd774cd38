"""Regular expressions from outside, matched by RE2 in time linear in the text."""

from __future__ import annotations

from typing import Any

from evalsvc.core.errors import InputError

LONGEST = 1000
"""Maximum length of a pattern, in characters."""
LARGEST = 2000
"""Maximum size of a compiled pattern, in instructions: a match takes time proportional to it at worst."""


class Pattern:
    """A regular expression in the syntax of RE2, which has neither backreferences nor look-around assertions."""

    def __init__(self, pattern: str, what: str) -> None:
        """Compile a pattern; ``what`` names it in errors (``option 'pattern'``).

        Raises:
            InputError: the pattern is invalid, or too large.
        """
        import re2

        options = re2.Options()
        options.log_errors = False
        try:
            if len(pattern) > LONGEST:
                raise InputError(f"{what} has {len(pattern)} characters: use at most {LONGEST}")
            self._compiled = re2.compile(pattern, options)
        except (re2.error, UnicodeEncodeError) as error:
            reason = error.args[0]
            said = reason.decode(errors="replace") if isinstance(reason, bytes) else str(error)
            raise InputError(
                f"{what} {pattern!r:.80} is not a pattern of RE2 ({said}): see https://github.com/google/re2/wiki/Syntax"
            ) from None
        if self._compiled.programsize > LARGEST:
            raise InputError(f"{what} {pattern!r:.80} is too large: use fewer repetitions")

    def search(self, text: str) -> Any | None:
        """The first match in a text, as ``re.search`` returns it; half surrogate pairs in the text match as "?"."""
        return self._compiled.search(text.encode(errors="replace").decode())
