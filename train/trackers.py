"""The services that follow a training, by the names that transformers has for them."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.integrations import get_available_reporting_integrations

from detente.errors import MissingExtraError
from train.config import Tracker


def installed(trackers: Sequence[Tracker]) -> list[str]:
    """Returns the trackers for ``TrainingArguments.report_to``.

    Raises:
        MissingExtraError: The package of one is not installed.
    """
    missing = [t for t in trackers if t not in get_available_reporting_integrations()]
    if missing:
        raise MissingExtraError(
            "the tracker's package is not installed",
            where="run.trackers",
            got=missing[0],
            fix=f"Install it with: pip install {missing[0]}",
        )
    return list(trackers)
