"""From how often a label was predicted to how often it is true, with the classifier's errors.

A classifier that is wrong in a known way gives shares of labels that are wrong in a known way.
What it does to each label is in the *confusion*: counts of true against predicted labels on
documents that it did not learn from. Both the confusion and the true shares are drawn from
their posterior, so that an interval carries the error of sampling and of the classifier. The
draws use the data augmentation of Swartz et al. (Journal of Statistical Computation and
Simulation 74, 2004): which true label stands behind each predicted one is drawn, and then the
shares given that. Adjusted classify-and-count (Forman, 2008) and expectation maximisation
(Saerens et al., Neural Computation 14, 2002) are there as checks on them.

"True" means: the label that the codebook gives, as the classifier's annotators read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detente.errors import InputError, ModelError
from detente.labels import LABELS

Floats = npt.NDArray[np.float64]

_STEPS_TO_MODE: Final = 30
_ROUNDS: Final = 12
_LEAST_PER_LABEL: Final = 20.0

# The prior of each cell of the confusion, in statements: a cell that was never seen is possible.
_CELL: Final = 0.5


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of true against predicted labels.

    Attributes:
        counts: Shape (3, 3): true labels in rows, predicted ones in columns, in label order, as
            numbers of independent statements: sentences of one document are worth less than as
            many of their own.
        exact: The labels are taken as true, as those of a person's reading.
    """

    counts: Floats
    exact: bool = False

    def __post_init__(self) -> None:
        """Checks the counts.

        Raises:
            InputError: They have another shape, or are no counts.
        """
        counts = np.asarray(self.counts, dtype=np.float64)
        if counts.shape != (len(LABELS), len(LABELS)):
            raise InputError(
                "confusion counts have another shape",
                got=counts.shape,
                expected="true labels in three rows, predicted labels in three columns",
            )
        if not np.isfinite(counts).all() or (counts < 0).any():
            raise InputError("confusion counts are not counts", got=counts.tolist())
        object.__setattr__(self, "counts", counts)

    @classmethod
    def perfect(cls) -> Confusion:
        """Returns the confusion of labels that are taken as true."""
        return cls(np.eye(len(LABELS)), exact=True)

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any], where: str) -> Confusion:
        """Reads the out-of-fold counts that training keeps in ``detente.json``.

        Raises:
            ModelError: There are none.
        """
        found = settings.get("confusion")
        if not isinstance(found, Mapping) or "effective" not in found:
            raise ModelError(
                "the model has no confusion counts",
                where=where,
                expected="`confusion` in detente.json, as python -m train writes it",
                fix="Train it again, or give counts of your own.",
            )
        return cls(np.asarray(found["effective"], dtype=np.float64))

    @property
    def accuracy(self) -> float:
        """Share of right labels, each true label counting alike."""
        rows = self.counts.sum(axis=1)
        return float(np.mean(np.diag(self.counts) / np.where(rows > 0, rows, 1.0)))

    @property
    def problem(self) -> str | None:
        """Why nothing can be concluded from these counts, or ``None``."""
        if self.exact:
            return None
        rows = self.counts.sum(axis=1)
        if rows.min() < _LEAST_PER_LABEL:
            few = LABELS[int(rows.argmin())]
            return (
                f"the classifier was tested on too few {few} statements "
                f"({rows.min():.0f}; at least {_LEAST_PER_LABEL:.0f})"
            )
        rates = self.counts / rows[:, None]
        if (rates.argmax(axis=0) != np.arange(len(LABELS))).any():
            return "the classifier confuses labels so often that true shares cannot be told"
        return None

    def draw(self, draws: int, rng: np.random.Generator) -> Floats:
        """Draws confusion rates: shape (draws, 3, 3), each row sums to one."""
        if self.exact:
            return np.broadcast_to(np.eye(len(LABELS)), (draws, len(LABELS), len(LABELS))).copy()
        cells = rng.standard_gamma(self.counts + _CELL, size=(draws, *self.counts.shape))
        return np.asarray(cells / cells.sum(axis=-1, keepdims=True))


def draw_shares(predicted: Floats, rates: Floats, rng: np.random.Generator) -> Floats:
    """Draws true shares of labels given how often each was predicted.

    Args:
        predicted: Shape (draws, groups, 3) or (groups, 3): effective counts.
        rates: Shape (draws, 3, 3), as :meth:`Confusion.draw` returns them; one draw is common to
            all groups.
        rng: Draws.

    Returns:
        Shape (draws, groups, 3), each row sums to one.
    """
    draws = len(rates)
    predicted = np.broadcast_to(predicted, (draws, *predicted.shape[-2:]))
    # A fraction of a statement is one now and then.
    whole = np.floor(predicted + rng.random(predicted.shape)).astype(np.int64)
    # From the mode a few rounds do; each brings what is still missing of the spread down by the
    # share of information that the classifier's errors take away.
    shares = np.full(whole.shape, 1 / len(LABELS))
    for _ in range(_STEPS_TO_MODE):
        told = whole / (shares @ rates)
        true = 1 + shares * (told @ rates.swapaxes(1, 2))
        shares = true / true.sum(axis=-1, keepdims=True)
    for _ in range(_ROUNDS):
        true = np.ones(shares.shape)
        for label in range(len(LABELS)):
            behind = shares * rates[:, None, :, label]
            behind /= behind.sum(axis=-1, keepdims=True)
            true += rng.multinomial(whole[..., label], behind)
        shares = rng.standard_gamma(true)
        shares /= shares.sum(axis=-1, keepdims=True)
    return shares


def expectation_maximisation(predicted: Floats, rates: Floats, *, rounds: int = 1000) -> Floats:
    """Returns the most likely true shares, shape (3,).

    Args:
        predicted: Shape (3,), counts of predicted labels.
        rates: Shape (3, 3), P(predicted | true) with true labels in rows.
        rounds: Of updates.
    """
    shares = np.full(len(LABELS), 1 / len(LABELS))
    for _ in range(rounds):
        behind = shares[:, None] * rates
        behind /= behind.sum(axis=0, keepdims=True)
        shares = behind @ (predicted / predicted.sum())
    return shares


def adjusted_classify_and_count(predicted: Floats, rates: Floats) -> Floats:
    """Returns the true shares that would give just the predicted ones; they may leave [0, 1].

    Args:
        predicted: Shape (3,), counts of predicted labels.
        rates: Shape (3, 3), P(predicted | true) with true labels in rows.
    """
    return np.linalg.solve(rates.T, predicted / predicted.sum())
