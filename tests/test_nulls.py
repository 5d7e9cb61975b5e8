import numpy as np
import pytest

from detente.labels import WAYS
from detente.nulls import step_test


def series(kind, rng, documents=400, years=8):
    days = np.sort(rng.integers(0, 365 * years, documents))
    x = days / days.max()
    move = {
        "constant": 0 * x,
        "step": 0.4 * (x > 0.5),
        "trend": 0.8 * (x - 0.5),
        "season": 0.4 * np.sin(2 * np.pi * days / 365.25),
    }[kind]
    shares = np.column_stack([0.35 - move / 2, np.full(documents, 0.35), 0.3 + move / 2])
    return rng.multinomial(3, np.clip(shares, 0.01, None) / shares.sum(axis=1)[:, None]) / 1.0, days


def share_of_calls(kind, *, trends=True, repeats=20):
    calls = []
    for seed in range(repeats):
        rng = np.random.default_rng((11, seed))
        counts, days = series(kind, rng)
        found = step_test(counts, days, least=5, series=199, rng=rng)
        calls.append(found.p_value(trends=trends) <= 0.05)
    return np.mean(calls)


@pytest.mark.parametrize("kind", ["constant", "trend", "season"])
def test_what_moves_without_a_step_is_seldom_called_one(kind):
    # Of 20 series one may be called by chance: more than 4 has a probability below 0.3 %.
    assert share_of_calls(kind) <= 0.2


def test_a_step_is_called():
    assert share_of_calls("step", trends=False) >= 0.9


def test_without_trends_a_long_drift_is_called_a_step():
    assert share_of_calls("trend", trends=False, repeats=5) == 1.0


def test_a_trend_has_the_slope_that_was_put_in():
    rng = np.random.default_rng(12)
    counts, days = series("trend", rng, documents=4000)
    found = step_test(counts, days, least=5, series=99, rng=rng)
    assert found.null(trends=True) == "linear"
    assert found.null(trends=False) == "constant"
    assert found.p_of_line <= 0.05
    assert found.line > found.step
    assert found.slope == pytest.approx(0.1, abs=0.02)


def test_a_season_is_seen_and_not_taken_for_a_trend():
    rng = np.random.default_rng(13)
    counts, days = series("season", rng)
    found = step_test(counts, days, least=5, series=99, rng=rng)
    assert found.season
    assert found.null(trends=False) == "annual"
    assert found.p_of_line > 0.05


@pytest.mark.parametrize("kind", ["step", "trend", "season"])
def test_what_line_and_step_explain_is_what_least_squares_says(kind):
    counts, days = series(kind, np.random.default_rng(14))
    found = step_test(counts, days, least=195, series=9, rng=np.random.default_rng(0))
    weights = counts.sum(axis=1)
    columns = [np.ones(len(days))]
    if found.season:
        columns += [np.sin(2 * np.pi * days / 365.25), np.cos(2 * np.pi * days / 365.25)]
    steps = [np.arange(len(days)) >= b for b in range(195, 206) if days[b] > days[b - 1]]
    root = np.sqrt(weights)

    def explained(kind):
        best = 0.0
        for way in WAYS:
            values = counts @ way / weights
            variance = np.mean(np.diff(values) ** 2 / (1 / weights[1:] + 1 / weights[:-1]))

            def left(*more, values=values):
                design = root[:, None] * np.column_stack([*columns, *more])
                slopes, *_ = np.linalg.lstsq(design, root * values, rcond=None)
                return ((root * values - design @ slopes) ** 2).sum()

            gains = {
                "line": [left() - left(days)],
                "step": [left() - left(step) for step in steps],
                "beyond": [left(days) - left(days, step) for step in steps],
            }
            best = max(best, max(gains[kind]) / variance)
        return best

    for kind in ("line", "step", "beyond"):
        assert getattr(found, kind) == pytest.approx(explained(kind))


def test_labels_that_never_differ_say_nothing():
    counts = np.tile([0.0, 2.0, 0.0], (30, 1))
    found = step_test(counts, np.arange(30), least=5, series=99, rng=np.random.default_rng(0))
    assert found.p_value(trends=True) == found.p_value(trends=False) == 1.0


def test_one_day_has_no_boundary():
    counts = np.ones((30, 3))
    found = step_test(
        counts, np.zeros(30, dtype=np.int64), least=5, series=99, rng=np.random.default_rng(0)
    )
    assert found is None
