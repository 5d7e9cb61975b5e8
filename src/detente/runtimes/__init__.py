"""What turns encoded batches into logits: ONNX Runtime by default, torch where it is wanted."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from detente.errors import InputError, ModelError
from detente.labels import LABELS

RuntimeName = Literal["auto", "onnx", "torch"]


class Runtime(Protocol):
    """Anything that computes logits.

    Attributes:
        name: What to call it in messages and in scored files: ``onnx`` or ``torch``.
        batch_tokens: Tokens of the batches, padding included, that it computes fastest.
        batches_at_a_time: Batches that it computes fastest side by side, on threads of their own.
    """

    name: str
    batch_tokens: int
    batches_at_a_time: int

    def logits(self, batch: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """Computes the logits of one padded batch.

        Args:
            batch: ``input_ids``, ``attention_mask`` and ``token_type_ids``, each of shape
                (rows, tokens), as :meth:`detente.encoding.PairEncoder.collate` makes them.

        Returns:
            Shape (rows, 3), in label order.

        Raises:
            ModelError: The model cannot compute them, or they are no numbers.
        """
        ...


def choose(runtime: RuntimeName, has_onnx: bool) -> Literal["onnx", "torch"]:
    """Returns what computes: what was asked for, or ONNX Runtime where it can and torch elsewhere.

    Args:
        runtime: What was asked for.
        has_onnx: Whether the model has an ONNX file.

    Raises:
        InputError: There is no such runtime.
    """
    if runtime == "auto":
        return "onnx" if has_onnx and importlib.util.find_spec("onnxruntime") else "torch"
    if runtime not in ("onnx", "torch"):
        raise InputError("unknown runtime", got=runtime, expected="auto, onnx or torch")
    return runtime


def checked(logits: npt.NDArray[np.float32], rows: int, where: str) -> npt.NDArray[np.float32]:
    """Returns the logits of a batch, if they are what a classifier says.

    Raises:
        ModelError: They are not of shape (rows, 3), or not finite.
    """
    if logits.shape != (rows, len(LABELS)):
        raise ModelError(
            "the model does not answer with a number for each row and label",
            where=where,
            got=logits.shape,
            expected=str((rows, len(LABELS))),
        )
    if not np.isfinite(logits).all():
        raise ModelError(
            "the model answers with what is no number",
            where=where,
            got=logits[~np.isfinite(logits).all(axis=1)][0].tolist(),
            fix="Its weights are damaged, or its training diverged: train again.",
        )
    return logits
