"""The three tones, their order and their score.

The order is part of every model's contract: ``critical`` < ``neutral`` < ``conciliatory``,
with the ids 0, 1 and 2. ``data/CODEBOOK.md`` says what each label means.
"""

from __future__ import annotations

import difflib
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from detente.errors import InputError

Label = Literal["critical", "neutral", "conciliatory"]

LABELS: Final[tuple[Label, ...]] = ("critical", "neutral", "conciliatory")
WAYS: Final = np.array([[-1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""What rhetoric can change in, as scores of the labels: tone, criticism, conciliation."""

LABEL_TO_ID: Final[dict[Label, int]] = {label: i for i, label in enumerate(LABELS)}


def parse_label(value: object) -> Label:
    """Returns ``value`` as a label; blanks around it and its case do not matter.

    Raises:
        InputError: ``value`` is not one of the three labels.
    """
    name = value.strip().lower() if isinstance(value, str) else value
    if name in LABELS:
        return name
    near = difflib.get_close_matches(str(name), LABELS, n=1)
    raise InputError(
        "unknown label",
        got=value,
        expected=f"one of {', '.join(LABELS)}",
        fix=f"Did you mean {near[0]!r}?" if near else None,
    )


def tone_score(probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Returns P(conciliatory) − P(critical), in [−1, 1]; of counts, the sum of their tones.

    Args:
        probabilities: Shape (..., 3), in label order, each row summing to one; or counts.

    Returns:
        Shape (...).
    """
    return probabilities[..., 2] - probabilities[..., 0]
