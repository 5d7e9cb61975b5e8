"""What training minimises: the tone of a sentence, and two questions about its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from detente.labels import LABELS
from train.batches import UNKNOWN


def weighted_cross_entropy(
    outputs: Mapping[str, torch.Tensor],
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Cross-entropy with packed labels, as the Trainer's ``compute_loss_func``.

    Each row is asked for the probability of its class of labels among the classes that its
    corpus tells apart: nothing is learned of what its label does not say.

    Args:
        outputs: The model's outputs; ``logits`` of shape (rows, 3).
        labels: Shape (rows, 2, 3), as :class:`train.batches.Collator` packs them.
        num_items_in_batch: Elements of ``labels`` over all accumulated batches, as the Trainer
            counts them: six a row. ``None`` stands for this batch alone.

    Returns:
        The mean loss a row, as a scalar.
    """
    weights, classes = labels.unbind(dim=1)
    logits = outputs["logits"].float()
    told = classes >= 0
    same = (classes[:, :, None] == classes[:, None, :]) & told[:, None, :]
    # A label outside every class has no weight; itself among its class keeps its loss finite.
    same = same | torch.eye(len(LABELS), dtype=torch.bool, device=labels.device)
    of_class = logits[:, None, :].masked_fill(~same, -torch.inf).logsumexp(dim=-1)
    of_all = logits.masked_fill(~told, -torch.inf).logsumexp(dim=-1, keepdim=True)
    rows = len(labels) if num_items_in_batch is None else num_items_in_batch / labels[0].numel()
    return (weights * (of_all - of_class)).sum() / rows


def disagreement(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns how much two passes over the same rows differ.

    Half the sum of both Kullback-Leibler divergences (Liang et al., "R-Drop: Regularized Dropout
    for Neural Networks", NeurIPS 2021, equation 2), weighted as the rows' own losses are. Beside
    it the paper adds the losses of both passes; ours is their mean, so that its weight is half.

    Args:
        logits: Shape (2 * rows, 3): those of the second pass after those of the first.
        labels: Shape (2 * rows, 2, 3), as :class:`train.batches.Collator` packs them, twice.

    Returns:
        The mean over the rows, as a scalar.
    """
    first, second = logits.float().log_softmax(dim=-1).chunk(2)
    of_rows = ((first.exp() - second.exp()) * (first - second)).sum(dim=-1) / 2
    weights = labels[: len(first), 0].sum(dim=-1)
    return (weights * of_rows).mean()


class MentionHeads(torch.nn.Module):
    """The layers that are asked about the target's mentions in training.

    Args:
        hidden_size: Width of the encoder.
        layer: Which layer's states say what is named, counted from 1; the last layer's say
            the tone.
    """

    def __init__(self, hidden_size: int, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.names = torch.nn.Linear(hidden_size, 1)
        self.tone = torch.nn.Linear(hidden_size, len(LABELS))

    def loss(
        self, hidden: Sequence[torch.Tensor], named: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Returns the loss of both questions in one batch.

        Args:
            hidden: The states of each layer, the embeddings first, of shape (rows, tokens,
                width).
            named: Shape (rows, tokens): 1 where a token names the row's target, 0 where it does
                not, ``UNKNOWN`` where that is not known.
            labels: Shape (rows, 2, 3), as :class:`train.batches.Collator` packs them.

        Returns:
            The mean over the known tokens of the first question's loss, names weighing five
            times since they are rare, plus the mean over all rows of the second one's, which
            rows without a known mention are not asked.
        """
        known = named != UNKNOWN
        at = (named == 1).float()
        where = at / at.sum(dim=1, keepdim=True).clamp(min=1)
        # Two small layers: full precision costs nothing here.
        with torch.autocast(named.device.type, enabled=False):
            found = self.names(hidden[self.layer].float()).squeeze(-1)
            pooled = torch.einsum("rt,rtw->rw", where, hidden[-1].float())
            tone = self.tone(pooled)
        of_tokens = torch.nn.functional.binary_cross_entropy_with_logits(
            found, named, reduction="none", pos_weight=found.new_tensor(5.0)
        )
        # A row without weight is not asked.
        weights, classes = labels.unbind(dim=1)
        asked = torch.stack([weights * at.amax(dim=1, keepdim=True), classes], dim=1)
        of_rows = weighted_cross_entropy({"logits": tone}, asked)
        return (of_tokens * known).sum() / known.sum().clamp(min=1) + of_rows
