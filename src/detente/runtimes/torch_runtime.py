"""Logits from the safetensors checkpoint, on a GPU where there is one (extra ``torch``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from detente.errors import MissingExtraError, ModelError
from detente.runtimes import checked

if TYPE_CHECKING:
    import torch

CPU_BATCH_TOKENS: Final = 1024
GPU_BATCH_TOKENS: Final = 32768


class TorchRuntime:
    """Runs a checkpoint with transformers; in fp32, it is what the ONNX export is compared with.

    Attention is torch's ``scaled_dot_product_attention`` where the architecture has it.

    Args:
        folder: A Hugging Face sequence-classification folder.
        device: ``cpu``, ``cuda`` or another torch device; ``None`` takes a GPU if there is one.
        bf16: Compute matrix products in bf16: on hardware that has it about twice as fast, for
            probabilities that differ by about a hundredth; ``None`` does so on a GPU that has it.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ModelError: The folder holds no checkpoint that transformers can load.
    """

    name = "torch"
    batches_at_a_time = 1

    def __init__(
        self, folder: Path, device: str | None = None, *, bf16: bool | None = False
    ) -> None:
        try:
            import torch
            from safetensors import SafetensorError
            from transformers import AutoModelForSequenceClassification
        except ImportError as error:
            raise MissingExtraError.of("the torch runtime", "torch") from error
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            if missing := sorted(loading["missing_keys"]):
                raise ValueError(f"it lacks {', '.join(missing[:3])}")
            for name, weights in model.named_parameters():
                if not weights.isfinite().all():
                    raise ValueError(f"the weights {name} are not finite")
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"transformers cannot load the checkpoint ({error})",
                where=str(folder),
                expected="config.json and model.safetensors of a sequence classifier",
            ) from error
        self._model, self._where = model.to(self.device).eval(), str(folder)
        self._on_gpu = self.device.type == "cuda"
        self.batch_tokens = GPU_BATCH_TOKENS if self._on_gpu else CPU_BATCH_TOKENS
        if bf16 is None:
            bf16 = self._on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        self._bf16 = bf16

    def logits(self, batch: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """See :meth:`detente.runtimes.Runtime.logits`."""
        import torch

        # Not every architecture has segments: MPNet's forward takes no token types.
        if getattr(self._model.config, "type_vocab_size", 0) < 2:
            batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16),
        ):
            tensors = {name: self._to_device(torch.from_numpy(a)) for name, a in batch.items()}
            logits = self._model(**tensors).logits.float().cpu().numpy()
        rows = len(batch["input_ids"])
        return checked(np.asarray(logits, dtype=np.float32), rows, self._where)

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._on_gpu:
            # From pinned memory a copy does not stop the thread that asks for it.
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)
