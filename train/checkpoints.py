"""Checkpoints that a training can go on from: written to the end, and as they were written.

Once all of a checkpoint is written, it gets a marker with the size and the sha256 of each of its
files. What has no marker was being written when the process was killed. What does not match its
marker was damaged since, or half deleted.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any, Final

from detente.errors import DamageWarning, DetenteError
from detente.hub import checksums, read_json
from detente.rows import write_json

_WHOLE: Final = "whole"
_STATE: Final = "trainer_state.json"


def mark_whole(checkpoint: Path) -> None:
    """Marks a checkpoint of which everything is written."""
    write_json(checkpoint / _WHOLE, {"files": checksums(checkpoint)})


def last_whole(folder: Path) -> Path | None:
    """Returns the newest checkpoint in a folder that can be gone on from, or ``None``.

    Those that were not written to the end are deleted. One that was damaged is named in a warning
    and renamed, so that it is not in the way; so is one that was best with a damaged one.
    """
    found = sorted(folder.glob("checkpoint-*"), key=_step, reverse=True)
    for checkpoint in found:
        if not (checkpoint / _WHOLE).exists():
            shutil.rmtree(checkpoint)
    for checkpoint in filter(Path.exists, found):
        best = _best(checkpoint)
        if _is_whole(checkpoint) and (best is None or _is_whole(best)):
            return checkpoint
        aside = checkpoint.with_name(f"damaged-{_step(checkpoint)}")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
        warnings.warn(
            DamageWarning(
                f"{checkpoint}: the checkpoint, or the best one before it, is not as it was "
                f"written. It is passed over, and is now called {aside.name}."
            ),
            stacklevel=2,
        )
    return None


def is_over(checkpoint: Path, patience: int) -> bool:
    """Returns whether the training that wrote a checkpoint had nothing left to do.

    A Trainer that is started from it would train on: whether it has stopped early, it asks only
    after an epoch.
    """
    state = read_json(checkpoint / _STATE)
    stopping = state["stateful_callbacks"]["EarlyStoppingCallback"]["attributes"]
    return bool(
        state["global_step"] >= state["max_steps"]
        or stopping["early_stopping_patience_counter"] >= patience
    )


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _is_whole(checkpoint: Path) -> bool:
    try:
        recorded: Any = read_json(checkpoint / _WHOLE)["files"]
        found = checksums(checkpoint)
    except (DetenteError, OSError, KeyError):
        return False
    found.pop(_WHOLE, None)
    return bool(recorded == found)


def _best(checkpoint: Path) -> Path | None:
    """Returns the best checkpoint so far by what this one says, as far as that can be read."""
    try:
        best = read_json(checkpoint / _STATE).get("best_model_checkpoint")
    except DetenteError:
        return None
    return Path(best) if isinstance(best, str) else None
