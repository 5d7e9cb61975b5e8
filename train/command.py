"""What the commands of the pipeline have in common: their errors, and how many may run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from filelock import FileLock, Timeout

from detente.errors import ConfigError, DetenteError, StoppedError


def run_command(main: Callable[..., Any], name: str) -> None:
    """Runs a function from the command line; errors of ours end it with status 2.

    A training that was asked to stop ends with 143, as one that SIGTERM had ended.

    Args:
        main: What typer makes a command of.
        name: What the message begins with: the module that is run.
    """
    try:
        typer.run(main)
    except DetenteError as error:
        typer.secho(f"{name}: {error}", err=True, fg=typer.colors.RED)
        status = 128 + signal.SIGTERM if isinstance(error, StoppedError) else 2
        raise SystemExit(status) from None


@contextmanager
def alone(lock: Path, what: str, where: Path) -> Iterator[None]:
    """Holds a lock, so that no other process does the same at once.

    A process that dies gives it back.

    Args:
        lock: The file that is locked; it is there as long as the lock is held.
        what: What to say if another process holds it.
        where: What it is about.

    Raises:
        ConfigError: Another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout:
        raise ConfigError(what, where=str(where)) from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        held.release()


def refuse_processes(name: str) -> None:
    """Lets a command go on in one process alone.

    Args:
        name: The module that is run.

    Raises:
        ConfigError: Several processes were started.
    """
    import torch
    from accelerate import PartialState

    # Without a GPU accelerate has to be told, or every process takes itself for the only one.
    processes = PartialState(cpu=not torch.accelerator.is_available()).num_processes
    if processes > 1:
        raise ConfigError(
            f"{name} runs in one process",
            got=f"{processes} processes",
            fix=f"Start it with python -m {name}.",
        )
