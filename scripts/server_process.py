"""A server that a script runs beside itself, and what it takes of the machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from detente.errors import DataError

SLOWEST_START: Final = 120
"""Seconds in which a server has to be ready."""


@dataclass(slots=True)
class ServerProcess:
    """A server that runs.

    Attributes:
        name: Which.
        process: Its process.
        port: Where it listens.
        peak: The most memory (resident, in bytes) that was seen since :attr:`peak` was last set.
    """

    name: str
    process: psutil.Process
    port: int
    peak: int = 0

    def processor(self) -> float:
        """Returns the seconds of the processor that it has taken."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def watch(self, over: threading.Event) -> None:
        """Notes how much memory it holds, until that is over."""
        while not over.wait(0.1):
            self.peak = max(self.peak, self.process.memory_info().rss)


@contextmanager
def started(name: str, command: Sequence[str], port: int) -> Iterator[ServerProcess]:
    """Runs a server; what it says is kept, and shown where it does not start.

    Args:
        name: What to call it.
        command: The module to run, and its arguments.
        port: Where it will listen.

    Raises:
        DataError: It does not become ready.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            wait_until_ready(process, port)
            yield ServerProcess(name, psutil.Process(process.pid), port)
        except TimeoutError:
            said.seek(0)
            raise DataError(f"{name} does not start: {said.read()[-500:]}") from None
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Waits until a server answers.

    Raises:
        TimeoutError: It has ended, or not begun in time.
    """
    give_up = time.monotonic() + SLOWEST_START
    while process.poll() is None and time.monotonic() < give_up:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError
