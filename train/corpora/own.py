"""Our own labelled sentences, ``data/statements.jsonl``: see ``data/README.md``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from detente.errors import DataError
from detente.rows import read_statements
from detente.statement import Statement
from train.config import Corpus
from train.corpora import CorpusInfo, LoadedCorpus, checksums
from train.splits import SPLITS, Split, Splits

PATH: Final = Path(__file__).resolve().parents[2] / "data" / "statements.jsonl"

INFO: Final = CorpusInfo(
    name="own",
    licence="Apache-2.0",
    citation="data/statements.jsonl of this project",
    language="en",
    labels="invented sentences, written and labelled under data/CODEBOOK.md by language "
    "models, kept where a second blind reading or a third one agreed",
    shippable=True,
    split_rule="as the rows say, by contrast group",
)


def load(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Reads the sentences; each row names its split and its contrast group.

    Raises:
        DataError: The file is missing, or a row cannot be read.
    """
    return LoadedCorpus(INFO, read_splits(PATH), checksums(PATH))


def read_splits(path: Path) -> Splits:
    """Reads a file of our own sentences, in whatever language.

    Raises:
        DataError: The file is missing, or a row cannot be read.
    """
    splits: dict[Split, list[Statement]] = {name: [] for name in SPLITS}
    for number, statement in enumerate(read_statements(path, labelled=True), 1):
        split, group = statement.extra.get("split"), statement.extra.get("group")
        if not isinstance(split, str) or split not in splits or not group:
            raise DataError(
                "split or group is wrong",
                where=f"{path}, row {number}",
                got={"split": split, "group": group},
                expected=f"a group, and a split out of {', '.join(SPLITS)}",
            )
        extra = {"cluster": group, "phenomena": statement.extra.get("phenomena", [])}
        if "lang" in statement.extra:
            extra["lang"] = statement.extra["lang"]
        splits[split].append(dataclasses.replace(statement, extra=extra))
    return splits
