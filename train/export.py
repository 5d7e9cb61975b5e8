"""From a checkpoint to ONNX: fp32 with every run, int8 for the bundled model, each compared."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from detente.classifier import Classifier
from detente.encoding import PairEncoder, as_target
from detente.errors import ModelError
from detente.hub import read_json
from detente.labels import tone_score
from detente.runtimes.onnx_runtime import OnnxRuntime
from detente.runtimes.torch_runtime import TorchRuntime
from detente.statement import Statement
from train.gates import FP32, LOGIT_TOLERANCE, Comparison
from train.row_int8 import quantize_rows
from train.tone_metric import labels_of, probabilities_of, tone_metrics

ALONE: Final = 200
"""Statements that are also computed one by one."""


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
        folder, attn_implementation="eager", dtype=torch.float32, trust_remote_code=False
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
    """Fuses the attention of an fp32 export and quantises it to int8, with a scale for each token.

    Of the kernels that ONNX Runtime could fuse, attention, layer norm and GELU are. The sum that
    goes before a layer norm is not: on a processor that kernel takes longer than its two parts.
    What an architecture has in another form stays as it is.

    Args:
        source: The fp32 file, in a model folder.
        target: Where the int8 file goes.
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    config = read_json(source.parents[1] / "config.json")
    options = FusionOptions("bert")
    # The product before attention stays apart from it: fused, it would be beyond quantising.
    options.use_multi_head_attention = True
    options.enable_embed_layer_norm = False
    options.enable_skip_layer_norm = False
    options.enable_bias_skip_layer_norm = False
    fused = optimizer.optimize_model(
        str(source),
        "bert",
        # Nought: to be read from the graph.
        num_heads=config.get("num_attention_heads", 0),
        hidden_size=config.get("hidden_size", 0),
        opt_level=0,
        optimization_options=options,
    )
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "fused.onnx"
        fused.save_model_to_file(str(prepared))
        quantize_rows(prepared, target)


def compare(
    checkpoint: Classifier, export: Classifier, statements: Sequence[Statement]
) -> Comparison:
    """Compares an export with its checkpoint on labelled statements."""
    labels = labels_of(statements)
    before = probabilities_of(checkpoint.predict_batch(statements))
    after = probabilities_of(export.predict_batch(statements))
    sample = statements[:: max(len(statements) // ALONE, 1)][:ALONE]
    alone = probabilities_of(export.predict_batch(sample, batch_size=1))
    together = probabilities_of(export.predict_batch(sample))
    f1_before, f1_after = (tone_metrics(p, labels)["macro_f1"] for p in (before, after))
    return Comparison(
        statements=len(statements),
        label_agreement=float((before.argmax(1) == after.argmax(1)).mean()),
        mean_probability_difference=float(np.abs(before - after).mean()),
        macro_f1=f1_after,
        macro_f1_drop=f1_before - f1_after,
        score_difference_alone=float(np.abs(tone_score(alone) - tone_score(together)).max()),
    )


class _Logits(torch.nn.Module):
    """Gives a transformers model plain tensors in and logits out."""

    def __init__(self, model: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits
