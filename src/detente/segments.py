"""Where a sequence of label counts changes: exact posterior over none to several changes.

A sequence of blocks, each with counts of labels, is cut into segments with shares of their own
(Fearnhead, "Exact and efficient Bayesian inference for multiple changepoint problems",
Statistics and Computing 16, 2006). The shares of a segment have a Dirichlet distribution around
those of the whole and are integrated out, so that a segment's evidence is Dirichlet-multinomial.
All three shares count at once: criticism that turns into restraint moves the tone by half as much
as criticism that turns into praise, and is seen as well. What evidence in the tone, the critical
and the conciliatory share apart found instead is in ``docs/shift.md``.

The prior says: none, one and several changes are equally probable, each further change half as
probable as the one before, and every allowed set of days to change on alike.

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

PRIOR_OF_CHANGES: Final = 2 / 3
"""Prior probability that there is a change at all."""

# A segment's shares are scattered around those of the whole as if they had been taken from so
# many statements: a share of one third by ten points, as far as rhetoric that has shifted usually
# has. A flat prior expects all to turn to nothing and asks for far more evidence of what is common.
_STATEMENTS: Final = 20.0


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


def segment(counts: Floats, sizes: Floats, days: Floats, *, least: float) -> Segmentation | None:
    """Returns the posterior over segmentations of a sequence of blocks.

    Args:
        counts: Shape (blocks, labels), effective counts.
        sizes: Shape (blocks,), documents in each block.
        days: Shape (blocks,), days that each block holds: a boundary before it stands for a
            change on any of them.
        least: Documents that a segment has at least.

    Returns:
        ``None`` where the blocks allow no boundary at all.
    """
    evidence = _evidence_of_segments(counts, sizes, least)
    allowed = np.where(np.isfinite(evidence), 0.0, -np.inf)
    for each in (evidence, allowed):
        each[1:-1] += np.log(days[1:, None])
    ways = [sums[-1] for sums in _forward(allowed, MOST_CHANGES)]
    most = sum(np.isfinite(ways)) - 1
    if most == 0:
        return None
    numbers = np.arange(most + 1)
    prior = 0.5**numbers
    prior[1:] *= PRIOR_OF_CHANGES / prior[1:].sum()
    prior[0] = 1 - PRIOR_OF_CHANGES
    ahead = np.array(_forward(evidence, most))
    # Every allowed set of k days is as probable as another: there are exp(ways) of them.
    posterior = np.log(prior) + ahead[:, -1] - ways[: most + 1]
    posterior = np.exp(posterior - np.logaddexp.reduce(posterior))

    k = 1 + int(posterior[1:].argmax())
    behind = np.array(_forward(evidence[::-1, ::-1].T, k - 1))[:, ::-1]

    def places(changes: int) -> Floats:
        joint = ahead[:changes] + behind[:changes][::-1] - ahead[changes, -1]
        return np.asarray(np.exp(joint))

    return Segmentation(posterior, _best(evidence, k), places(k), places(1)[0])


def _evidence_of_segments(counts: Floats, sizes: Floats, least: float) -> Floats:
    """Returns the log evidence of blocks i … j−1 at [i, j], shape (blocks + 1, blocks + 1).

    Of a segment with counts c of n statements, the shares drawn from a Dirichlet distribution with
    parameters a that sum to m: Γ(m) / Γ(n + m) · ∏ Γ(c + a) / Γ(a).
    """
    from scipy.special import gammaln  # with the extra analysis alone

    whole = counts.sum(axis=0) + 1
    a = _STATEMENTS * whole / whole.sum()
    ends = np.concatenate([np.zeros((1, counts.shape[1])), counts.cumsum(axis=0)])
    upto = np.concatenate([[0.0], sizes.cumsum()])
    allowed = np.triu(upto[None] - upto[:, None] >= least, k=1)
    # A sequence too short for two segments still has the evidence of no change.
    allowed[0, -1] = True
    first, last = np.nonzero(allowed)
    inside = np.maximum(ends[last] - ends[first], 0.0)
    evidence = np.full(allowed.shape, -np.inf)
    evidence[first, last] = (gammaln(inside + a) - gammaln(a)).sum(axis=1)
    evidence[first, last] += gammaln(_STATEMENTS) - gammaln(inside.sum(axis=1) + _STATEMENTS)
    return evidence


def _forward(evidence: Floats, most: int) -> list[Floats]:
    """Returns the log sums over all cuts of blocks 0 … j−1 by 0, 1, … ``most`` boundaries."""
    sums = [evidence[0]]
    for _ in range(most):
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
