"""Statements in files: JSONL, CSV and Parquet, with errors that name the file and the row.

Rows are counted from one: lines in JSONL, records after the header in CSV. Files are read as a
stream, in memory that does not grow with them.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Final, Literal, cast

from detente.errors import DataError, InputError, MissingExtraError, UnknownStateError
from detente.statement import Statement

Row = dict[str, Any]

KINDS: Final = (".jsonl", ".csv", ".parquet")
LONGEST: Final = 1 << 24
"""Characters that a line of JSON or a cell of CSV may have: what is longer is damage."""


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields the numbered rows of a ``.jsonl``, ``.csv`` or ``.parquet`` file.

    Raises:
        DataError: The file is missing, of another kind, or holds a row that cannot be parsed.
    """
    return _all_readable(path, scan_rows(path))


def scan_rows(path: Path, *, salvage: bool = False) -> Iterator[tuple[int, Row | InputError]]:
    """Yields the numbered rows of a file, and an error in the place of each that is broken.

    Args:
        path: A ``.jsonl``, ``.csv`` or ``.parquet`` file.
        salvage: Go on after a quotation mark in CSV that runs over several lines: the line with
            the mark counts as one broken row, and the next line begins another. Without it the
            file cannot be read further, as nobody knows which lines the mark has swallowed.

    Raises:
        DataError: The file is missing, of another kind, or cannot be read further.
    """
    kind = kind_of(path)
    if not path.is_file():
        raise DataError("no such file", where=str(path))
    if kind == ".csv":
        return _scan_csv(path, salvage=salvage)
    return _scan_jsonl(path) if kind == ".jsonl" else _scan_parquet(path)


def kind_of(path: Path) -> str:
    """Returns which of :data:`KINDS` a file is, by its name.

    Raises:
        DataError: It is none of them.
    """
    if (kind := path.suffix.lower()) not in KINDS:
        raise DataError(
            "unknown kind of file", where=str(path), got=path.suffix, expected=", ".join(KINDS)
        )
    return kind


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
    scanned = _scan_csv(path, delimiter=delimiter, quoted=quoted, columns=columns)
    return _all_readable(path, scanned)


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
        sync_folder(path.parent)
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


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a loss of power, where the system lets us."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def parquet_module() -> ModuleType:
    """Returns ``pyarrow.parquet``.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError.of("reading and writing Parquet", "parquet") from error
    return cast(ModuleType, parquet)


def _all_readable(
    path: Path, scanned: Iterable[tuple[int, Row | InputError]]
) -> Iterator[tuple[int, Row]]:
    for number, row in scanned:
        if isinstance(row, InputError):
            with at_row(path, number):
                raise row
        else:
            yield number, row


def _scan_jsonl(path: Path) -> Iterator[tuple[int, Row | InputError]]:
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            yield number, _parse_object(line)


def _parse_object(line: str) -> Row | InputError:
    if not _is_utf8(line):
        return _not_utf8()
    try:
        value = json.loads(line)
        if "\\ud" in line.lower():
            # An escape may write half of a character, which no file of ours could hold.
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return InputError("holds a lone surrogate", expected="text that can be written as UTF-8")
    except (ValueError, RecursionError) as error:
        return InputError(f"not valid JSON ({error})", expected="one JSON object a line")
    return value if isinstance(value, dict) else InputError("not a JSON object", got=value)


def _scan_csv(
    path: Path,
    *,
    delimiter: str = ",",
    quoted: bool = True,
    columns: Sequence[str] | None = None,
    salvage: bool = False,
) -> Iterator[tuple[int, Row | InputError]]:
    lines = _lines(path)
    again: deque[str] = deque()
    taken: list[str] = []
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE

    def feed() -> Iterator[str]:
        while line := again.popleft() if again else next(lines, ""):
            taken.append(line)
            yield line

    def records() -> Iterator[list[str]]:
        return csv.reader(feed(), delimiter=delimiter, quoting=quoting, strict=True)

    # The library's own bound is for the whole process, and too low for a long document.
    csv.field_size_limit(max(LONGEST, csv.field_size_limit()))
    reader, number = records(), 0
    while True:
        taken.clear()
        broken: InputError | None = None
        runs_on = True
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            broken = InputError(
                f"not valid CSV ({error})", fix="Look for a quotation mark that is not closed."
            )
            reader = records()
        if broken is None and not cells:
            continue
        if broken is None and not all(map(_is_utf8, taken)):
            broken, runs_on = _not_utf8(), False
        elif broken is None and columns is not None and len(cells) != len(columns):
            broken = InputError(
                "the row has more or fewer cells than the header",
                got=cells,
                expected=f"{len(columns)} cells",
            )
        if columns is None:
            if broken is not None:
                raise DataError(broken.what, where=f"{path}, header", fix=broken.fix)
            columns = cells
            continue
        number += 1
        if broken is None:
            yield number, dict(zip(columns, cells, strict=True))
            continue
        if len(taken) > 1 and runs_on:
            if not salvage:
                raise DataError(
                    f"{broken.what}: the row begins with {taken[0].strip()[:40]!r} and runs over "
                    f"{len(taken)} lines",
                    where=f"{path}, row {number}",
                    fix="Look for a quotation mark in its first line that is not closed.",
                )
            again.extendleft(reversed(taken[1:]))
            reader = records()
        yield number, broken


def _scan_parquet(path: Path) -> Iterator[tuple[int, Row | InputError]]:
    parquet = parquet_module()
    from pyarrow import ArrowException

    try:
        # Buffered: without it a whole column of a row group is in memory at once.
        with parquet.ParquetFile(path, buffer_size=1 << 20) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches(4096))
            yield from enumerate(chain.from_iterable(batches), 1)
    except (ArrowException, OSError, OverflowError, ValueError) as error:
        raise DataError(f"not valid Parquet ({error})", where=str(path)) from error


def _lines(path: Path) -> Iterator[str]:
    """Yields the lines of a text file; bytes that are not UTF-8 come as lone surrogates."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            while line := file.readline(LONGEST):
                if len(line) == LONGEST:
                    raise DataError(
                        f"a line of more than {LONGEST:,} characters",
                        where=str(path),
                        expected="one row a line",
                    )
                yield line
    except OSError as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from error


def _is_utf8(line: str) -> bool:
    if line.isascii():
        return True
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_utf8() -> InputError:
    return InputError("not UTF-8 text", fix="Save the file as UTF-8 and try again.")
