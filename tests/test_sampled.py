import numpy as np
import pandas as pd
import pytest

from detente.errors import InputError
from detente.labels import LABELS
from detente.prevalence import Confusion
from detente.sampled import Sample, sample_of
from detente.shifts import shift
from tests.test_shifts import GOOD, rows

# What the classifier is said to do, and what it does: the rows of one true label each.
FAR_WORSE = np.array([[0.6, 0.3, 0.1], [0.3, 0.4, 0.3], [0.05, 0.05, 0.9]])


def rows_with_sample(share, seed=0, documents=300):
    """Rows with true labels, the label of a classifier that sees good where there is none."""
    rng = np.random.default_rng(seed)
    table = rows(documents=documents, effect=0.8, seed=seed)
    for row in table:
        true = row["label"]
        row["label"] = LABELS[rng.choice(3, p=FAR_WORSE[LABELS.index(true)])]
        row["score"] = float(LABELS.index(row["label"])) - 1
        if rng.random() < share:
            row |= {"true_label": true, "sampling_probability": share}
    return table


def test_a_sample_corrects_levels_that_wrong_confusion_counts_would_not():
    wrong, right = [], []
    for seed in range(4):
        table = rows_with_sample(0.3, seed)
        found = shift(table, confusion=GOOD, trends=False)
        right.append(found.effect)
        assert any("corrects the levels" in note for note in found.notes)
        without = [{k: v for k, v in row.items() if k != "true_label"} for row in table]
        wrong.append(shift(without, confusion=GOOD, trends=False).effect)
    assert np.mean([e.value for e in right]) == pytest.approx(0.8, abs=0.12)
    assert np.mean([e.value for e in wrong]) < 0.65
    assert sum(e.low <= 0.8 <= e.high for e in right) >= 3


def test_a_few_labels_are_too_few_and_said_so():
    found = shift(rows_with_sample(0.02), confusion=GOOD, trends=False)
    assert any("too small to correct" in note for note in found.notes)


def test_labels_of_all_statements_give_their_shares_whatever_the_classifier_says():
    true = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 2.0]] * 20)
    predicted = np.roll(true, 1, axis=1)
    sample = Sample(np.full(40, 4), true - predicted)
    at = np.full(400, 20)
    shares = sample.draw_shares(predicted, np.ones(40), 0, at, 40, np.random.default_rng(0))
    assert shares.sum(axis=-1) == pytest.approx(np.ones((400, 2)))
    assert shares.mean(axis=0) == pytest.approx(
        np.tile(true.sum(axis=0) / true.sum(), (2, 1)), abs=0.02
    )


def test_a_statement_that_was_half_as_likely_counts_twice():
    table = pd.DataFrame(
        {
            "label": ["neutral"] * 3,
            "true_label": ["critical", "conciliatory", None],
            "sampling_probability": [0.5, 0.25, None],
        }
    )
    found = sample_of(table, np.array([0, 0, 1]), 2)
    assert found.labelled.tolist() == [2, 0]
    assert found.correction.tolist() == [[2, -6, 4], [0, 0, 0]]


def test_without_true_labels_there_is_no_sample():
    assert sample_of(pd.DataFrame({"label": ["neutral"]}), np.array([0]), 1) is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"true_label": ["critical"]}, "column sampling_probability"),
        ({"true_label": ["critical"], "sampling_probability": [0]}, r"row 1.*outside \(0, 1\]"),
        ({"true_label": ["critical"], "sampling_probability": ["half"]}, "row 1.*half"),
        ({"true_label": ["angry"], "sampling_probability": [0.5]}, "row 1.*angry"),
    ],
)
def test_a_sample_that_cannot_be_read_is_named(columns, message):
    table = pd.DataFrame({"label": ["neutral"], **columns}, index=["row 1"])
    with pytest.raises(InputError, match=message):
        sample_of(table, np.array([0]), 1)


def test_the_classifier_of_these_tests_is_worse_than_it_is_said_to_be():
    assert Confusion(FAR_WORSE * 400).accuracy < GOOD.accuracy - 0.15
