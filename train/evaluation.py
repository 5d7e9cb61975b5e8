"""A model against labelled statements: figures, intervals, slices, plots and its worst errors.

``python -m train.evaluation --model M --data FILE --out DIR`` does it for any table; training
does it for the test split of each corpus.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import typer

from detente.classifier import Classifier
from detente.encoding import as_target
from detente.labels import LABEL_TO_ID, LABELS, tone_score
from detente.rows import read_statements, whole_file, whole_folder, write_json, write_jsonl
from detente.statement import COLUMNS, Statement
from train.baselines import BASELINES
from train.batches import classes_of, withhold_targets
from train.command import run_command
from train.corpora import EACH_LABEL, Contrast
from train.tone_metric import (
    calibration_bins,
    labels_of,
    macro_f1_from_confusion,
    merge,
    probabilities_of,
    tone_metrics,
)

Floats = npt.NDArray[np.float64]

MODEL: Final = "model"
TWIN: Final = "target_blind"
_SMALLEST_SLICE: Final = 20
_LENGTHS: Final = ((0, 80, "up to 80"), (80, 160, "81 to 160"), (160, 10**9, "over 160"))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One or more systems on the same labelled statements.

    Attributes:
        name: What the statements are called: a corpus or a file.
        statements: All with labels.
        probabilities: By system, shape (statements, 3); the model's under ``"model"``.
        metrics: What :func:`evaluate` computed.
    """

    name: str
    statements: Sequence[Statement]
    probabilities: Mapping[str, Floats]
    metrics: dict[str, Any]


def evaluate(
    name: str,
    statements: Sequence[Statement],
    probabilities: Mapping[str, Floats],
    *,
    contrast: Contrast = EACH_LABEL,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Computes the figures of several systems on the same statements.

    Intervals are percentiles of a bootstrap that draws whole clusters (contrast sets or
    documents), since sentences of one document are not independent.

    Args:
        name: What to call the statements.
        statements: Labelled statements.
        probabilities: By system, shape (statements, 3).
        contrast: What the labels tell apart; probabilities are merged accordingly, and
            macro-F1 is the mean over these classes.
        bootstrap: Resamples.
        seed: Of the resampling.

    Returns:
        With ``metrics[system]`` as of :func:`train.tone_metric.tone_metrics` and
        ``macro_f1_interval``; for each other system the model's ``lead`` in macro-F1 with its
        paired interval; and for the model ``slices`` and ``contrast_groups``.
    """
    labels = labels_of(statements)
    classes = np.array(classes_of(contrast))
    told = [LABEL_TO_ID[members[0]] for members in contrast]
    probabilities = {system: merge(p, classes) for system, p in probabilities.items()}
    weights = _resampled_weights([cluster_of(s) for s in statements], bootstrap, seed)
    metrics: dict[str, Any] = {}
    draws: dict[str, Floats] = {}
    for system, p in probabilities.items():
        draws[system] = macro_f1_from_confusion(_confusions(p, labels, weights), told)
        metrics[system] = tone_metrics(p, labels, told)
        metrics[system]["macro_f1_interval"] = _interval(draws[system])
    for system in probabilities:
        if system != MODEL and MODEL in probabilities:
            metrics[system]["lead"] = metrics[MODEL]["macro_f1"] - metrics[system]["macro_f1"]
            metrics[system]["lead_interval"] = _interval(draws[MODEL] - draws[system])
    if MODEL in probabilities:
        metrics[MODEL]["slices"] = _slices(statements, probabilities[MODEL], labels, told)
        metrics[MODEL]["contrast_groups"] = _contrast_groups(
            statements, probabilities[MODEL], labels
        )
    return Evaluation(name, statements, probabilities, metrics)


def cluster_of(statement: Statement) -> str:
    """Returns what a statement is resampled with: its cluster, document or contrast group."""
    extra = statement.extra
    cluster = extra.get("cluster") or statement.doc_id or extra.get("group") or statement.text
    return str(cluster)


def phenomena_of(statement: Statement) -> list[str]:
    """Returns the phenomena a statement is marked with; a table of a user's may have none."""
    phenomena = statement.extra.get("phenomena")
    return [str(name) for name in phenomena] if isinstance(phenomena, list) else []


def table(evaluation: Evaluation) -> str:
    """Returns the systems beside each other as a Markdown table, in percent."""
    lines = [
        "| system | macro-F1 | 95 % interval | critical | neutral | conciliatory | accuracy "
        "| ordinal error | ECE | model leads by |",
        "|---|--:|:-:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for system, m in evaluation.metrics.items():
        low, high = m["macro_f1_interval"]
        lead = f"{100 * m['lead']:+.1f}" if "lead" in m else ""
        cells = [
            system.replace("_", "-"),
            f"{100 * m['macro_f1']:.1f}",
            f"{100 * low:.1f}–{100 * high:.1f}",
            *(f"{100 * m['f1'][label]:.1f}" if label in m["f1"] else "" for label in LABELS),
            f"{100 * m['accuracy']:.1f}",
            f"{m['ordinal_error']:.3f}",
            f"{m['ece']:.3f}",
            lead,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def prediction_rows(evaluation: Evaluation, model: str) -> list[dict[str, Any]]:
    """Returns the statements with what the model says of them, as scored rows.

    Args:
        evaluation: With the model's probabilities.
        model: The name of the model, for the column of that name.
    """
    p = evaluation.probabilities[MODEL]
    rows = []
    for statement, row, score in zip(evaluation.statements, p, tone_score(p), strict=True):
        known = statement.to_row()
        found: dict[str, Any] = {name: known[name] for name in COLUMNS if name in known}
        found |= {"gold": found.pop("label"), "cluster": cluster_of(statement)}
        found |= {"phenomena": phenomena_of(statement), "corpus": evaluation.name}
        found |= {"model": model, "label": LABELS[int(row.argmax())]}
        found |= {"score": round(float(score), 6)}
        found |= {f"p_{label}": round(float(x), 6) for label, x in zip(LABELS, row, strict=True)}
        rows.append(found)
    return rows


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Writes ``report.md``, ``errors.md``, ``confusion.png`` and ``reliability.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "report.md") as file:
        file.write(_report(evaluation))
    with whole_file(folder / "errors.md") as file:
        file.write(_worst_errors(evaluation))
    p, labels = evaluation.probabilities[MODEL], labels_of(evaluation.statements)
    _plot_confusion(p, labels, folder / "confusion.png")
    _plot_reliability(p, labels, folder / "reliability.png")


def main(
    model: Annotated[str, typer.Option(help="'default', a model folder, or a hub id.")],
    data: Annotated[Path, typer.Option(help="Labelled statements: .jsonl, .csv or .parquet.")],
    out: Annotated[Path, typer.Option(help="Folder for the report; must not exist.")],
    baselines_from: Annotated[
        Path | None, typer.Option(help="Training statements: adds the baselines.")
    ] = None,
    twin: Annotated[
        str | None, typer.Option(help="A target-blind model, as training writes it.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=100, help="Resamples for the intervals.")] = 1000,
) -> None:
    """Evaluate a model on a table of labelled statements."""
    with whole_folder(out) as partial:
        statements = read_statements(data, labelled=True)
        systems = {MODEL: _predict(model, statements)}
        if twin is not None:
            systems[TWIN] = _predict(twin, withhold_targets(statements))
        if baselines_from is not None:
            train = read_statements(baselines_from, labelled=True)
            systems |= {name: baseline(train, statements) for name, baseline in BASELINES.items()}
        evaluation = evaluate(data.stem, statements, systems, bootstrap=bootstrap)
        write_report(evaluation, partial)
        write_json(partial / "metrics.json", {data.stem: evaluation.metrics})
        write_jsonl(partial / "predictions.jsonl", prediction_rows(evaluation, model))
    typer.echo(table(evaluation))


def _predict(model: str, statements: Sequence[Statement]) -> Floats:
    return probabilities_of(Classifier.load(model).predict_batch(statements, progress=True))


def _resampled_weights(clusters: Sequence[str], resamples: int, seed: int) -> Floats:
    """Returns how often each row is drawn in each resample, shape (resamples, rows)."""
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return counts[:, index].astype(np.float64)


def _confusions(p: Floats, labels: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Returns the confusion counts of each resample, shape (resamples, 3, 3)."""
    k = len(LABELS)
    cells = np.zeros((len(labels), k * k))
    cells[np.arange(len(labels)), labels * k + p.argmax(axis=1)] = 1
    return np.asarray((weights @ cells).reshape(-1, k, k))


def _interval(draws: Floats) -> list[float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return [float(low), float(high)]


def _slices(
    statements: Sequence[Statement],
    p: Floats,
    labels: npt.NDArray[np.int64],
    told: Sequence[int],
) -> dict[str, dict[str, Any]]:
    """Returns rows, accuracy and macro-F1 of each slice with enough rows."""
    members: dict[str, list[int]] = defaultdict(list)
    for row, s in enumerate(statements):
        for phenomenon in phenomena_of(s):
            members[f"phenomenon: {phenomenon}"].append(row)
        for low, high, words in _LENGTHS:
            if low < len(s.text) <= high:
                members[f"length: {words} characters"].append(row)
        if "lang" in s.extra:
            members[f"language: {s.extra['lang']}"].append(row)
        if s.source:
            members[f"pair: {as_target(s.source)} -> {as_target(s.target)}"].append(row)
    found = {}
    for name in sorted(members, key=lambda n: (n.partition(":")[0], -len(members[n]))):
        rows = np.array(members[name])
        if len(rows) >= _SMALLEST_SLICE:
            m = tone_metrics(p[rows], labels[rows], told)
            found[name] = {key: m[key] for key in ("rows", "accuracy", "macro_f1")}
    return found


def _contrast_groups(
    statements: Sequence[Statement], p: Floats, labels: npt.NDArray[np.int64]
) -> dict[str, float]:
    """Counts the groups of rows with different labels that are right in every row."""
    right = p.argmax(axis=1) == labels
    groups: dict[str, list[int]] = defaultdict(list)
    for row, statement in enumerate(statements):
        if "phenomena" in statement.extra:  # only contrast sets have them, not documents
            groups[cluster_of(statement)].append(row)
    contrasting = [rows for rows in groups.values() if len({labels[row] for row in rows}) > 1]
    whole = sum(bool(right[rows].all()) for rows in contrasting)
    return {"groups": len(contrasting), "wholly_right": whole / max(len(contrasting), 1)}


def _report(evaluation: Evaluation) -> str:
    model = evaluation.metrics[MODEL]
    groups = model["contrast_groups"]
    lines = [
        f"# {evaluation.name}: {len(evaluation.statements)} statements",
        "",
        table(evaluation),
        "",
        "Intervals: bootstrap over documents or contrast groups.",
    ]
    if groups["groups"]:
        share = f"{100 * groups['wholly_right']:.1f}"
        lines.append(f"Contrast groups wholly right: {share} % of {groups['groups']}.")
    lines += ["", "| slice | rows | accuracy | macro-F1 |", "|---|--:|--:|--:|"]
    lines += [
        f"| {name} | {m['rows']} | {100 * m['accuracy']:.1f} | {100 * m['macro_f1']:.1f} |"
        for name, m in model["slices"].items()
    ]
    lines += ["", "![Confusion matrix](confusion.png)", "", "![Reliability](reliability.png)", ""]
    return "\n".join(lines)


def _worst_errors(evaluation: Evaluation, most: int = 50) -> str:
    p, labels = evaluation.probabilities[MODEL], labels_of(evaluation.statements)
    given = p[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(p.argmax(axis=1) != labels)
    worst = wrong[np.argsort(given[wrong], kind="stable")][:most]
    lines = [
        f"# The {len(worst)} worst of {len(wrong)} errors on {evaluation.name}",
        "",
        "| label | model says | P(label) | source | target | sentence |",
        "|---|---|--:|---|---|---|",
    ]
    for row in worst:
        s = evaluation.statements[row]
        text = s.text.replace("|", "\\|").replace("\n", " ")
        said = LABELS[int(p[row].argmax())]
        lines.append(
            f"| {s.label} | {said} | {given[row]:.2f} | {s.source or ''} | {s.target} | {text} |"
        )
    return "\n".join(lines) + "\n"


def _plot_confusion(p: Floats, labels: npt.NDArray[np.int64], path: Path) -> None:
    from matplotlib.figure import Figure

    counts = _confusions(p, labels, np.ones((1, len(labels))))[0]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column,
            row,
            f"{100 * share:.0f} %\n{int(counts[row, column])}",
            ha="center",
            va="center",
            color="white" if share > 0.55 else "black",
        )
    axes.set_xticks(range(len(LABELS)), LABELS)
    axes.set_yticks(range(len(LABELS)), LABELS, rotation=90, va="center")
    axes.set(xlabel="model says", ylabel="label", title="Share of each label's statements")
    figure.colorbar(image, ax=axes, shrink=0.8)
    figure.savefig(path, dpi=150)


def _plot_reliability(p: Floats, labels: npt.NDArray[np.int64], path: Path) -> None:
    from matplotlib.figure import Figure

    confidence, accuracy, rows = zip(*calibration_bins(p, labels), strict=True)
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0.3, 1], [0.3, 1], color="grey", linestyle="--", label="perfectly calibrated")
    axes.plot(confidence, accuracy, marker="o", label=f"model, bins of {rows[0]} statements")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0.3, 1.02), ylim=(0, 1.02))
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    run_command(main, "train.evaluation")
