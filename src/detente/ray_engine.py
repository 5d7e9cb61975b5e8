"""Scoring on several processes or machines with Ray (extra ``ray``).

Our shards are Ray's tasks, and actors that keep a model loaded do them. ``ray.data`` would cut
the rows into blocks of its own and write them itself; a result that is the same to the byte on
any number of workers, and after any stop, needs our cut and our log. So the rows travel with the
task and the result comes back: the machines share no file system, only an installed detente.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from detente import hub
from detente.errors import DataError, DetenteError, MissingExtraError, ModelError
from detente.scoring import Scorer, Shard, Task, load
from detente.shards import Result

_AHEAD = 2
"""Shards that a worker has been given: one to do, one to go on with."""


@dataclass(frozen=True, slots=True)
class RayEngine:
    """An engine for :func:`detente.scoring.score`.

    Attributes:
        address: Of a running cluster; ``None`` starts one on this machine for the run.
        workers: Actors, each with a model of its own.
        gpus: GPUs that each takes, or the share of one.
    """

    address: str | None = None
    workers: int = 1
    gpus: float = 0.0

    def __call__(self, task: Task, shards: Iterable[Shard]) -> Iterator[Result]:
        """Yields the results as they come; a worker that dies is replaced, its shards done again.

        Raises:
            MissingExtraError: Ray is not installed.
            DetenteError: Ray does not start, or there is no cluster at the address.
            DataError: Ray has lost its workers for good.
        """
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError.of("the engine ray", "ray") from error
        try:
            ray.init(
                address=self.address,
                num_cpus=None if self.address else self.workers,
                include_dashboard=None if self.address else False,
                log_to_driver=False,
                logging_level="warning",
            )
        except Exception as error:  # what fails to start has no common base
            raise DetenteError(
                f"Ray does not start or cannot be reached ({error})",
                where=self.address or "this machine",
                fix="Finished shards are kept: the same command goes on, with any engine.",
            ) from error
        try:
            manifest = _manifest(task)
            worker = ray.remote(_Worker).options(
                num_cpus=1,
                num_gpus=self.gpus,
                max_restarts=-1,
                max_task_retries=-1,
                scheduling_strategy="SPREAD",
            )
            pool = [worker.remote(task, manifest) for _ in range(self.workers)]
            yield from _work(pool, iter(shards))
        except ray.exceptions.RayTaskError as error:
            # Ray wraps what a worker raises, and puts its traceback into the message.
            raise error.cause if isinstance(error.cause, DetenteError) else error from None
        except ray.exceptions.RayActorError as error:
            raise DataError(
                f"the workers are lost ({error})",
                where=self.address or "ray",
                fix="Finished shards are kept: the same command goes on.",
            ) from error
        finally:
            ray.shutdown()


class _Worker:
    """An actor: a model that has been loaded, and is the one that the run was begun with."""

    def __init__(self, task: Task, manifest: str) -> None:
        if _manifest(task) != manifest:
            raise ModelError(
                "a worker has another model than the run was begun with",
                where=task.model,
                fix="Give all machines the same model folder, or use a hub id.",
            )
        self._scorer = Scorer(task, load(task))

    def score(self, shard: Shard) -> Result:
        return self._scorer(shard)


def _work(pool: Sequence[Any], shards: Iterator[Shard]) -> Iterator[Result]:
    import ray

    running = {}
    for worker in pool:
        for shard in islice(shards, _AHEAD):
            running[worker.score.remote(shard)] = worker
    while running:
        (done, *_), _ = ray.wait(list(running), num_returns=1)
        worker = running.pop(done)
        for shard in islice(shards, 1):
            running[worker.score.remote(shard)] = worker
        yield ray.get(done)


def _manifest(task: Task) -> str:
    return hub.sha256(hub.locate(task.model, runtime=task.runtime).path / hub.MANIFEST)
