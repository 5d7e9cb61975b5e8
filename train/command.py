"""What every command of the pipeline does with its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from detente.errors import DetenteError


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
