"""How a model errs, counted on documents that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detente.classifier import Prediction
from detente.labels import LABEL_TO_ID, LABELS
from detente.statement import Statement
from train.evaluation import cluster_of
from train.tone_metric import labels_of

Floats = npt.NDArray[np.float64]


def held_out_confusion(
    statements: Sequence[Statement], predictions: Sequence[Prediction]
) -> dict[str, Any]:
    """Counts true against predicted labels, for :class:`detente.prevalence.Confusion`.

    Sentences of one document are alike, and so are the errors on them: the counts are worth less
    than as many documents of one sentence. By how much is the design effect of the share of right
    labels (Kish, Survey Sampling, 1965): its variance over documents against that of a coin.

    Args:
        statements: Labelled, of documents that the model did not learn from.
        predictions: Of each of them.

    Returns:
        ``counts`` and ``effective`` (counts divided by the design effect), true labels in rows
        and predicted ones in columns, in label order; ``design_effect``; ``documents``. Nothing
        where there are no statements.
    """
    if not statements:
        return {}
    true = labels_of(statements)
    predicted = np.array([LABEL_TO_ID[p.label] for p in predictions])
    counts = np.zeros((len(LABELS), len(LABELS)))
    np.add.at(counts, (true, predicted), 1.0)
    clusters, cluster = np.unique([cluster_of(s) for s in statements], return_inverse=True)
    effect = _design_effect((true == predicted).astype(np.float64), cluster)
    return {
        "counts": counts.astype(int).tolist(),
        "effective": (counts / effect).round(2).tolist(),
        "design_effect": round(effect, 3),
        "documents": len(clusters),
    }


def _design_effect(values: Floats, cluster: npt.NDArray[np.intp]) -> float:
    """Returns the variance of a mean over clusters by that over as many single rows."""
    mean = values.mean()
    alone = mean * (1 - mean) / len(values)
    clusters = cluster.max() + 1
    if clusters < 2 or alone == 0:
        return 1.0
    off = np.bincount(cluster, values - mean)
    together = (off**2).sum() / len(values) ** 2 * clusters / (clusters - 1)
    return float(max(together / alone, 1.0))
