"""Whether the predicted labels of a timeline change, before any size is asked for.

A change is called where the exact posterior over segmentations (:mod:`detente.segments`) and a
block bootstrap against what is no step (:mod:`detente.nulls`) agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from detente.nulls import NullTest, step_test
from detente.segments import PRIOR_OF_CHANGES, Segmentation, segment
from detente.timeline import Timeline

Floats = npt.NDArray[np.float64]

POSTERIOR: Final = 0.95
"""A shift needs at least this posterior probability of a change."""
SIGNIFICANCE: Final = 0.05
"""And at most this p-value against every explanation without a step."""
LEAST: Final = 5
"""Documents on either side of a change."""

_MOST_BLOCKS: Final = 500
_NULL_SERIES: Final = 499


@dataclass(frozen=True, slots=True)
class Detection:
    """What the predicted labels alone say, before any size is asked for.

    A classifier that is wrong in the same way at all times blurs a change and does not move it,
    so that its errors need not be known here.

    Attributes:
        effective: Shape (documents, 3): counts as numbers of independent statements.
        starts: Shape (blocks,): the first document of each block.
        segmentation: Of the blocks.
        test: Against explanations without a step.
    """

    effective: Floats
    starts: npt.NDArray[np.int64]
    segmentation: Segmentation
    test: NullTest

    @property
    def changed(self) -> bool:
        """Whether posterior and test agree that there is a change, in a step or gradually."""
        return self.segmentation.any_change >= POSTERIOR and self.test.p_none <= SIGNIFICANCE

    def told(self, *, trends: bool) -> bool:
        """Whether there is a change, and with ``trends`` one that a gradual trend is not."""
        return self.changed and self.test.p_value(trends=trends) <= SIGNIFICANCE


def detect(timeline: Timeline, *, rng: np.random.Generator) -> Detection | None:
    """Looks for changes in a timeline of predicted labels.

    Args:
        timeline: The documents.
        rng: Draws.

    Returns:
        ``None`` where no boundary has enough documents on both sides.
    """
    boundaries = np.empty(0, dtype=np.int64)
    # What changes at a boundary must not count as resemblance within documents, and may lie
    # within a block of many days: twice is enough for both.
    for _ in range(2):
        effective = timeline.effective(timeline.correlation(boundaries))
        starts, days = _blocks(timeline, boundaries)
        sizes = np.diff(np.append(starts, len(timeline))).astype(np.float64)
        segmentation = segment(np.add.reduceat(effective, starts), sizes, days, least=LEAST)
        if segmentation and segmentation.any_change > PRIOR_OF_CHANGES:
            boundaries = starts[list(segmentation.boundaries)]
    test = step_test(effective, timeline.days, least=LEAST, series=_NULL_SERIES, rng=rng)
    if segmentation is None or test is None:
        return None
    return Detection(effective, starts, segmentation, test)


def _blocks(
    timeline: Timeline, near: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Divides a timeline into at most ``_MOST_BLOCKS`` blocks of whole days.

    Args:
        timeline: The documents.
        near: Documents at which something was found to change: where there are more days than
            blocks, half of the blocks are the days around these.

    Returns:
        The first document of each block, and how many days with documents it has.
    """
    _, first = np.unique(timeline.days, return_index=True)
    chosen = np.arange(len(first))
    if len(first) > _MOST_BLOCKS:
        # As many documents in each, and never a part of a day.
        wanted = np.linspace(0, len(timeline), _MOST_BLOCKS // 2, endpoint=False)
        chosen = np.unique(np.searchsorted(first, wanted, side="right") - 1)
        for document in near:
            at = int(np.searchsorted(first, document))
            reach = _MOST_BLOCKS // 4 // len(near)
            chosen = np.union1d(chosen, np.arange(max(at - reach, 0), min(at + reach, len(first))))
    return first[chosen], np.diff(np.append(chosen, len(first))).astype(np.float64)
