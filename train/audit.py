"""Which labels are likely wrong and what to label next: ``python -m train.audit FILE --out DIR``.

Every row is judged by a model that has seen neither it nor a row of its sentence, document or
group. Where the model is sure of another label, confident learning (Northcutt et al., JAIR 2021,
by the library ``cleanlab``) marks the row. The same models then choose, from statements without
labels, those that they are least sure of.
"""

from __future__ import annotations

import csv
import math
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import typer
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.model_selection import StratifiedGroupKFold

from detente.classifier import Classifier
from detente.encoding import as_target
from detente.errors import ConfigError, DataError
from detente.hub import read_json, sha256
from detente.labels import LABELS
from detente.rows import read_statements, whole_file, write_json
from detente.runtimes.torch_runtime import TorchRuntime
from detente.statement import COLUMNS, Statement
from train.baselines import Baseline, tfidf
from train.batches import make_encoder
from train.command import run_command
from train.config import Config, load_config
from train.fit import fit, show_progress
from train.near_duplicates import THRESHOLD, likeness
from train.splits import linked_groups, normalised
from train.stopwatch import seconds_to_train
from train.tone_metric import labels_of, probabilities_of, tone_metrics

Floats = npt.NDArray[np.float64]
Criterion = Literal["entropy", "margin"]

# Of the rows a model may learn from, the share that chooses its checkpoint: one in so many.
_VALIDATION: Final = 8
_SEED: Final = 7
_ABOUT: Final = "audit.json"


@dataclass(frozen=True, slots=True)
class CrossFit:
    """What models say of rows that they have not seen.

    Attributes:
        held_out: Shape (rows, 3): of each labelled row, by the one model trained without it.
        unlabelled: Shape (unlabelled rows, 3): the mean over all models.
        folds: The fold of each labelled row.
    """

    held_out: Floats
    unlabelled: Floats
    folds: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Audit:
    """A table of labelled statements with what was found.

    Attributes:
        statements: The rows.
        probabilities: Shape (rows, 3), out of fold.
        quality: Shape (rows,), in [0, 1]: the probability of the label given.
        doubtful: Shape (rows,): the label is likely wrong.
        contradicted: Shape (rows,): the same sentence, target and source have another label too.
    """

    statements: Sequence[Statement]
    probabilities: Floats
    quality: Floats
    doubtful: npt.NDArray[np.bool_]
    contradicted: npt.NDArray[np.bool_]


def group_numbers(statements: Sequence[Statement]) -> npt.NDArray[np.int64]:
    """Numbers the groups: rows that a document, a ``group`` or a sentence links, also by others."""

    def key(value: object, row: int) -> str:
        blank = value is None or value != value or value == ""
        return f"alone {row}" if blank else f"group {value}"

    return np.array(
        linked_groups(
            [key(s.doc_id, row) for row, s in enumerate(statements)],
            [key(s.extra.get("group"), row) for row, s in enumerate(statements)],
            [normalised(s.text) for s in statements],
        )
    )


def cross_fit(
    statements: Sequence[Statement],
    unlabelled: Sequence[Statement],
    models: Sequence[Baseline],
) -> CrossFit:
    """Trains one model a fold and asks it for the rows it was not trained on.

    Args:
        statements: Labelled rows.
        unlabelled: Rows that every model is asked for.
        models: One a fold.

    Raises:
        DataError: There are fewer groups than folds, or only one label.
    """
    labels, groups = labels_of(statements), group_numbers(statements)
    if (found := len(np.unique(groups))) < len(models):
        raise DataError(
            "too few groups of rows for so many folds",
            got=f"{found} groups, {len(models)} folds",
            fix="Rows that share a sentence, doc_id or group stay in one fold; lower --folds.",
        )
    splitter = StratifiedGroupKFold(len(models), shuffle=True, random_state=_SEED)
    held_out = np.zeros((len(statements), len(LABELS)))
    folds = np.zeros(len(statements), dtype=np.int64)
    others = np.zeros((len(unlabelled), len(LABELS)))
    for fold, (known, rest) in enumerate(splitter.split(labels, labels, groups)):
        train = [statements[row] for row in known]
        if len({s.label for s in train}) < 2:
            raise DataError("there is only one label to learn from", got=train[0].label)
        asked = [*(statements[row] for row in rest), *unlabelled]
        p = models[fold](train, asked)
        held_out[rest], folds[rest] = p[: len(rest)], fold
        others += p[len(rest) :] / len(models)
    return CrossFit(held_out, others, folds)


def transformers_of(config: Config, folds: int, folder: Path) -> Iterator[Baseline]:
    """Yields a model a fold that fine-tunes the configuration's encoder; a stop costs one fold.

    Args:
        config: How to train.
        folds: How many.
        folder: Where each fold keeps its checkpoints; those that are there are gone on from.
    """
    for fold in range(folds):

        def model(
            train: Sequence[Statement], asked: Sequence[Statement], fold: int = fold
        ) -> Floats:
            typer.echo(f"training {fold + 1} of {folds}, on {len(train)} rows")
            learn, choose = _without_leak(train)
            fitted = fit(config, learn, choose, folder / f"fold-{fold}", resume=True)
            fitted.model.save_pretrained(folder / f"model-{fold}")
            encoder = make_encoder(fitted.tokenizer, config.base.max_tokens)
            classifier = Classifier(encoder, TorchRuntime(folder / f"model-{fold}"), "fold")
            return probabilities_of(classifier.predict_batch(asked))

        yield model


def find_errors(statements: Sequence[Statement], probabilities: Floats) -> Audit:
    """Marks the labels that are likely wrong.

    Args:
        statements: Labelled rows.
        probabilities: Shape (rows, 3), out of fold.
    """
    labels = labels_of(statements)
    doubtful = np.zeros(len(labels), dtype=bool)
    doubtful[:] = find_label_issues(labels, probabilities, n_jobs=1)
    given: dict[tuple[str, str, str], set[str | None]] = defaultdict(set)
    for s in statements:
        given[_question(s)].add(s.label)
    contradicted = np.array([len(given[_question(s)]) > 1 for s in statements])
    quality = get_label_quality_scores(labels, probabilities, method="self_confidence")
    return Audit(statements, probabilities, np.asarray(quality), doubtful, contradicted)


def uncertainty(probabilities: Floats, criterion: Criterion) -> Floats:
    """Returns how unsure probabilities are, shape (rows,), in [0, 1].

    ``entropy`` is in units of its greatest value; ``margin`` is one less the distance between
    the two most probable labels.
    """
    if criterion == "margin":
        ordered = np.sort(probabilities, axis=1)
        return np.asarray(1 - (ordered[:, -1] - ordered[:, -2]))
    logs = np.log(np.maximum(probabilities, 1e-12))
    return np.asarray(-(probabilities * logs).sum(axis=1) / math.log(len(LABELS)))


def choose_next(
    unlabelled: Sequence[Statement],
    unsure: Floats,
    labelled: Sequence[Statement],
    count: int,
) -> list[int]:
    """Chooses the rows that are most worth a label.

    The targets take turns, each with its least certain row, so that no one target fills the
    list; a row that nearly repeats a labelled or a chosen sentence is passed over.

    Args:
        unlabelled: Rows to choose from.
        unsure: Shape (unlabelled rows,), of :func:`uncertainty`.
        labelled: Rows that have a label already.
        count: At most so many.

    Returns:
        Positions in ``unlabelled``, in the order in which they were chosen.
    """
    known = {normalised(s.text) for s in labelled}
    queues: dict[str, list[int]] = defaultdict(list)
    for row in np.argsort(-unsure, kind="stable").tolist():
        if normalised(unlabelled[row].text) not in known:
            queues[str(as_target(unlabelled[row].target))].append(row)
    chosen: list[int] = []
    turns = [iter(rows) for rows in queues.values()]  # the least certain target comes first
    while turns and len(chosen) < count:
        for turn in list(turns):
            before = [unlabelled[row] for row in chosen]
            row = next((row for row in turn if not _is_near(unlabelled[row], before)), None)
            if row is None:
                turns.remove(turn)
            elif len(chosen) < count:
                chosen.append(row)
    return chosen


def write_labels(path: Path, audit: Audit) -> None:
    """Writes every row, the most doubtful first, as a CSV table to edit and to train on again."""
    order = np.lexsort((audit.quality, ~(audit.doubtful | audit.contradicted)))
    rows = []
    for row in order.tolist():
        s, p = audit.statements[row], audit.probabilities[row]
        found: dict[str, str] = {}
        found["suggested_label"] = LABELS[int(p.argmax())] if audit.doubtful[row] else ""
        found |= _shown(p) | {"quality": f"{audit.quality[row]:.4f}"}
        rows.append(_row(s, row, found | {"reason": _reason(audit, row)}))
    _write_csv(path, rows)


def write_next(
    path: Path,
    unlabelled: Sequence[Statement],
    probabilities: Floats,
    chosen: Sequence[int],
) -> None:
    """Writes the chosen rows as a CSV table whose column ``label`` is to be filled in."""
    entropy = uncertainty(probabilities, "entropy")
    margin = 1 - uncertainty(probabilities, "margin")
    rows = []
    for row in chosen:
        p = probabilities[row]
        found = {"suggested_label": LABELS[int(p.argmax())]} | _shown(p)
        found |= {"quality": "", "reason": f"entropy {entropy[row]:.2f}, margin {margin[row]:.2f}"}
        # What a model asked for is no fair sample: it is for training only.
        rows.append(_row(unlabelled[row], row, found) | {"split": "train"})
    _write_csv(path, rows)


def _without_leak(train: Sequence[Statement]) -> tuple[list[Statement], list[Statement]]:
    """Sets groups aside that choose the checkpoint."""
    labels, groups = labels_of(train), group_numbers(train)
    splitter = StratifiedGroupKFold(_VALIDATION, shuffle=True, random_state=_SEED)
    learn, choose = next(splitter.split(labels, labels, groups))
    return [_bare(train[row]) for row in learn], [_bare(train[row]) for row in choose]


def _bare(statement: Statement) -> Statement:
    """Returns the statement without columns of the user's, of which training reads some names."""
    return replace(statement, extra={})


def _question(statement: Statement) -> tuple[str, str, str]:
    source = as_target(statement.source) if statement.source else ""
    return normalised(statement.text), str(as_target(statement.target)), str(source)


def _is_near(statement: Statement, others: Sequence[Statement]) -> bool:
    text = normalised(statement.text)
    return any(likeness(text, normalised(other.text)) >= THRESHOLD for other in others)


def _shown(p: Floats) -> dict[str, str]:
    return {f"p_{label}": f"{x:.4f}" for label, x in zip(LABELS, p, strict=True)}


def _reason(audit: Audit, row: int) -> str:
    p = audit.probabilities[row]
    reasons = []
    if audit.contradicted[row]:
        reasons.append("the same sentence and target stand with another label too")
    if audit.doubtful[row]:
        reasons.append(f"the model says {LABELS[int(p.argmax())]} ({p.max():.2f})")
    return "; ".join(reasons)


def _row(statement: Statement, number: int, found: Mapping[str, str]) -> dict[str, Any]:
    """Returns a row of a table: what is edited first, then what was found, then the rest."""
    known = statement.to_row() | {"id": statement.id or f"row-{number + 1}"}
    first = {name: known.pop(name, "") for name in ("id", "text", "source", "target", "label")}
    rest = {name: known.get(name, "") for name in COLUMNS if name not in first}
    return first | dict(found) | rest | {k: v for k, v in known.items() if k not in found}


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = dict.fromkeys(name for row in rows for name in row)
    with whole_file(path) as file:
        file.write("\ufeff")  # or a spreadsheet takes UTF-8 for something older
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)


def _report(audit: Audit, name: str, model: str, folds: int, chosen: int | None, out: Path) -> str:
    labels = labels_of(audit.statements)
    m = tone_metrics(audit.probabilities, labels)
    says = audit.probabilities.argmax(axis=1)
    rows = np.flatnonzero(audit.doubtful)
    pairs = Counter((LABELS[labels[row]], LABELS[says[row]]) for row in rows)
    lines = [
        f"# Audit of {name}",
        "",
        f"{len(labels)} rows in {len(np.unique(group_numbers(audit.statements)))} groups, each "
        f"judged by one of {folds} models ({model}) that saw no row of its group: macro-F1 "
        f"{100 * m['macro_f1']:.1f}, accuracy {100 * m['accuracy']:.1f} %, ECE {m['ece']:.3f}.",
        "",
        f"**{len(rows)}** labels are likely wrong. **{int(audit.contradicted.sum())}** rows have "
        "a sentence, target and source that stand with another label too. They come first in "
        "`labels.csv`; read them before you change them: where the model is poor, so are its "
        "doubts.",
        "",
        "| label given | the model says | rows |",
        "|---|---|--:|",
        *(f"| {given} | {says} | {n} |" for (given, says), n in pairs.most_common()),
        "",
        "## What to do",
        "",
        "1. Open `labels.csv` in a spreadsheet, correct the column `label` where it is wrong, and "
        "save it as comma-separated UTF-8. All rows are in it, the untouched ones as they were.",
    ]
    if chosen is not None:
        lines.append(
            f"2. Fill in the column `label` of `next.csv`, {chosen} rows, and delete those that "
            "you leave open. They were chosen for being hard: they are for training only."
        )
    lines += ["", "Then train on the tables:", "", "```yaml", "data:", "  corpora:"]
    for table in ["labels.csv", *(["next.csv"] if chosen is not None else [])]:
        lines += ["    - name: file", f"      path: {out / table}"]
    lines += ["```", ""]
    return "\n".join(lines)


def _plan(config: Config, statements: Sequence[Statement], folds: int) -> str:
    """Says how long the trainings will take; a rehearsal on a few batches tells."""
    rows = round(len(statements) * (1 - 1 / folds) * (1 - 1 / _VALIDATION))
    seconds = folds * seconds_to_train(config, [_bare(s) for s in statements], rows)
    return (
        f"{folds} trainings of {config.base.name} on about {rows} rows: {seconds / 60:.0f} "
        "minutes at most, by a rehearsal, and what evaluation takes; a stop costs no more than "
        "the epoch it falls into"
    )


def _working_folder(out: Path, about: Mapping[str, Any]) -> Path:
    """Returns ``<out>.partial``, new or of an audit of the same kind that was stopped."""
    if out.exists():
        raise DataError(
            "the folder is there already", where=str(out), fix="Name another, or remove it."
        )
    partial = out.with_name(f"{out.name}.partial")
    if not partial.exists():
        write_json(partial / _ABOUT, about)
    elif not (partial / _ABOUT).is_file() or read_json(partial / _ABOUT) != about:
        raise ConfigError(
            "an unfinished audit of another kind is in the way",
            where=str(partial),
            fix="Remove it.",
        )
    return partial


def main(
    file: Annotated[Path, typer.Argument(help="Labelled statements: .jsonl, .csv or .parquet.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables; must not exist.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Settings in place of --config's."),
    ] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="Statements to choose from what to label next.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Fine-tune this run's encoder; else TF-IDF, in seconds.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Models, each on all but one fold.")] = 5,
    count: Annotated[int, typer.Option(min=1, help="Rows to label next.")] = 200,
    by: Annotated[Criterion, typer.Option(help="What makes a row worth a label.")] = "entropy",
) -> None:
    """Find labels that are likely wrong and the sentences most worth labelling next.

    Example: python -m train.audit my_labels.csv --unlabelled archive.jsonl --out runs/audit
    """
    if overrides and config is None:
        raise ConfigError("settings without a configuration", got=overrides, fix="Pass --config.")
    chosen_config = load_config(config, overrides or ()) if config else None
    statements = read_statements(file, labelled=True)
    pool = [s for s in read_statements(unlabelled) if s.label is None] if unlabelled else []
    if unlabelled and not pool:
        raise DataError("every row has a label already", where=str(unlabelled))
    about = {
        "files": {str(path): sha256(path) for path in (file, unlabelled) if path},
        "config": chosen_config.to_yaml() if chosen_config else None,
        "folds": folds,
    }
    partial = _working_folder(out, about)
    if chosen_config:
        show_progress(sys.stderr.isatty())
        typer.echo(_plan(chosen_config, statements, folds))
        models = list(transformers_of(chosen_config, folds, partial / "folds"))
    else:
        typer.echo(f"{folds} TF-IDF models on {len(statements)} rows")
        models = [tfidf] * folds
    crossed = cross_fit(statements, pool, models)
    audit = find_errors(statements, crossed.held_out)
    write_labels(partial / "labels.csv", audit)
    chosen = None
    if pool:
        chosen = choose_next(pool, uncertainty(crossed.unlabelled, by), statements, count)
        write_next(partial / "next.csv", pool, crossed.unlabelled, chosen)
    name = chosen_config.base.name if chosen_config else "TF-IDF and logistic regression"
    with whole_file(partial / "audit.md") as report:
        report.write(
            _report(audit, file.name, name, folds, None if chosen is None else len(chosen), out)
        )
    metrics = tone_metrics(audit.probabilities, labels_of(statements))
    write_json(partial / _ABOUT, about | {"out_of_fold": metrics})
    shutil.rmtree(partial / "folds", ignore_errors=True)
    partial.rename(out)
    typer.echo(
        f"{int(audit.doubtful.sum())} of {len(statements)} labels are likely wrong"
        + ("" if chosen is None else f", {len(chosen)} rows to label next")
        + f": see {out / 'audit.md'}"
    )


if __name__ == "__main__":
    run_command(main, "train.audit")
