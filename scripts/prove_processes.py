"""python -m scripts.prove_processes: two processes train what one does.

Trains some of our own sentences twice on the processor with the settings of configs/quick.yaml:
in one process, and in two that have half of each batch (accelerate launch, gloo). Prints the
figures of both side by side, and ends with status 1 if macro-F1, accuracy, the number of updates
or, on average, the probabilities differ by more than --tolerance.

The batches are the same, all but the last of an epoch, which two processes fill up with rows of its
first. Dropout is off, since its masks differ by process. What is left is the order of sums, and
that each process takes its own mean over the tokens that are asked about mentions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from detente.errors import DataError, DetenteError
from detente.hub import read_json
from detente.labels import LABELS
from detente.rows import read_rows, write_jsonl
from train.config import Corpus
from train.corpora import load_corpus
from train.evaluation import MODEL
from train.splits import SPLITS

ROOT: Final = Path(__file__).resolve().parents[1]
FIGURES: Final = ("macro_f1", "accuracy", "ordinal_error", "ece")
# The calibration error of few rows jumps by the bin that a row falls into: it is shown.
COMPARED: Final = ("macro_f1", "accuracy", "updates")


def main(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Settings in place of quick.yaml's."),
    ] = None,
    rows: Annotated[int, typer.Option(min=50, help="Of our own sentences.")] = 1200,
    epochs: Annotated[int, typer.Option(min=1)] = 2,
    batch_size: Annotated[int, typer.Option(min=2, help="Rows a step, over all processes.")] = 16,
    tolerance: Annotated[
        float, typer.Option(min=0, help="The most that both may differ on test.")
    ] = 0.01,
) -> None:
    """Train in one process and in two, and compare."""
    if batch_size % 2:
        raise DataError("a batch cannot be halved", got=batch_size, expected="an even number")
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "own.jsonl"
        write_jsonl(table, sample(rows))
        settings = [
            f"data.corpora=[{{name: file, path: {table}}}]",
            f"fit.epochs={epochs}",
            "fit.dropout=0",
            "fit.precision=fp32",
            "evaluate.baselines=[]",
            *(overrides or ()),
        ]
        one = launched("cpu", Path(scratch) / "one", [*settings, f"fit.batch_size={batch_size}"])
        two = launched(
            "two_cpu", Path(scratch) / "two", [*settings, f"fit.batch_size={batch_size // 2}"]
        )
        figures = [figures_of(folder) for folder in (one, two)]
        print(f"\n{table_of(*figures)}")
        furthest = max(abs(figures[0][name] - figures[1][name]) for name in COMPARED)
        p, q = (probabilities(folder) for folder in (one, two))
        apart = float(np.abs(p - q).mean())
    print(f"\nMean |Δp| over {len(p)} rows and labels: {apart:.5f}")
    print(f"Largest difference in {', '.join(COMPARED)}: {furthest:.4f}; allowed: {tolerance:g}")
    if not max(furthest, apart) <= tolerance:
        raise SystemExit(1)


def sample(rows: int) -> list[dict[str, Any]]:
    """Returns rows of our own corpus as a table with its splits, in their shares.

    Raises:
        DataError: There are not so many.
    """
    splits = load_corpus(Corpus(name="own"), None).splits
    total = sum(len(statements) for statements in splits.values())
    if rows > total:
        raise DataError("not so many sentences", got=rows, expected=f"up to {total}")
    return [
        {"text": s.text, "target": s.target, "source": s.source, "label": s.label, "split": split}
        for split in SPLITS
        for s in splits[split][: len(splits[split]) * rows // total]
    ]


def launched(launch: str, folder: Path, settings: list[str]) -> Path:
    """Trains by ``accelerate launch`` with one of configs/accelerate, and returns the run."""
    print(f"training: configs/accelerate/{launch}.yaml", flush=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch"),
            *("--config_file", str(ROOT / "configs" / "accelerate" / f"{launch}.yaml")),
            *("-m", "train", str(ROOT / "configs" / "quick.yaml")),
            *(f"run.dir={folder}", *settings),
        ],
        cwd=ROOT,
        # Also where there is a GPU.
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        check=True,
    )
    return folder


def figures_of(run: Path) -> dict[str, float]:
    """Returns the model's figures on test, and the updates it took, which may not differ."""
    metrics = read_json(run / "metrics.json")
    (systems,) = metrics["results"].values()
    found = {name: float(systems[MODEL][name]) for name in FIGURES}
    return found | {"updates": float(metrics["training"]["updates"])}


def probabilities(run: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns what a run's model says of the test rows, shape (rows, 3)."""
    rows = [row for _, row in read_rows(run / "predictions.jsonl")]
    return np.array([[row[f"p_{label}"] for label in LABELS] for row in rows])


def table_of(one: dict[str, float], two: dict[str, float]) -> str:
    """Returns the figures of both runs side by side, as a Markdown table."""
    lines = ["| on test | one process | two processes |", "|---|--:|--:|"]
    lines += [f"| {name} | {one[name]:.4f} | {two[name]:.4f} |" for name in one]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"prove_processes: {error}") from None
