import numpy as np
import pytest

from detente.timeline import Timeline
from scripts import simulate_shift
from scripts.simulate_shift import (
    Cell,
    cells,
    critical_value,
    markdown,
    one_series,
    picture,
    rates,
    simulate,
    summary,
    sup_t,
)

SERIES = 12


def results(cell):
    return summary(cell, [one_series(cell, 3.13, seed) for seed in range(SERIES)])


@pytest.fixture(scope="module")
def found():
    kinds = [
        Cell("none", documents=100),
        Cell("step", documents=100, effect=1.0),
        Cell("trend", documents=300, trend=0.6),
    ]
    return [results(cell) for cell in kinds]


def test_a_step_is_found_with_its_date_and_size_and_none_where_there_is_none(found):
    none, step, trend = found
    # With false alarms of 5 %, three of twelve have a probability of 2 %.
    assert none["called"] <= none["changed"] <= 2 / SERIES
    assert trend["called"] <= 3 / SERIES
    assert trend["changed"] >= 0.8
    assert step["changed"] >= 0.9
    assert step["date_held"] >= 0.6
    assert step["effect_held"] >= 0.6
    assert step["median_date_error_days"] < 200


def test_tables_and_picture_have_every_cell(found, tmp_path):
    text = "\n".join(markdown(found))
    none, step = text.split("## A step")
    assert "| trend |" in none
    assert "| step |" in step
    picture(found, tmp_path / "power.svg")
    drawn = (tmp_path / "power.svg").read_text()
    assert all(f"<!-- {name} -->" in drawn for name in ("none", "step", "trend"))


def test_series_have_the_course_that_the_cell_says():
    cell = Cell("step", documents=4000, effect=0.6, accuracy=1.0, icc=0.05)
    timeline, day = simulate(cell, np.random.default_rng(0))
    tones = simulate_shift._tones(timeline)
    after = timeline.days >= day
    assert tones[after].mean() - tones[~after].mean() == pytest.approx(0.6, abs=0.05)
    assert rates(0.8).sum(axis=1) == pytest.approx(np.ones(3))
    assert len({c.name for c in cells()}) == len(cells())


def test_sup_t_is_the_largest_t_statistic():
    stats = pytest.importorskip("scipy.stats")
    scores = np.random.default_rng(1).normal(size=40)
    expected = max(abs(stats.ttest_ind(scores[:b], scores[b:]).statistic) for b in range(5, 36))
    assert sup_t(scores) == pytest.approx(expected)


def test_a_cell_that_is_done_is_not_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(simulate_shift, "DONE", tmp_path)
    monkeypatch.setattr(simulate_shift, "CRITICAL_VALUE_SERIES", 20)
    cell = Cell("small", documents=30)
    first = simulate_shift.run_cell(cell, 2, 1)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(path.read_text().replace('"series": 2', '"series": 99'))
    assert simulate_shift.run_cell(cell, 2, 1) == first | {"series": 99}
    assert critical_value(cell) > 1


def test_timelines_are_ascending():
    timeline, _ = simulate(Cell("bursts", bursts=0.3), np.random.default_rng(2))
    assert isinstance(timeline, Timeline)
    assert (np.diff(timeline.days) >= 0).all()
