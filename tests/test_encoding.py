import warnings

import numpy as np
import pytest
from conftest import tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from detente import InputError, TruncationWarning, resolve
from detente.encoding import PairEncoder, as_target, pair_text


@pytest.fixture(scope="module")
def encoder():
    return PairEncoder(tiny_tokenizer(), max_tokens=32, pad_id=0)


def test_targets_are_states_where_they_are_known():
    assert str(as_target(" Washington ")) == "United States"
    assert as_target("USA") == resolve("United States")
    assert as_target("Freedonia") == "Freedonia"
    assert pair_text(as_target("USA")) == "United States"
    assert pair_text(as_target("PER"), as_target("CHL")) == "Chile -> Peru"


@pytest.mark.parametrize("name", ["", "  ", "a\0"])
def test_unreadable_targets_are_refused(name):
    with pytest.raises(InputError, match="target"):
        as_target(name)


def test_ids_are_what_transformers_makes_of_the_pair(tiny_base):
    theirs = AutoTokenizer.from_pretrained(tiny_base)
    ours = PairEncoder(tiny_tokenizer(), max_tokens=64, pad_id=0)
    sentences = ["We thank France today.", "Zebra, 1999: “odd” — Kenya?"]
    triples = [(s, as_target("FRA"), as_target("KEN")) for s in sentences]
    batch = ours.collate(ours.encode(triples))
    expected = theirs(sentences, ["Kenya -> France"] * 2, padding=True, return_tensors="np")
    for name, array in batch.items():
        np.testing.assert_array_equal(array, expected[name])


words = st.lists(st.sampled_from(["we", "see", "a", "zebra", "1999", "(x)"]), max_size=60)


@given(before=words, after=words, target=st.sampled_from(["Japan", "Kenya", "North Korea"]))
def test_the_target_survives_truncation(before, after, target):
    encoder = PairEncoder(tiny_tokenizer(), max_tokens=40, pad_id=0)
    sentence = " ".join([*before, target, *after])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (encoded,) = encoder.encode([(sentence, as_target(target), None)])
    assert len(encoded) <= 40
    kept = encoder.tokenizer.decode(encoded.ids).split(target.lower())
    assert len(kept) >= 3  # before, between sentence and pair, after
    full = len(encoder.tokenizer.encode(sentence, target).ids)
    assert encoded.tokens_cut == max(0, full - len(encoded))
    assert bool(caught) == (full > 40)
    assert not caught or f"{encoded.tokens_cut} tokens were cut" in str(caught[0].message)


def test_a_cut_keeps_whole_words_and_fills_the_limit(encoder):
    sentence = "zebra " * 30 + "Japan " + "zebra " * 30
    with pytest.warns(TruncationWarning, match="over the model's limit of 32"):
        (encoded,) = encoder.encode([(sentence, as_target("Japan"), None)])
    text = encoder.tokenizer.decode(encoded.ids)
    assert set(text.split()) == {"zebra", "japan"}
    assert len(encoded) > 32 - 2 * len("zebra")


def test_one_endless_word_is_cut_too(encoder):
    with pytest.warns(TruncationWarning):
        (encoded,) = encoder.encode([("x" * 90, "Japan", None)])
    assert len(encoded) <= 32


def test_a_target_longer_than_half_the_model_is_refused(encoder):
    with pytest.raises(InputError, match="target and source take 26 of the model's 32 tokens"):
        encoder.encode([("we see " * 20, "abcde " * 5 + "f", None)])


def test_padding_is_masked(encoder):
    pairs = encoder.encode([("we see a state today", "Japan", None), ("we", "Japan", None)])
    batch = encoder.collate(pairs)
    assert batch["input_ids"].shape == (2, len(pairs[0]))
    assert batch["attention_mask"].sum(axis=1).tolist() == [len(pairs[0]), len(pairs[1])]
    assert not batch["input_ids"][1, len(pairs[1]) :].any()


def test_nothing_to_encode(encoder):
    assert encoder.encode([]) == []
    assert encoder.collate([])["input_ids"].shape == (0, 0)
