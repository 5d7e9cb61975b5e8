"""Which statements are computed together, and work done ahead of its use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_PADDING: Final = 0.03
"""The largest share of a batch's tokens that may be padding."""


def plan_batches(lengths: Sequence[int], tokens: int, rows: int | None = None) -> list[list[int]]:
    """Says which rows to compute together: rows of like length, in batches of like size.

    Rows go from the longest to the shortest, and those of equal length in their order, so that
    the same lengths always make the same batches.

    Args:
        lengths: Tokens of each row.
        tokens: The most tokens of a batch, padding included; a longer row is a batch of its own.
        rows: The most rows of a batch; ``None`` leaves that to ``tokens``.

    Returns:
        The positions of each batch's rows, the longest row first. In none of them is padding
        more than :data:`MOST_PADDING` of the tokens.
    """
    batches: list[list[int]] = []
    held = 0  # tokens of the last batch that are not padding
    longest = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        size = (len(batches[-1]) + 1) * longest if batches else 0
        if (
            not batches
            or size > tokens
            or (rows is not None and len(batches[-1]) >= rows)
            or size - held - lengths[row] > MOST_PADDING * size
        ):
            batches.append([])
            held, longest = 0, lengths[row]
        batches[-1].append(row)
        held += lengths[row]
    return batches


def map_beside(
    function: Callable[[Item], Result], items: Sequence[Item], at_a_time: int
) -> Iterator[Result]:
    """Yields ``function(item)`` for each item in order, computing several on threads of their own.

    Args:
        function: Worth threads only where it leaves the interpreter, as runtimes do.
        items: What to compute.
        at_a_time: The most threads.
    """
    from concurrent.futures import ThreadPoolExecutor

    if min(at_a_time, len(items)) < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(at_a_time, thread_name_prefix="detente-batch") as workers:
        yield from workers.map(function, items)


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields ``function(item)`` for each item, computing the next one on another thread.

    While a result is in use, that of the item after it is made. Items are taken in the calling
    thread, one ahead; what comes before an item that fails is yielded before the error is raised.

    Args:
        function: Worth a thread only where it leaves the interpreter, as tokenisers do.
        items: Any iterable, also an endless one.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    iterator = iter(items)
    made: Future[Result] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="detente-ahead") as worker:
        while True:
            try:
                following = worker.submit(function, next(iterator))
            except StopIteration:
                break
            except Exception:
                if made is not None:
                    yield made.result()
                raise
            if made is not None:
                yield made.result()
            made = following
        if made is not None:
            yield made.result()
