"""What turns encoded batches into logits: ONNX Runtime by default, torch where it is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from detente.errors import ModelError
from detente.labels import LABELS


class Runtime(Protocol):
    """Anything that computes logits.

    Attributes:
        name: What to call it in messages and in scored files: ``onnx`` or ``torch``.
        batch_tokens: Tokens of the batches, padding included, that it computes fastest.
    """

    name: str
    batch_tokens: int

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
