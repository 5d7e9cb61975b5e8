"""The queue between many clients and one classifier.

What waits is computed together. While the model is busy, more comes in, so that under load rounds
grow by themselves; a model that is idle waits a few milliseconds for others at most. The threads
that compute take the next round from the queue themselves, and never wait for the event loop.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from detente.classifier import Prediction
from detente.errors import BusyError
from detente.statement import Statement

LONGEST_RETRY: Final = 60
"""The most seconds after which a client that is turned away is told to come back."""

LONGEST_CLOSE: Final = 5
"""The seconds that closing waits for a round which is being computed."""

Predict = Callable[[Sequence[Statement]], list[Prediction]]


@dataclass(slots=True, eq=False)
class _Job:
    """What one request asks for: its statements, how many have been taken, and its results."""

    statements: Sequence[Statement]
    answered: asyncio.Future[list[Prediction]]
    taken: int = 0
    found: dict[int, Prediction] = field(default_factory=dict)

    @property
    def untaken(self) -> int:
        return len(self.statements) - self.taken

    def settle(self, start: int, outcome: list[Prediction] | Exception) -> None:
        """Notes the results of a piece, unless nobody waits for them any more."""
        if self.answered.done():
            return
        if isinstance(outcome, Exception):
            self.answered.set_exception(outcome)
            return
        self.found.update(enumerate(outcome, start))
        if len(self.found) == len(self.statements):
            self.answered.set_result([self.found[i] for i in range(len(self.statements))])


@dataclass(frozen=True, slots=True)
class _Piece:
    """The statements of a job that are computed in one round."""

    job: _Job
    start: int
    statements: Sequence[Statement]


class Batcher:
    """Computes the statements of many requests together, in the order in which they came.

    A request of more statements than a round holds goes on at the end of the queue, so that it
    does not hold up those behind it. A statement that fails fails only its own request.

    To be made and used in a running event loop; :meth:`close` ends its threads.

    Args:
        predict: Computes statements; called from several threads at a time.
        threads: Rounds computed at a time.
        most_waiting: Statements admitted and not answered yet; more are turned away.
        most_together: Statements of a round.
        linger: Seconds that an idle thread waits for more statements after the first.
        observe: Called with the size of each round and its seconds, in the event loop.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        threads: int,
        most_waiting: int,
        most_together: int,
        linger: float,
        observe: Callable[[int, float], object] = lambda size, seconds: None,
    ) -> None:
        self._predict, self._observe = predict, observe
        self._most_together, self._linger = most_together, linger
        self.most_waiting = most_waiting
        self.waiting = 0
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._untaken = 0
        self._idle = 0
        self._closed = False
        self._seconds_each = 0.0
        self._threads = [
            threading.Thread(target=self._work, name=f"detente-model-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether all threads are at work or ready for it."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    @property
    def retry_after(self) -> int:
        """Seconds until what waits now will have been computed, as far as can be told."""
        seconds = math.ceil(self.waiting * self._seconds_each / len(self._threads))
        return min(max(seconds, 1), LONGEST_RETRY)

    def check_room(self, statements: int = 1) -> None:
        """Checks whether so many statements would be admitted now.

        Raises:
            BusyError: They would not.
        """
        if self.waiting + statements > self.most_waiting:
            raise BusyError(
                f"the queue is full: {self.waiting} statements wait",
                expected=f"at most {self.most_waiting}, with the {statements} that came",
                fix=f"Try again in {self.retry_after} seconds.",
            )

    @contextmanager
    def admitted(self, statements: int) -> Iterator[None]:
        """Keeps room for so many statements, from here until they are answered or given up.

        Raises:
            BusyError: There is no room; nothing has been done.
        """
        self.check_room(statements)
        self.waiting += statements
        try:
            yield
        finally:
            self.waiting -= statements

    async def predict(self, statements: Sequence[Statement]) -> list[Prediction]:
        """Returns the tone of statements that have been admitted, in their order.

        If the task that awaits this is cancelled, what no round has taken is not computed.

        Raises:
            DetenteError: One of the statements cannot be computed.
        """
        if not statements:
            return []
        job = _Job(statements, self._loop.create_future())
        with self._changed:
            self._jobs.append(job)
            self._untaken += job.untaken
            # All that are idle: each takes a share, and counts on the others for the rest.
            self._changed.notify_all()
        try:
            return await job.answered
        finally:
            if job.untaken:
                self._withdraw(job)

    def close(self) -> None:
        """Ends the threads; what they are computing is waited for, for some seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(LONGEST_CLOSE)

    def _withdraw(self, job: _Job) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                self._untaken -= job.untaken

    def _work(self) -> None:
        while pieces := self._take():
            begin = time.perf_counter()
            outcomes = self._compute(pieces)
            seconds = time.perf_counter() - begin
            self._loop.call_soon_threadsafe(self._deliver, pieces, outcomes, seconds)

    def _take(self) -> list[_Piece]:
        """Waits for statements and takes a round of them; nothing once the queue is closed."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._idle += 1
                self._changed.wait()
                self._changed.wait_for(self._worth_a_round, self._linger)
                self._idle -= 1
            if self._closed:
                return []
            # The others that are idle take their share at the same time.
            room = min(self._most_together, math.ceil(self._untaken / (1 + self._idle)))
            self._untaken -= room
            pieces = []
            while room:
                job = self._jobs.popleft()
                some = job.statements[job.taken : job.taken + room]
                pieces.append(_Piece(job, job.taken, some))
                job.taken += len(some)
                room -= len(some)
                if job.untaken:
                    self._jobs.append(job)
            return pieces

    def _worth_a_round(self) -> bool:
        return self._closed or self._untaken >= self._most_together

    def _compute(self, pieces: Sequence[_Piece]) -> list[list[Prediction] | Exception]:
        """Returns the predictions of each piece, or what went wrong with it."""
        try:
            found = iter(self._predict([s for piece in pieces for s in piece.statements]))
            return [list(islice(found, len(piece.statements))) for piece in pieces]
        except Exception as error:
            if len(pieces) == 1:
                return [error]
            return [self._compute([piece])[0] for piece in pieces]

    def _deliver(
        self,
        pieces: Sequence[_Piece],
        outcomes: Sequence[list[Prediction] | Exception],
        seconds: float,
    ) -> None:
        size = sum(len(piece.statements) for piece in pieces)
        each = seconds / size
        self._seconds_each += (each - self._seconds_each) * (0.1 if self._seconds_each else 1)
        self._observe(size, seconds)
        for piece, outcome in zip(pieces, outcomes, strict=True):
            piece.job.settle(piece.start, outcome)
