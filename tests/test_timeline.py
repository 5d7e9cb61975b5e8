import numpy as np
import pytest

from detente.timeline import Timeline


def timeline(documents, sentences, icc, rng):
    shares = rng.dirichlet(np.array([0.35, 0.4, 0.25]) * (1 - icc) / icc, documents)
    return Timeline(np.arange(documents), rng.multinomial(sentences, shares).astype(float))


@pytest.mark.parametrize("icc", [0.05, 0.2, 0.5])
def test_finds_how_alike_the_sentences_of_a_document_are(icc):
    found = timeline(3000, 4, icc, np.random.default_rng(0)).correlation(np.array([], dtype=int))
    assert found == pytest.approx(icc, abs=0.02)


def test_a_change_is_not_taken_for_resemblance_once_it_is_known():
    rng = np.random.default_rng(1)
    shares = np.repeat([[0.9, 0.05, 0.05], [0.05, 0.05, 0.9]], 500, axis=0)
    line = Timeline(np.arange(1000), rng.multinomial(3, shares).astype(float))
    assert line.correlation(np.array([], dtype=int)) > 0.5
    assert line.correlation(np.array([500])) < 0.03


def test_sentences_of_one_document_are_worth_less_than_as_many_documents():
    line = Timeline(np.array([0, 1]), np.array([[1.0, 0, 0], [5.0, 5.0, 0]]))
    assert line.effective(0.0).sum(axis=1).tolist() == [1.0, 10.0]
    assert line.effective(0.5).sum(axis=1) == pytest.approx([1.0, 10 / 5.5])


def test_a_day_of_extreme_volume_is_weighed_down_and_no_other():
    days = np.concatenate([np.arange(50), np.full(200, 50)])
    line = Timeline(days, np.tile([1.0, 0.0, 0.0], (250, 1)))
    worth = line.effective(0.2).sum(axis=1)
    assert worth[:50] == pytest.approx(np.ones(50))
    assert worth[50:].sum() == pytest.approx(5.0)
