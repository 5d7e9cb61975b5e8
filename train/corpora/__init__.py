"""The corpora: each adapter turns raw files into labelled statements with their splits.

An adapter is a module with ``INFO`` and ``load(spec, root) -> LoadedCorpus``. Statements carry
in ``extra`` what training and reporting use: ``cluster`` (rows that belong together: a contrast
set or a document) and, where the corpus has them, ``phenomena`` (a list of names).

``python -m train.corpora --root FOLDER`` prints what the adapters make of the files.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Final, TypeVar

from detente.errors import ConfigError, DataError, InputError, OtherFileWarning
from detente.hub import sha256
from detente.labels import LABELS, Label
from detente.rows import Row
from train.config import Corpus
from train.splits import Splits

Contrast = tuple[tuple[Label, ...], ...]
"""Classes of labels that a corpus tells apart. Labels in one class are the same to it; labels in
none do not occur in it, and nothing is learned of them."""

EACH_LABEL: Final[Contrast] = tuple((label,) for label in LABELS)
"""What a corpus with all three labels tells apart."""

OWN_TABLE: Final = "the user's own"
"""The licence of a table that a user brings."""

_MODULES: Final = {"file": "table"}
"""Adapters that are not called like their corpus."""

_Meaning = TypeVar("_Meaning")


@dataclass(frozen=True, slots=True)
class CorpusInfo:
    """What a card says of a corpus.

    Attributes:
        name: The name in configurations and tables.
        licence: SPDX identifier, or words where there is none.
        citation: Where it comes from.
        language: ISO 639 codes.
        labels: What its labels mean here, and who gave them.
        shippable: Weights that learned from it may be published; of a user's own table the
            user decides.
        contrast: The classes that this corpus's labels tell apart. Labels in one class are not
            told apart by it: its rows carry the first of them. Labels in no class never occur
            and are masked.
        split_rule: How its rows come into their splits.
        sha256: Of the files that the project's figures were made on, by name.
    """

    name: str
    licence: str
    citation: str
    language: str
    labels: str
    shippable: bool
    contrast: Contrast = EACH_LABEL
    split_rule: str = "as the rows say"
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedCorpus:
    """A corpus as it is used in a run.

    Attributes:
        info: What it is.
        splits: Its statements by split; every statement has a label.
        files: sha256 of each file read.
        dropped: How many rows were left out, by reason.
    """

    info: CorpusInfo
    splits: Splits
    files: Mapping[str, str]
    dropped: Mapping[str, int] = field(default_factory=dict)


def load_corpus(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Loads one corpus of a configuration.

    Args:
        spec: Which corpus.
        root: The folder of the public corpora.

    Raises:
        ConfigError: The corpus needs ``data.root`` and it is not given.
        DataError: A file is missing or a row cannot be read.
    """
    adapter = import_module(f"train.corpora.{_MODULES.get(spec.name, spec.name)}")
    corpus: LoadedCorpus = adapter.load(spec, root)
    return corpus


def corpus_file(root: Path | None, info: CorpusInfo, name: str) -> Path:
    """Returns a file of a public corpus.

    A file with another checksum than ``info`` names is returned with an
    :class:`OtherFileWarning`: public files hold rows that ours leave out.

    Raises:
        ConfigError: ``data.root`` is not given.
        DataError: The file is not there; the message names the script that fetches it.
    """
    fix = (
        "Fetch the corpora with `python -m scripts.fetch_corpora FOLDER` and pass data.root=FOLDER."
    )
    if root is None:
        raise ConfigError(f"the corpus {info.name!r} needs a folder", where="data.root", fix=fix)
    path = root / info.name / name
    if not path.is_file():
        raise DataError("no such corpus file", where=str(path), fix=fix)
    expected, found = info.sha256.get(name), sha256(path)
    if expected not in (None, found):
        warnings.warn(
            f"{path}: not the file that the project's figures were made on; got sha256 {found}; "
            f"expected {expected}. It is read all the same: do not compare figures on it.",
            OtherFileWarning,
            stacklevel=2,
        )
    return path


def checksums(*paths: Path) -> dict[str, str]:
    """Returns the sha256 of each file by its name."""
    return {path.name: sha256(path) for path in paths}


def cell(row: Row, column: str) -> str:
    """Returns a cell of a text table, without the blanks around it.

    Raises:
        InputError: The table has no such column.
    """
    if column not in row:
        raise InputError(f"the column {column!r} is missing", got=list(row))
    return str(row[column]).strip()


def decode(codes: Mapping[str, _Meaning], code: str) -> _Meaning:
    """Returns what a corpus's own label means.

    Args:
        codes: The meaning of every label that the corpus has.
        code: The label of a row.

    Raises:
        InputError: The corpus has no such label.
    """
    if code not in codes:
        raise InputError("unknown label", got=code, expected=f"one of {', '.join(codes)}")
    return codes[code]
