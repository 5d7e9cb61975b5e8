import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.near_duplicates import THRESHOLD, NearIndex, likeness, signatures
from train.splits import normalised

SENTENCE = "oursidewillcarryonthetalksonthestraitsaslongasthedoorisopen"


def near_pairs(texts):
    index = NearIndex(signatures(texts))
    index.add(texts)
    return {(text, other) for text in texts for other, _ in index.near(text)}


def by_brute_force(texts):
    def grams(text):
        return {text[i : i + 5] for i in range(len(text) - 4)} or {text}

    def jaccard(a, b):
        return len(grams(a) & grams(b)) / len(grams(a) | grams(b))

    return {(a, b) for a in texts for b in texts if a != b and jaccard(a, b) >= 0.7}


def edited(seed, edits):
    """The sentence with some characters replaced, as a scan does it."""
    at = random.Random(seed)
    letters = list(SENTENCE)
    for _ in range(edits):
        letters[at.randrange(len(letters))] = at.choice("xyz")
    return "".join(letters)


def test_pairs_are_those_of_brute_force():
    texts = sorted({edited(i, i % 4) for i in range(60)} | {"", "a", "no", "yes!", "other words"})
    expected = by_brute_force(texts)
    assert len(expected) > 100  # and far from all pairs
    assert len(expected) < len(texts) * (len(texts) - 1) / 2
    assert near_pairs(texts) == expected


@given(st.lists(st.text("abc", max_size=14), unique=True, max_size=12))
def test_no_pair_below_the_threshold_and_the_relation_is_symmetric(texts):
    found = near_pairs(texts)
    assert found <= by_brute_force(texts)
    assert found == {(b, a) for a, b in found} == near_pairs(texts[::-1])


@given(st.text(), st.text())
def test_likeness_is_symmetric_and_one_for_equal_texts(a, b):
    assert 0 <= likeness(a, b) == likeness(b, a) <= 1
    assert likeness(a, a) == 1


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [
        ("We are worried by the shelling of the hospital on the northern bank of the river.",
         "We are deeply worried by the shelling of the hospital on the northern bank of the river.",
         True),
        ("The harbour at the mouth of the river was built by our own soldiers in the first winter.",
         "The harbor at the mouth of the river was bui1t by our own soldiers in the first winter.",
         True),
        ("They met at the wish of the Malian side.", "They met at the wish of the Peruvian side.",
         False),
        ("We reject what the ministry in Lima has said.",
         "We welcome what the ministry in Lima has said.", False),
    ],
)  # fmt: skip
def test_rewrites_are_near_and_formulas_are_not(a, b, near):
    a, b = normalised(a), normalised(b)
    assert bool(near_pairs([a, b])) == (likeness(a, b) >= THRESHOLD) == near


def test_a_text_is_added_once():
    index = NearIndex(signatures(["aaaaaa", "bbbbbb"]))
    index.add(["aaaaaa", "aaaaaa"])
    index.add(["aaaaaa"])
    assert list(index.near("aaaaaa")) == [] == list(index.near("bbbbbb"))
