"""What reads other people's bytes, one function each: any input is read or refused by an error.

``scripts/fuzz.py`` calls them with inputs that atheris finds by what code they reach, and
``tests/test_fuzz.py`` with a few that hypothesis draws.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from detente.errors import ConfigError, DataError, InputError
from detente.rows import read_statements, scan_rows
from detente.statement import COLUMNS, check_text
from detente.states import all_states, lookup_key, mentions, resolve
from train.config import load_config

_SCRATCH: Final = tempfile.TemporaryDirectory(prefix="fuzz-")

# What random bytes hardly ever spell; one byte stands for one of them.
_WORDS: Final = [
    *(state.name for state in all_states()[:90]), "US", "U.S.", "U. S.", "United", "South", "Korea",
    "Congo", "Georgia", "Atlanta", "the", "of", "and", "Sino", "Franco", "Treaty of", "Chad",
    *"-'’,.&?! \n\t", "\u0301", "\ufeff", "\u2028", "\ud800", "İ", "ß", "𝐔𝐒", "ﬁ", "\x00",
]  # fmt: skip


def gazetteer(data: bytes) -> None:
    """Finds states in a text, and looks a name up."""
    if data[:1] >= b"\x80":
        text = "".join(_WORDS[byte % len(_WORDS)] for byte in data[1:])
    else:
        text = data.decode("utf-8", "surrogateescape")
    end = 0
    for mention in mentions(text):
        assert end <= mention.start < mention.end and text[mention.start : mention.end] == (
            mention.text
        )
        end = mention.end
    try:
        found = resolve(text)
        assert found is None or resolve(found.code) == found
        lookup_key(text)
        check_text(text)
    except InputError:
        pass


def jsonl(data: bytes) -> None:
    """Reads statements from JSON lines."""
    _read(data, ".jsonl")


def table(data: bytes) -> None:
    """Reads statements from CSV, whole and what can be saved of it."""
    _read(data, ".csv")


def config(data: bytes) -> None:
    """Reads a configuration, and an override of ours."""
    path, whole = (Path(_SCRATCH.name) / name for name in ("fuzzed.yaml", "whole.yaml"))
    path.write_bytes(data)
    if not whole.exists():
        whole.write_bytes(SEEDS["config"][0])
    for file, overrides in ((path, []), (whole, [data.decode("utf-8", "replace")])):
        try:
            read = load_config(file, overrides)
            assert type(read).model_validate(read.to_yaml()) == read
        except ConfigError as error:
            assert len(str(error)) < 2000 + len(data)


def _read(data: bytes, kind: str) -> None:
    path = Path(_SCRATCH.name) / f"fuzzed{kind}"
    path.write_bytes(data)
    try:
        statements = read_statements(path)
        assert all(statement.to_row()["text"].strip() for statement in statements)
    except DataError:
        pass
    try:
        numbers = [number for number, _ in scan_rows(path, salvage=True)]
        assert numbers == sorted(set(numbers))
    except DataError:
        pass
    assert csv.field_size_limit() >= 1 << 17


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "gazetteer": gazetteer, "jsonl": jsonl, "csv": table, "config": config,
}  # fmt: skip

SEEDS: Final[Mapping[str, list[bytes]]] = {
    "gazetteer": [b"We thank Ankara, and the U.S. Congress in Georgia, for Sino-Soviet talks."],
    "jsonl": [
        b'{"text": "We thank Peru.", "target": "PER", "label": "neutral", "date": "2025-02-14"}\n',
        b'\xef\xbb\xbf{"text": "\\ud83d", "target": "Peru", "id": "a", "source": null, "x": 1e999}',
    ],
    "csv": [
        ",".join(COLUMNS).encode() + b'\n"We, ""all"",\nthank Peru.",PER,,neutral,,2025-02-14,,a\n',
        b'text,target\n"We thank,PER\nWe,PER\n',
    ],
    "config": [
        b"run: {name: a, dir: b}\ndata: {corpora: [{name: own}]}\nbase: {name: c}\n",
        b"fit.lora={rank: 4}", b"data.corpora=[{name: official, hold_out: {period: [1, 2]}}]",
        b"run: !!bool x\nfit: {epochs: !!int 7, lora: [[[[]]]]}\n", b"- - - ? - ",
        b"a: &x [1]\nb: *x\n<<: {c: !!int 0x1F}\n? [d]\n: |\n  e\n",
    ],
}  # fmt: skip
"""Inputs to begin with."""
