"""A training that is asked to stop saves what it has."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainerCallback

from detente.errors import StoppedError


class StopWhenAsked(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """Saves a checkpoint at the end of the update, and stops, once SIGTERM has come.

    transformers' own ``enable_jit_checkpoint`` waits for three seconds and saves within an update,
    after dropout was drawn for it: a run that goes on from there ends elsewhere.
    """

    def __init__(self) -> None:
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes SIGTERM inside; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(*_: object) -> None:
            self._asked = True

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Asks for a checkpoint."""
        # With its last update an epoch is judged and saved anyway: no checkpoint comes between.
        ends_epoch = state.global_step >= state.max_steps or float(state.epoch).is_integer()
        if not ends_epoch and self._asked_anywhere():
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Stops, once it is there."""
        if self._asked_anywhere():
            raise StoppedError(
                f"stopped by SIGTERM after update {state.global_step} of {state.max_steps}",
                where=args.output_dir,
                fix="A checkpoint is saved: continue with --resume.",
            )

    def _asked_anywhere(self) -> bool:
        """Returns whether this process or, of several, any of them was asked to stop."""
        processes = PartialState()
        if processes.num_processes == 1:
            return self._asked
        asked = torch.tensor(float(self._asked), device=processes.device)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        return bool(asked)
