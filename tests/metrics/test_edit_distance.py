"""The edit distance against its definition and its recursion."""

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from evalsvc.metrics.edit_distance import edit_distance

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


def by_recursion(first, second):
    @cache
    def distance(i, j):
        if not i or not j:
            return i + j
        return min(
            distance(i - 1, j) + 1,
            distance(i, j - 1) + 1,
            distance(i - 1, j - 1) + (first[i - 1] != second[j - 1]),
        )

    return distance(len(first), len(second))


@given(WORDS, WORDS)
def test_it_is_the_least_number_of_edits(first, second):
    assert edit_distance(first, second) == by_recursion(first, second) == edit_distance(second, first)


def test_sequences_of_any_length_and_of_any_values():
    assert [edit_distance(*pair) for pair in (("", ""), ("", "abc"), ("abc", ""), ("中文", "中国"))] == [0, 3, 3, 1]
    assert edit_distance([1, ("a",), None], [1, None]) == 1
    assert edit_distance("ab" * 2000, "ba" * 2000) == 2
