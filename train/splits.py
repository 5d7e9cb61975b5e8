"""Splits by group, the same on every machine.

Rows that share a document, a contrast set or a sentence stay together. Which split a group
falls into depends on its own name alone, so that new rows move no others, unless they share a
sentence with two groups and so join them. In place of a share of the groups, the test split can
be a whole period or source.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from detente.errors import ConfigError, DataError
from detente.statement import Statement
from detente.states import resolve
from train.config import FOLDS, HoldOut

Split = Literal["train", "validation", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")
Splits = Mapping[Split, Sequence[Statement]]


def normalised(text: str) -> str:
    """Returns the lower-case letters and digits of a text: equal for equal sentences.

    A text without any is returned as it is.
    """
    return re.sub(r"[\W_]+", "", text.lower()) or text


def split_by_group(
    statements: Sequence[Statement], shares: tuple[float, float, float]
) -> dict[Split, list[Statement]]:
    """Splits statements so that no cluster and no sentence stands in two splits.

    Args:
        statements: Each with ``extra["cluster"]``.
        shares: The shares of train, validation and test, summing to one.
    """
    clusters = [str(s.extra["cluster"]) for s in statements]
    component = linked_groups(clusters, [normalised(s.text) for s in statements])
    name: dict[int, str] = {}
    for number, cluster in zip(component, clusters, strict=True):
        name[number] = min(cluster, name.get(number, cluster))
    splits: dict[Split, list[Statement]] = {split: [] for split in SPLITS}
    for number, statement in zip(component, statements, strict=True):
        at = _unit_interval(name[number])
        split = SPLITS[(at >= shares[0]) + (at >= shares[0] + shares[1])]
        splits[split].append(statement)
    return splits


def linked_groups(*keys: Sequence[str]) -> list[int]:
    """Numbers the groups of rows that are linked by any of several keys.

    Args:
        keys: Lists of one key a row; rows are linked where they agree in one of the lists.

    Returns:
        The number of each row's group.
    """
    rows: list[int] = []
    columns: list[int] = []
    offset = 0
    for kind in keys:
        index = {key: i for i, key in enumerate(dict.fromkeys(kind), offset)}
        rows += range(len(kind))
        columns += [index[key] for key in kind]
        offset += len(index)
    n = len(keys[0])
    links = coo_array(([1] * len(rows), (rows, [n + c for c in columns])), shape=(n + offset,) * 2)
    _, component = connected_components(links, directed=False)
    return [int(c) for c in component[:n]]


def split_held_out(
    statements: Sequence[Statement], hold_out: HoldOut, validation: float
) -> tuple[dict[Split, list[Statement]], int]:
    """Makes a test split of one period, source, fold or debate, and splits the rest by group.

    Splits by document flatter a model that is used on other years and other states than those
    it learned from; this tells by how much.

    Args:
        statements: Each with ``extra["cluster"]``, and with a date, a source or
            ``extra["debate"]``, whichever ``hold_out`` asks for.
        hold_out: The period, the source, the fold or the debate.
        validation: The share of the rest that is validated on.

    Returns:
        The splits, and how many rows were left out because they are not of the period or source
        themselves but share a cluster with rows that are.

    Raises:
        ConfigError: No row is held out, or none is left to train on.
        DataError: A row has no date, or no source.
    """
    held = [_is_held_out(statement, hold_out) for statement in statements]
    test = [s for s, is_held in zip(statements, held, strict=True) if is_held]
    clusters = {s.extra["cluster"] for s in test}
    others = [s for s, is_held in zip(statements, held, strict=True) if not is_held]
    rest = [s for s in others if s.extra["cluster"] not in clusters]
    splits = split_by_group(rest, shares=(1 - validation, validation, 0.0))
    if not test or not splits["train"]:
        raise ConfigError(
            "no row is held out" if not test else "no row is left to train on",
            where=f"data.corpora: hold_out: {hold_out}",
            expected=_what_there_is(statements, hold_out),
        )
    splits["test"] = test
    return splits, len(others) - len(rest)


def _is_held_out(statement: Statement, hold_out: HoldOut) -> bool:
    if hold_out.fold is not None:
        # Of the group's name, with a mark: the splits by share use the name itself.
        return int(FOLDS * _unit_interval(f"fold {statement.extra['cluster']}")) == hold_out.fold
    if hold_out.debate is not None:
        return bool(statement.extra["debate"] == hold_out.debate)
    if hold_out.period is not None:
        if statement.date is None:
            raise _cannot_tell(statement, "date")
        first, last = hold_out.period
        return first <= statement.date.year <= last
    if statement.source is None:
        raise _cannot_tell(statement, "source")
    source = resolve(statement.source)
    return source is not None and source.code == hold_out.source


def _cannot_tell(statement: Statement, field: str) -> DataError:
    return DataError(
        f"the row has no {field}",
        where=statement.id or statement.text,
        expected=f"a {field} in every row, so that `hold_out` can tell which to hold out",
    )


def _what_there_is(statements: Sequence[Statement], hold_out: HoldOut) -> str:
    if hold_out.period is not None:
        years = sorted(s.date.year for s in statements if s.date is not None)
        return f"a part of the years {years[0]} to {years[-1]}" if years else "rows with a date"
    if hold_out.debate is not None:
        return f"one of {', '.join(sorted({s.extra['debate'] for s in statements}))}"
    sources = Counter(s.source for s in statements if s.source is not None)
    return f"one of the sources, such as {', '.join(name for name, _ in sources.most_common(8))}"


def _unit_interval(name: str) -> float:
    """Maps a name to [0, 1), evenly and the same everywhere."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
