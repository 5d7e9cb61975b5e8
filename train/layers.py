"""A shallower encoder: some layers of the base, the rest left out before training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch.nn import ModuleList

from detente.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def keep_layers(model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Leaves only some layers of an encoder, in their order, and counts them in its config.

    A student begins so in place of random weights: Sanh et al., "DistilBERT", 2019.

    Args:
        model: With its layers in ``encoder.layer``, as BERT, MPNet and their kin have them.
        layers: Which to keep, counted from 1, rising.

    Raises:
        ConfigError: The encoder is built otherwise, or has no such layer.
    """
    encoder: Any = getattr(model.base_model, "encoder", None)
    all_layers = getattr(encoder, "layer", None)
    if not isinstance(all_layers, ModuleList):
        raise ConfigError(
            "the layers of this base model cannot be told apart",
            where="base.layers",
            got=model.config.model_type,
            expected="an encoder built as BERT's or MPNet's",
        )
    if max(layers) > len(all_layers):
        raise ConfigError(
            "the base model has fewer layers",
            where="base.layers",
            got=list(layers),
            expected=f"numbers from 1 to {len(all_layers)}",
        )
    encoder.layer = ModuleList([all_layers[layer - 1] for layer in layers])
    model.config.num_hidden_layers = len(layers)
