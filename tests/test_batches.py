from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from conftest import tiny_rows
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from detente import Statement
from detente.encoding import PairEncoder
from detente.labels import LABELS
from detente.states import all_states, resolve, state
from train.batches import (
    UNKNOWN,
    Collator,
    LengthSampler,
    classes_of,
    make_units,
    other_names,
    withhold_targets,
)
from train.losses import weighted_cross_entropy

STATEMENTS = [Statement.from_row(row) for row in tiny_rows()]
THANKS = Statement("We thank France.", "FRA", source="USA", label="conciliatory")


def collator(encoder: PairEncoder, **changes) -> Collator:
    settings = {"weights": np.ones(3), "smoothing": 0.0, "source_dropout": 0.0, "seed": 1}
    return Collator(encoder, segments=True, **(settings | changes))


def units(encoder, statements, *, training=True):
    return list(make_units(statements, encoder, contrast_weight=1.0 if training else None))


def test_sources_are_withheld_by_epoch_and_only_in_training(encoder):
    def without(epoch, training=True):
        c = collator(encoder, source_dropout=0.5)
        c.epoch = epoch
        ids = c(units(encoder, [THANKS] * 200, training=training))["input_ids"]
        return (ids[:, -1] == 0).numpy()  # rows without source are shorter, hence padded

    assert 0.35 < without(0).mean() < 0.65
    assert (without(0) == without(0)).all() and (without(0) != without(1)).any()
    assert not without(0, training=False).any()


def test_absent_targets_are_neutral_and_really_absent(encoder):
    states = ["France", "Peru", "Japan", "United States"]
    c = collator(encoder, absent_targets=0.5, states=states)
    labels = c(units(encoder, [THANKS] * 300))["labels"][:, 0]
    # Half are drawn; a quarter of those draw France and a quarter the source, and stay.
    neutral = labels[:, 1] == 1
    assert 0.15 < neutral.float().mean() < 0.35
    assert (labels[~neutral] == torch.tensor([0.0, 0.0, 1.0])).all()
    implied = Statement("We thank your people.", "FRA", label="conciliatory")
    alone = collator(encoder, absent_targets=1.0, states=states)(units(encoder, [implied] * 9))
    assert (alone["labels"][:, 0, 2] == 1).all()  # whose people they are, the words do not say
    only_present = collator(encoder, absent_targets=0.5, states=["France", "United States"])
    assert (only_present(units(encoder, [THANKS] * 50))["labels"][:, 0, 2] == 1).all()


def test_rows_of_one_sentence_are_one_unit_with_their_weight(encoder):
    pair = [
        Statement("We thank Peru and not Chile.", "PER", label="conciliatory"),
        Statement("We thank Peru and not Chile.", "CHL", label="neutral", extra={"weight": 0.5}),
    ]
    found = list(make_units([*pair, STATEMENTS[0]], encoder, contrast_weight=2.0))
    assert [len(unit["rows"]) for unit in found] == [2, 1]
    labels = collator(encoder)(found)["labels"][:, 0]
    assert labels.sum(dim=1).tolist() == [2, 1, 1]
    assert [len(unit["rows"]) for unit in units(encoder, pair, training=False)] == [1, 1]


def test_a_soft_label_stands_in_for_the_label(encoder):
    soft = replace(THANKS, extra={"soft_label": [0.25, 0.5, 0.25], "weight": 0.5})
    packed = collator(encoder, smoothing=0.3)(units(encoder, [soft]))["labels"][0, 0]
    expected = 0.5 * (0.7 * np.array([0.25, 0.5, 0.25]) + 0.1)
    assert packed.tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    ("contrast", "expected"),
    [
        ((("critical",), ("conciliatory",)), [0, -1, 1]),
        ((("critical",), ("neutral", "conciliatory")), [0, 1, 1]),
    ],
)
def test_a_corpus_that_tells_two_classes_apart_teaches_no_more(encoder, contrast, expected):
    assert classes_of(contrast) == expected
    row = replace(THANKS, label=contrast[1][0], extra={"contrast": contrast})
    labels = collator(encoder, smoothing=0.2)(units(encoder, [row]))["labels"]
    logits = torch.tensor([[0.3, -1.0, 2.0]], requires_grad=True)
    loss = weighted_cross_entropy({"logits": logits}, labels)
    # By hand: two classes, of which the row's has its share of the smoothed weight.
    classes = torch.tensor(expected)
    scores = torch.stack([logits[0, classes == c].logsumexp(0) for c in (0, 1)])
    told = (classes >= 0).sum()
    weight = 0.2 * torch.stack([(classes == c).sum() / told for c in (0, 1)])
    weight[1] += 0.8
    assert loss.item() == pytest.approx(-(weight * scores.log_softmax(0)).sum().item(), rel=1e-5)
    loss.backward()
    assert (logits.grad[0, classes < 0] == 0).all()
    if expected == [0, 1, 1]:  # what of its class it is, the row does not say
        share = logits.detach()[0, 1:].softmax(0)
        assert logits.grad[0, 1:] / logits.grad[0, 1:].sum() == pytest.approx(share)


def test_tokens_that_name_the_target_are_found(encoder):
    def named(text, target, **changes):
        statement = Statement(text, target, label="neutral")
        c = collator(encoder, find_mentions=True, **changes)
        batch = c(units(encoder, [statement]))
        tokens = [encoder.tokenizer.id_to_token(i) for i in batch["input_ids"][0]]
        return list(zip(tokens, batch["mentions"][0].tolist(), strict=True))

    found = named("We thank France and the French, not Peru.", "FRA")
    hits = [token for token, value in found if value == 1]
    assert hits[0] == "france" and "".join(hits[1:]).replace("##", "") == "french"
    # Special tokens and the target's own name after the sentence are not asked about.
    assert [value for token, value in found if token in ("[CLS]", "[SEP]")] == [UNKNOWN] * 3
    assert found[-2] == ("france", UNKNOWN)
    # A target that nothing names may be meant by any word; one put in its place is meant by none.
    assert {value for _, value in named("We thank your people.", "FRA")} == {UNKNOWN}
    absent = named("We thank France.", "FRA", absent_targets=1.0, states=["Peru"])
    assert {value for _, value in absent} == {0, UNKNOWN}
    # Free text is found by itself, and a sentence that is cut says nothing.
    assert 1 in {value for _, value in named("We thank x1 today.", "x1")}
    with pytest.warns(match="tokens were cut"):
        long = named("We see France today. " * 30, "FRA")
    assert {value for _, value in long} == {UNKNOWN}


def test_every_other_name_means_its_state_alone():
    for found in all_states():
        names = other_names(found)
        assert names and found.name not in names
        assert {resolve(name) for name in names} == {found}
    assert {"FRA", "French"} <= set(other_names(state("FRA")))
    assert "Paris" not in other_names(state("FRA"))


def test_the_pair_has_another_name_of_the_target_and_all_else_stays(encoder):
    statements = [THANKS] * 200
    settings = {"source_dropout": 0.5, "absent_targets": 0.3, "states": ["Peru", "Japan"]}

    def batch(share, epoch=0, training=True):
        c = collator(encoder, find_mentions=True, target_names=share, **settings)
        c.epoch = epoch
        return c(units(encoder, statements, training=training))

    def tokens(words):
        return tuple(encoder.tokenizer.encode(words, add_special_tokens=False).ids)

    meant = {
        tokens(name): found.code
        for found in map(state, ("FRA", "PER", "JPN"))
        for name in (found.name, *other_names(found))
    }
    prefix = tokens("United States ->")

    def pair(found, row):
        """Returns whether the pair has its source, and the tokens of its target."""
        second = found["input_ids"][row][found["token_type_ids"][row] == 1].tolist()[:-1]
        sourced = tuple(second[: len(prefix)]) == prefix
        return sourced, tuple(second[len(prefix) * sourced :])

    plain, renamed = batch(0.0), batch(0.5)
    assert torch.equal(plain["labels"], renamed["labels"])
    length = min(plain["mentions"].shape[1], renamed["mentions"].shape[1])
    # What the sentence names stays what it is, whatever the pair calls it.
    sentence = (plain["token_type_ids"][:, :length] == 0) & (plain["mentions"][:, :length] >= 0)
    assert torch.equal(
        plain["mentions"][:, :length][sentence], renamed["mentions"][:, :length][sentence]
    )
    changed = 0
    for row in range(len(statements)):
        (sourced, target), (still_sourced, name) = pair(plain, row), pair(renamed, row)
        assert sourced == still_sourced and meant[name] == meant[target]
        changed += name != target
    assert 0.35 < changed / len(statements) < 0.65
    assert torch.equal(renamed["input_ids"], batch(0.5)["input_ids"])
    assert not np.array_equal(renamed["input_ids"], batch(0.5, epoch=1)["input_ids"])
    kept = batch(1.0, training=False)["input_ids"]
    assert torch.equal(kept, batch(0.0, training=False)["input_ids"])


def test_free_text_and_the_target_of_a_cut_sentence_keep_their_name(encoder):
    free = replace(THANKS, target="the delegation", source=None)
    with pytest.warns(match="tokens were cut"):
        long = units(encoder, [replace(THANKS, text="We see France today. " * 30, source=None)])
        ids = collator(encoder, target_names=1.0)(long)["input_ids"][0].tolist()
        assert ids == collator(encoder)(long)["input_ids"][0].tolist()
    found = collator(encoder, target_names=1.0)(units(encoder, [free]))["input_ids"]
    assert torch.equal(found, collator(encoder)(units(encoder, [free]))["input_ids"])


def test_only_training_asks_for_mentions(encoder):
    c = collator(encoder, find_mentions=True)
    assert "mentions" not in c(units(encoder, [THANKS], training=False))
    assert "mentions" not in collator(encoder)(units(encoder, [THANKS]))


def test_the_twin_sees_no_state():
    for before, after in zip(STATEMENTS, withhold_targets(STATEMENTS), strict=True):
        assert after.text == before.text and after.label == before.label
        assert (after.target, after.source) == ("a state", None)


def test_classes_are_numbered_in_label_order():
    assert classes_of(tuple((label,) for label in LABELS)) == [0, 1, 2]


@given(st.lists(st.integers(1, 90), min_size=1, max_size=300), st.integers(1, 8), st.integers(0, 9))
def test_batches_are_of_like_length_whole_and_the_same_for_a_seed_and_epoch(lengths, size, epoch):
    sampler = LengthSampler(lengths, size, seed=3)
    sampler.epoch = epoch
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths))) and len(sampler) == len(lengths)
    again = LengthSampler(lengths, size, seed=3)
    again.epoch = epoch
    assert list(again) == order


def test_two_processes_have_the_batches_of_one_in_parts():
    def batches(size):
        lengths = np.random.default_rng(0).integers(10, 90, size=160)
        return BatchSampler(LengthSampler(lengths, 16, seed=3), size, drop_last=False)

    first, second = (BatchSamplerShard(batches(8), 2, process) for process in (0, 1))
    together = [a + b for a, b in zip(first, second, strict=True)]
    assert together == list(batches(16))


def test_batches_hold_little_padding_and_come_in_no_order_of_length():
    lengths = np.random.default_rng(0).integers(10, 90, size=800)
    batches = lengths[list(LengthSampler(lengths, 8, seed=0))].reshape(-1, 8)
    assert batches.mean() / batches.max(axis=1).mean() > 0.95
    longest = batches.max(axis=1)
    assert abs(np.corrcoef(longest[:-1], longest[1:])[0, 1]) < 0.3
    other = LengthSampler(lengths, 8, seed=0)
    other.epoch = 1
    assert list(other) != list(LengthSampler(lengths, 8, seed=0))
