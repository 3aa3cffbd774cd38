import pytest

from evalsvc.core.errors import InputError, first_line, printable


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "first"),
        (ValueError("\n first\nsecond"), "first"),
        (EOFError(), "EOFError"),
        (ValueError(" \n"), "ValueError"),
    ],
)
def test_every_error_says_something_in_one_line(error, line):
    assert first_line(error) == line
    assert first_line(ValueError("x" * 200), 160) == "x" * 160


@pytest.mark.parametrize("code", ["\x1b[31m", "\x1b]0;t\x07", "\r", "\b", "\x9b1m", "\u202e", "\udcff", "\0"])
def test_no_error_controls_a_terminal(code):
    shown = str(InputError(f"a{code}é\nb"))
    assert shown == printable(shown)
    assert shown.startswith("a\\")
    assert shown.endswith("é\nb")
    assert all(each.isprintable() or each == "\n" for each in shown)
