"""UMUC: sentences of UN Security Council speeches, with whom they criticise.

A sentence with conflict is critical toward the state that is annotated. A sentence without is
not critical toward the states that it names; whether it is neutral or conciliatory, the corpus
does not say, so such rows carry ``neutral``, the first of their class. They are made for states
that speak in the same debate alone: every state that is annotated in our copy does, so that
the silence of the corpus says nothing of others.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Final

from detente.errors import InputError
from detente.labels import Label
from detente.rows import Row, at_row, read_csv
from detente.statement import Statement
from detente.states import mentions, resolve
from train.config import Corpus
from train.corpora import CorpusInfo, LoadedCorpus, cell, checksums, corpus_file, decode
from train.splits import SPLITS, Split, split_held_out

INFO: Final = CorpusInfo(
    name="umuc",
    licence="CC BY-SA (share-alike)",
    citation="Zaczynska, Bourgonje and Stede 2024, How Diplomats Dispute: The UN Security "
    "Council Conflict Corpus (LREC-COLING)",
    language="en",
    labels="its annotators; negative evaluation, challenge and correction read as critical toward "
    "the state annotated; no conflict as not critical toward the debate's other states that the "
    "sentence names",
    shippable=False,
    contrast=(("critical",), ("neutral", "conciliatory")),
    split_rule="by debate: S/PV.7165 and 7658 for training, 7138 for validation, others the test",
    sha256={
        "umuc_main_conflicts_sents.csv": "812a4b4f750837aa2b5f1773d8b494d2"
        "eb36f3f8cee13e5a0182c19732f87361"
    },
)
# There are too few debates to leave their split to chance. A debate that is not named here, of
# which the public file has more than ours, is never learned from.
_SPLITS: Final[dict[str, Split]] = {
    "SPV.7165": "train",
    "SPV.7658": "train",
    "SPV.7138": "validation",
}
_NOTHING: Final = "_"
_NO_COUNTRY: Final = "-none-"
_EVALUATIONS: Final = {_NOTHING: False, "Direct_NegEval": True, "Indirect_NegEval": True}
_CHALLENGES: Final = {_NOTHING: False, "Challenge": True, "Correction": True}
_EVALUATED: Final = ("A4_Country_Name", "A4_Country_Name_2")
_CHALLENGED: Final = ("B3_Country_Name", "B3_Country_Name_2")
_SPEECH: Final = re.compile(r"\w+_(?P<debate>SPV\.\w+)_spch\d+_preproc_(?P<speaker>\w+)\.txt")


def load(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Reads the sentences that have a target, by debate.

    With ``hold_out`` the test split is that debate, and the rest is split 7 to 1 by speech.

    Raises:
        ConfigError: ``data.root`` is not given, or there is no such debate.
        DataError: The file is missing, or a row cannot be read.
    """
    path = corpus_file(root, INFO, "umuc_main_conflicts_sents.csv")
    dropped: Counter[str] = Counter()
    if spec.hold_out is not None:
        by_speech = [
            dataclasses.replace(s, extra={**s.extra, "cluster": s.doc_id})
            for s in _statements(path, dropped)
        ]
        found, _ = split_held_out(by_speech, spec.hold_out, validation=1 / 8)
        info = dataclasses.replace(INFO, name=f"{INFO.name}-{spec.hold_out}")
        return LoadedCorpus(info, found, checksums(path), dropped)
    splits: dict[Split, list[Statement]] = {name: [] for name in SPLITS}
    for statement in _statements(path, dropped):
        splits[_SPLITS.get(statement.extra["cluster"], "test")].append(statement)
    return LoadedCorpus(INFO, splits, checksums(path), dropped)


def _statements(path: Path, dropped: Counter[str]) -> Iterator[Statement]:
    rows = list(read_csv(path))
    present: dict[str, set[str]] = defaultdict(set)
    for number, row in rows:
        with at_row(path, number):
            debate, speaker = _speech(row)
        present[debate].add(speaker)
    for number, row in rows:
        with at_row(path, number):
            statements = list(_of_sentence(row, present, dropped))
        yield from statements


def _of_sentence(
    row: Row, present: Mapping[str, Set[str]], dropped: Counter[str]
) -> Iterator[Statement]:
    """Yields a statement for each state that a sentence is labelled toward."""
    debate, speaker = _speech(row)
    text = " ".join(cell(row, "text").split())
    if not text:
        dropped["no sentence"] += 1
        return
    evaluates = decode(_EVALUATIONS, cell(row, "A0_Negative_Evaluation"))
    challenges = decode(_CHALLENGES, cell(row, "B1_ChallengeType"))
    label: Label
    if evaluates or challenges:
        label = "critical"
        targets = _annotated(row, _EVALUATED if evaluates else _CHALLENGED, dropped)
    else:
        label = "neutral"
        named = dict.fromkeys(mention.state.code for mention in mentions(text))
        targets = [code for code in named if code in present[debate] - {speaker}]
        if not targets:
            dropped["no conflict, and no other state of the debate is named"] += 1
    speech = cell(row, "fileid")
    for target in targets:
        yield Statement(
            text=text,
            source=speaker,
            target=target,
            label=label,
            doc_id=speech,
            id=f"umuc:{speech}:{cell(row, 'speech_sentence_id')}:{target}",
            extra={"cluster": debate, "debate": debate},
        )


def _annotated(row: Row, columns: tuple[str, ...], dropped: Counter[str]) -> list[str]:
    """Returns the states in some columns; a row without any is counted as dropped."""
    cells = [cell(row, column) for column in columns]
    named = [name for name in cells if name != _NOTHING and name.lower() != _NO_COUNTRY]
    if not named:
        none = any(name.lower() == _NO_COUNTRY for name in cells)
        dropped["the target is no country (-NONE-)" if none else "conflict without a target"] += 1
    return list(dict.fromkeys(_state(name) for name in named))


def _speech(row: Row) -> tuple[str, str]:
    """Returns the debate and the speaker's state, which only the name of the file tells."""
    name = cell(row, "filename")
    match = _SPEECH.fullmatch(name)
    if match is None:
        raise InputError(
            "the file name tells neither debate nor speaker",
            got=name,
            expected="a name such as UNSC_2014_SPV.7138_spch002_preproc_France.txt",
        )
    return match["debate"], _state(match["speaker"])


def _state(name: str) -> str:
    """Returns the code of a state that is written with underscores; else the words."""
    words = name.replace("_", " ")
    state = resolve(words)
    return state.code if state else words
