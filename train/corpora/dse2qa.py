"""DSE2QA: who blames or endorses whom in US news, sentences with two bracketed entities.

Entities are persons, parties, places and states; ``extra["states"]`` tells the rows in which
both are names of states. Their brackets leave out a final s ("[the United State]s"), which is
put back.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from detente.errors import InputError
from detente.labels import Label
from detente.rows import Row, at_row, read_csv
from detente.statement import Statement
from detente.states import resolve
from train.config import Corpus
from train.corpora import CorpusInfo, LoadedCorpus, cell, checksums, corpus_file, decode
from train.splits import Split, normalised, split_by_group

INFO: Final = CorpusInfo(
    name="dse2qa",
    licence='none stated ("by citing the paper")',
    citation="Park, Pan and Joo 2021, Who Blames or Endorses Whom? Entity-to-Entity Directed "
    "Sentiment Analysis in News Text (ACL)",
    language="en",
    labels="its annotators; 1 and 2 positive read as conciliatory, 3 and 4 negative as critical, "
    "0 as neutral; source and target by the direction, for 0 in the order of the sentence",
    shippable=False,
    split_rule="train.txt 90/10 by sentence for training and validation; valid.txt is the test",
    sha256={
        "train.txt": "0b608a7e376bcd73aad9f0f211d0c29e5fe520a281d1d4b3f5e4e37a20a0636b",
        "valid.txt": "e4bd17fd9f419acd034912de9bfc746a7e400d84496e6082cd18e30b4cedface",
    },
)
_FORWARD, _BACKWARD = (0, 1), (1, 0)
_LABELS: Final[dict[str, tuple[Label, tuple[int, int]]]] = {
    "0": ("neutral", _FORWARD),
    "1": ("conciliatory", _FORWARD),
    "2": ("conciliatory", _BACKWARD),
    "3": ("critical", _FORWARD),
    "4": ("critical", _BACKWARD),
}
"""The tone, and which of the two entities is source and which is target."""
_FILES: Final[dict[Split, str]] = {"train": "train.txt", "test": "valid.txt"}
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\](s*\b)?")
_POSSESSIVE: Final = re.compile(r"['’`]s?$")


def load(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Reads the training pairs, a tenth of them for validation, and the test ones.

    The authors' files share sentences; ``train.splits.remove_leaks`` takes them out of the
    training rows.

    Raises:
        ConfigError: ``data.root`` is not given.
        DataError: A file is missing, or a row cannot be read.
    """
    dropped: Counter[str] = Counter()
    paths = {split: corpus_file(root, INFO, name) for split, name in _FILES.items()}
    kept = {split: _distinct(list(_statements(path, dropped)), dropped)
            for split, path in paths.items()}  # fmt: skip
    splits = split_by_group(kept["train"], shares=(0.9, 0.1, 0.0))
    splits["test"] = kept["test"]
    return LoadedCorpus(INFO, splits, checksums(*paths.values()), dropped)


def _statements(path: Path, dropped: Counter[str]) -> Iterator[Statement]:
    for number, row in read_csv(path, delimiter="\t", columns=("sentence", "p", "q", "label")):
        with at_row(path, number):
            label, (source, target) = decode(_LABELS, cell(row, "label"))
            entities = _entities(row)
            if not all(re.search(r"[^\W_]", entity) for entity in entities):
                dropped["an entity is a punctuation mark"] += 1
                continue
            text = cell(row, "sentence").replace("[", "").replace("]", "")
            statement = Statement(
                text=text,
                source=entities[source],
                target=entities[target],
                label=label,
                id=f"dse2qa:{path.stem}:{number}",
                extra={
                    "cluster": normalised(text),
                    "states": all(resolve(entity) for entity in entities),
                },
            )
        yield statement


def _entities(row: Row) -> tuple[str, ...]:
    """Returns the two bracketed entities as whole words, without a possessive ending."""
    found = list(_BRACKETED.finditer(cell(row, "sentence")))
    if [match[1].strip() for match in found] != [cell(row, "p"), cell(row, "q")]:
        raise InputError(
            "the brackets do not hold the two entities",
            got=[match[1] for match in found],
            expected=f"{cell(row, 'p')!r} and {cell(row, 'q')!r}",
        )
    return tuple(
        _POSSESSIVE.sub("", f"{match[1]}{match[2] or ''}".strip()).strip() for match in found
    )


def _distinct(statements: Sequence[Statement], dropped: Counter[str]) -> list[Statement]:
    """Leaves out repeated rows, and all rows of a question that has two answers."""
    answers: dict[object, set[object]] = defaultdict(set)
    for s in statements:
        answers[_question(s)].add((s.source, s.target, s.label))
    seen: set[object] = set()
    kept = []
    for s in statements:
        if len(answers[_question(s)]) > 1:
            dropped["labelled in two ways"] += 1
        elif _question(s) in seen:
            dropped["the same row again"] += 1
        else:
            seen.add(_question(s))
            kept.append(s)
    return kept


def _question(statement: Statement) -> object:
    pair = frozenset((statement.source, statement.target))
    return normalised(statement.text), pair
