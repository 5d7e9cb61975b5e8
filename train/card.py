"""The model card: rendered from the metrics of a run alone, by ``model_cards/template.md``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from detente.labels import LABELS
from train.base_models import BASE_MODELS, public_name
from train.corpora import OWN_TABLE

TEMPLATE: Final = Path(__file__).resolve().parents[1] / "model_cards" / "template.md"


def render_card(metrics: Mapping[str, Any]) -> str:
    """Renders the card of a run.

    Args:
        metrics: What ``metrics.json`` of the run holds.

    Returns:
        Markdown with the hub's YAML metadata at its head.
    """
    # A figure that the run does not have is an error, never an empty place in the card.
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    base = public_name(metrics["config"]["base"]["name"])
    corpora = metrics["data"].values()
    ours = all(corpus["shippable"] and corpus["licence"] != OWN_TABLE for corpus in corpora)
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        **metrics,
        base=base,
        base_licence=BASE_MODELS[base].licence if base in BASE_MODELS else "see there",
        labels=LABELS,
        # What a user's own table allows is for the user to say.
        licence="apache-2.0" if ours else "other",
        shippable=all(corpus["shippable"] for corpus in corpora),
    )
