"""From a checkpoint to ONNX: fp32 with every run, int8 for the bundled model, each compared."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from detente.classifier import Classifier
from detente.encoding import PairEncoder, as_target
from detente.errors import ModelError
from detente.runtimes.onnx_runtime import OnnxRuntime
from detente.runtimes.torch_runtime import TorchRuntime
from detente.statement import Statement
from train.tone_metric import labels_of, probabilities_of, tone_metrics

FP32: Final = "onnx/model.onnx"
INT8: Final = "onnx/model_int8.onnx"
KEPT_FP32: Final = tuple(f"layer.{layer}/output/dense/MatMul" for layer in range(3))
"""Products that int8 leaves in fp32: what enters them has outliers in the first layers of
MiniLM, and one scale for all of it rounds the rest away. Measured on 1,513 sentences: with them
in int8 98.4 % of the labels agree with fp32 and mean |Δp| is 0.0127, without 99.1 % and 0.0077."""
LOGIT_TOLERANCE: Final = 1e-3
"""The most that fp32 logits of the two runtimes may differ."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An export beside its checkpoint, on the same statements.

    Attributes:
        statements: Statements compared.
        label_agreement: Share of equal labels.
        mean_probability_difference: Mean |Δp| over statements and labels.
        macro_f1: Of the export.
        macro_f1_drop: Of the checkpoint, less that of the export; positive is worse.
    """

    statements: int
    label_agreement: float
    mean_probability_difference: float
    macro_f1: float
    macro_f1_drop: float

    def failures(self, minimum: int = 5000) -> list[str]:
        """Returns why an int8 export may not be used; an empty list if it may.

        The bounds are those of the design: agreement at least 98.5 %, mean |Δp| at most 0.01,
        macro-F1 at most one point lower, on at least ``minimum`` statements.
        """
        checks = (
            (self.statements >= minimum, f"{self.statements} statements compared, not {minimum}"),
            (self.label_agreement >= 0.985, f"label agreement is {self.label_agreement:.4f}"),
            (
                self.mean_probability_difference <= 0.01,
                f"mean |Δp| is {self.mean_probability_difference:.4f}",
            ),
            (self.macro_f1_drop <= 0.01, f"macro-F1 falls by {self.macro_f1_drop:.4f}"),
        )
        return [reason for holds, reason in checks if not holds]

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures for ``detente.json``."""
        return asdict(self)


def export_fp32(folder: Path) -> Path:
    """Writes ``onnx/model.onnx`` beside a checkpoint.

    Args:
        folder: A Hugging Face sequence-classification folder.

    Returns:
        The file.
    """
    from transformers import AutoModelForSequenceClassification

    # Eager attention: what the TorchScript exporter turns into plain, portable operators.
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    names = ["input_ids", "attention_mask"]
    if getattr(model.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    example = {name: torch.ones((2, 8), dtype=torch.int64) for name in names}
    path = folder / FP32
    path.parent.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        # The exporter's notes on tracing: shapes below are dynamic, and the result is compared.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logits(model, names),
            tuple(example.values()),
            str(path),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "rows", 1: "tokens"} for name in names}
            | {"logits": {0: "rows"}},
            opset_version=17,
            dynamo=False,
        )
    return path


def check_fp32(folder: Path, encoder: PairEncoder, statements: Sequence[Statement]) -> float:
    """Compares the fp32 export with its checkpoint.

    Returns:
        The largest difference of a logit.

    Raises:
        ModelError: It is over :data:`LOGIT_TOLERANCE`.
    """
    pairs = [(s.text, as_target(s.target), None) for s in statements]
    batch = encoder.collate(encoder.encode(pairs))
    onnx = OnnxRuntime(folder / FP32).logits(batch)
    difference = float(np.abs(onnx - TorchRuntime(folder, "cpu").logits(batch)).max())
    if not difference <= LOGIT_TOLERANCE:
        raise ModelError(
            "the ONNX export differs from its checkpoint",
            where=str(folder / FP32),
            got=difference,
            expected=f"logits within {LOGIT_TOLERANCE}",
        )
    return difference


def export_int8(source: Path, target: Path) -> None:
    """Quantises an fp32 export to int8: weights per channel, activations as they come.

    The products of :data:`KEPT_FP32` stay as they are.

    ``reduce_range`` keeps weights to seven bits, so that the sums of AVX2 processors without
    VNNI cannot overflow and one file serves all of them.

    Args:
        source: The fp32 file.
        target: Where the int8 file goes.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        nodes = [node.name for node in onnx.load(prepared).graph.node]
        quantize_dynamic(
            str(prepared),
            str(target),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[name for name in nodes if name.endswith(KEPT_FP32)],
        )


def compare(
    checkpoint: Classifier, export: Classifier, statements: Sequence[Statement]
) -> Comparison:
    """Compares an export with its checkpoint on labelled statements."""
    labels = labels_of(statements)
    before = probabilities_of(checkpoint.predict_batch(statements))
    after = probabilities_of(export.predict_batch(statements))
    f1_before, f1_after = (tone_metrics(p, labels)["macro_f1"] for p in (before, after))
    return Comparison(
        statements=len(statements),
        label_agreement=float((before.argmax(1) == after.argmax(1)).mean()),
        mean_probability_difference=float(np.abs(before - after).mean()),
        macro_f1=f1_after,
        macro_f1_drop=f1_before - f1_after,
    )


class _Logits(torch.nn.Module):
    """Gives a transformers model plain tensors in and logits out."""

    def __init__(self, model: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits
