"""The metrics of tone, as plain functions and as an ``evaluate`` metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import datasets
import evaluate
import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score

from detente.classifier import Prediction
from detente.labels import LABEL_TO_ID, LABELS
from detente.statement import Statement

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

EVERY_LABEL: Final = range(len(LABELS))


def probabilities_of(predictions: Sequence[Prediction]) -> npt.NDArray[np.float64]:
    """Returns the probabilities of predictions, shape (predictions, 3)."""
    return np.array([[p.probabilities[label] for label in LABELS] for p in predictions])


def labels_of(statements: Sequence[Statement]) -> npt.NDArray[np.int64]:
    """Returns the label ids of labelled statements."""
    return np.array([LABEL_TO_ID[s.label] for s in statements if s.label], dtype=np.int64)


def merge(probabilities: Floats, classes: Floats | Ints) -> npt.NDArray[np.float64]:
    """Returns what a model says of the classes of labels that a corpus tells apart.

    Args:
        probabilities: Shape (rows, 3), in label order.
        classes: Shape (rows, 3) or (3,): the number of each label's class, -1 where it has
            none (:func:`train.batches.classes_of`).

    Returns:
        Shape (rows, 3), each row summing to one: the probability of a class stands at its first
        label, as a row's own label does; labels without a class have none. Where they had
        everything, the classes share it evenly.
    """
    of_row = np.broadcast_to(classes, probabilities.shape)
    same = (of_row[:, :, None] == of_row[:, None, :]) & (of_row >= 0)[:, None, :]
    first = ~np.tril(same, -1).any(axis=-1) & (of_row >= 0)
    merged = np.where(first, (same * probabilities[:, None, :]).sum(axis=-1), 0.0)
    # A model may give everything to a label that the corpus does not have: then it has not said.
    merged = np.where(merged.sum(axis=-1, keepdims=True) > 0, merged, first)
    return np.asarray(merged / merged.sum(axis=-1, keepdims=True), dtype=np.float64)


def tone_metrics(
    probabilities: Floats, labels: Ints, told: Sequence[int] = EVERY_LABEL
) -> dict[str, Any]:
    """Computes every metric of a set of predictions.

    Args:
        probabilities: Shape (rows, 3), in label order.
        labels: Shape (rows,), ids in label order.
        told: Ids of the labels that can occur: macro-F1 is the mean over them.

    Returns:
        ``macro_f1`` and ``f1`` per label of ``told`` in [0, 1] (a label that occurs neither as
        truth nor as prediction counts as 0), ``accuracy`` in [0, 1], ``ordinal_error`` (the mean
        distance between predicted and true label on the scale critical, neutral, conciliatory:
        in [0, 2]), ``ece`` in [0, 1] and ``rows``.
    """
    predicted = probabilities.argmax(axis=1)
    per_label = f1_score(labels, predicted, labels=list(told), average=None, zero_division=0)
    return {
        "macro_f1": float(per_label.mean()),
        "f1": {LABELS[i]: float(f1) for i, f1 in zip(told, per_label, strict=True)},
        "accuracy": float((predicted == labels).mean()),
        "ordinal_error": float(np.abs(predicted - labels).mean()),
        "ece": calibration_error(probabilities, labels),
        "rows": len(labels),
    }


def calibration_bins(
    probabilities: Floats, labels: Ints, bins: int = 10
) -> list[tuple[float, float, int]]:
    """Sorts predictions by confidence into bins of equal size.

    Returns:
        For each bin that is not empty: mean confidence, accuracy, rows.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    return [
        (float(confidence[rows].mean()), float(right[rows].mean()), len(rows))
        for rows in np.array_split(order, bins)
        if len(rows)
    ]


def calibration_error(probabilities: Floats, labels: Ints, bins: int = 10) -> float:
    """Returns the expected calibration error over bins of equal mass, in [0, 1].

    Equal-mass bins keep the estimate stable where confidence piles up near one (Nixon et al.,
    "Measuring Calibration in Deep Learning", CVPR workshops 2019).
    """
    found = calibration_bins(probabilities, labels, bins)
    return float(sum(n * abs(c - a) for c, a, n in found) / max(len(labels), 1))


def macro_f1_from_confusion(
    counts: Floats, told: Sequence[int] = EVERY_LABEL
) -> npt.NDArray[np.float64]:
    """Returns macro-F1 of confusion counts.

    Args:
        counts: Shape (..., 3, 3), true label by predicted label.
        told: As for :func:`tone_metrics`.

    Returns:
        Shape (...).
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    total = counts.sum(axis=-1) + counts.sum(axis=-2)
    f1 = np.divide(2 * right, total, where=total > 0, out=np.zeros(total.shape))
    return np.asarray(f1[..., list(told)].mean(axis=-1), dtype=np.float64)


class ToneMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
    """:func:`tone_metrics` behind the interface of the ``evaluate`` library.

    ``predictions`` are three probabilities a row, ``references`` label ids.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features(
            {
                "predictions": datasets.Sequence(datasets.Value("float64")),
                "references": datasets.Value("int64"),
            }
        )
        return evaluate.MetricInfo(
            description="Tone of a statement toward a state: macro-F1, ordinal and calibration "
            "error.",
            citation="",
            inputs_description=tone_metrics.__doc__ or "",
            features=features,
        )

    def _compute(self, predictions: list[list[float]], references: list[int]) -> dict[str, Any]:
        return tone_metrics(np.asarray(predictions), np.asarray(references))
