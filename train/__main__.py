"""The command ``python -m train CONFIG [section.key=value …] [--resume]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from train.command import run_command


def main(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as configs/quick.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Settings in place of the file's."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last whole checkpoint.")
    ] = False,
) -> None:
    """Fine-tune a tone classifier and evaluate it.

    Example: python -m train configs/quick.yaml run.dir=runs/mine fit.epochs=3
    """
    from train.config import load_config

    resolved = load_config(config, overrides or ())
    # Heavy libraries only now, so that --help and a typo answer at once.
    from train.fit import show_progress
    from train.run import train

    show_progress(sys.stderr.isatty())
    train(resolved, resume=resume)


if __name__ == "__main__":
    run_command(main, "train")
