import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from evalsvc.metrics.functional import compression_ratio, distinct_n, repetition, self_bleu
from evalsvc.metrics.score import MetricError
from evalsvc.metrics.tokenizers import mixed
from tests.metrics import naive_ngrams as naive

texts_of_few_words = st.lists(st.lists(st.sampled_from("abcde"), max_size=12).map(" ".join), min_size=2, max_size=12)
SCORES = (distinct_n, repetition, self_bleu)


def random_texts(seed, count=60, words=40):
    rng = np.random.default_rng(seed)
    return [" ".join(map(str, rng.integers(words, size=rng.integers(0, 25)))) for _ in range(count)]


def nltk_self_bleu(texts, n):
    tokens = [text.split() for text in texts]
    smooth = SmoothingFunction().method1
    others = [tokens[:i] + tokens[i + 1 :] for i in range(len(tokens))]
    return [
        sentence_bleu(rest, text, (1 / n,) * n, smoothing_function=smooth)
        for rest, text in zip(others, tokens, strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(texts_of_few_words.filter(lambda texts: any(texts)), st.integers(1, 5))
def test_self_bleu_is_nltks(texts, n):
    assert self_bleu(texts, n).value == pytest.approx(np.mean(nltk_self_bleu(texts, n)), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_self_bleu_is_nltks_on_longer_texts(seed):
    texts = random_texts(seed)
    assert self_bleu(texts).value == pytest.approx(np.mean(nltk_self_bleu(texts, 4)), abs=1e-12)


def test_self_bleu_of_equal_texts_is_one_and_of_unrelated_texts_zero():
    assert self_bleu(["the cat sat on the mat"] * 5).value == pytest.approx(1, abs=1e-15)
    assert self_bleu(["a b c d", "e f g h", "i j k l"]).value == 0


@settings(max_examples=60, deadline=None)
@given(texts_of_few_words, st.integers(1, 3))
def test_distinct_and_repetition_are_their_definitions(texts, n):
    if all(len(text.split()) < n for text in texts):
        with pytest.raises(MetricError, match="tokens"):
            distinct_n(texts, n)
    else:
        assert distinct_n(texts, n).value == pytest.approx(naive.distinct(texts, n), abs=1e-15)
        assert repetition(texts, n).value == pytest.approx(naive.repetition(texts, n), abs=1e-15)


@settings(max_examples=30, deadline=None)
@given(texts_of_few_words.filter(lambda texts: any(texts)), st.randoms())
def test_the_order_of_texts_does_not_matter(texts, random):
    mixed = random.sample(texts, len(texts))
    for score in SCORES:
        one, other = score(texts, n=1), score(mixed, n=1)
        assert other.value == pytest.approx(one.value, abs=1e-14)
        assert (one.stderr is None) == (other.stderr is None)
        assert other.stderr == pytest.approx(one.stderr, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(texts_of_few_words.filter(lambda texts: any(texts)))
def test_a_second_copy_of_the_corpus_halves_distinctness_and_leaves_repetition(texts):
    assert distinct_n(texts * 2, 1).value == pytest.approx(distinct_n(texts, 1).value / 2)
    assert repetition(texts * 2, 1).value == pytest.approx(repetition(texts, 1).value)


def test_with_a_copy_of_everything_each_text_finds_itself():
    texts = ["a b c d e", "c d e f g h", "x y z w"]
    assert self_bleu(texts * 2).value == pytest.approx(1, abs=1e-15)


def test_ngrams_do_not_cross_documents():
    assert distinct_n(["a b", "c a", "b c"], 2).value == 1


def test_the_tokenizer_is_the_callers():
    assert distinct_n(["abab", "aaaa"], 1, tokenizer=list).value == 2 / 8
    assert self_bleu(["abcd", "abcd"], tokenizer=list).value == pytest.approx(1)


def test_the_score_is_named_after_its_order():
    texts = ["a b c d e", "a b c d f"]
    assert [score(texts, n=3).name for score in SCORES] == ["distinct_3", "repetition_3", "self_bleu_3"]


@pytest.mark.parametrize("seed", range(3))
def test_the_jackknife_of_distinct_words_leaves_out_each_document(seed):
    rng = np.random.default_rng(seed)
    texts = [
        " ".join(["the"] * rng.integers(1, 9) + [f"w{i}.{j}" for j in range(rng.integers(1, 9))]) for i in range(40)
    ]
    left_out = np.array([naive.distinct(texts[:i] + texts[i + 1 :], 1) for i in range(40)])
    expected = np.sqrt(39 / 40 * ((left_out - left_out.mean()) ** 2).sum())
    assert distinct_n(texts, 1).stderr == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_the_jackknife_of_self_bleu_leaves_out_each_document(seed):
    rng = np.random.default_rng(seed)
    texts = [" ".join(map(str, rng.integers(60, size=9))) for _ in range(20)]  # equal lengths: brevity stays out
    left_out = np.array([np.mean(nltk_self_bleu(texts[:i] + texts[i + 1 :], 2)) for i in range(20)])
    plain = np.sqrt(19 / 20 * ((left_out - left_out.mean()) ** 2).sum())
    assert self_bleu(texts, 2).stderr == pytest.approx(plain, rel=1e-9)


def test_compression_ratio_is_one_gzip_of_the_joined_texts():
    texts = ["häuser am fluss", "", "am fluss"] * 30
    joined = " ".join(texts).encode()
    assert compression_ratio(texts).value == len(joined) / len(gzip.compress(joined, compresslevel=9, mtime=0))
    assert compression_ratio(texts) == compression_ratio(texts)


def test_repeated_text_compresses_better_than_noise():
    assert compression_ratio(["one and the same"] * 200).value > 4 * compression_ratio(random_texts(0, 200)).value


def test_lone_surrogates_are_bytes_too():
    assert compression_ratio(["\ud800 broken"]).value > 0


def test_what_has_no_error_says_why():
    assert "nothing tells" in distinct_n(["a b", "c d"], 1).stderr_method
    assert "without a reference" in self_bleu(["a b", "a c"]).stderr_method
    assert "single document" in repetition(["a a a"], 1).stderr_method
    assert "single document" in distinct_n(["a a a"], 1).stderr_method
    assert "fewer texts" in compression_ratio(["a"]).stderr_method


@pytest.mark.parametrize("score", [*SCORES, compression_ratio])
def test_texts_that_are_none_are_refused(score):
    for texts, says in (([], "texts"), (["", " "], "token|n-gram|smaller n"), ("one string", "single string")):
        if (score, texts) == (compression_ratio, ["", " "]):
            continue
        with pytest.raises(MetricError, match=says):
            score(texts)
    with pytest.raises(MetricError, match="empty"):
        compression_ratio(["", ""])


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("n", [0, -1, 17])
def test_an_order_without_a_name_is_refused(score, n):
    with pytest.raises(MetricError, match="1 to 16"):
        score(["a b", "c d"], n=n)


def test_self_bleu_needs_company():
    with pytest.raises(MetricError, match="at least 2"):
        self_bleu(["a b c"])


def test_a_document_that_is_no_text_is_named():
    with pytest.raises((MetricError, TypeError), match="text 1|texts"):
        distinct_n(["a b", 7], 1)


def test_texts_of_scripts_without_spaces_are_cut_into_characters_unless_a_tokenizer_is_named():
    poem = ["床前明月光。疑是地上霜。举头望明月。低头思故乡。", "床前明月光。"]
    assert distinct_n(poem, 2).value == distinct_n(poem, 2, mixed).value < 1
    assert distinct_n(poem, 1, str.split).value == 1.0
    assert repetition(["สวัสดีสวัสดี"], 2).value > 0.4
    english = ["the words 床前 of a text", "that has spaces"]
    for metric in (distinct_n, repetition, self_bleu):
        assert metric(english, 1).value == metric(english, 1, str.split).value
