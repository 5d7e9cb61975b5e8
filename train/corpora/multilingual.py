"""Our own sentences in seven more languages, ``data/multilingual.jsonl``: see ``data/README.md``.

Each was written anew after a sentence of ``data/statements.jsonl`` and is in the same split and
contrast group, so that no test sentence has a counterpart that is learned from.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from detente.errors import DataError
from detente.labels import LABELS
from detente.statement import Statement, text_hash
from train.config import Corpus
from train.corpora import CorpusInfo, LoadedCorpus, checksums
from train.corpora.own import PATH as ENGLISH
from train.corpora.own import read_splits
from train.corpora.series import read_soft_labels

PATH: Final = ENGLISH.with_name("multilingual.jsonl")

INFO: Final = CorpusInfo(
    name="multilingual",
    licence="Apache-2.0",
    citation="data/multilingual.jsonl of this project",
    language="ru, zh, es, fr, ar, uk, fa",
    labels="invented sentences after our English ones, with their labels, written by language "
    "models under data/CODEBOOK.md, kept where a second blind reading agreed",
    shippable=True,
    split_rule="that of the English counterpart",
)


def load(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Reads the sentences; ``extra["lang"]`` is the language of each.

    With ``spec.path``, what a training row is to be learned as is the mean of its label and of
    what an English teacher says of its counterpart (:mod:`train.counterparts`).

    Raises:
        DataError: A file is missing, a row cannot be read, or a training row has no soft label.
    """
    splits = read_splits(PATH)
    if spec.path is None:
        return LoadedCorpus(INFO, splits, checksums(PATH))
    soft = read_soft_labels(spec.path, made_by="train.counterparts")
    softened = {**splits, "train": [_softened(s, soft, spec.path) for s in splits["train"]]}
    return LoadedCorpus(INFO, softened, checksums(PATH, spec.path))


def _softened(s: Statement, soft: dict[str, tuple[str, list[float]]], path: Path) -> Statement:
    found = soft.get(str(s.id))
    if found is None or found[0] != text_hash(s.text):
        raise DataError(
            "no soft label, or one of another text",
            where=f"{path}: {s.id}",
            fix="Make the table again: python -m train.counterparts --help",
        )
    label = [(p + (name == s.label)) / 2 for name, p in zip(LABELS, found[1], strict=True)]
    return dataclasses.replace(s, extra={**s.extra, "soft_label": label})
