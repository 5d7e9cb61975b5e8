"""Logits from an ONNX file, without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from detente.errors import ModelError
from detente.labels import LABELS
from detente.runtimes import checked

BATCH_TOKENS: Final = 512
"""For one core: it is fastest with 320 to 640 tokens (the bundled model's shape, int8), and takes
a quarter longer for a sentence with 2,560."""

NOT_FUSED: Final = ("SkipLayerNormFusion",)
"""What is left as it is when a model is loaded: on a processor this fused kernel takes longer than
the two that it replaces."""

_INPUTS: Final = frozenset({"input_ids", "attention_mask", "token_type_ids"})


class OnnxRuntime:
    """Runs an exported classifier on the processor.

    A batch is computed by one thread, and as many batches side by side as there are cores: threads
    that share the small matrices of one batch spend more time waiting for each other than they
    save (``docs/speed.md``).

    Args:
        path: The ``.onnx`` file.
        threads: Batches at a time; ``None`` takes the cores this process may use.

    Raises:
        ModelError: The file is not an ONNX model that this machine can run, or not a classifier.
    """

    name = "onnx"
    batch_tokens = BATCH_TOKENS

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        self.batches_at_a_time = threads or cores()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Errors come as exceptions; the library's own warnings are about graph details.
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=NOT_FUSED,
            )
        except Exception as error:  # onnxruntime raises a dozen types without a common base
            raise ModelError(
                f"not a model that onnxruntime can run ({type(error).__name__}: {error})",
                where=str(path),
                fix="Export it again or fetch it again.",
            ) from error
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._where = str(path)
        # By what the model declares: to try it would double the time to a first prediction.
        outputs = [node.shape for node in self._session.get_outputs()]
        unknown = set(self._inputs) - _INPUTS
        if unknown or len(outputs) != 1 or outputs[0][-1:] != [len(LABELS)]:
            raise ModelError(
                "not a model of sentences and their tone",
                where=self._where,
                got=f"inputs {self._inputs}, outputs of the shapes {outputs}",
                expected=f"inputs among {sorted(_INPUTS)}, one output of shape (rows, 3)",
            )

    def logits(self, batch: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """See :meth:`detente.runtimes.Runtime.logits`."""
        try:
            (logits,) = self._session.run(None, {name: batch[name] for name in self._inputs})
        except Exception as error:  # as above
            raise ModelError(
                f"the model cannot compute a batch ({type(error).__name__}: {error})",
                where=self._where,
            ) from error
        return checked(np.asarray(logits, dtype=np.float32), len(batch["input_ids"]), self._where)


def cores() -> int:
    """Returns the cores this process may run on, by its affinity where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
