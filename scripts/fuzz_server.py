"""python -m scripts.fuzz_server: requests that schemathesis makes from the OpenAPI document.

They go to `detente serve` with the bundled model, over loopback: some that the document allows and
some that it does not. Answers have to be those that the document describes, what it forbids has to
be refused, nothing may be a 500, and the process must not grow.

One check of schemathesis is left out: that all which the document allows is answered. A document
cannot say that a target may take half of the model's tokens, nor what Python calls blank.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from detente.errors import DataError, DetenteError
from scripts.server_process import started

MOST_GROWTH = 100e6
"""Bytes that the process may have more after all requests than after the first hundred."""


def main(
    examples: Annotated[int, typer.Option(min=1, help="Requests of each route, or more.")] = 1000,
    port: Annotated[int, typer.Option(help="One that is free.")] = 8920,
    seed: int = 0,
) -> None:
    """Put requests of all kinds to the server."""
    with started("detente serve", ("detente.cli", "serve", "--port", str(port)), port) as server:
        send(port, 100, seed)
        before = server.process.memory_info().rss
        send(port, examples, seed + 1)
        after = server.process.memory_info().rss
    grown = f"{before / 1e6:.0f} MB after the first hundred, {after / 1e6:.0f} MB at the end"
    print(grown)
    if after - before > MOST_GROWTH:
        raise DataError(f"the server has grown: {grown}")


def send(port: int, examples: int, seed: int) -> None:
    """Sends requests, and prints what schemathesis counted.

    Raises:
        DataError: It found something.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            f"http://127.0.0.1:{port}/openapi.json",
            f"--max-examples={examples}",
            f"--seed={seed}",
            "--checks=all",
            "--exclude-checks=positive_data_acceptance",
            "--generation-database=none",
            "--continue-on-failure",
            "--no-color",
        ]
    )
    if done.returncode:
        raise DataError("the server and its OpenAPI document disagree: see above")


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"fuzz_server: {error}") from None
