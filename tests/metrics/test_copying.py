import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsvc.metrics.functional import copied_share, near_duplicate_share
from evalsvc.metrics.score import MetricError
from evalsvc.metrics.tokenizers import TOKENIZERS, mixed

WORDS = [f"w{number}" for number in range(400)]
TRAIN = [" ".join(random.Random(seed).choices(WORDS, k=300)) for seed in range(20)]


def spliced(length, seed=0):
    """A text of other words with a passage of ``length`` tokens from training document 3 in the middle."""
    other = [f"x{number}" for number in random.Random(seed).choices(range(400), k=60)]
    return " ".join([*other[:30], *TRAIN[3].split()[100 : 100 + length], *other[30:]])


def longest_by_hand(text, train):
    """The longest run of tokens in common, tried one by one."""
    a = text.split()
    best = 0
    for document in train:
        b = document.split()
        for i in range(len(a)):
            for j in range(len(b)):
                k = 0
                while i + k < len(a) and j + k < len(b) and a[i + k] == b[j + k]:
                    k += 1
                best = max(best, k)
    return best


def test_fifty_copied_tokens_are_copying_and_forty_nine_are_not():
    score = copied_share([spliced(49), spliced(50), spliced(80), "nothing at all"], TRAIN)
    assert score.value == 0.5
    assert score.details["longest"] == 80
    assert 0 < score.ci_low < 0.5 < score.ci_high < 1


def test_a_run_never_crosses_from_one_document_to_the_next():
    whole = TRAIN[0].split()
    parts = [" ".join(whole[:150]), " ".join(whole[150:])]
    assert copied_share([" ".join(whole[120:180])], parts).value == 0
    assert copied_share([" ".join(whole[120:180])], parts).details["longest"] == 30
    assert copied_share([" ".join(whole[120:140]), " ".join(whole[140:180])], [TRAIN[0]]).value == 0


def test_held_out_texts_are_the_control():
    score = copied_share([spliced(60)] * 3, TRAIN, heldout_texts=[spliced(60), "fine", "fine", "fine"])
    assert (score.value, score.details["heldout"]) == (1.0, 0.25)


@settings(max_examples=60)
@given(
    st.lists(st.text("ab ", max_size=12), min_size=1, max_size=4),
    st.lists(st.text("ab ", max_size=12), min_size=1, max_size=4),
)
def test_the_longest_run_is_that_of_a_search_by_hand(texts, train):
    score = copied_share(texts, train, length=2, tokenizer=str.split)
    by_hand = [longest_by_hand(text, train) for text in texts]
    assert score.details["longest"] == max(by_hand)
    assert score.value == pytest.approx(sum(found >= 2 for found in by_hand) / len(texts))


def test_a_document_with_a_few_words_changed_is_a_near_duplicate():
    words = TRAIN[5].split()
    few, many = list(words), list(words)
    few[50], few[200] = "changed", "changed"
    for place in range(0, 300, 10):
        many[place] = "changed"
    assert near_duplicate_share([" ".join(few), " ".join(many), TRAIN[6], spliced(80)], TRAIN).value == 0.5
    assert near_duplicate_share([" ".join(many)], TRAIN, threshold=0.3).value == 1


def test_every_text_is_its_own_duplicate_and_an_empty_one_nobody_s():
    assert near_duplicate_share(TRAIN, TRAIN).value == 1
    assert near_duplicate_share(["", " "], ["", *TRAIN]).value == 0
    assert near_duplicate_share(["short"], ["short"]).value == 1
    assert copied_share(["", "a"], ["", "b"]).value == 0


def test_chinese_and_mixed_texts_are_cut_where_their_scripts_say():
    assert mixed("GPT-4写了2首诗,ok?") == ["GPT", "-", "4", "写", "了", "2", "首", "诗", ",", "ok", "?"]
    assert mixed("שלום don't 🙂") == ["שלום", "don", "'", "t", "🙂"]
    assert mixed("ภาษาไทย")[:2] == ["ภ", "า"]
    assert TOKENIZERS["characters"]("中 文") == ["中", "文"]
    train = ["白日依山尽,黄河入海流。欲穷千里目,更上一层楼。"]
    assert copied_share(["他说:欲穷千里目,更上一层楼。"], train, length=10).value == 1
    assert copied_share(["他说:欲穷千里目,更上一层楼。"], train, length=10, tokenizer=str.split).value == 0


def test_what_cannot_be_measured_is_named():
    for call, reason in (
        (lambda: copied_share([], TRAIN), "copied_share of texts: 0 texts"),
        (lambda: copied_share(TRAIN, []), "copied_share of train_texts: 0 texts"),
        (lambda: copied_share(TRAIN, TRAIN, length=0), "length=0 must be at least 1 token"),
        (lambda: near_duplicate_share(TRAIN, TRAIN, threshold=0.0), r"threshold=0.0 is not within \(0, 1\]"),
    ):
        with pytest.raises(MetricError, match=reason):
            call()
