"""Teacher and student: what a large encoder says of unlabelled statements trains a small one.

``python -m train.distill configs/teacher.yaml configs/student.yaml data.root=FOLDER`` trains a
teacher for each seed, averages what they say of the dated series, writes those soft labels
where the student's configuration reads them, and trains the student on soft and hard labels
together (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015). Each step that
is finished is not done again, so that the same command continues after a stop. How long the
trainings will take is printed before the first, by a few updates of each.

No document of the validation and test splits is labelled, and no sentence that nearly equals
one of theirs: a student must not hear from its teacher what it is asked later.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import typer

from detente.classifier import Classifier
from detente.errors import ConfigError
from detente.hub import MANIFEST, sha256
from detente.labels import LABELS
from detente.rows import whole_file
from detente.runtimes.torch_runtime import TorchRuntime
from detente.statement import Statement, text_hash
from train.command import refuse_processes, run_command
from train.config import Config, load_config
from train.corpora.series import COLUMNS, read_series
from train.data import load_data
from train.fit import has_bf16, show_progress
from train.leaks import keep_out
from train.run import train
from train.stopwatch import seconds_to_train
from train.tone_metric import probabilities_of

_SHARD: Final = 2000
_TIMED: Final = 64


def distil(teacher: Config, student: Config, *, seeds: int = 1, most: int | None = None) -> Path:
    """Trains teachers, labels the series with them, and trains the student.

    Args:
        teacher: The run of the first teacher; the others count up from its seed.
        student: The run of the student; its corpus ``series`` names the table of soft labels.
        seeds: How many teachers to average.
        most: Label at most so many statements, drawn by a hash of their text; ``None`` labels
            all.

    Returns:
        The student's run folder.

    Raises:
        ConfigError: The student does not read soft labels, a configuration does not fit, or
            several processes were started.
        DataError: A corpus is missing or a row cannot be read.
        ModelError: A base model is not to be had.
    """
    refuse_processes("train.distill")
    table = _table_of(student)
    if table.is_file():
        _say_training_time("student", [student], extra_rows=0)
        return _train_once(student)
    teachers = _seeded(teacher, seeds)
    rows = sorted(_unlabelled(teacher), key=lambda s: text_hash(s.text))[:most]
    _say_training_time("teacher", teachers, extra_rows=0)
    _say_training_time("student", [_without_series(student)], extra_rows=len(rows))
    folders = [_train_once(run) / "model" for run in teachers]
    scratch = teacher.run.dir.with_name(f"{teacher.run.dir.name}-labels")
    write_soft_labels(table, rows, label(rows, folders, scratch=scratch))
    return _train_once(student)


def label(
    statements: Sequence[Statement], folders: Sequence[Path], *, scratch: Path
) -> npt.NDArray[np.float64]:
    """Returns the mean of what models say of statements, shape (statements, 3).

    Args:
        statements: To be labelled.
        folders: The model folders.
        scratch: Keeps what is done in shards, so that a second start continues.
    """
    mean = np.zeros((len(statements), len(LABELS)))
    starts = range(0, len(statements), _SHARD)
    for folder in folders:
        classifier, model = _teacher(folder), sha256(folder / MANIFEST)[:12]
        chunks = [statements[start : start + _SHARD] for start in starts]
        shards = [scratch / f"{model}-{_digest(chunk)}.npy" for chunk in chunks]
        left = [chunk for chunk, shard in zip(chunks, shards, strict=True) if not shard.exists()]
        _say_how_long(classifier, [s for chunk in left for s in chunk])
        for start, chunk, shard in zip(starts, chunks, shards, strict=True):
            if not shard.exists():
                found = probabilities_of(classifier.predict_batch(chunk, progress=True))
                with whole_file(shard, binary=True) as file:
                    np.save(file, found)
            mean[start : start + len(chunk)] += np.load(shard) / len(folders)
    return mean


def write_soft_labels(
    path: Path, statements: Sequence[Statement], probabilities: npt.NDArray[np.float64]
) -> None:
    """Writes a table of soft labels: id, a hash of the text, three probabilities; no text.

    Args:
        path: A Parquet file.
        statements: With ids.
        probabilities: Shape (statements, 3); written with three digits.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [[s.id for s in statements], [text_hash(s.text) for s in statements]]
    columns += [pa.array(p, pa.float32()) for p in probabilities.round(3).T]
    with whole_file(path, binary=True) as file:
        pq.write_table(pa.table(columns, names=list(COLUMNS)), file, compression="zstd")


def _seeded(config: Config, seeds: int) -> list[Config]:
    """Returns the runs of several seeds, each with a folder of its own."""
    run = config.run
    return [config] + [
        config.model_copy(
            update={
                "run": run.model_copy(
                    update={
                        "seed": run.seed + n,
                        "dir": run.dir.with_name(f"{run.dir.name}-{run.seed + n}"),
                    }
                )
            }
        )
        for n in range(1, seeds)
    ]


def _say_training_time(what: str, runs: Sequence[Config], *, extra_rows: int) -> None:
    """Prints how long the runs of one kind will train that are not there yet.

    Args:
        what: What they train.
        runs: Equal but for their seeds.
        extra_rows: How many rows they will have beside those that their corpora have now.
    """
    left = [run for run in runs if not run.run.dir.exists()]
    if not left:
        return
    statements = load_data(left[0]).all("train")
    rows = len(statements) + extra_rows
    minutes = seconds_to_train(left[0], statements, rows) / 60
    each = f"{len(left)} trainings of {minutes:.0f} minutes each, " if len(left) > 1 else ""
    typer.echo(
        f"{what}: {each}about {len(left) * minutes:.0f} minutes on {rows} rows, at most "
        f"{left[0].fit.epochs:g} epochs, less where an earlier start was stopped"
    )


def _without_series(student: Config) -> Config:
    """Returns the student's run on hard labels alone, as long as there are no soft ones."""
    corpora = tuple(corpus for corpus in student.data.corpora if corpus.name != "series")
    data = student.data.model_copy(update={"corpora": corpora})
    return student.model_copy(update={"data": data})


def _train_once(config: Config) -> Path:
    """Trains a run that is not there yet, from where an earlier start stopped."""
    if config.run.dir.exists():
        typer.echo(f"{config.run.dir} is there already")
        return config.run.dir
    return train(config, resume=True)


def _table_of(student: Config) -> Path:
    for corpus in student.data.corpora:
        if corpus.name == "series" and corpus.path is not None:
            return corpus.path
    raise ConfigError(
        "the student reads no soft labels",
        where="data.corpora",
        fix="Add `- name: series` with the `path` of the table to make.",
    )


def _unlabelled(teacher: Config) -> list[Statement]:
    """Returns the series without what validation and test ask of."""
    data = load_data(teacher)
    held_out = [s for split in ("validation", "test") for s in data.all(split)]
    documents = {s.doc_id for s in held_out if s.doc_id}
    rows, report = keep_out(read_series(teacher.data.root), documents, held_out)
    typer.echo(str(report))
    return rows


def _teacher(folder: Path) -> Classifier:
    plain = Classifier.load(str(folder), runtime="torch")
    return Classifier(plain.encoder, TorchRuntime(folder, bf16=has_bf16()), plain.name)


def _digest(statements: Sequence[Statement]) -> str:
    """Returns a name for statements that changes with any of them."""
    said = "\0".join(f"{s.text}\0{s.target}\0{s.source}" for s in statements)
    return text_hash(said)


def _say_how_long(classifier: Classifier, statements: Sequence[Statement]) -> None:
    sample = statements[:: max(len(statements) // _TIMED, 1)]
    if not sample:
        return
    start = time.perf_counter()
    classifier.predict_batch(sample)
    minutes = (time.perf_counter() - start) / len(sample) * len(statements) / 60
    typer.echo(f"{len(statements)} statements: about {minutes:.0f} minutes")


def main(
    teacher: Annotated[Path, typer.Argument(help="The teacher's run, configs/teacher.yaml.")],
    student: Annotated[Path, typer.Argument(help="The student's run, configs/student.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Settings for both, as data.root=…"),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Teachers to average; five on a GPU, one on a processor.")
    ] = 1,
    most: Annotated[
        int | None, typer.Option(min=1, help="Label at most so many statements; else all.")
    ] = None,
) -> None:
    """Train a teacher, label the dated series with it, and train a student on both.

    Example: python -m train.distill configs/teacher.yaml configs/student.yaml data.root=corpora
    """
    runs = [load_config(path, overrides or ()) for path in (teacher, student)]
    show_progress(sys.stderr.isatty())
    distil(*runs, seeds=seeds, most=most)


if __name__ == "__main__":
    run_command(main, "train.distill")
