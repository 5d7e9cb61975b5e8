"""Levels corrected by a random sample of statements that a person labelled.

Where some statements were drawn at random, each with a known probability, and labelled by hand,
the classifier's errors on these very statements say more than any count from elsewhere: the
shares of predicted labels are corrected by the mean error, each statement weighed by one over its
probability (prediction-powered inference, Angelopoulos et al., Science 382, 2023; the difference
estimator of survey sampling, Särndal et al., 1992). Documents are resampled by the Bayesian
bootstrap (Rubin, Annals of Statistics 9, 1981).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from detente.errors import InputError
from detente.labels import LABEL_TO_ID, LABELS, parse_label

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

TRUE_LABEL: Final = "true_label"
"""The column of labels that a person gave to the sampled statements; empty for the others."""

PROBABILITY: Final = "sampling_probability"
"""The column of probabilities, in (0, 1], with which each of them was drawn."""

_LEAST_ON_A_SIDE: Final = 20
_AT_A_TIME: Final = 50


@dataclass(frozen=True, slots=True)
class Sample:
    """What a labelled sample says of each document of a timeline.

    Attributes:
        labelled: Shape (documents,): how many of its statements were labelled.
        correction: Shape (documents, 3): true less predicted labels of these, each divided by
            its probability.
    """

    labelled: npt.NDArray[np.int64]
    correction: Floats

    def enough(self, low: int, at: int, high: int) -> bool:
        """Whether documents ``low … at − 1`` and ``at … high − 1`` both have enough of them."""
        sides = self.labelled[low:at].sum(), self.labelled[at:high].sum()
        return bool(min(sides) >= _LEAST_ON_A_SIDE)

    def draw_shares(
        self,
        counts: Floats,
        worth: Floats,
        low: int,
        at: npt.NDArray[np.int64],
        high: int,
        rng: np.random.Generator,
    ) -> Floats:
        """Draws the true shares of labels on both sides of a boundary.

        Args:
            counts: Shape (documents, 3): predicted labels.
            worth: Shape (documents,): of how many independent statements each statement of a
                document is worth.
            low: The first document before the boundary.
            at: Shape (draws,): the first document after it.
            high: The end of the documents after it.
            rng: Draws.

        Returns:
            Shape (draws, 2, 3), each row sums to one.
        """
        corrected = (worth[:, None] * (counts + self.correction))[low:high]
        shares = np.empty((len(at), 2, len(LABELS)))
        for first in range(0, len(at), _AT_A_TIME):
            drawn = at[first : first + _AT_A_TIME]
            weights = rng.standard_exponential((len(drawn), len(corrected), 1))
            upto = np.cumsum(weights * corrected, axis=1)
            before = np.take_along_axis(upto, (drawn - low - 1)[:, None, None], axis=1)[:, 0]
            shares[first : first + len(drawn)] = np.stack([before, upto[:, -1] - before], axis=1)
        # With few labels a correction may ask for less than nothing.
        shares = np.maximum(shares, 0.0)
        return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def sample_of(
    table: pd.DataFrame, document: npt.NDArray[np.int64], documents: int
) -> Sample | None:
    """Reads the labelled sample from a table of labelled rows.

    Args:
        table: With a column ``label`` of predicted labels; its index says where each row stands.
        document: Shape (rows,): the document of each row, -1 for a repeated sentence.
        documents: How many there are.

    Returns:
        ``None`` where no row has a true label.

    Raises:
        InputError: A true label or its probability cannot be read, or is not there.
    """
    if TRUE_LABEL not in table or not (chosen := table[TRUE_LABEL].notna()).any():
        return None
    if PROBABILITY not in table:
        raise InputError(
            f"{TRUE_LABEL} is there without the probability that a statement had to be drawn",
            got=", ".join(map(str, table.columns)),
            expected=f"a column {PROBABILITY}, in (0, 1]",
            fix="Where every statement was as likely as another: labelled / all of them.",
        )
    labelled, correction = np.zeros(documents, np.int64), np.zeros((documents, len(LABELS)))
    rows = table[chosen]
    for where, predicted, given, drawn, place in zip(
        rows.index,
        rows["label"].map(LABEL_TO_ID).tolist(),
        rows[TRUE_LABEL],
        rows[PROBABILITY],
        document[chosen.to_numpy()].tolist(),
        strict=True,
    ):
        try:
            true, probability = LABEL_TO_ID[parse_label(given)], float(drawn)
        except (InputError, TypeError, ValueError) as error:
            raise InputError(f"cannot be read ({error})", where=str(where)) from error
        if not 0 < probability <= 1:
            raise InputError(f"{PROBABILITY} is outside (0, 1]", where=str(where), got=probability)
        if place >= 0:
            labelled[place] += 1
            correction[place, true] += 1 / probability
            correction[place, predicted] -= 1 / probability
    return Sample(labelled, correction)
