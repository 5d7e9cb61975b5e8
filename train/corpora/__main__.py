"""``python -m train.corpora --root FOLDER [CORPUS...]``: what the adapters make of the files.

Prints the two tables of ``docs/corpora.md`` in Markdown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, get_args

import typer

from detente.errors import InputError
from detente.labels import LABELS
from detente.statement import Statement
from train.command import run_command
from train.config import Corpus, CorpusName
from train.corpora import LoadedCorpus, load_corpus
from train.leaks import remove_leaks
from train.splits import SPLITS

NAMES: Final[tuple[CorpusName, ...]] = tuple(
    n for n in get_args(CorpusName) if n not in ("file", "series")
)


def main(
    root: Annotated[Path, typer.Option(help="The folder of the public corpora.")],
    corpora: Annotated[
        list[str] | None, typer.Argument(metavar="CORPUS", help=", ".join(NAMES))
    ] = None,
) -> None:
    """Read corpora and print their licence, citation and rows as Markdown."""
    wanted = corpora or list(NAMES)
    for name in wanted:
        if name not in NAMES:
            raise InputError("unknown corpus", got=name, expected=f"one of {', '.join(NAMES)}")
    loaded = [load_corpus(Corpus(name=name), root) for name in NAMES if name in wanted]
    typer.echo(f"{rows_table(loaded)}\n\n{meaning_table(loaded)}")


def rows_table(corpora: Sequence[LoadedCorpus]) -> str:
    """Returns a line a corpus: licence, citation, rows by label and split, rows left out.

    Rows are those of a run on this corpus alone, after :func:`train.leaks.remove_leaks`.
    """
    heads = ("corpus", "licence", "citation", *SPLITS, "removed as leaks", "dropped")
    return _markdown(heads, (_rows(corpus) for corpus in corpora))


def meaning_table(corpora: Sequence[LoadedCorpus]) -> str:
    """Returns a line a corpus: its language, labels, classes, splits and whether it may ship."""
    heads = ("corpus", "language", "labels", "tells apart", "splits", "in shipped weights")
    return _markdown(
        heads,
        (
            (
                corpus.info.name,
                corpus.info.language,
                corpus.info.labels,
                " / ".join(" or ".join(labels) for labels in corpus.info.contrast),
                corpus.info.split_rule,
                "yes" if corpus.info.shippable else "no",
            )
            for corpus in corpora
        ),
    )


def _rows(corpus: LoadedCorpus) -> tuple[str, ...]:
    name = corpus.info.name
    clean, leakage = remove_leaks({name: corpus.splits})
    reasons = sorted(corpus.dropped.items(), key=lambda item: -item[1])
    return (
        name,
        corpus.info.licence,
        corpus.info.citation,
        *(_by_label(clean[name][split]) for split in SPLITS),
        f"{sum(leakage.removed[name].values()):,}",
        "; ".join(f"{reason}: {count:,}" for reason, count in reasons) or "none",
    )


def _by_label(statements: Iterable[Statement]) -> str:
    counts = Counter(s.label for s in statements)
    return " / ".join(f"{counts[label]:,}" for label in LABELS)


def _markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    cells = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


if __name__ == "__main__":
    run_command(main, "train.corpora")
