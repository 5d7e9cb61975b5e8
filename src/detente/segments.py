"""Where a sequence of label counts changes: exact posterior over none to several changes.

A sequence of blocks, each with counts of labels, is cut into segments with one distribution of
labels each. A segment's evidence is Dirichlet-multinomial, the distribution integrated out
(Fearnhead, "Exact and efficient Bayesian inference for multiple changepoint problems",
Statistics and Computing 16, 2006). The prior says: no change with probability one half, each
further change half as probable as the one before, and every allowed set of boundaries alike.

Counts may be fractions: what counts is how many independent statements they are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MOST_CHANGES: Final = 5
"""More changes than this are not looked for."""

PRIOR_OF_CHANGES: Final = 0.5
"""Prior probability that there is a change at all."""

# A segment's shares are scattered around those of the whole as if it had been counted on so many
# statements: by about a tenth, as far as rhetoric that has shifted usually has. A flat prior
# expects it to turn from all to nothing and asks for far more evidence of what is common.
_CONCENTRATION: Final = 20.0


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What the counts say of changes.

    Attributes:
        probabilities: Shape (changes + 1,): the posterior of none, one, … changes.
        boundaries: The most probable boundaries for the most probable number of changes, at
            least one; boundary ``b`` stands before block ``b``.
        places: Shape (len(boundaries), blocks + 1): the posterior of where each of them is.
        one: Shape (blocks + 1,): the posterior of where a change is if there is exactly one.
    """

    probabilities: Floats
    boundaries: tuple[int, ...]
    places: Floats
    one: Floats

    @property
    def any_change(self) -> float:
        """Posterior probability of at least one change."""
        return float(self.probabilities[1:].sum())


def segment(counts: Floats, sizes: Floats, *, least: float) -> Segmentation | None:
    """Returns the posterior over segmentations of a sequence of blocks.

    Args:
        counts: Shape (blocks, labels), effective counts.
        sizes: Shape (blocks,), documents in each block.
        least: Documents that a segment has at least.

    Returns:
        ``None`` where the blocks allow no boundary at all.
    """
    evidence = _evidence_of_segments(counts, sizes, least)
    most = 0
    allowed = np.where(np.isfinite(evidence), 0.0, -np.inf)
    ahead, ways = _forward(evidence), _forward(allowed)
    while most < MOST_CHANGES and np.isfinite(ways[most + 1][-1]):
        most += 1
    if most == 0:
        return None
    numbers = np.arange(most + 1)
    prior = np.where(numbers == 0, 1 - PRIOR_OF_CHANGES, PRIOR_OF_CHANGES * 0.5**numbers)
    prior[1:] *= PRIOR_OF_CHANGES / prior[1:].sum()
    # Every allowed set of k boundaries is as probable as another: there are exp(ways) of them.
    posterior = np.log(prior) + np.array([ahead[k][-1] - ways[k][-1] for k in numbers])
    posterior = np.exp(posterior - np.logaddexp.reduce(posterior))
    behind = _forward(evidence[::-1, ::-1].T)
    k = 1 + int(posterior[1:].argmax())
    places = [ahead[c][:] + behind[k - 1 - c][::-1] - ahead[k][-1] for c in range(k)]
    one = ahead[0] + behind[0][::-1] - ahead[1][-1]
    return Segmentation(posterior, _best(evidence, k), np.exp(places), np.exp(one))


def log_evidence(counts: Floats, prior: Floats) -> Floats:
    """Returns the log evidence of counts of one distribution, whatever it is.

    Args:
        counts: Shape (…, labels).
        prior: Shape (labels,), the parameters of the Dirichlet distribution.

    Returns:
        Shape (…): the Dirichlet-multinomial probability of one order of the labels.
    """
    from scipy.special import gammaln

    start = gammaln(prior.sum()) - gammaln(prior).sum()
    found = gammaln(counts + prior).sum(axis=-1) - gammaln(counts.sum(axis=-1) + prior.sum())
    return np.asarray(start + found)


def _evidence_of_segments(counts: Floats, sizes: Floats, least: float) -> Floats:
    """Returns the log evidence of blocks i … j−1 at [i, j], shape (blocks + 1, blocks + 1)."""
    ends = np.concatenate([np.zeros((1, counts.shape[1])), counts.cumsum(axis=0)])
    upto = np.concatenate([[0.0], sizes.cumsum()])
    i, j = np.nonzero(upto[None, :] - upto[:, None] >= least)
    i, j = i[i < j], j[i < j]
    evidence = np.full((len(ends), len(ends)), -np.inf)
    prior = _CONCENTRATION * (ends[-1] + 1) / (ends[-1] + 1).sum()
    evidence[i, j] = log_evidence(np.clip(ends[j] - ends[i], 0.0, None), prior)
    # A sequence too short for two segments still has the evidence of no change.
    evidence[0, -1] = log_evidence(ends[-1], prior)
    return evidence


def _forward(evidence: Floats) -> list[Floats]:
    """Returns, for k = 0, 1, …, the log sum over all cuts of blocks 0 … j−1 by k boundaries."""
    sums = [evidence[0]]
    for _ in range(MOST_CHANGES):
        terms = sums[-1][:, None] + evidence
        top = terms.max(axis=0)
        finite = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(divide="ignore"):
            sums.append(finite + np.log(np.exp(terms - finite).sum(axis=0)))
    return sums


def _best(evidence: Floats, changes: int) -> tuple[int, ...]:
    """Returns the most probable boundaries, given how many there are."""
    best, origins = evidence[0], []
    for _ in range(changes):
        terms = best[:, None] + evidence
        origins.append(terms.argmax(axis=0))
        best = terms.max(axis=0)
    boundaries = [len(best) - 1]
    for origin in reversed(origins):
        boundaries.append(int(origin[boundaries[-1]]))
    return tuple(reversed(boundaries[1:]))
