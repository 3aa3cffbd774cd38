import pytest

from evalsvc.errors import first_line


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
