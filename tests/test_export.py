import numpy as np
import pytest
from conftest import tiny_rows

from detente import Classifier, ModelError, Statement
from detente.runtimes.onnx_runtime import OnnxRuntime
from train.export import check_fp32, compare, export_int8
from train.gates import FP32, INT8, Comparison

STATEMENTS = [Statement.from_row(row) for row in tiny_rows()]


def test_an_int8_export_is_smaller_and_close(tiny_model, tmp_path):
    target = tmp_path / "int8.onnx"
    export_int8(tiny_model / FP32, target)
    # The tiny model's embeddings are too few to quantise, and most of it.
    assert target.stat().st_size < 0.9 * (tiny_model / FP32).stat().st_size
    checkpoint = Classifier.load(tiny_model)
    int8 = Classifier(checkpoint.encoder, OnnxRuntime(target), "int8")
    found = compare(checkpoint, int8, STATEMENTS)
    assert found.statements == len(STATEMENTS)
    assert found.label_agreement > 0.9 and found.mean_probability_difference < 0.05
    # Not the neighbours' doing: a scale for a whole batch would make this a hundredth.
    assert found.score_difference_alone < 1e-4


def test_a_checkpoint_agrees_with_itself(tiny_model):
    classifier = Classifier.load(tiny_model)
    found = compare(classifier, classifier, STATEMENTS)
    assert (found.label_agreement, found.mean_probability_difference) == (1, 0)
    assert found.macro_f1_drop == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        ({"statements": 4999}, "4999 statements compared, not 5000"),
        ({"label_agreement": 0.984}, "label agreement is 0.9840"),
        ({"mean_probability_difference": 0.011}, "mean |Δp| is 0.0110"),
        ({"macro_f1_drop": 0.011}, "macro-F1 falls by 0.0110"),
        ({"score_difference_alone": 0.03}, "a score differs by 0.0300 when computed alone"),
        ({"label_agreement": np.nan}, "label agreement is nan"),
    ],
)
def test_the_gate(changes, says):
    figures = {
        "statements": 5000, "label_agreement": 0.985, "mean_probability_difference": 0.01,
        "macro_f1": 0.7, "macro_f1_drop": 0.01, "score_difference_alone": 0.02,
    }  # fmt: skip
    failures = Comparison(**(figures | changes)).failures()
    assert failures == ([says] if says else [])


def test_an_export_that_differs_is_refused(tiny_model, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    export_int8(folder / FP32, folder / INT8)
    (folder / INT8).replace(folder / FP32)
    encoder = Classifier.load(tiny_model).encoder
    with pytest.raises(ModelError, match="the ONNX export differs from its checkpoint"):
        check_fp32(folder, encoder, STATEMENTS[:16])
