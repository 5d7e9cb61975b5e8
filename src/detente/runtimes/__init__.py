"""What turns encoded batches into logits: ONNX Runtime by default, torch where it is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt


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
        """
        ...
