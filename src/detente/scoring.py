"""Files in, a scored file out: in shards of rows, as a stream, and resumable.

The unit of work is a shard: consecutive rows of the input, cut by its content alone. A shard is
predicted in one go whatever came before, so that its result does not depend on where a run was
stopped, or on which process or machine made it.
"""

from __future__ import annotations

import csv
import datetime as dt
import glob
import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, Literal, Protocol, cast

from detente import hub, rows
from detente.classifier import Classifier, Prediction
from detente.errors import DataError, InputError, TruncationWarning
from detente.labels import LABELS
from detente.rows import Row
from detente.runtimes import RuntimeName
from detente.shards import Counts, Ledger, Result, beside, writing
from detente.statement import Statement, is_blank

OnError = Literal["reject", "stop", "salvage"]

SHARD_ROWS: Final = 10_000
_SHARD_CHARACTERS: Final = 1 << 25
"""A shard of long documents ends early, so that memory is bounded by characters too."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive rows of the input.

    Attributes:
        index: Its place, from zero.
        rows: File, number and content of each row; an error stands for a row that is broken.
    """

    index: int
    rows: list[tuple[str, int, Row | InputError]]


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with a shard: all that a worker on another machine needs to know.

    Attributes:
        model: Name of the model, as :meth:`Classifier.load` takes it.
        runtime: Its runtime.
        text: The column with the text.
        target: The column with the target; without one, every state that the text names.
        source: The column with the source, if there is one.
        kind: The suffix of the output's files.
        columns: The output's columns; not needed for JSONL.
        schema: The output's Arrow schema, for Parquet.
        stop: A row that cannot be read is an error, and is not rejected.
    """

    model: str
    runtime: RuntimeName
    text: str
    target: str | None
    source: str | None
    kind: str
    columns: tuple[str, ...] = ()
    schema: Any = None
    stop: bool = False

    @property
    def scored_columns(self) -> list[str]:
        """The columns that detente writes."""
        return [
            *("text", "target", "label", "score"),
            *(f"p_{label}" for label in LABELS),
            *(["source"] if self.source else []),
            *([] if self.target else ["start", "end"]),
            "tokens_cut",
            "model",
        ]

    def carried(self, row: Mapping[str, Any]) -> Row:
        """Returns the cells of an input row that go on, under the names that they go on by.

        Raises:
            InputError: Two columns would have the same name.
        """
        read = {self.text, self.target, self.source}
        ours = self.scored_columns
        kept = {
            f"input_{name}" if name in ours else name: value
            for name, value in row.items()
            if name not in read
        }
        if len(kept) < len(row.keys() - read):
            raise InputError(
                "a column would be overwritten: those that detente writes are kept as input_…",
                got=list(row),
                fix="Rename one of the two columns.",
            )
        return kept


class TonePredictor(Protocol):
    """What scoring asks of a :class:`detente.Classifier`."""

    name: str

    def predict_batch(self, statements: Sequence[Statement], /) -> list[Prediction]:
        """See :meth:`detente.Classifier.predict_batch`."""
        ...

    def read(self, document: str, source: str | None, /) -> list[Prediction]:
        """See :meth:`detente.Classifier.read`."""
        ...


_Document = tuple[str, str | None]
"""A text and its source."""


@dataclass(frozen=True, slots=True)
class _Readable:
    """A row that can be read: what of it goes on, and what the model is asked."""

    carried: Row
    asked: Statement | _Document


Engine = Callable[[Task, Iterable[Shard]], Iterator[Result]]
"""What makes shards into results, in any order."""


class Scorer:
    """Scores one shard after the other.

    Args:
        task: What is to be done.
        classifier: The model; it must be the one that the task names.
    """

    def __init__(self, task: Task, classifier: TonePredictor) -> None:
        self._task, self._classifier = task, classifier

    def __call__(self, shard: Shard) -> Result:
        """Returns the shard's result, which depends on nothing but the shard.

        Raises:
            DataError: A row cannot be read, and the task says to stop there.
        """
        read = [self._read(row) for _, _, row in shard.rows]
        with warnings.catch_warnings():
            # The column tokens_cut says it, and the counts at the end.
            warnings.simplefilter("ignore", TruncationWarning)
            found = iter(self._predict([row.asked for row in read if isinstance(row, _Readable)]))
        scored: list[Row] = []
        rejects: list[Row] = []
        skipped = 0
        for (path, number, _), row in zip(shard.rows, read, strict=True):
            carried, outcome = (
                (row.carried, next(found)) if isinstance(row, _Readable) else ({}, row)
            )
            if isinstance(outcome, InputError):
                if self._task.stop:
                    with rows.at_row(Path(path), number):
                        raise outcome
                rejects.append({"file": path, "row": number, "reason": str(outcome)})
                continue
            skipped += not outcome
            if self._task.target is None:
                carried.setdefault("doc_id", f"{path}:{number}")
            scored += [
                carried
                | prediction.to_row()
                | {"tokens_cut": prediction.tokens_cut, "model": self._classifier.name}
                for prediction in outcome
            ]
        counts = Counts(
            read=len(shard.rows),
            scored=len(shard.rows) - len(rejects) - skipped,
            rejected=len(rejects),
            skipped=skipped,
            written=len(scored),
            cut=sum(row["tokens_cut"] > 0 for row in scored),
        )
        return Result(shard.index, counts, encode(scored, self._task), _encode_jsonl(rejects))

    def _read(self, row: Row | InputError) -> _Readable | InputError:
        if isinstance(row, InputError):
            return row
        task = self._task
        try:
            for column in (task.text, task.target):
                if column is not None and column not in row:
                    raise InputError(f"the column {column!r} is missing", got=list(row))
            source = row.get(task.source) if task.source else None
            source = None if is_blank(source) else source
            text = row[task.text]
            asked = Statement(text, row[task.target], source) if task.target else (text, source)
            return _Readable(task.carried(row), asked)
        except InputError as error:
            return error

    def _predict(
        self, asked: Sequence[Statement | _Document]
    ) -> list[list[Prediction] | InputError]:
        if self._task.target is None:
            return [self._read_document(document) for document in cast(list[_Document], asked)]
        return self._predict_batch(cast(list[Statement], asked))

    def _predict_batch(
        self, statements: Sequence[Statement]
    ) -> list[list[Prediction] | InputError]:
        """Predicts all of them, and finds by halving those that the model cannot read."""
        try:
            return [[found] for found in self._classifier.predict_batch(statements)]
        except InputError as error:
            if len(statements) == 1:
                return [error]
        half = len(statements) // 2
        return self._predict_batch(statements[:half]) + self._predict_batch(statements[half:])

    def _read_document(self, document: _Document) -> list[Prediction] | InputError:
        try:
            return self._classifier.read(*document)
        except InputError as error:
            return error


def score_here(task: Task, shards: Iterable[Shard]) -> Iterator[Result]:
    """The engine that works in this process."""
    yield from map(Scorer(task, load(task)), shards)


def load(task: Task) -> TonePredictor:
    """Loads the model that a task names."""
    return Classifier.load(task.model, runtime=task.runtime)


def score(
    inputs: Sequence[str | Path],
    out: Path,
    *,
    text_column: str = "text",
    target_column: str | None = None,
    source_column: str | None = None,
    every_state: bool = False,
    model: str = hub.DEFAULT,
    runtime: RuntimeName = "auto",
    kind: str | None = None,
    shard_rows: int = SHARD_ROWS,
    on_error: OnError = "reject",
    restart: bool = False,
    engine: Engine = score_here,
    progress: bool = False,
) -> Counts:
    """Scores the rows of files; started again after a stop, it goes on to the same bytes.

    Rows that cannot be read go to ``OUT.rejects.jsonl`` with file, number and reason. What the
    output was made of stands in ``OUT.manifest.json``.

    Args:
        inputs: Files or patterns: CSV, JSONL or Parquet, all of one kind.
        out: A file by its suffix; a name without one is made a folder with a file a shard.
        text_column: The column with the text.
        target_column: The column with the target; ``None`` takes ``target`` if there is one.
            Without it the text is a document, and every state that it names gives a row.
        source_column: The column with the source; ``None`` takes ``source`` if there is one.
        every_state: Look for states even if there is a column ``target``, which is carried.
        model: See :meth:`Classifier.load`.
        runtime: See :meth:`Classifier.load`.
        kind: ``csv``, ``jsonl`` or ``parquet``; ``None`` goes by the suffix of ``out``, and for
            a folder by that of the input.
        shard_rows: Rows of input in a shard, at least 1.
        on_error: What to do with a row that cannot be read: ``reject`` it, ``stop``, or
            ``salvage``: reject it also where a quotation mark in CSV has swallowed others.
        restart: Throw away what was made of ``out`` before.
        engine: What predicts the shards.
        progress: Show rate and time left on standard error.

    Raises:
        DataError: An input cannot be read, lacks a column, or has changed since the output was
            begun; or the output cannot be written.
        InputError: An argument is wrong.
        ModelError: The model cannot be loaded.
    """
    if shard_rows < 1:
        raise InputError("shard_rows is not positive", got=shard_rows, expected="at least 1")
    paths = find_inputs(inputs, out)
    folder = out.suffix == ""
    kind = rows.kind_of(Path(f"x.{kind}") if kind else paths[0] if folder else out)
    columns, types = _columns(paths)
    target = None if every_state else target_column or ("target" if "target" in columns else None)
    source = source_column or ("source" if "source" in columns else None)
    for column in (text_column, target, source):
        if columns and column is not None and column not in columns:
            raise DataError(
                f"there is no column {column!r}",
                where=str(paths[0]),
                got=columns,
                fix="Name yours with --text-column, --target-column or --source-column.",
            )
    task = Task(model, runtime, text_column, target, source, kind, stop=on_error == "stop")
    task = _with_schema(task, columns, types)
    seen = [_look_at(path) for path in paths]
    located = hub.locate(model, runtime=runtime)
    identity = {
        "input": [
            {"path": str(path), **look.identity} for path, look in zip(paths, seen, strict=True)
        ],
        "model": {
            "name": model,
            "runtime": runtime,
            "manifest": hub.sha256(located.path / hub.MANIFEST),
        },
        "text_column": text_column,
        "target_column": target,
        "source_column": source,
        "format": kind,
        "shard_rows": shard_rows,
        "version": _version(),
    }
    with writing(out):
        ledger = Ledger.begin(out, identity, kind=kind, folder=folder, restart=restart)
        if isinstance(ledger, Counts):
            return ledger
        try:
            shards = cut_shards(paths, shard_rows, text_column, salvage=on_error == "salvage")
            waiting = (shard for shard in shards if shard.index not in ledger.finished)
            _work(engine(task, waiting), ledger, sum(look.rows for look in seen), progress)
            for path, look in zip(paths, seen, strict=True):
                if _stamp(path) != look.stamp:
                    raise DataError(
                        "the input has changed while it was read",
                        where=str(path),
                        fix="Start again with --restart.",
                    )
            return ledger.publish(lambda parts, file: join(parts, file, task))
        finally:
            ledger.close()


def find_inputs(inputs: Sequence[str | Path], out: Path) -> list[Path]:
    """Returns the files that names and patterns stand for; those of a pattern are sorted.

    Raises:
        DataError: A file is missing, of another kind than the first, or is the output.
    """
    paths: list[Path] = []
    for name in map(str, inputs):
        found = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
        if not found:
            raise DataError("no such file", where=name)
        paths += map(Path, found)
    made = {out.resolve(), beside(out, "rejects.jsonl").resolve()}
    for path in paths:
        if rows.kind_of(path) != rows.kind_of(paths[0]):
            raise DataError(
                "the inputs are of several kinds",
                where=str(path),
                expected=f"{paths[0].suffix}, as {paths[0]}",
                fix="Score each kind by itself.",
            )
        if path.resolve() in made:
            raise DataError("the output is among the inputs", where=str(path))
    return paths


def cut_shards(
    paths: Iterable[Path], shard_rows: int, text: str, *, salvage: bool = False
) -> Iterator[Shard]:
    """Yields the rows of files in shards, cut by what is in the files alone.

    Args:
        paths: The files.
        shard_rows: The most rows in a shard.
        text: The column with the text, whose length bounds a shard too.
        salvage: See :func:`detente.rows.scan_rows`.
    """
    index, characters = 0, 0
    shard: list[tuple[str, int, Row | InputError]] = []
    for path in paths:
        for number, row in rows.scan_rows(path, salvage=salvage):
            shard.append((str(path), number, row))
            characters += 0 if isinstance(row, InputError) else len(str(row.get(text, "")))
            if len(shard) == shard_rows or characters >= _SHARD_CHARACTERS:
                yield Shard(index, shard)
                index, characters, shard = index + 1, 0, []
    if shard:
        yield Shard(index, shard)


def encode(scored: Sequence[Row], task: Task) -> bytes:
    """Returns scored rows as a file of the task's kind."""
    if task.kind == ".jsonl":
        return _encode_jsonl(scored)
    if task.kind == ".csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, task.columns)
        writer.writeheader()
        writer.writerows({name: _as_text(value) for name, value in row.items()} for row in scored)
        return buffer.getvalue().encode()
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    as_text = {field.name for field in task.schema if field.type == pa.string()}
    table = pa.Table.from_pylist(
        [{n: _as_text(v) if n in as_text else v for n, v in row.items()} for row in scored],
        schema=task.schema,
    )
    rows.parquet_module().write_table(table, sink)
    return bytes(sink.getvalue())


def join(parts: Iterable[Path], file: IO[bytes], task: Task) -> None:
    """Writes one file with the rows of several that :func:`encode` made, in their order."""
    if task.kind == ".parquet":
        parquet = rows.parquet_module()
        with parquet.ParquetWriter(file, task.schema) as writer:
            for path in parts:
                if (table := parquet.read_table(path)).num_rows:
                    writer.write_table(table)
        return
    header = encode([], task)
    file.write(header)
    for path in parts:
        file.write(path.read_bytes()[len(header) :])


@dataclass(frozen=True, slots=True)
class _Look:
    """An input file at the start: its identity, about how many rows it has, and its stamp."""

    identity: dict[str, Any]
    rows: int
    stamp: tuple[int, int]


def _look_at(path: Path) -> _Look:
    digest, lines = hashlib.sha256(), 0
    try:
        stamp = _stamp(path)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                lines += block.count(b"\n")
    except OSError as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from error
    if path.suffix.lower() == ".parquet":
        lines = rows.parquet_module().read_metadata(path).num_rows
    return _Look({"bytes": stamp[0], "sha256": digest.hexdigest()}, lines, stamp)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _columns(paths: Sequence[Path]) -> tuple[list[str], dict[str, Any]]:
    """Returns the columns of all files, and their Arrow types where they have any.

    JSONL has them in each row, so all rows are read for it.
    """
    if paths[0].suffix.lower() == ".parquet":
        return _parquet_columns(paths)
    found: dict[str, None] = {}
    for path in paths:
        for _, row in rows.scan_rows(path, salvage=True):
            if not isinstance(row, InputError):
                found |= dict.fromkeys(row)
                if path.suffix.lower() == ".csv":
                    break
    return list(found), {}


def _parquet_columns(paths: Sequence[Path]) -> tuple[list[str], dict[str, Any]]:
    parquet = rows.parquet_module()
    import pyarrow as pa

    schemas = []
    for path in paths:
        try:
            schemas.append(parquet.read_schema(path))
            schema = pa.unify_schemas(schemas)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"not valid Parquet ({error})", where=str(path)) from error
    return schema.names, dict(zip(schema.names, schema.types, strict=True))


def _with_schema(task: Task, columns: Sequence[str], types: Mapping[str, Any]) -> Task:
    """Returns the task with the columns of its output, and for Parquet their types."""
    carried = task.carried({name: types.get(name) for name in columns})
    if task.target is None:
        carried.setdefault("doc_id", None)
    task = replace(task, columns=(*carried, *task.scored_columns))
    if task.kind != ".parquet":
        return task
    rows.parquet_module()
    import pyarrow as pa

    numbers = {"score", "start", "end", "tokens_cut", *(f"p_{label}" for label in LABELS)}
    whole = {"start", "end", "tokens_cut"}
    ours = [
        (name, pa.int64() if name in whole else pa.float64() if name in numbers else pa.string())
        for name in task.scored_columns
    ]
    theirs = [(name, pa.string() if kind is None else kind) for name, kind in carried.items()]
    return replace(task, schema=pa.schema(theirs + ours))


def _work(results: Iterable[Result], ledger: Ledger, rows_about: int, progress: bool) -> None:
    from tqdm import tqdm

    done = ledger.counts.read
    with tqdm(
        total=max(rows_about, done),
        initial=done,
        unit=" rows",
        unit_scale=True,
        disable=not progress,
    ) as bar:
        for result in results:
            ledger.add(result)
            bar.update(result.counts.read)


def _encode_jsonl(scored: Iterable[Row]) -> bytes:
    lines = (
        json.dumps(
            # JSON has no word for the NaN with which tables fill empty cells.
            {name: None if value != value else value for name, value in row.items()},
            ensure_ascii=False,
            default=_as_text,
        )
        for row in scored
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _as_text(value: object) -> str | None:
    """Returns a cell as text: dates as ISO, what is no text as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False, default=str)


def _version() -> str:
    from detente import __version__

    return __version__
