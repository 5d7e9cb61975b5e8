"""How long training takes: a clock for the Trainer, and a rehearsal that foretells it."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers import TrainerCallback

from detente.statement import Statement
from train.config import Config
from train.fit import fit

# The first updates also make buffers and choose kernels.
_WARM_UP: Final = 2
_UPDATES: Final = 10


class Stopwatch(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """Notes when the last epoch began and when each of its updates was done.

    Attributes:
        marks: Seconds of a clock of its own; on a GPU, when all work of an update was done.
    """

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Starts the clock."""
        self.marks = [time.perf_counter()]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Marks the end of an update."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())


def seconds_to_train(config: Config, statements: Sequence[Statement], rows: int) -> float:
    """Foretells how long the updates of a training take, by a few on this machine.

    Args:
        config: The training.
        statements: Labelled rows of which some are trained on for the rehearsal.
        rows: How many rows the training will have.

    Returns:
        Seconds for all of ``fit.epochs``, without evaluation and saving.
    """
    per_update = config.fit.batch_size * config.fit.gradient_accumulation
    # At random, or the lengths would not be those of the whole.
    some = min(len(statements), per_update * (_WARM_UP + _UPDATES))
    sample = random.Random(config.run.seed).sample(list(statements), some)
    watch = Stopwatch()
    once = config.model_copy(
        update={
            "run": config.run.model_copy(update={"trackers": ()}),
            "fit": config.fit.model_copy(update={"epochs": 1.0}),
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        fit(once, sample, sample[:per_update], Path(scratch), callbacks=[watch])
    warm = min(_WARM_UP, len(watch.marks) - 2)
    seconds = (watch.marks[-1] - watch.marks[warm]) / (len(watch.marks) - 1 - warm)
    return seconds * math.ceil(rows / per_update) * config.fit.epochs
