"""Multi-CoPED as ConfliBERT holds it: sentences on political events with their CAMEO class.

A second file marks, token by token, the source and the target of the event. A sentence that
does not stand there, or has no target there, has nobody whom its tone could be for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from detente.errors import DataError, InputError
from detente.labels import Label
from detente.rows import at_row, read_csv
from detente.statement import Statement
from train.config import Corpus
from train.corpora import CorpusInfo, LoadedCorpus, cell, checksums, corpus_file, decode
from train.splits import normalised, split_by_group

INFO: Final = CorpusInfo(
    name="multicoped",
    licence="GPL-3.0 for the repository; none for the text, which is not its authors'",
    citation="Skorupa Parolin et al. 2022, Multi-CoPED (AIES); Hu et al. 2022, ConfliBERT (NAACL)",
    language="en",
    labels="its annotators; CAMEO pentaclasses 1 and 2 (cooperation) read as conciliatory, 3 and 4 "
    "(conflict) as critical; 0 (statement or appeal) is no clean neutral and left out",
    shippable=False,
    contrast=(("critical",), ("conciliatory",)),
    split_rule="70/10/20 by sentence",
    sha256={
        "cameo_class_train.tsv": "ba2978bf194bf76ff4da65d0f3e6530b15b11ec6b2381d15865d645a64abbbed",
        "cameo_ner_train.txt": "3a21505a4d70726ec795e31d34507bef4a47cdb6fffb0f598172bc9c4f9289cc",
    },
)
_LABELS: Final[dict[str, Label | None]] = {
    "0": None,
    "1": "conciliatory",
    "2": "conciliatory",
    "3": "critical",
    "4": "critical",
}
# Source, target, and the parties of an act that has no direction.
_TOKEN: Final = re.compile(r"(\S+) (?:(O)|([BI])-([STR]))")
_LETTER: Final = re.compile(r"[^\W_]")
_CLOSING: Final = re.compile(r"[\W_]+$")


@dataclass(slots=True)
class _Span:
    """A marked actor.

    Attributes:
        role: ``S``, ``T`` or ``R``.
        start: How many letters and digits of the sentence stand before it.
        end: The same after it: the two files agree on these, not on blanks and marks.
        last: Its last token.
    """

    role: str
    start: int
    end: int
    last: str


def load(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Reads the sentences with a target and splits them by sentence, 70/10/20.

    A sentence with several targets gives a row for each; the source is given where it is one.

    Raises:
        ConfigError: ``data.root`` is not given.
        DataError: A file is missing, or a row cannot be read.
    """
    dropped: Counter[str] = Counter()
    classes = corpus_file(root, INFO, "cameo_class_train.tsv")
    tokens = corpus_file(root, INFO, "cameo_ner_train.txt")
    actors = dict(_actors(tokens))
    splits = split_by_group(list(_statements(classes, actors, dropped)), shares=(0.7, 0.1, 0.2))
    return LoadedCorpus(INFO, splits, checksums(classes, tokens), dropped)


def _statements(
    path: Path, actors: Mapping[str, Sequence[_Span]], dropped: Counter[str]
) -> Iterator[Statement]:
    rows = read_csv(path, delimiter="\t", quoted=False, columns=("sentence", "label"))
    for number, row in rows:
        with at_row(path, number):
            text, label = cell(row, "sentence"), decode(_LABELS, cell(row, "label"))
            if label is None:
                dropped["class 0, statement or appeal: no clean neutral"] += 1
                continue
            spans = actors.get(normalised(text))
            if spans is None:
                dropped["not in the token file"] += 1
                continue
            sources = [_words(text, span) for span in spans if span.role == "S"]
            targets = [_words(text, span) for span in spans if span.role == "T"]
            if not targets:
                dropped["no target is marked"] += 1
            statements = [
                Statement(
                    text=text,
                    source=sources[0] if len(sources) == 1 else None,
                    target=target,
                    label=label,
                    id=f"multicoped:{number}:{place}",
                    extra={"cluster": normalised(text)},
                )
                for place, target in enumerate(targets)
            ]
        yield from statements


def _actors(path: Path) -> Iterator[tuple[str, list[_Span]]]:
    """Yields the marked actors of each sentence of a token file, by the normalised sentence."""
    words: list[str] = []
    spans: list[_Span] = []
    end = 0
    for number, line in enumerate([*_lines(path), ""], 1):
        if not line.strip():
            if words:
                yield normalised("".join(words)), spans
            words, spans, end = [], [], 0
            continue
        with at_row(path, number):
            token = _TOKEN.fullmatch(line)
            if token is None:
                raise InputError(
                    "not a token and its tag", got=line, expected="O, or B or I with S, T or R"
                )
        word, _, position, role = token.groups()
        words.append(word)
        start, end = end, end + len(_LETTER.findall(word))
        if position == "I" and spans and (spans[-1].role, spans[-1].end) == (role, start):
            spans[-1].end, spans[-1].last = end, word
        elif role:
            spans.append(_Span(role, start, end, word))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from error


def _words(text: str, span: _Span) -> str:
    """Returns the words of a sentence that a span covers, as they stand there."""
    places = [match.start() for match in _LETTER.finditer(text)]
    end = places[span.end - 1] + 1
    closing = _CLOSING.search(span.last)
    if closing and text.startswith(closing[0], end):
        end += len(closing[0])
    return text[places[span.start] : end]
