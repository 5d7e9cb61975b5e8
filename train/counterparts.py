"""What an English teacher says of the sentences that ours in other languages were written after.

``python -m train.counterparts MODEL`` writes soft labels for ``data/multilingual.jsonl``: of each
row, the probabilities that an English model gives its English counterpart. A sentence that is
nearly neutral there is nearly neutral in Russian, too, which its label does not say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from detente.classifier import Classifier
from detente.errors import DataError
from detente.rows import read_statements
from detente.statement import Statement
from train.command import run_command
from train.corpora.multilingual import PATH
from train.corpora.own import PATH as ENGLISH
from train.distill import write_soft_labels
from train.tone_metric import probabilities_of

TABLE: Final = PATH.parent / "annotations" / "multilingual_soft_labels.parquet"


def counterparts(statements: list[Statement], english: list[Statement]) -> list[Statement]:
    """Returns the English row behind each row: its id without the language at its end.

    Raises:
        DataError: A row has none.
    """
    by_id = {s.id: s for s in english}
    found = [by_id.get(str(s.id).rpartition("-")[0]) for s in statements]
    missing = [s.id for s, e in zip(statements, found, strict=True) if e is None]
    if missing:
        raise DataError("rows without an English counterpart", where=str(PATH), got=missing[:5])
    return [e for e in found if e is not None]


def main(
    model: Annotated[str, typer.Argument(help="An English model: 'default', a folder, a hub id.")],
    out: Annotated[Path, typer.Option(help="The table to write.")] = TABLE,
) -> None:
    """Write what an English model says of the counterparts of data/multilingual.jsonl.

    Example: python -m train.counterparts runs/teacher/model
    """
    statements = read_statements(PATH, labelled=True)
    asked = counterparts(statements, read_statements(ENGLISH, labelled=True))
    once = {s.id: s for s in asked}  # one English row is behind several languages
    answers = Classifier.load(model).predict_batch(list(once.values()), progress=True)
    by_id = dict(zip(once, answers, strict=True))
    predictions = [by_id[s.id] for s in asked]
    write_soft_labels(out, statements, probabilities_of(predictions))
    right = sum(p.label == s.label for p, s in zip(predictions, statements, strict=True))
    typer.echo(
        f"{out}: {len(statements)} rows, on {100 * right / len(statements):.1f} % of which "
        "the English model agrees with the label"
    )


if __name__ == "__main__":
    run_command(main, "train.counterparts")
