"""What an ONNX export must keep of its checkpoint before it may be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

FP32: Final = "onnx/model.onnx"
INT8: Final = "onnx/model_int8.onnx"
LOGIT_TOLERANCE: Final = 1e-3
"""The most that fp32 logits of the two runtimes may differ."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An export beside its checkpoint, on the same statements.

    Attributes:
        statements: Statements compared.
        label_agreement: Share of equal labels.
        mean_probability_difference: Mean |Δp| over statements and labels.
        macro_f1: Of the export.
        macro_f1_drop: Of the checkpoint, less that of the export; positive is worse.
        score_difference_alone: The most that a score of the export differs between a statement
            computed alone and together with others.
    """

    statements: int
    label_agreement: float
    mean_probability_difference: float
    macro_f1: float
    macro_f1_drop: float
    score_difference_alone: float

    def failures(self, minimum: int = 5000) -> list[str]:
        """Returns why an int8 export may not be used; an empty list if it may.

        The bounds are those of the design: agreement at least 98.5 %, mean |Δp| at most 0.01,
        macro-F1 at most one point lower, on at least ``minimum`` statements. And a score may
        differ by 0.02 at most with what it is computed together with.
        """
        checks = (
            (self.statements >= minimum, f"{self.statements} statements compared, not {minimum}"),
            (self.label_agreement >= 0.985, f"label agreement is {self.label_agreement:.4f}"),
            (
                self.mean_probability_difference <= 0.01,
                f"mean |Δp| is {self.mean_probability_difference:.4f}",
            ),
            (self.macro_f1_drop <= 0.01, f"macro-F1 falls by {self.macro_f1_drop:.4f}"),
            (
                self.score_difference_alone <= 0.02,
                f"a score differs by {self.score_difference_alone:.4f} when computed alone",
            ),
        )
        return [reason for holds, reason in checks if not holds]

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures for ``detente.json``."""
        return asdict(self)


def onnx_failures(files: Iterable[str], record: Mapping[str, Any]) -> list[str]:
    """Returns why ONNX files may not go with their model, by what was measured of them.

    Args:
        files: Their names.
        record: What ``metrics.json`` or ``detente.json`` holds under ``onnx``.
    """
    return [f"{file}: {failure}" for file in files for failure in _failures(file, record)]


def _failures(file: str, record: Mapping[str, Any]) -> list[str]:
    difference = record.get("fp32_largest_logit_difference")
    int8 = record.get("int8_against_checkpoint")
    if file == FP32 and difference is not None:
        within = difference <= LOGIT_TOLERANCE
        return [] if within else [f"logits differ by {difference:.4g}, not {LOGIT_TOLERANCE}"]
    if file == INT8 and int8 is not None:
        return Comparison(**int8).failures()
    return ["was not compared with its checkpoint"]
