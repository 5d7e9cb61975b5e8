import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detente.batching import MOST_PADDING, map_ahead, map_beside, plan_batches

lengths_of = st.lists(st.integers(1, 256), max_size=200)


def padding(lengths, batches):
    computed = sum(len(rows) * max(lengths[row] for row in rows) for rows in batches)
    return (computed - sum(lengths)) / computed


@given(lengths=lengths_of, tokens=st.integers(1, 4096), rows=st.none() | st.integers(1, 40))
def test_every_row_is_in_one_batch_within_its_bounds(lengths, tokens, rows):
    batches = plan_batches(lengths, tokens, rows)
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= tokens
        assert rows is None or len(batch) <= rows
        assert lengths[batch[0]] == max(lengths[row] for row in batch)


@given(lengths=lengths_of.filter(bool))
def test_padding_stays_under_its_bound_whatever_the_lengths(lengths):
    assert padding(lengths, plan_batches(lengths, 4096)) <= MOST_PADDING


def test_a_usual_mix_of_lengths_fills_its_batches():
    # Sentences of some forty tokens and a few long ones, as statements have.
    drawn = np.random.default_rng(0).lognormal(3.6, 0.5, 8192)
    lengths = [int(length) for length in drawn.clip(8, 256)]
    batches = plan_batches(lengths, 1024)
    assert padding(lengths, batches) < 0.03
    assert sum(lengths) / len(batches) > 0.9 * 1024


def test_the_same_lengths_make_the_same_batches():
    assert plan_batches([3, 5, 5, 3], 100) == [[1, 2], [0, 3]]


def test_results_come_in_order_and_from_another_thread():
    found = list(map_ahead(lambda item: (item, threading.current_thread()), range(5)))
    assert [item for item, _ in found] == [0, 1, 2, 3, 4]
    assert threading.current_thread() not in {thread for _, thread in found}
    assert list(map_ahead(str, [])) == []


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_what_is_computed_side_by_side_comes_in_order(at_a_time):
    together = threading.Barrier(at_a_time)

    def slow_first(item):
        # Passes only when so many are at work at the same time.
        together.wait(timeout=30)
        return item, threading.get_ident()

    found = list(map_beside(slow_first, range(6), at_a_time))
    assert [item for item, _ in found] == list(range(6))
    assert (threading.get_ident() in {thread for _, thread in found}) == (at_a_time == 1)
    with pytest.raises(ZeroDivisionError):
        list(map_beside(lambda item: 6 // item, [3, 0, 2], at_a_time))


def test_items_are_taken_one_ahead_and_no_more():
    taken = []
    results = map_ahead(str, (taken.append(i) or i for i in itertools.count()))
    assert [next(results), next(results)] == ["0", "1"]
    assert taken == [0, 1, 2]
    results.close()


def test_what_comes_before_a_failure_is_yielded_first():
    def items():
        yield 1
        raise ValueError("the items ended badly")

    results = map_ahead(str, items())
    assert next(results) == "1"
    with pytest.raises(ValueError, match="ended badly"):
        next(results)


def test_an_error_of_the_function_is_raised_at_its_place():
    results = map_ahead(lambda item: 6 // item, [3, 0, 2])
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)
