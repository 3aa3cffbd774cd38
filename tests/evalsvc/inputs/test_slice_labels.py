"""Labels of slices are bounded, unambiguous and harmless for any tag."""

import pytest

from evalsvc.inputs.slice_labels import LONGEST, fits, is_worst, parts, slice_label, worst_label

HOSTILE = [
    "",
    "worst",
    "=1+1",
    "@SUM(A1)",
    "a]b[c",
    "\x1b[31m",
    "\u202e",
    "\ud800",
    "a\nb",
    "<b>",
    "x" * 5000,
    "~",
    "\\",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_any_tag_gives_a_label_that_prints_fits_and_is_taken_apart(value):
    label = slice_label("wer", "lang", value)
    assert label.isprintable()
    assert len(label) <= LONGEST
    assert label.startswith("wer[lang=")
    assert parts(label)[:2] == ("wer", "lang")
    assert is_worst(worst_label("wer"))
    assert not is_worst(label)


def test_two_values_never_share_a_label():
    long = "x" * 200
    values = [*HOSTILE, long, long + "y", slice_label("wer", "lang", long)[9:-1], "\\u{5b}", "["]
    assert len({slice_label("wer", "lang", value) for value in values}) == len(values)


def test_a_long_label_leaves_room_for_values():
    assert fits("wer", "lang")
    assert not fits("w" * 80, "lang")
