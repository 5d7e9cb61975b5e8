from itertools import combinations
from math import factorial, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import dirichlet_multinomial

from detente.segments import MOST_CHANGES, PRIOR_OF_CHANGES, segment


def evidence(segment_counts, whole):
    """How probable one order of the labels is, by scipy's probability of all their orders."""
    shares = (whole + 1) / (whole + 1).sum()
    n = int(segment_counts.sum())
    orders = factorial(n) / prod(factorial(int(count)) for count in segment_counts)
    return dirichlet_multinomial.pmf(segment_counts.astype(int), 20 * shares, n) / orders


def by_hand(counts, sizes, days, least):
    """The posterior by listing every set of boundaries."""
    blocks, whole = len(counts), counts.sum(axis=0)
    found = {}
    for k in range(MOST_CHANGES + 1):
        for cut in combinations(range(1, blocks), k):
            parts = np.split(np.arange(blocks), cut)
            if k and min(sizes[part].sum() for part in parts) < least:
                continue
            together = prod(evidence(counts[p].sum(axis=0), whole) for p in parts)
            found.setdefault(k, {})[cut] = together, np.prod([days[b] for b in cut])
    halves = {k: 0.5**k for k in found if k}
    share = PRIOR_OF_CHANGES / sum(halves.values())
    weight = {0: 1 - PRIOR_OF_CHANGES} | {k: share * w for k, w in halves.items()}
    joint = {
        cut: weight[k] * value * ways / sum(w for _, w in cuts.values())
        for k, cuts in found.items()
        for cut, (value, ways) in cuts.items()
    }
    total = sum(joint.values())
    return {cut: value / total for cut, value in joint.items()}


@given(
    st.lists(
        st.lists(st.integers(0, 6), min_size=3, max_size=3).filter(any), min_size=4, max_size=7
    ),
    st.integers(1, 2),
)
@settings(max_examples=40, deadline=None)
def test_the_posterior_is_that_of_listing_every_segmentation(counts, least):
    counts = np.array(counts, dtype=float)
    sizes = np.ones(len(counts))
    days = np.arange(1.0, len(counts) + 1)[::-1]
    found = segment(counts, sizes, days, least=least)
    expected = by_hand(counts, sizes, days, least)
    for k, probability in enumerate(found.probabilities):
        assert probability == pytest.approx(sum(v for c, v in expected.items() if len(c) == k))
    k = len(found.boundaries)
    same = {cut: value for cut, value in expected.items() if len(cut) == k}
    assert same[found.boundaries] == pytest.approx(max(same.values()))
    for i, place in enumerate(found.places):
        for b, probability in enumerate(place):
            share = sum(v for cut, v in same.items() if cut[i] == b) / sum(same.values())
            assert probability == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("after", [[2.0, 6.0, 2.0], [4.0, 2.0, 4.0], [3.0, 2.0, 5.0]])
def test_restraint_criticism_and_praise_are_changes(after):
    counts = np.repeat([[4.0, 4.0, 2.0], after], 40, axis=0)
    found = segment(counts, np.ones(80), np.ones(80), least=5)
    assert found.boundaries == (40,)
    assert found.any_change > 0.95


def test_finds_two_changes_where_they_are():
    rng = np.random.default_rng(5)
    shares = np.repeat([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], 40, axis=0)
    found = segment(rng.multinomial(3, shares).astype(float), np.ones(120), np.ones(120), least=5)
    assert len(found.boundaries) == 2
    assert np.abs(np.array(found.boundaries) - [40, 80]).max() <= 3
    assert found.any_change > 0.99


def test_blocks_too_few_for_two_segments_have_no_posterior():
    assert segment(np.ones((6, 3)), np.ones(6), np.ones(6), least=4) is None


def test_counts_that_are_alike_speak_against_a_change():
    assert (
        segment(np.ones((60, 3)), np.ones(60), np.ones(60), least=5).any_change < PRIOR_OF_CHANGES
    )
