"""PLV, the PLOVER relations of Zero-Shot-PLOVER: who acts how toward whom in a news sentence.

Actors are persons, groups and states. Only the columns ``gold_*`` are people's labels; the
others are a system's output. A row that marks no target keeps the corpus's stand-in for one, so
that figures stand on the rows of published ones; a stand-in for a source is no source.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from detente.labels import Label
from detente.rows import at_row, read_csv
from detente.statement import Statement
from train.config import Corpus
from train.corpora import CorpusInfo, LoadedCorpus, cell, checksums, corpus_file, decode
from train.splits import normalised, split_by_group

INFO: Final = CorpusInfo(
    name="plv",
    licence="none stated",
    citation="Hu et al. 2024, Leveraging Codebook Knowledge with NLI and ChatGPT for Zero-Shot "
    "Political Relation Classification (ACL)",
    language="en",
    labels="its annotators; quad classes 1 verbal and 2 material cooperation read as conciliatory, "
    "3 verbal and 4 material conflict as critical",
    shippable=False,
    contrast=(("critical",), ("conciliatory",)),
    split_rule="70/10/20 by sentence",
    sha256={"PLV_train.tsv": "b184c7623cb05a48011adabd951f1a7f7efa8c80059ef4dc12c3d3231de5f5d3"},
)
_LABELS: Final[dict[str, Label]] = {
    "1": "conciliatory",
    "2": "conciliatory",
    "3": "critical",
    "4": "critical",
}


def load(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Reads the relations and splits them by sentence, 70/10/20.

    Statements keep ``gold_penta`` and ``gold_root`` in ``extra``: classes 1 and 3 are words,
    2 and 4 deeds.

    Raises:
        ConfigError: ``data.root`` is not given.
        DataError: The file is missing, or a row cannot be read.
    """
    path = corpus_file(root, INFO, "PLV_train.tsv")
    splits = split_by_group(list(_statements(path)), shares=(0.7, 0.1, 0.2))
    return LoadedCorpus(INFO, splits, checksums(path))


def _statements(path: Path) -> Iterator[Statement]:
    for number, row in read_csv(path, delimiter="\t", quoted=False):
        with at_row(path, number):
            marked, gold = cell(row, "marked_sentence"), cell(row, "gold_penta")
            text = _without_marks(marked)
            statement = Statement(
                text=text,
                target=cell(row, "target"),
                source=cell(row, "source") if "<s>" in marked else None,
                label=decode(_LABELS, gold),
                id=f"plv:{number}",
                extra={
                    "cluster": normalised(text),
                    "gold_penta": gold,
                    "gold_root": cell(row, "gold_root"),
                },
            )
        yield statement


def _without_marks(marked: str) -> str:
    for mark in ("<s>", "</s>", "<t>", "</t>"):
        marked = marked.replace(mark, "")
    return marked
