import numpy as np
import pytest

from detente.errors import InputError, ModelError
from detente.prevalence import (
    Confusion,
    adjusted_classify_and_count,
    draw_shares,
    expectation_maximisation,
)

RATES = np.array([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]])
TRUE = np.array([0.5, 0.3, 0.2])


def test_takes_the_classifier_s_errors_out():
    rng = np.random.default_rng(0)
    predicted = 2000 * TRUE @ RATES
    rates = Confusion(RATES * 2000).draw(400, rng)
    shares = draw_shares(predicted[None], rates, rng)[:, 0]
    assert shares.mean(axis=0) == pytest.approx(TRUE, abs=0.02)


def test_checks_agree_with_the_draws_where_there_is_much_to_count():
    predicted = 1e6 * TRUE @ RATES
    assert expectation_maximisation(predicted, RATES) == pytest.approx(TRUE, abs=1e-3)
    assert adjusted_classify_and_count(predicted, RATES) == pytest.approx(TRUE)


def test_an_interval_is_wider_for_a_classifier_that_was_tested_on_less():
    rng = np.random.default_rng(1)
    predicted = (500 * TRUE @ RATES)[None]
    widths = [
        np.ptp(
            np.quantile(
                draw_shares(predicted, Confusion(RATES * n).draw(400, rng), rng)[..., 0],
                [0.05, 0.95],
            )
        )
        for n in (40, 4000)
    ]
    assert widths[0] > 1.2 * widths[1]


def test_labels_that_are_true_keep_their_shares():
    rng = np.random.default_rng(2)
    shares = draw_shares(np.array([[600.0, 300.0, 100.0]]), Confusion.perfect().draw(400, rng), rng)
    assert shares.mean(axis=0)[0] == pytest.approx([0.6, 0.3, 0.1], abs=0.01)


@pytest.mark.parametrize(
    ("counts", "word"),
    [
        (np.diag([100.0, 100.0, 10.0]), "too few conciliatory"),
        (np.full((3, 3), 100.0), "cannot be told"),
    ],
)
def test_says_why_counts_are_not_enough(counts, word):
    assert word in Confusion(counts).problem


def test_a_good_confusion_has_no_problem():
    assert Confusion(RATES * 100).problem is None
    assert Confusion(RATES * 100).accuracy == pytest.approx(0.8)


@pytest.mark.parametrize("counts", [np.ones((2, 2)), -np.ones((3, 3)), np.full((3, 3), np.nan)])
def test_refuses_what_are_no_counts(counts):
    with pytest.raises(InputError, match="confusion counts"):
        Confusion(counts)


def test_a_model_without_counts_is_named():
    with pytest.raises(ModelError, match=r"here/detente\.json.*no confusion counts"):
        Confusion.of_settings({}, "here/detente.json")
