import numpy as np
import pytest

import detente
from detente.errors import InputError
from detente.shifts import change_at
from detente.timeline import Timeline
from tests.test_shifts import GOOD, START, rows

PAIRS = [("RUS", "USA"), ("RUS", "KAZ"), ("RUS", "FRA")]


@pytest.fixture(scope="module")
def several():
    moved = rows(documents=160, seed=1)
    still = [
        row
        | {
            "target": target,
            "doc_id": f"{target}-{row['doc_id']}",
            "text": f"{target} {row['text']}",
        }
        for seed, target in ((2, "KAZ"), (3, "FRA"))
        for row in rows(documents=160, effect=0.0, seed=seed)
    ]
    return detente.compare(moved + still, PAIRS, control=("RUS", "KAZ"), confusion=GOOD)


def test_only_the_pair_that_moved_has_shifted(several):
    assert [(s.source, s.target) for s in several.shifted] == [("RUS", "USA")]


def test_p_values_are_adjusted_upward_and_keep_their_order(several):
    raw = [s.p_value for s in several.shifts]
    assert all(a >= p for a, p in zip(several.adjusted, raw, strict=True))
    assert np.argmin(raw) == np.argmin(several.adjusted)


def test_a_pair_moves_beyond_a_control_that_stood_still(several):
    assert several.differences[0].low > 0
    assert several.differences[1:] == (None, None)


def test_table_and_picture_have_every_pair(several, tmp_path):
    assert several.to_frame()["target"].tolist() == ["USA", "KAZ", "FRA"]
    several.plot(str(tmp_path / "pairs.png"))
    assert (tmp_path / "pairs.png").stat().st_size > 5000


def test_no_pairs_are_an_error():
    with pytest.raises(InputError, match="no pairs"):
        detente.compare(rows(documents=20), [])


def test_a_change_is_measured_at_the_date_that_was_given():
    days = (START - START.fromordinal(719163)).days + np.arange(400)
    shares = np.repeat([[0.6, 0.2, 0.2], [0.2, 0.2, 0.6]], 200, axis=0)
    rng = np.random.default_rng(0)
    line = Timeline(days, rng.multinomial(4, shares).astype(float))
    rates = GOOD.draw(300, rng)
    moved = change_at(line, rates, START.fromordinal(START.toordinal() + 200), rng)
    assert np.quantile(moved, 0.05) < 1.05 and np.quantile(moved, 0.95) > 0.8
    assert change_at(line, rates, START, rng) is None
