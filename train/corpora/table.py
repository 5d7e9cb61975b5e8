"""A table of your own: JSONL, CSV or Parquet with the columns text, target and label.

A column ``split`` (train, validation, test) is respected if every row has one; otherwise rows
are split 70/10/20 by ``doc_id``, or by ``group``, or by sentence.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from detente.errors import ConfigError, DataError
from detente.rows import read_statements
from detente.statement import Statement
from train.config import Corpus
from train.corpora import OWN_TABLE, CorpusInfo, LoadedCorpus, checksums
from train.splits import SPLITS, Split, normalised, split_by_group


def load(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Reads the table.

    Raises:
        DataError: The file is missing, a row cannot be read, or only some rows have a split.
    """
    if spec.path is None:
        raise ConfigError("the path is missing", where="data.corpora: file")
    read = read_statements(spec.path, labelled=True)
    statements = [dataclasses.replace(s, extra={**s.extra, "cluster": _cluster(s)}) for s in read]
    info = CorpusInfo(
        name=spec.path.stem,
        licence=OWN_TABLE,
        citation=spec.path.name,
        language="unknown",
        labels="as given in the table",
        shippable=True,
        split_rule="as the rows say; else 70/10/20 by document, group or sentence",
    )
    with_split = sum("split" in s.extra for s in statements)
    if with_split == 0:
        return LoadedCorpus(
            info, split_by_group(statements, shares=(0.7, 0.1, 0.2)), checksums(spec.path)
        )
    splits: dict[Split, list[Statement]] = {name: [] for name in SPLITS}
    for number, statement in enumerate(statements, 1):
        split = statement.extra.get("split")
        if not isinstance(split, str) or split not in splits:
            raise DataError(
                "unknown split",
                where=f"{spec.path}, row {number}",
                got=split,
                expected=f"one of {', '.join(SPLITS)}, in every row or in none",
            )
        splits[split].append(statement)
    return LoadedCorpus(info, splits, checksums(spec.path))


def _cluster(statement: Statement) -> str:
    group = statement.extra.get("group")
    if statement.doc_id is not None or group is None or group != group or group == "":
        return statement.doc_id or normalised(statement.text)
    return str(group)
