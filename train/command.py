"""What the commands of the pipeline have in common: their errors, and how many may run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from detente.errors import ConfigError, DetenteError


def run_command(main: Callable[..., Any], name: str) -> None:
    """Runs a function from the command line; errors of ours end it with status 2.

    Args:
        main: What typer makes a command of.
        name: What the message begins with: the module that is run.
    """
    try:
        typer.run(main)
    except DetenteError as error:
        typer.secho(f"{name}: {error}", err=True, fg=typer.colors.RED)
        raise SystemExit(2) from None


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
