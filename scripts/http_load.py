"""Load over HTTP/1.1 from one process: many clients, or requests at a given rate.

A client of few lines, since it shares the machine with the server that it measures: a general one
takes longer for a request than a small model does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import cast

import uvloop

FAILED = 0
"""The status of a request that got no answer."""

SLOWEST = 60.0
"""Seconds after which a request counts as failed."""

CONNECTIONS = 900
"""The most that are open at a time: a process may usually open 1,024 files."""


@dataclass(slots=True)
class Load:
    """What a load found.

    Attributes:
        seconds: From the first request that counts to the last answer.
        statuses: Of each request that counts.
        latencies: Of each, in seconds; in the open loop from the time when it was due.
        late: In the open loop, how many seconds after that it was sent.
        processor: Seconds of the processor that this process itself took.
    """

    seconds: float = 0.0
    statuses: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    processor: float = 0.0


class _Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self.open = False
        self._received = bytearray()
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast(asyncio.Transport, transport), True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._settle(FAILED)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._received) >= end + 4 + length:
            self._received.clear()
            if b"connection: close" in head:
                self.close()
            self._settle(int(head[9:12]))

    async def ask(self, request: bytes) -> int:
        """Returns the status of the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await asyncio.wait_for(self._answer, SLOWEST)
        except TimeoutError:
            self.close()
            return FAILED

    def close(self) -> None:
        self.open = False
        self._transport.close()

    def _settle(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


class _Connections:
    """The connections to one server; those that are open and idle are used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[_Connection] = []

    async def ask(self, request: bytes) -> int:
        connection = self._idle.pop() if self._idle else None
        if connection is None or not connection.open:
            try:
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection, "127.0.0.1", self._port
                )
            except OSError:
                return FAILED
        status = await connection.ask(request)
        if connection.open:
            self._idle.append(connection)
        return status

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


def request(path: str, asked: object) -> bytes:
    """Returns a POST of a JSON value."""
    body = json.dumps(asked).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def closed_loop(
    port: int, requests: Sequence[bytes], clients: int, seconds: float, warm_up: float
) -> Load:
    """Lets clients ask, each one again as soon as it has its answer.

    Args:
        port: Of a server on loopback.
        requests: What to send, in turn.
        clients: How many.
        seconds: How long; what is answered from then on counts, also what ends later.
        warm_up: Seconds before that, which do not count.
    """
    with _no_pauses():
        return uvloop.run(_closed(port, cycle(requests), clients, seconds, warm_up))


def open_loop(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> Load:
    """Sends requests at a rate, whether the server keeps up or not.

    Args:
        port: Of a server on loopback.
        requests: What to send, in turn.
        rate: Requests a second, at random times that are the same in every run.
        seconds: How long.
    """
    with _no_pauses():
        return uvloop.run(_open(port, cycle(requests), rate, seconds))


@contextmanager
def _no_pauses() -> Iterator[None]:
    """Collects no garbage for as long: a pause of the client would count as the server's."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _closed(
    port: int, requests: Iterator[bytes], clients: int, seconds: float, warm_up: float
) -> Load:
    load, connections = Load(), _Connections(port)
    start = time.perf_counter() + warm_up
    end = start + seconds

    async def client() -> None:
        while (begin := time.perf_counter()) < end:
            status = await connections.ask(next(requests))
            if (now := time.perf_counter()) >= start:
                load.latencies.append(now - begin)
                load.statuses.append(status)

    processor = time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = time.perf_counter() - start
    load.processor = (time.process_time() - processor) * seconds / (seconds + warm_up)
    connections.close()
    return load


async def _open(port: int, requests: Iterator[bytes], rate: float, seconds: float) -> Load:
    load, connections = Load(), _Connections(port)
    random_times = random.Random(0)
    room = asyncio.Semaphore(CONNECTIONS)

    async def one(due: float) -> None:
        async with room:
            late = time.perf_counter() - due
            status = await connections.ask(next(requests))
        load.late.append(late)
        load.latencies.append(time.perf_counter() - due)
        load.statuses.append(status)

    processor, start = time.process_time(), time.perf_counter()
    due = start
    async with asyncio.TaskGroup() as asked:
        while (due := due + random_times.expovariate(rate)) < start + seconds:
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            asked.create_task(one(due))
    load.seconds = time.perf_counter() - start
    load.processor = time.process_time() - processor
    connections.close()
    return load
