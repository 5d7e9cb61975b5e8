"""Low-rank adapters by ``peft``: put in before training, merged into the weights after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detente.errors import MissingExtraError
from train.config import Lora

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def with_adapters(model: PreTrainedModel, settings: Lora) -> PeftModel:
    """Puts an adapter beside every linear layer of the encoder; only these and the head train.

    Raises:
        MissingExtraError: ``peft`` is not installed.
    """
    try:
        from peft import LoraConfig, TaskType, get_peft_model
    except ImportError as error:
        raise MissingExtraError.of("fit.lora", "lora") from error
    return get_peft_model(
        model,
        LoraConfig(
            # By this task peft knows that the head is new and has to be trained whole.
            task_type=TaskType.SEQ_CLS,
            modules_to_save=[name for name, _ in model.named_children() if name.endswith("_heads")],
            target_modules="all-linear",
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
        ),
    )


def merge_adapters(model: PeftModel) -> PreTrainedModel:
    """Adds the adapters to the weights and returns the model as it was before them.

    Plain transformers then loads what is saved, without ``peft``.
    """
    return model.merge_and_unload()
