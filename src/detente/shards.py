"""Results that come in shards: each kept on disk for good, all published as one at the end.

While it is made, an output OUT has a work folder ``OUT.partial`` beside it: a log with a line
for each finished shard, and the shards. A shard is written under a temporary name, synced,
renamed, and only then recorded, so that what the log names is whole whenever the process dies.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from detente.errors import DataError, DetenteError
from detente.hub import read_json, sha256
from detente.rows import sync_folder, whole_file, write_json

_LOG: Final = "log.jsonl"


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of a shard, or of all shards.

    Attributes:
        read: Rows of the input: those scored, rejected and skipped.
        scored: Rows that gave at least one row of output.
        rejected: Rows that cannot be read.
        skipped: Texts that name no state, where states are looked for.
        written: Rows of output.
        cut: Rows of output whose sentence was longer than the model reads.
    """

    read: int = 0
    scored: int = 0
    rejected: int = 0
    skipped: int = 0
    written: int = 0
    cut: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Returns the counts of both together."""
        ours, theirs = asdict(self), asdict(other)
        return Counts(**{name: ours[name] + theirs[name] for name in ours})


@dataclass(frozen=True, slots=True)
class Result:
    """A finished shard.

    Attributes:
        index: Which shard of the input it is, from zero.
        counts: What became of its rows.
        part: The scored rows as a file of the output's kind.
        rejects: The rejected rows as JSON lines.
    """

    index: int
    counts: Counts
    part: bytes
    rejects: bytes


class Ledger:
    """The finished shards of one output. Make one with :meth:`begin`.

    Attributes:
        out: The output.
        finished: The shards that need not be made again, by index.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any], kind: str, folder: bool) -> None:
        self.out, self._identity, self._kind, self._folder = out, identity, kind, folder
        self.work = beside(out, "partial")
        self.finished: dict[int, dict[str, Any]] = {}
        self._log: IO[bytes]

    @classmethod
    def begin(
        cls,
        out: Path,
        identity: Mapping[str, Any],
        *,
        kind: str,
        folder: bool,
        restart: bool = False,
    ) -> Ledger | Counts:
        """Begins an output, or goes on with one that was stopped.

        Args:
            out: The file or folder to make.
            identity: All that its content depends on, as JSON values: what was begun with
                another is refused.
            kind: The suffix of its files.
            folder: ``out`` is a folder of shards.
            restart: Throw away what is there, if it was made here.

        Returns:
            The ledger, or the counts of an output that is finished already.

        Raises:
            DataError: There is something else at ``out``, it was made or begun with another
                identity, or another process is at it.
        """
        manifest = beside(out, "manifest.json")
        ledger = cls(out, identity, kind, folder)
        log = ledger.work / _LOG
        ours = manifest.exists() or log.exists()
        if restart and ours:
            # The log and the manifest last: they say that the rest may be removed.
            for path in (out, beside(out, "rejects.jsonl"), ledger.work, manifest):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if manifest.exists() and out.exists():
            made = read_json(manifest)
            _check_same(made["identity"], identity, out)
            shutil.rmtree(ledger.work, ignore_errors=True)
            return Counts(**made["counts"])
        if out.exists() and not log.exists():
            raise DataError(
                "the output is there already, and was not made by detente score",
                where=str(out),
                fix="Name another, or remove it.",
            )
        ledger._open()
        return ledger

    def add(self, result: Result) -> None:
        """Writes a finished shard to disk and records it."""
        part, rejects = self._part(result.index), self._rejects(result.index)
        checksums = {}
        for name, path, content in (
            ("part", part, result.part),
            ("rejects", rejects, result.rejects),
        ):
            if content or name == "part":
                with whole_file(path, binary=True) as file:
                    file.write(content)
                checksums[name] = sha256(path)
        record = {"shard": result.index, **asdict(result.counts), "sha256": checksums}
        self._log.write(json.dumps(record).encode() + b"\n")
        self._log.flush()
        os.fsync(self._log.fileno())
        self.finished[result.index] = record

    @property
    def counts(self) -> Counts:
        """What became of the rows of all finished shards."""
        return sum(map(_counts, self.finished.values()), Counts())

    def publish(self, join: Callable[[Sequence[Path], IO[bytes]], None]) -> Counts:
        """Makes the output of the shards; it appears whole or not at all.

        Args:
            join: Writes one file that holds the rows of several, in their order.
        """
        shards = sorted(self.finished)
        rejects = [path for index in shards if (path := self._rejects(index)).exists()]
        _replace(self._joined(_concatenate, rejects), beside(self.out, "rejects.jsonl"))
        if not self._folder:
            _replace(self._joined(join, [self._part(index) for index in shards]), self.out)
        elif self._parts() != self.out:
            os.replace(self._parts(), self.out)
            sync_folder(self.out.parent)
        counts = self.counts
        manifest = {
            "identity": self._identity,
            "counts": asdict(counts),
            "shards": [self.finished[index] for index in shards],
        }
        if not self._folder:
            manifest["sha256"] = sha256(self.out)
        write_json(beside(self.out, "manifest.json"), manifest)
        self.close()
        shutil.rmtree(self.work)
        return counts

    def close(self) -> None:
        """Lets another process go on."""
        self._log.close()

    def _open(self) -> None:
        log = self.work / _LOG
        if not log.exists():
            if self.work.exists() and not all(map(_is_ours, self.work.iterdir())):
                raise DataError(
                    "something is in the way: shards are kept there until the output is whole",
                    where=str(self.work),
                    fix="Move it elsewhere, or name another output.",
                )
            with whole_file(log) as file:
                file.write(json.dumps(self._identity) + "\n")
        self._log = log.open("r+b")
        try:
            _lock(self._log, self.out)
            self._recall()
        except BaseException:
            self.close()
            raise

    def _recall(self) -> None:
        """Reads the log, and puts away what a process that died had not finished."""
        head, *lines, torn = self._log.read().split(b"\n")
        _check_same(json.loads(head), self._identity, self.out)
        self._log.seek(-len(torn), os.SEEK_END)
        self._log.truncate()
        self._parts().mkdir(exist_ok=True)
        for leftover in (*self.work.glob(".*"), *self._parts().glob(".*")):
            leftover.unlink()
        for line in lines:
            record = json.loads(line)
            self.finished[record["shard"]] = record
        for index, record in list(self.finished.items()):
            paths = {"part": self._part(index), "rejects": self._rejects(index)}
            for name, checksum in record["sha256"].items():
                if not paths[name].is_file() or sha256(paths[name]) != checksum:
                    # It will be made again, and recorded once more.
                    self.finished.pop(index, None)

    def _parts(self) -> Path:
        # A process that died while it published a folder has given it its name already.
        kept = self.work / "parts"
        return self.out if self._folder and self.out.is_dir() and not kept.exists() else kept

    def _part(self, index: int) -> Path:
        return self._parts() / f"part-{index:06d}{self._kind}"

    def _rejects(self, index: int) -> Path:
        return self.work / f"rejects-{index:06d}.jsonl"

    def _joined(
        self, join: Callable[[Sequence[Path], IO[bytes]], None], paths: Sequence[Path]
    ) -> Path | None:
        if not paths and join is _concatenate:
            return None
        whole = self.work / "whole"
        with whole_file(whole, binary=True) as file:
            join(paths, file)
        return whole


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Says of a disk that is full, and of its other troubles, what can be done.

    Raises:
        DataError: The system refused to read or write something inside.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, DetenteError):
            raise
        raise DataError(
            f"cannot be written ({error})",
            where=str(out),
            fix="Finished shards are kept: once there is room, the same command goes on.",
        ) from error


def beside(out: Path, ending: str) -> Path:
    """Returns the path ``OUT.ending``."""
    return out.with_name(f"{out.name}.{ending}")


def _check_same(made: Mapping[str, Any], wanted: Mapping[str, Any], out: Path) -> None:
    for name, value in wanted.items():
        if (then := made.get(name)) != value:
            plain = not isinstance(value, list | dict)
            raise DataError(
                f"the output was begun with another {name}",
                where=str(out),
                got=value if plain else None,
                expected=f"{then!r}, as then" if plain else None,
                fix="Name another output, or throw this one away with --restart.",
            )


def _is_ours(path: Path) -> bool:
    return path.name in ("parts", "whole") or path.name.startswith((".", "rejects-"))


def _counts(record: Mapping[str, Any]) -> Counts:
    return Counts(**{name: record[name] for name in asdict(Counts())})


def _concatenate(paths: Sequence[Path], file: IO[bytes]) -> None:
    for path in paths:
        with path.open("rb") as part:
            shutil.copyfileobj(part, file)


def _replace(made: Path | None, place: Path) -> None:
    if made is None:
        place.unlink(missing_ok=True)
    else:
        os.replace(made, place)
        sync_folder(place.parent)


def _lock(log: IO[bytes], out: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two processes at one output are the user's own care
        return
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(
            "another process is making this output",
            where=str(out),
            fix="Wait until it has ended, or name another output.",
        ) from None
