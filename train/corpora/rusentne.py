"""RuSentNE: sentiment toward persons, organisations and countries in Russian news.

Targets are the words of the sentence, in their Russian case. ``extra["entity_tag"]`` tells what
they are, among others ``COUNTRY``.
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
    name="rusentne",
    licence="MIT",
    citation="Golubev, Rusnachenko and Loukachevitch 2023, RuSentNE-2023: Evaluating "
    "Entity-Oriented Sentiment Analysis on Russian News Texts (Dialogue)",
    language="ru",
    labels="its annotators; −1, 0 and 1 toward the entity, whoever holds it, read as critical, "
    "neutral and conciliatory",
    # The repository's licence does not say that the news text is its authors' to license.
    shippable=False,
    split_rule="70/10/20 by sentence",
    sha256={"train_data.csv": "75c443abcdee178b4e2ac2cbdd63179f9202347b9cc49a652e2f164bb8b8a31d"},
)
_LABELS: Final[dict[str, Label]] = {"-1": "critical", "0": "neutral", "1": "conciliatory"}


def load(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Reads the sentences and splits them by sentence, 70/10/20.

    Raises:
        ConfigError: ``data.root`` is not given.
        DataError: The file is missing, or a row cannot be read.
    """
    path = corpus_file(root, INFO, "train_data.csv")
    splits = split_by_group(list(_statements(path)), shares=(0.7, 0.1, 0.2))
    return LoadedCorpus(INFO, splits, checksums(path))


def _statements(path: Path) -> Iterator[Statement]:
    for number, row in read_csv(path, delimiter="\t"):
        with at_row(path, number):
            text = cell(row, "sentence")
            statement = Statement(
                text=text,
                target=cell(row, "entity"),
                label=decode(_LABELS, cell(row, "label")),
                id=f"rusentne:{number}",
                extra={"cluster": normalised(text), "entity_tag": cell(row, "entity_tag")},
            )
        yield statement
