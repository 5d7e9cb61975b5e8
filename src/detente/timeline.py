"""Dated labels as a sequence of documents, each worth as many statements as it tells anew.

Sentences of one document resemble each other: n of them are worth n / (1 + (n − 1) ρ)
independent ones (Kish, Survey Sampling, 1965), where ρ is their intraclass correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Days = npt.NDArray[np.int64]

_BUSY: Final = 5.0
"""A day counts for at most so many times the middle day."""

# Before any document has two sentences: as ten documents with a correlation of a fifth.
_PRIOR_CORRELATION: Final = 0.2
_PRIOR_DOCUMENTS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """Documents in order of time.

    Attributes:
        days: Shape (documents,): days since 1970-01-01, ascending.
        counts: Shape (documents, 3): how many sentences of each label.
    """

    days: Days
    counts: Floats

    def __len__(self) -> int:
        """Returns the number of documents."""
        return len(self.days)

    def effective(self, correlation: float) -> Floats:
        """Returns the counts as numbers of independent statements, shape (documents, 3).

        Days of extreme volume are weighed down to five times the middle one: a crisis in which
        everybody says the same thing a hundred times must not speak for the year.
        """
        sizes = self.counts.sum(axis=1)
        worth = self.counts / (1 + (sizes - 1) * correlation)[:, None]
        (
            _,
            day,
        ) = np.unique(self.days, return_inverse=True)
        volume = np.bincount(day, worth.sum(axis=1))
        most = _BUSY * np.median(volume)
        return np.asarray(worth * np.minimum(1.0, most / volume)[day][:, None])

    def correlation(self, boundaries: npt.NDArray[np.int64]) -> float:
        """Returns the intraclass correlation of labels within documents, in [0, 0.95].

        Args:
            boundaries: Documents at which segments begin, without the first: what a change
                makes alike within documents is no correlation.
        """
        sizes = self.counts.sum(axis=1)
        agreeing = (self.counts * (self.counts - 1)).sum(axis=1)
        shares = self.counts / sizes[:, None]
        agreement, chance, weight = 0.0, 0.0, 0.0
        for part in np.split(np.arange(len(self)), boundaries):
            several = part[sizes[part] > 1]
            if len(part) < 2 or not len(several):
                continue
            mean = shares[part].mean(axis=0)
            # The square of a mean is too large by the variance of the mean.
            expected = (mean**2 - shares[part].var(axis=0, ddof=1) / len(part)).sum()
            pairs = sizes[several] - 1
            agreement += (agreeing[several] / sizes[several]).sum()
            chance += expected * pairs.sum()
            weight += pairs.sum()
        documents = np.count_nonzero(sizes > 1)
        found = (agreement - chance) / (weight - chance) if weight > chance else 0.0
        share = documents / (documents + _PRIOR_DOCUMENTS)
        return float(np.clip(share * found + (1 - share) * _PRIOR_CORRELATION, 0.0, 0.95))
