"""Statements in files: JSONL, CSV and Parquet, with errors that name the file and the row.

Rows are counted from one: lines in JSONL, records after the header in CSV.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final, Literal

from detente.errors import DataError, InputError, MissingExtraError, UnknownStateError
from detente.statement import Statement

Row = dict[str, Any]


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields the numbered rows of a ``.jsonl``, ``.csv`` or ``.parquet`` file.

    Raises:
        DataError: The file is missing, of another kind, or holds a row that cannot be parsed.
    """
    if not path.is_file():
        raise DataError("no such file", where=str(path))
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            "unknown kind of file",
            where=str(path),
            got=path.suffix,
            expected=", ".join(_READERS),
        )
    yield from reader(path)


def read_statements(path: Path, *, labelled: bool = False) -> list[Statement]:
    """Reads a file of statements.

    Args:
        path: A file with the columns of :data:`detente.statement.COLUMNS`.
        labelled: Every row must have a label.

    Raises:
        DataError: The file cannot be read, has no rows, a row is not a statement, a label is
            missing, or two rows have the same ``id``. The message names the file and the row.
    """
    statements: list[Statement] = []
    first_row_of: dict[str, int] = {}
    for number, row in read_rows(path):
        where = f"{path}, row {number}"
        with at_row(path, number):
            statement = Statement.from_row(row)
        if labelled and statement.label is None:
            raise DataError(
                "the row has no label",
                where=where,
                got=list(row),
                expected="a column label with critical, neutral or conciliatory",
            )
        if statement.id is not None:
            first = first_row_of.setdefault(statement.id, number)
            if first != number:
                raise DataError(
                    f"the id stands in row {first} already",
                    where=where,
                    got=statement.id,
                    expected="an id that is unique within the file",
                )
        statements.append(statement)
    if not statements:
        raise DataError("the file has no rows", where=str(path))
    return statements


@contextmanager
def at_row(path: Path, number: int) -> Iterator[None]:
    """Gives what cannot be read inside the place where it stands.

    Raises:
        DataError: An :class:`InputError` or :class:`UnknownStateError` was raised inside; the
            message names file and row.
    """
    try:
        yield
    except (InputError, UnknownStateError) as error:
        raise DataError(
            error.what,
            where=f"{path}, row {number}",
            got=error.got,
            expected=error.expected,
            fix=error.fix,
        ) from None


def read_csv(
    path: Path,
    *,
    delimiter: str = ",",
    quoted: bool = True,
    columns: Sequence[str] | None = None,
) -> Iterator[tuple[int, Row]]:
    """Yields the numbered rows of a text table, whatever its file is called.

    Args:
        path: The file, in UTF-8.
        delimiter: What stands between two cells.
        quoted: Quotation marks enclose cells; otherwise they are characters like others.
        columns: The names of the columns, for a file without a header.

    Raises:
        DataError: The file cannot be read, or a row cannot be parsed.
    """
    number = 0
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(
                file, columns, delimiter=delimiter, quoting=quoting, strict=True
            )
            for number, row in enumerate(reader, 1):
                if None in row or None in row.values():
                    raise DataError(
                        "the row has more or fewer cells than the header",
                        where=f"{path}, row {number}",
                        got=list(row.values()),
                        expected=f"{len(reader.fieldnames or ())} cells",
                    )
                yield number, row
    except UnicodeDecodeError as error:
        raise _not_utf8(path, number + 1) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from error
    except csv.Error as error:
        raise DataError(
            f"not valid CSV ({error})",
            where=f"{path}, row {number + 1}",
            fix="Look for a quotation mark that is not closed.",
        ) from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as JSON lines; the file appears whole or not at all."""
    with whole_file(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_json(path: Path, value: object) -> None:
    """Writes one JSON document, indented; the file appears whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


@contextmanager
def whole_file(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Opens a temporary file beside ``path`` that takes its place if nothing fails.

    Args:
        path: The file to write; its folder is made.
        binary: Write bytes rather than UTF-8 text.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with (
            os.fdopen(handle, "wb")
            if binary
            else os.fdopen(handle, "w", encoding="utf-8", newline="") as file
        ):
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Makes a temporary folder beside ``path`` that takes its name if nothing fails.

    Raises:
        DataError: There is something at ``path`` already.
    """
    if path.exists():
        raise DataError(
            "the folder is there already", where=str(path), fix="Name another, or remove it."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        partial = Path(scratch) / "whole"
        partial.mkdir()
        yield partial
        partial.rename(path)


def _read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                value = json.loads(line)
                if not isinstance(value, dict):
                    raise DataError("not a JSON object", where=f"{path}, row {number}", got=value)
                yield number, value
    except UnicodeDecodeError as error:
        raise _not_utf8(path, number + 1) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"not valid JSON ({error})",
            where=f"{path}, row {number}",
            expected="one JSON object a line",
        ) from error


def _read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtraError.of("reading Parquet", "parquet") from error
    try:
        with parquet.ParquetFile(path) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches())
            yield from enumerate(chain.from_iterable(batches), 1)
    except (ArrowException, OSError, OverflowError, ValueError) as error:
        raise DataError(f"not valid Parquet ({error})", where=str(path)) from error


def _not_utf8(path: Path, number: int) -> DataError:
    return DataError(
        "not UTF-8 text",
        where=f"{path}, near row {number}",
        fix="Save the file as UTF-8 and try again.",
    )


_READERS: Final[dict[str, Callable[[Path], Iterator[tuple[int, Row]]]]] = {
    ".jsonl": _read_jsonl,
    ".csv": read_csv,
    ".parquet": _read_parquet,
}
