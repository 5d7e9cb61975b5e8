import numpy as np
import pytest

from detente.classifier import Prediction
from detente.labels import LABELS
from detente.prevalence import Confusion
from detente.statement import Statement
from train.confusion import held_out_confusion


def _rows(documents: int, sentences: int, rng: np.random.Generator, alike: bool):
    """Three of four sentences are read rightly: all of a document's, or each by itself."""
    statements, predictions = [], []
    for document in range(documents):
        whole = rng.random() < 0.75
        for sentence in range(sentences):
            label = int(rng.integers(3))
            right = whole if alike else rng.random() < 0.75
            statements.append(
                Statement(
                    f"Sentence {document} {sentence} about Chad.",
                    "TCD",
                    label=LABELS[label],
                    doc_id=str(document),
                )
            )
            predictions.append(predicted(label if right else (label + 1) % 3))
    return statements, predictions


def predicted(label: int) -> Prediction:
    probabilities = {name: float(i == label) for i, name in enumerate(LABELS)}
    return Prediction(LABELS[label], probabilities, "TCD", "Chad.")


def test_counts_true_labels_in_rows_and_predicted_ones_in_columns():
    statements = [Statement("Chad.", "TCD", label=label) for label in ("critical", "neutral")]
    found = held_out_confusion(statements, [predicted(2), predicted(1)])
    assert found["counts"] == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(("alike", "expected"), [(True, 8.0), (False, 1.0)])
def test_documents_that_err_as_one_are_worth_one_statement(alike, expected):
    statements, predictions = _rows(400, 8, np.random.default_rng(3), alike)
    found = held_out_confusion(statements, predictions)
    assert found["design_effect"] == pytest.approx(expected, rel=0.15)
    assert found["documents"] == 400
    assert np.sum(found["effective"]) == pytest.approx(3200 / found["design_effect"], rel=0.01)


def test_the_analysis_reads_what_training_writes():
    statements, predictions = _rows(100, 2, np.random.default_rng(4), False)
    settings = {"confusion": held_out_confusion(statements, predictions)}
    confusion = Confusion.of_settings(settings, "detente.json")
    assert confusion.accuracy == pytest.approx(0.75, abs=0.08)
    assert confusion.problem is None
