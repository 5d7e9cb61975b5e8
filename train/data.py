"""The statements of a run: the mixture of corpora, without leaks, with what weighs each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from detente.errors import ConfigError, DataError
from detente.statement import Statement
from train.config import Config, Corpus
from train.config import Data as Mixture
from train.corpora import LoadedCorpus, load_corpus
from train.leaks import LeakageReport, remove_leaks
from train.splits import SPLITS, Split, Splits

_MOST_VOICES: Final = 5


@dataclass(frozen=True, slots=True)
class Data:
    """The statements of a run.

    Attributes:
        corpora: What was loaded, in the order of the configuration.
        splits: By corpus and split, after leaks were removed. To ``extra`` came ``weight`` and
            ``contrast``, as :func:`train.batches.make_units` reads them.
        leakage: What was removed.
    """

    corpora: Sequence[LoadedCorpus]
    splits: Mapping[str, Mapping[Split, Sequence[Statement]]]
    leakage: LeakageReport

    def all(self, split: Split) -> list[Statement]:
        """Returns the statements of one split of all corpora."""
        return [s for splits in self.splits.values() for s in splits[split]]

    def summary(self) -> dict[str, Any]:
        """Returns licences, counts, voices, checksums and removals, for ``metrics.json``."""
        return {
            corpus.info.name: {
                "licence": corpus.info.licence,
                "citation": corpus.info.citation,
                "labels": corpus.info.labels,
                "language": corpus.info.language,
                "shippable": corpus.info.shippable,
                "sha256": dict(corpus.files),
                "dropped": dict(corpus.dropped),
                "removed_as_leaks": dict(self.leakage.removed[corpus.info.name]),
                "rows": {
                    split: dict(Counter(s.label for s in self.splits[corpus.info.name][split]))
                    for split in SPLITS
                },
                **_voices([s for rows in self.splits[corpus.info.name].values() for s in rows]),
            }
            for corpus in self.corpora
        }


def load_data(config: Config) -> Data:
    """Loads the corpora of a run and removes what leaks between their splits.

    Raises:
        ConfigError: Two corpora have the same name, a folder is needed and not given, or a corpus
            has no row of those that are asked for.
        DataError: A file is missing, a row cannot be read, or a ``confidence`` is not a number
            in [0, 1].
    """
    corpora = [_only(spec, load_corpus(spec, config.data.root)) for spec in config.data.corpora]
    names = [corpus.info.name for corpus in corpora]
    if len(set(names)) < len(names):
        raise ConfigError("two corpora have the same name", where="data.corpora", got=names)
    if not any(spec.test for spec in config.data.corpora):
        raise ConfigError(
            "no corpus is reported on", where="data.corpora", fix="Set `test: true` for one."
        )
    splits, leakage = remove_leaks(
        {
            corpus.info.name: corpus.splits if spec.train else _only_test(corpus.splits)
            for spec, corpus in zip(config.data.corpora, corpora, strict=True)
        }
    )
    for spec, corpus in zip(config.data.corpora, corpora, strict=True):
        for statements in splits[corpus.info.name].values():
            statements[:] = [_weighed(s, spec, corpus, config.data) for s in statements]
    return Data(corpora, splits, leakage)


def _voices(statements: Sequence[Statement]) -> dict[str, Any]:
    """Returns who speaks and when, as far as the rows say it: the states, most rows first."""
    years = [s.date.year for s in statements if s.date is not None]
    sources = Counter(s.source for s in statements if s.source is not None)
    return {
        "years": [min(years), max(years)] if years else None,
        "sources": {"states": len(sources), "most": dict(sources.most_common(_MOST_VOICES))},
    }


def _only(spec: Corpus, corpus: LoadedCorpus) -> LoadedCorpus:
    """Leaves out the rows of a corpus that its configuration does not ask for."""
    splits = corpus.splits
    for column, value in spec.only.items():
        splits = {
            name: [s for s in rows if s.extra.get(column) == value] for name, rows in splits.items()
        }
        if not any(splits.values()):
            raise ConfigError(
                "no row of the corpus is like that",
                where=f"data.corpora: {spec.name}: only",
                got={column: value},
            )
    left_out = sum(len(corpus.splits[name]) - len(splits[name]) for name in splits)
    dropped = {"not asked for (only)": left_out} if left_out else {}
    return replace(corpus, splits=splits, dropped={**corpus.dropped, **dropped})


def _only_test(splits: Splits) -> Splits:
    return {"train": [], "validation": [], "test": splits["test"]}


def _weighed(
    statement: Statement, spec: Corpus, corpus: LoadedCorpus, config: Mixture
) -> Statement:
    weight = spec.weight * (_confidence_weight(statement) if config.confidence_weight else 1.0)
    extra = {**statement.extra, "weight": weight, "contrast": corpus.info.contrast}
    return replace(statement, extra=extra)


def _confidence_weight(statement: Statement) -> float:
    confidence = statement.extra.get("confidence")
    if confidence is None:
        return 1.0
    try:
        share = float(confidence)
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share <= 1:
        raise DataError(
            "a confidence cannot be read",
            where=f"statement {statement.id or statement.text[:40]!r}",
            got=confidence,
            expected="a number from 0 to 1",
        )
    return 0.5 + 0.5 * share
