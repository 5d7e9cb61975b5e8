"""Sentences of official statements, annotated under the codebook.

They come from the Kremlin's English pages, US presidents, the UN General Debate and tweets of
a president. Two independent language-model passes labelled them and agreed on 95.5 % (kappa
0.93); a third reading settled the rest. No human annotated them. The tweets are left out:
nothing states a licence for them.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Final

from detente.rows import read_statements
from detente.statement import Statement
from train.config import Corpus
from train.corpora import CorpusInfo, LoadedCorpus, checksums, corpus_file
from train.splits import split_by_group, split_held_out

INFO: Final = CorpusInfo(
    name="official",
    licence="text: UNGDC CC0-1.0, kremlin.ru CC-BY-4.0, US government public domain; "
    "labels: Apache-2.0",
    citation="United Nations General Debate Corpus; kremlin.ru; US presidential papers",
    language="en",
    labels="two independent language-model passes under data/CODEBOOK.md (agreement 95.5 %, "
    "kappa 0.93), disagreements settled by a third reading; no human annotator",
    shippable=True,
    split_rule="70/10/20 by document",
)
_TWEETS: Final = "trump_tweets:"


def load(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Reads the annotated sentences and splits them by document, 70/10/20.

    With ``hold_out`` the test split is that period or source, the rest is split 7 to 1, and the
    corpus takes a name of its own, so that its figures are not mistaken for the others.

    Raises:
        ConfigError: ``data.root`` is not given, or nothing can be held out.
        DataError: The file is missing, or a row cannot be read.
    """
    path = corpus_file(root, INFO, "annotated.jsonl")
    dropped: Counter[str] = Counter()
    kept: list[Statement] = []
    for statement in read_statements(path, labelled=True):
        if statement.id is not None and statement.id.startswith(_TWEETS):
            dropped["tweet without a stated licence"] += 1
            continue
        cluster = statement.doc_id or statement.text
        kept.append(dataclasses.replace(statement, extra={"cluster": cluster}))
    if spec.hold_out is not None:
        splits, dropped["of a document of the test split"] = split_held_out(
            kept, spec.hold_out, validation=1 / 8
        )
        info = dataclasses.replace(INFO, name=f"{INFO.name}-{spec.hold_out}")
        return LoadedCorpus(info, splits, checksums(path), dropped)
    splits = split_by_group(kept, shares=(0.7, 0.1, 0.2))
    return LoadedCorpus(INFO, splits, checksums(path), dropped)
