"""Dated official statements without labels, with what a teacher model says of them.

The text is read from the corpora's folder; the soft labels stand in a table of this project,
keyed by id and by a hash of the text, so that a student can be trained without its teacher.
``train/distill.py`` makes that table.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, Final

from detente.errors import DataError
from detente.labels import LABELS
from detente.rows import read_rows, read_statements
from detente.statement import Statement, text_hash
from train.config import Corpus
from train.corpora import CorpusInfo, LoadedCorpus, checksums, corpus_file
from train.splits import Splits

INFO: Final = CorpusInfo(
    name="series",
    licence="UNGDC CC0-1.0, kremlin.ru CC-BY-4.0, US government public domain",
    citation="United Nations General Debate Corpus; kremlin.ru; US presidential papers",
    language="en",
    labels="probabilities of a teacher model, no human and no annotator",
    shippable=True,
    split_rule="all to train on",
    sha256={
        "kremlin_en.jsonl": "f20b197fb25d39f511e5e9adcdb313e31f44fc299a346c3b21b568d3be8b11c8",
        "ungdc.jsonl": "1e7c4dbe2990c8f8c405befb8866eac6301d2685816d10993a6c8c07a1b557b5",
        "us_presidents.jsonl": "3325ac2ae8088e6ec2430e52eb7b210566dbf93fce6e3fa70525d8414e414653",
    },
)
FILES: Final = ("kremlin_en.jsonl", "ungdc.jsonl", "us_presidents.jsonl")
"""The English series; the Russian one is no text for an English encoder."""

COLUMNS: Final = ("id", "text_sha1", *(f"p_{label}" for label in LABELS))
"""The columns of a table of soft labels."""


def load(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Reads the statements that ``spec.path`` has soft labels for, all of them to train on.

    Raises:
        ConfigError: ``data.root`` is not given.
        DataError: A file is missing, a row cannot be read, or the table is of another text.
    """
    assert spec.path is not None  # the configuration checks it
    soft = read_soft_labels(spec.path, made_by="train.distill")
    paths = [corpus_file(root, INFO, name) for name in FILES]
    dropped: Counter[str] = Counter()
    kept: list[Statement] = []
    for statement in read_series(root):
        found = soft.get(str(statement.id))
        if found is None:
            dropped["kept out of distillation"] += 1
        elif found[0] != text_hash(statement.text):
            dropped["the text is not the one that was labelled"] += 1
        else:
            p = found[1]
            label = LABELS[p.index(max(p))]
            extra = {"cluster": statement.doc_id or statement.text, "soft_label": p}
            kept.append(dataclasses.replace(statement, label=label, extra=extra))
    if not kept:
        raise DataError(
            "no statement of the series has a soft label",
            where=str(spec.path),
            fix="Make the table again: python -m train.distill --help",
        )
    splits: Splits = {"train": kept, "validation": [], "test": []}
    return LoadedCorpus(INFO, splits, checksums(spec.path, *paths), dropped)


def read_series(root: Path | None) -> list[Statement]:
    """Returns the statements of all series, unlabelled.

    Raises:
        ConfigError: ``data.root`` is not given.
        DataError: A file is missing or a row cannot be read.
    """
    return [s for name in FILES for s in read_statements(corpus_file(root, INFO, name))]


def read_soft_labels(path: Path, *, made_by: str) -> dict[str, tuple[str, list[float]]]:
    """Returns of each id the hash of the text that was labelled, and three probabilities.

    Args:
        path: The table.
        made_by: The module that makes it, for messages.

    Raises:
        DataError: The file is missing or cannot be read, or a row is none of soft labels.
    """
    if not path.is_file():
        raise DataError(
            "there are no soft labels yet",
            where=str(path),
            fix=f"Let a teacher make them: python -m {made_by} --help",
        )
    return {row["id"]: _soft_label(path, number, row) for number, row in read_rows(path)}


def _soft_label(path: Path, number: int, row: dict[str, Any]) -> tuple[str, list[float]]:
    try:
        p = [float(row[name]) for name in COLUMNS[2:]]
        if min(p) < 0 or abs(sum(p) - 1) > 0.01:
            raise ValueError(f"{p} are no probabilities")
        return str(row["text_sha1"]), p
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"not a row of soft labels ({error!r})",
            where=f"{path}, row {number}",
            expected=f"the columns {', '.join(COLUMNS)}",
        ) from error
