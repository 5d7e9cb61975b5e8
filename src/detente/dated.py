"""Dated rows as a table of labels, and from there the documents of one source and target."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from detente.encoding import as_target
from detente.errors import InputError, MissingExtraError
from detente.hub import LEARNED, ModelFolder
from detente.labels import LABELS, parse_label
from detente.rows import read_rows
from detente.statement import Statement, is_blank, text_hash
from detente.timeline import Timeline

if TYPE_CHECKING:
    import pandas as pd

STRATA: Final = ("language", "series", "genre")
"""Columns on which a classifier's errors may depend."""

_PROBABILITIES: Final = tuple(f"p_{label}" for label in LABELS)

_ROWS_AT_A_TIME: Final = 50_000

# A sentence in more documents than this is a formula, and no sign that they are copies.
_FORMULA: Final = 20


def read_table(rows: Any) -> pd.DataFrame:  # noqa: ANN401 (a file, a table, rows)
    """Reads dated rows into a table.

    Args:
        rows: A file (``.jsonl``, ``.csv``, ``.parquet``), a DataFrame, or statements or mappings
            with the columns of :data:`detente.statement.COLUMNS`.

    Returns:
        A table with the columns of the rows, and ``day`` (days since 1970-01-01). Its index says
        where each row stands, for messages: files count from one, what is in memory from zero.

    Raises:
        MissingExtraError: pandas is not installed.
        InputError: A row has no date, or one that cannot be read or lies in the future.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError.of("the analysis of shifts", "analysis") from error
    if isinstance(rows, str | Path):
        numbered, parts = read_rows(Path(rows)), []
        # In parts: a mapping for each row takes several times what its cells do.
        while part := list(islice(numbered, _ROWS_AT_A_TIME)):
            places = [f"{rows}, row {number}" for number, _ in part]
            parts.append(pd.DataFrame.from_records([row for _, row in part], index=places))
        table = pd.concat(parts) if parts else pd.DataFrame()
        # CSV has no other way to write that a cell is empty.
        table = table.replace("", None)
    else:
        if isinstance(rows, pd.DataFrame):
            table = rows.copy(deep=False)
        else:
            table = pd.DataFrame.from_records([_as_row(i, row) for i, row in enumerate(rows)])
        table.index = pd.Index([f"row {position}" for position in range(len(table))])
    if table.empty:
        raise InputError("there are no rows", expected="dated statements")
    if "date" not in table:
        raise InputError(
            "the rows have no dates",
            got=list(table.columns),
            expected="a column date with ISO dates, such as 2025-02-14",
        )
    return table.assign(day=_days(table["date"]))


def select(
    table: pd.DataFrame,
    source: str | None,
    target: str | None,
    start: dt.date | None = None,
    end: dt.date | None = None,
) -> pd.DataFrame:
    """Returns the rows of one source and target within a window, both days included.

    Args:
        table: Of :func:`read_table`.
        source: The state that speaks; ``None`` takes all. Where rows have no column ``source``
            they are taken for its own.
        target: The state talked about; ``None`` takes all.
        start: The first day.
        end: The last day.

    Raises:
        InputError: No row is left; the message says at which step.
    """
    for name, wanted in (("target", target), ("source", source)):
        if wanted is None or (name == "source" and name not in table):
            continue
        if name not in table:
            raise InputError(f"the rows have no column {name}", got=list(table.columns))
        code = str(as_target(wanted, name))
        known = table[name].dropna().unique()
        right = [value for value in known if value and str(as_target(value, name)) == code]
        table = table[table[name].isin(right)]
        if table.empty:
            raise InputError(
                f"no row has the {name} {code}",
                got=", ".join(map(str, known[:8])),
                expected=f"rows with that {name}",
            )
    for limit, after in ((start, True), (end, False)):
        if limit is not None:
            day = _day(limit)
            table = table[table["day"] >= day if after else table["day"] <= day]
            if table.empty:
                raise InputError(
                    f"no row is {'after' if after else 'before'} {limit}", expected="rows there"
                )
    return table


def without_learned(table: pd.DataFrame, folder: ModelFolder) -> tuple[pd.DataFrame, int]:
    """Leaves out the sentences whose labels a model learned: its errors on them are not its own.

    Returns:
        The other rows, and how many were left out.
    """
    path = folder.path / LEARNED
    if "text" not in table or not path.is_file():
        return table, 0
    hashes = table["text"].map(text_hash, na_action="ignore")
    learned = hashes.isin(path.read_text("utf-8").split())
    return table[~learned], int(learned.sum())


def add_labels(table: pd.DataFrame, model: str, *, progress: bool = False) -> pd.DataFrame:
    """Returns the table with a column ``label``, scored where it has none yet.

    Raises:
        InputError: A label, a probability or a score cannot be read.
    """
    if "score" in table:
        wrong = ~table["score"].astype(float).between(-1, 1)
        if wrong.any():
            raise InputError(
                "a score is outside [-1, 1]",
                where=table.index[wrong][0],
                got=table["score"][wrong].iloc[0],
                expected="P(conciliatory) - P(critical)",
            )
    if "label" in table and table["label"].notna().all():
        names = {}
        for value in table["label"].unique():
            try:
                names[value] = parse_label(value)
            except InputError as error:
                raise error.at(table.index[table["label"] == value][0]) from None
        return table.assign(label=table["label"].map(names))
    if all(name in table for name in _PROBABILITIES):
        best = table[list(_PROBABILITIES)].to_numpy(dtype=float)
        if not (np.isfinite(best).all() and ((best >= 0) & (best <= 1)).all()):
            raise InputError("a probability is outside [0, 1]")
        return table.assign(label=np.asarray(LABELS)[best.argmax(axis=1)])
    if "text" not in table:
        raise InputError(
            "the rows have neither labels nor text",
            got=list(table.columns),
            expected="a column label, or a column text to be scored",
        )
    from detente.classifier import Classifier

    wanted = [name for name in ("text", "target", "source") if name in table]
    statements = []
    for where, *row in table[wanted].itertuples():
        cells = ("" if is_blank(cell) else cell for cell in row)
        try:
            statements.append(Statement.from_row(dict(zip(wanted, cells, strict=True))))
        except InputError as error:
            raise error.at(where) from None
    classifier = Classifier.load(model)
    found = classifier.predict_batch(statements, progress=progress)
    return table.assign(
        label=[p.label for p in found], score=[p.score for p in found], model=classifier.name
    )


def documents_of(table: pd.DataFrame) -> tuple[Timeline, npt.NDArray[np.int64], int]:
    """Groups rows into documents in order of time; near-duplicate documents become one.

    A document is what has one ``doc_id``; without that column, what one speaker says on one
    day. Documents that share at least half of the shorter one's sentences are one, of the
    earliest date, and count each sentence once.

    Returns:
        The timeline; the document of each row as its place there, -1 for a repeated sentence;
        and how many documents were merged into others.
    """
    import pandas as pd

    if "doc_id" in table and table["doc_id"].notna().all():
        names = table["doc_id"].astype(str)
    else:
        speakers = table["speaker"].fillna("") if "speaker" in table else ""
        names = table["day"].astype(str) + "\0" + speakers
    # Sorted: the order of documents of one day must not depend on that of the rows.
    document = pd.factorize(names, sort=True)[0]
    count = int(document.max()) + 1
    repeated = np.zeros(len(table), dtype=bool)
    if "text" in table and table["text"].notna().all():
        sentence = pd.factorize(table["text"].map(_normalised))[0]
        group = _copies(document, sentence, count)
        document = group[document]
        repeated = pd.DataFrame({"d": document, "s": sentence}).duplicated().to_numpy()
        merged, count = count - int(group.max()) - 1, int(group.max()) + 1
    else:
        merged = 0
    days = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(days, document, table["day"].to_numpy())
    counts = np.zeros((count, len(LABELS)))
    codes = table["label"].map({label: i for i, label in enumerate(LABELS)}).to_numpy()
    np.add.at(counts, (document[~repeated], codes[~repeated]), 1.0)
    order = np.argsort(days, kind="stable")
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(count)
    return Timeline(days[order], counts[order]), np.where(repeated, -1, place[document]), merged


def as_date(day: int) -> dt.date:
    """Returns the date of a day since 1970-01-01."""
    return dt.date(1970, 1, 1) + dt.timedelta(days=int(day))


def _copies(
    document: npt.NDArray[Any], sentence: npt.NDArray[Any], count: int
) -> npt.NDArray[np.int64]:
    """Returns the group of each document, near-duplicates in one group."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    holds = csr_array(
        (np.ones(len(document)), (document, sentence)), shape=(count, int(sentence.max()) + 1)
    )
    holds.data[:] = 1.0
    sizes = np.asarray(holds.sum(axis=1)).ravel()
    common = np.asarray(holds.sum(axis=0)).ravel()
    several = holds[:, np.flatnonzero((common > 1) & (common <= _FORMULA))]
    shared = (several @ several.T).tocoo()
    a, b = shared.coords
    near = shared.data >= 0.5 * np.minimum(sizes[a], sizes[b])
    links = csr_array((np.ones(int(near.sum())), (a[near], b[near])), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _normalised(text: str) -> str:
    return re.sub(r"[^\w]+", " ", text.lower()).strip()


def _as_row(position: int, row: object) -> Mapping[str, Any]:
    if isinstance(row, Statement):
        return row.to_row()
    if isinstance(row, Mapping):
        return row
    raise InputError(
        "not a dated statement",
        where=f"row {position}",
        got=row,
        expected="a Statement, or a mapping with the columns date, target and text or label",
    )


def _days(dates: pd.Series) -> npt.NDArray[np.int64]:
    """Returns days since 1970-01-01; each different value is read once."""
    import pandas as pd

    codes, values = pd.factorize(dates, use_na_sentinel=False)
    today = _day(dt.date.today())
    days = np.empty(len(values), dtype=np.int64)
    for i, value in enumerate(values):
        try:
            days[i] = _day(value)
        except (ValueError, TypeError):
            raise InputError(
                "date is missing or not an ISO date",
                where=dates.index[codes == i][0],
                got=None if value is pd.NaT or value is None else value,
                expected="year-month-day, such as 2025-02-14, in every row",
            ) from None
        if days[i] > today:
            raise InputError(
                "the date lies in the future",
                where=dates.index[codes == i][0],
                got=str(value),
                expected="the day on which it was said",
            )
    return np.asarray(days[codes])


def _day(value: object) -> int:
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value.strip())
    if isinstance(value, dt.datetime):
        value = value.date()
    if not isinstance(value, dt.date):
        raise TypeError(type(value).__name__)
    return (value - dt.date(1970, 1, 1)).days


def labels_are_true(table: pd.DataFrame) -> bool:
    """Returns whether the labels are a person's: nothing in the rows says that a model ran."""
    return not any(name in table for name in ("model", "score", *_PROBABILITIES))


def strata_of(table: pd.DataFrame) -> Sequence[str]:
    """Returns the columns of strata that say something: more than one value."""
    return [name for name in STRATA if name in table and table[name].nunique() > 1]
