import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, mean_absolute_error

from detente.labels import LABELS
from train.tone_metric import (
    ToneMetric,
    calibration_bins,
    calibration_error,
    macro_f1_from_confusion,
    merge,
    tone_metrics,
)


def sample(rows, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet([1, 1, 1], rows), rng.integers(0, 3, rows)


@given(rows=st.integers(1, 200), seed=st.integers(0, 99))
def test_agrees_with_scikit_learn(rows, seed):
    p, y = sample(rows, seed)
    predicted = p.argmax(axis=1)
    found = tone_metrics(p, y)
    f1 = f1_score(y, predicted, labels=[0, 1, 2], average=None, zero_division=0)
    assert list(found["f1"].values()) == pytest.approx(list(f1))
    assert list(found["f1"]) == list(LABELS)
    assert found["macro_f1"] == pytest.approx(f1.mean())
    assert found["accuracy"] == pytest.approx(accuracy_score(y, predicted))
    assert found["ordinal_error"] == pytest.approx(mean_absolute_error(y, predicted))
    counts = confusion_matrix(y, predicted, labels=[0, 1, 2])
    assert macro_f1_from_confusion(counts) == pytest.approx(f1.mean())


def test_calibration_error_of_known_cases():
    right = np.tile([0.0, 0.0, 1.0], (100, 1))
    assert calibration_error(right, np.full(100, 2)) == 0
    assert calibration_error(right, np.zeros(100, dtype=int)) == 1
    # 80 % sure and right four times in five, in every bin.
    p, y = np.tile([0.8, 0.1, 0.1], (100, 1)), np.tile([0, 0, 0, 0, 1], 20)
    assert calibration_error(p, y) == pytest.approx(0)


def test_bins_have_equal_mass():
    p, y = sample(103)
    assert sorted(n for _, _, n in calibration_bins(p, y)) == [10] * 7 + [11] * 3


def test_confusions_are_taken_in_stacks():
    stack = np.stack([np.eye(3), np.ones((3, 3)), np.zeros((3, 3))])
    assert macro_f1_from_confusion(stack) == pytest.approx([1, 1 / 3, 0])


def test_evaluate_gives_the_same(tmp_path):
    p, y = sample(50)
    metric = ToneMetric(cache_dir=str(tmp_path))
    assert metric.compute(predictions=p.tolist(), references=y.tolist()) == tone_metrics(p, y)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([0, 1, 2], [0.2, 0.5, 0.3]),
        ([0, -1, 1], [0.4, 0.0, 0.6]),
        ([0, 1, 1], [0.2, 0.8, 0.0]),
    ],
)
def test_labels_that_a_corpus_does_not_tell_apart_are_merged(classes, expected):
    merged = merge(np.array([[0.2, 0.5, 0.3]]), np.array(classes))
    assert merged[0].tolist() == pytest.approx(expected)


def test_a_model_that_says_what_a_corpus_does_not_have_has_not_said():
    assert merge(np.array([[0.0, 1.0, 0.0]]), np.array([0, -1, 1])).tolist() == [[0.5, 0, 0.5]]
