"""NewsMTSC: sentiment toward persons and parties in US political news.

Not tone between states, but the same question asked of other targets: useful to learn that a
sentence can praise one name and blame another. Targets are the mentions as they stand in the
sentence; pronouns are left out, since a pair cannot say whom they mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from detente.errors import DataError
from detente.labels import Label
from detente.rows import read_rows
from detente.statement import Statement
from train.config import Corpus
from train.corpora import CorpusInfo, LoadedCorpus, checksums, corpus_file
from train.splits import Split, split_by_group

INFO: Final = CorpusInfo(
    name="newsmtsc",
    licence="MIT",
    citation="Hamborg and Donnay 2021, NewsMTSC: (Multi-)Target-dependent Sentiment Classification "
    "in News Articles (EACL)",
    language="en",
    labels="crowd workers; polarity 2 negative, 4 neutral, 6 positive read as critical, neutral, "
    "conciliatory",
    shippable=True,
    split_rule="train.jsonl 90/10 by article for training and validation; devtest_mt.jsonl is "
    "the test",
    sha256={
        "train.jsonl": "fb80ff05993dd59016c36abefaa7bd00d77cb0cb38a781c1f9edd9ad7c61471e",
        "devtest_mt.jsonl": "f7657900083bc12f41f1dcd7f19ae5b3eec87844da5eeb22d07ee916fe83a865",
    },
)
_LABELS: Final[dict[float, Label]] = {2.0: "critical", 4.0: "neutral", 6.0: "conciliatory"}
_PRONOUNS: Final = frozenset(
    "i me my we us our you your he him his she her hers it its they them their who".split()
)
# The authors' development set with several targets in a sentence is reported on; their test
# sets are held out.
_FILES: Final[dict[Split, str]] = {"train": "train.jsonl", "test": "devtest_mt.jsonl"}


def load(spec: Corpus, root: Path | None) -> LoadedCorpus:
    """Reads the training sentences, a tenth of the articles for validation, and the test ones.

    Raises:
        ConfigError: ``data.root`` is not given.
        DataError: A file is missing, or a row cannot be read.
    """
    dropped: Counter[str] = Counter()
    paths = {split: corpus_file(root, INFO, name) for split, name in _FILES.items()}
    splits = split_by_group(list(_statements(paths["train"], dropped)), shares=(0.9, 0.1, 0.0))
    splits["test"] = list(_statements(paths["test"], dropped))
    return LoadedCorpus(INFO, splits, checksums(*paths.values()), dropped)


def _statements(path: Path, dropped: Counter[str]) -> Iterator[Statement]:
    for number, row in read_rows(path):
        try:
            text, targets = row["sentence_normalized"], row["targets"]
            for target in targets:
                if target["mention"].lower() in _PRONOUNS:
                    dropped["target is a pronoun"] += 1
                    continue
                yield Statement(
                    text=text,
                    target=target["mention"],
                    label=_LABELS[target["polarity"]],
                    id=f"newsmtsc:{target['Input.gid']}",
                    extra={"cluster": _article(row)},
                )
        except (KeyError, TypeError) as error:
            raise DataError(
                f"not a row of NewsMTSC ({error!r})", where=f"{path}, row {number}"
            ) from error


def _article(row: dict[str, Any]) -> str:
    """Returns the article a sentence comes from: the id up to its third number."""
    return "_".join(str(row["primary_gid"]).split("_")[:3])
