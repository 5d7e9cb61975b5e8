"""What a document, or any set of predictions, says of each target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from detente.classifier import Prediction
from detente.encoding import Target
from detente.labels import LABELS, Label
from detente.states import State


@dataclass(frozen=True, slots=True)
class Summary:
    """The tones of the sentences toward one target.

    Attributes:
        target: The state, or free text.
        counts: Sentences of each label, in label order.
        score: Mean of :attr:`~detente.Prediction.score` over the sentences, in [−1, 1].
    """

    target: Target
    counts: dict[Label, int]
    score: float

    @property
    def sentences(self) -> int:
        """The number of sentences, at least one."""
        return sum(self.counts.values())

    def to_row(self) -> dict[str, Any]:
        """Returns the summary as a flat row."""
        return {
            "target": self.target.code if isinstance(self.target, State) else self.target,
            "sentences": self.sentences,
            **{str(label): count for label, count in self.counts.items()},
            "score": round(self.score, 6),
        }


def summarise(predictions: Iterable[Prediction]) -> list[Summary]:
    """Counts the tones toward each target.

    Args:
        predictions: For instance of :meth:`~detente.Classifier.read`.

    Returns:
        One summary a target, those with the most sentences first, and in the order in which
        they come where these are as many.
    """
    of_target: dict[Target, list[Prediction]] = {}
    for prediction in predictions:
        of_target.setdefault(prediction.target, []).append(prediction)
    return [
        Summary(
            target=target,
            counts={label: sum(p.label == label for p in found) for label in LABELS},
            score=sum(p.score for p in found) / len(found),
        )
        for target, found in sorted(of_target.items(), key=lambda item: -len(item[1]))
    ]
