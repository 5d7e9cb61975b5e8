"""Where a sequence of label counts changes: exact posterior over none to several changes.

A sequence of blocks, each with counts of labels, is cut into segments that differ in one of
three ways: in the mean tone, in the share that is critical, or in the share that is conciliatory
(Fearnhead, "Exact and efficient Bayesian inference for multiple changepoint problems",
Statistics and Computing 16, 2006). Each is a score of a label. The sum of the scores of a segment
is taken as normal, its mean as normal around the mean of the whole and integrated out; the three
ways are equally probable. Where criticism turns into restraint the critical share shows it with
less than half the variance of the tone; where it turns into praise the tone does. How
Dirichlet-multinomial evidence of all shares at once compares is in ``docs/shift.md``.

The prior says: none, one and several changes are equally probable, each further change half as
probable as the one before, and every allowed set of days to change on alike.

Counts may be fractions: what counts is how many independent statements they are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from detente.labels import WAYS

Floats = npt.NDArray[np.float64]

MOST_CHANGES: Final = 5
"""More changes than this are not looked for."""

PRIOR_OF_CHANGES: Final = 2 / 3
"""Prior probability that there is a change at all."""

# A segment's mean tone is scattered around that of the whole as if it had been taken from so many
# statements: by about a quarter, as far as rhetoric that has shifted usually has. A flat prior
# expects it to turn from all to nothing and asks for far more evidence of what is common.
_STATEMENTS: Final = 10.0


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


def segment(
    counts: Floats, sizes: Floats, days: Floats | None = None, *, least: float
) -> Segmentation | None:
    """Returns the posterior over segmentations of a sequence of blocks.

    Args:
        counts: Shape (blocks, labels), effective counts.
        sizes: Shape (blocks,), documents in each block.
        days: Shape (blocks,), days that each block holds: a boundary before it stands for a
            change on any of them. One each unless given.
        least: Documents that a segment has at least.

    Returns:
        ``None`` where the blocks allow no boundary at all.
    """
    evidences = _evidence_of_segments(counts, sizes, least)
    allowed = np.where(np.isfinite(evidences[0]), 0.0, -np.inf)
    if days is not None:
        evidences[:, 1:-1] += np.log(days[1:, None])
        allowed[1:-1] += np.log(days[1:, None])
    ways = [sums[-1] for sums in _forward(allowed, MOST_CHANGES)]
    most = sum(np.isfinite(ways)) - 1
    if most == 0:
        return None
    numbers = np.arange(most + 1)
    prior = 0.5**numbers
    prior[1:] *= PRIOR_OF_CHANGES / prior[1:].sum()
    prior[0] = 1 - PRIOR_OF_CHANGES
    ahead = np.array([_forward(evidence, most) for evidence in evidences])
    # Every allowed set of k days is as probable as another: there are exp(ways) of them.
    posterior = np.log(prior) + np.logaddexp.reduce(ahead[:, :, -1]) - ways[: most + 1]
    posterior = np.exp(posterior - np.logaddexp.reduce(posterior))

    k = 1 + int(posterior[1:].argmax())
    behind = np.array([_forward(evidence[::-1, ::-1].T, k - 1) for evidence in evidences])

    def places(changes: int) -> Floats:
        joint = [ahead[:, c] + behind[:, changes - 1 - c, ::-1] for c in range(changes)]
        total = np.logaddexp.reduce(ahead[:, changes, -1])
        return np.asarray(np.exp(np.logaddexp.reduce(joint, axis=1) - total))

    likeliest = evidences[ahead[:, k, -1].argmax()]
    return Segmentation(posterior, _best(likeliest, k), places(k), places(1)[0])


def _evidence_of_segments(counts: Floats, sizes: Floats, least: float) -> Floats:
    """Returns the log evidence of blocks i … j−1 at [way, i, j].

    Shape (ways, blocks + 1, blocks + 1). Relative to that of the mean of the whole: with n
    statements whose scores differ from it by s in sum, and v the variance of one,
    N(s; 0, nv + n²v/m) / N(s; 0, nv) for a mean that is known as from m statements.
    """
    whole = counts.sum(axis=0) + 1
    shares = whole / whole.sum()
    scores = WAYS - (WAYS @ shares)[:, None]
    variance = scores**2 @ shares
    ends = np.concatenate([np.zeros((1, counts.shape[1])), counts.cumsum(axis=0)])
    between = np.moveaxis(ends[None] - ends[:, None], -1, 0)
    n = np.maximum(between.sum(axis=0), 0.0)
    s = np.tensordot(scores, between, axes=1)
    evidence = s**2 / (2 * variance[:, None, None] * (n + _STATEMENTS))
    evidence -= np.log1p(n / _STATEMENTS) / 2
    upto = np.concatenate([[0.0], sizes.cumsum()])
    allowed = np.triu(upto[None] - upto[:, None] >= least, k=1)
    # A sequence too short for two segments still has the evidence of no change.
    allowed[0, -1] = True
    return np.asarray(np.where(allowed, evidence, -np.inf))


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
