"""Splits that do not leak: by group, the same on every machine, with a report.

Rows that share a document, a contrast set or a sentence stay together. Which split a group
falls into depends on its own name alone, so that new rows move no others, unless they share a
sentence with two groups and so join them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from detente.statement import Statement

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
    component = linked_rows(clusters, [normalised(s.text) for s in statements])
    name: dict[int, str] = {}
    for number, cluster in zip(component, clusters, strict=True):
        name[number] = min(cluster, name.get(number, cluster))
    splits: dict[Split, list[Statement]] = {split: [] for split in SPLITS}
    for number, statement in zip(component, statements, strict=True):
        at = _unit_interval(name[number])
        split = SPLITS[(at >= shares[0]) + (at >= shares[0] + shares[1])]
        splits[split].append(statement)
    return splits


@dataclass(frozen=True, slots=True)
class LeakageReport:
    """What was taken out so that nothing reported stands in the training rows.

    Attributes:
        removed: Training and validation rows that were removed, by corpus.
        checked: Rows compared.
    """

    removed: Mapping[str, int]
    checked: int

    def __str__(self) -> str:
        """Returns one line for the log."""
        total = sum(self.removed.values())
        where = ", ".join(f"{name} {n}" for name, n in self.removed.items() if n)
        return (
            f"leakage: {total} of {self.checked} rows stood in a later split and were removed"
            + (f" ({where})" if where else "")
        )


def remove_leaks(
    corpora: Mapping[str, Splits],
) -> tuple[dict[str, dict[Split, list[Statement]]], LeakageReport]:
    """Removes rows whose sentence also stands in a later split of any corpus.

    Test rows are kept, validation rows give way to test, training rows to both.

    Args:
        corpora: The splits of each corpus, by its name.

    Returns:
        The same with the rows left, and the report.
    """
    clean: dict[str, dict[Split, list[Statement]]] = {name: {} for name in corpora}
    removed = dict.fromkeys(corpora, 0)
    checked = 0
    later: set[str] = set()
    for split in reversed(SPLITS):
        for name, splits in corpora.items():
            clean[name][split] = [s for s in splits[split] if normalised(s.text) not in later]
            removed[name] += len(splits[split]) - len(clean[name][split])
            checked += len(splits[split])
        later.update(normalised(s.text) for splits in clean.values() for s in splits[split])
    return clean, LeakageReport(removed, checked)


def linked_rows(*keys: Sequence[str]) -> list[int]:
    """Numbers the groups of rows that are linked by any of several keys.

    Args:
        keys: Each as long as there are rows; rows with an equal key are linked, and so are
            rows that are linked to the same row.
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


def _unit_interval(name: str) -> float:
    """Maps a name to [0, 1), evenly and the same everywhere."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
