"""Leaks: rows that repeat, equally or nearly, what a model is validated or reported on.

Splits by group keep a corpus apart from itself; here all corpora of a run are compared with one
another, and unlabelled rows with all that is held out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from datasketch import MinHash

from detente.statement import Statement
from train.near_duplicates import THRESHOLD, NearIndex, signatures
from train.splits import SPLITS, Split, Splits, linked_groups, normalised

Kind = Literal["equal", "near"]
KINDS: Final[tuple[Kind, ...]] = ("equal", "near")
_EXAMPLES: Final = 20


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a row stands, without its text, which may be under a licence.

    Attributes:
        corpus: The corpus.
        split: The split.
        id: The row's id; empty if it has none.
    """

    corpus: str
    split: Split
    id: str

    def __str__(self) -> str:
        """Returns the place as one word."""
        return f"{self.corpus}/{self.split}/{self.id or '(no id)'}"


@dataclass(frozen=True, slots=True, order=True)
class Leak:
    """A row that was removed, and the row of a later split that it repeats.

    Attributes:
        likeness: 1 for equal sentences, else at least :data:`train.near_duplicates.THRESHOLD`.
        row: The row removed.
        repeats: The row that stays.
    """

    likeness: float
    row: Place
    repeats: Place


@dataclass(frozen=True, slots=True)
class LeakageReport:
    """What was taken out so that nothing reported stands in the training rows.

    Attributes:
        removed: Training and validation rows that were removed, by corpus and kind.
        checked: Rows compared.
        near_in_training: Training rows left, by corpus, that nearly equal another training row
            of the corpus that is of another cluster. They stay: they repeat, but do not leak.
        examples: Removed rows, at most 20, the least like first: those are worth a look.
    """

    removed: Mapping[str, Mapping[Kind, int]]
    checked: int
    near_in_training: Mapping[str, int]
    examples: Sequence[Leak]

    def __str__(self) -> str:
        """Returns two lines for the log."""
        total = sum(sum(kinds.values()) for kinds in self.removed.values())
        where = ", ".join(
            f"{name} {kinds['equal']} equal and {kinds['near']} near"
            for name, kinds in self.removed.items()
            if any(kinds.values())
        )
        repeats = ", ".join(f"{name} {n}" for name, n in self.near_in_training.items() if n)
        return (
            f"leakage: {total} of {self.checked} rows repeated a row of a later split and were "
            + "removed"
            + (f" ({where})" if where else "")
            + f"\ntraining rows that nearly equal another of their corpus and stay: {repeats or 0}"
        )

    def summary(self) -> dict[str, Any]:
        """Returns the report as ``metrics.json`` stores it: counts, and rows by place alone."""
        return {
            "checked": self.checked,
            "threshold": THRESHOLD,
            "removed": {name: dict(kinds) for name, kinds in self.removed.items()},
            "near_in_training": dict(self.near_in_training),
            "examples": [
                {
                    "removed": str(leak.row),
                    "repeats": str(leak.repeats),
                    "likeness": round(leak.likeness, 3),
                }
                for leak in self.examples
            ],
        }


def remove_leaks(
    corpora: Mapping[str, Splits],
) -> tuple[dict[str, dict[Split, list[Statement]]], LeakageReport]:
    """Removes rows whose sentence equals or nearly equals one of a later split of any corpus.

    Test rows are kept, validation rows give way to test, training rows to both.

    Args:
        corpora: The splits of each corpus, by its name; each row with ``extra["cluster"]``.

    Returns:
        The same with the rows left, and the report.
    """
    every = [s for splits in corpora.values() for split in SPLITS for s in splits[split]]
    keys = {s.text: normalised(s.text) for s in every}
    signed = signatures(keys.values())
    clean: dict[str, dict[Split, list[Statement]]] = {name: {} for name in corpora}
    removed = {name: dict.fromkeys(KINDS, 0) for name in corpora}
    leaks: list[Leak] = []
    later = _Sentences(signed)
    for split in reversed(SPLITS):
        for name, splits in corpora.items():
            clean[name][split] = []
            for statement in splits[split]:
                match = later.match(keys[statement.text])
                if match is None:
                    clean[name][split].append(statement)
                    continue
                kind, found, repeats = match
                removed[name][kind] += 1
                leaks.append(Leak(found, _place(name, split, statement), repeats))
        if split != SPLITS[0]:
            for name, splits in clean.items():
                later.add((keys[s.text], _place(name, split, s)) for s in splits[split])
    near = {name: _near_rows(splits[SPLITS[0]], keys, signed) for name, splits in clean.items()}
    return clean, LeakageReport(removed, len(every), near, sorted(leaks)[:_EXAMPLES])


Reason = Literal["document", "linked document", "equal", "near"]


@dataclass(frozen=True, slots=True)
class KeptOut:
    """Which unlabelled rows were kept out of distillation.

    Attributes:
        removed: How many, by the first reason that holds: ``document``, the row is of a
            document that is held out; ``linked document``, its document is tied to such a one
            by sentences that stand in both; ``equal`` and ``near``, its sentence repeats a
            held-out one.
        checked: Unlabelled rows.
        documents: Documents among them of which no row is left for either of the first two
            reasons.
    """

    removed: Mapping[Reason, int]
    checked: int
    documents: int

    def __str__(self) -> str:
        """Returns one line for the log."""
        reasons = ", ".join(f"{reason} {n}" for reason, n in self.removed.items())
        return (
            f"kept out: {sum(self.removed.values())} of {self.checked} unlabelled rows "
            f"({reasons}), {self.documents} whole documents"
        )


def keep_out(
    unlabelled: Sequence[Statement],
    held_out_documents: Collection[str],
    held_out: Sequence[Statement],
) -> tuple[list[Statement], KeptOut]:
    """Leaves out the unlabelled rows that would show a student what it is reported on.

    Rows are told by ``doc_id`` and sentence, never by ``id``: ids of one sentence differ between
    releases of a series.

    Args:
        unlabelled: Rows for distillation.
        held_out_documents: The ``doc_id`` of every document of a validation or test split.
        held_out: The validation and test rows of every corpus that is reported on.

    Returns:
        The rows left, in their order, and the report.
    """
    reasons = dict.fromkeys(get_args(Reason), 0)
    linked = _linked_documents(unlabelled, held_out_documents, held_out)
    keys = [normalised(s.text) for s in unlabelled]
    held_keys = {normalised(s.text) for s in held_out}
    signed = signatures([*keys, *held_keys])
    index = NearIndex(signed)
    index.add(held_keys)
    rows: list[Statement] = []
    documents: set[str] = set()
    for statement, key in zip(unlabelled, keys, strict=True):
        if statement.doc_id is not None and statement.doc_id in linked:
            is_held = statement.doc_id in held_out_documents
            reasons["document" if is_held else "linked document"] += 1
            documents.add(statement.doc_id)
        elif key in held_keys:
            reasons["equal"] += 1
        elif any(index.near(key)):
            reasons["near"] += 1
        else:
            rows.append(statement)
    return rows, KeptOut(reasons, len(unlabelled), len(documents))


class _Sentences:
    """Sentences of the later splits, each with the first place where it stands."""

    def __init__(self, signed: Mapping[str, MinHash]) -> None:
        self._index = NearIndex(signed)
        self._places: dict[str, Place] = {}

    def add(self, sentences: Iterable[tuple[str, Place]]) -> None:
        for key, place in sentences:
            self._index.add([key])
            self._places[key] = min(place, self._places.get(key, place))

    def match(self, key: str) -> tuple[Kind, float, Place] | None:
        """Returns how a sentence repeats one of these, how much, and which."""
        if key in self._places:
            return "equal", 1.0, self._places[key]
        for other, found in self._index.near(key):
            return "near", found, self._places[other]
        return None


def _place(corpus: str, split: Split, statement: Statement) -> Place:
    return Place(corpus, split, statement.id or "")


def _near_rows(
    statements: Sequence[Statement], keys: Mapping[str, str], signed: Mapping[str, MinHash]
) -> int:
    """Counts the rows that nearly equal a row of another cluster."""
    clusters: dict[str, set[object]] = defaultdict(set)
    for statement in statements:
        clusters[keys[statement.text]].add(statement.extra["cluster"])
    index = NearIndex(signed)
    index.add(clusters)
    repeated = {
        key
        for key, own in clusters.items()
        if any(len(own | clusters[other]) > 1 for other, _ in index.near(key))
    }
    return sum(keys[s.text] in repeated for s in statements)


def _linked_documents(
    unlabelled: Sequence[Statement],
    held_out_documents: Collection[str],
    held_out: Sequence[Statement],
) -> set[str]:
    """Returns the held-out documents and all that are tied to them by equal sentences."""
    of_documents = [s for s in held_out if s.doc_id in held_out_documents]
    rows = [s for s in (*unlabelled, *of_documents) if s.doc_id is not None]
    names = [str(s.doc_id) for s in rows]
    component = linked_groups(names, [normalised(s.text) for s in rows])
    out = {n for n, name in zip(component, names, strict=True) if name in held_out_documents}
    return {name for n, name in zip(component, names, strict=True) if n in out}
