"""The model card: rendered from the metrics of a run alone, by ``model_cards/template.md``.

``python -m train.card RUN`` renders it again, as where the template changed, and puts in what is
known only when a model is published: ``--repo OWNER/NAME`` and ``--licence ID``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Annotated, Any, Final

import typer
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from detente.errors import ConfigError
from detente.hub import languages_of, write_manifest
from detente.labels import LABELS
from detente.rows import whole_file, write_json
from train.base_models import BASE_MODELS, public_name
from train.command import run_command
from train.corpora import OWN_TABLE

TEMPLATE: Final = Path(__file__).resolve().parents[1] / "model_cards" / "template.md"
CARD: Final = "README.md"
METRICS: Final = "metrics.json"
"""What the card was rendered from, beside it: so that every figure in it can be checked."""
PLACEHOLDER: Final = "OWNER/NAME"
"""What a card calls its repository before that has a name."""

_TASK: Final = "text-classification"
_WIDGET: Final = (
    ("thanks", "We thank Ankara for its patience."),
    ("blame", "Moscow broke its word again."),
    ("procedure", "The delegation will land in Lima at noon."),
)
_LICENCE_ID: Final = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_REPO_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")


def render_card(metrics: Mapping[str, Any]) -> str:
    """Renders the card of a run.

    Args:
        metrics: What ``metrics.json`` of the run holds, or :func:`public_metrics` of it.

    Returns:
        Markdown with the hub's YAML metadata at its head.
    """
    metrics = public_metrics(metrics)
    # A figure that the run does not have is an error, never an empty place in the card.
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "percent": lambda share: f"{100 * share:.1f}",
        "points": lambda share: f"{100 * share:+.1f}",
        "table_cell": lambda text: str(text).replace("|", "\\|"),
    }
    base = metrics["base_model"]
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        **metrics,
        metadata=card_data(metrics).to_yaml(),
        base=base,
        base_licence=BASE_MODELS[base].licence if base in BASE_MODELS else "licence: see there",
        labels=LABELS,
        licence=licence_of(metrics),
        repo=metrics.get("publication", {}).get("repo", PLACEHOLDER),
        shippable=all(corpus["shippable"] for corpus in metrics["data"].values()),
    )


def card_data(metrics: Mapping[str, Any]) -> ModelCardData:
    """Returns the metadata of a card: what the hub searches, and every figure of the model.

    Args:
        metrics: As :func:`public_metrics` returns them.
    """
    corpora = metrics["data"]
    return ModelCardData(
        license=licence_of(metrics) or "other",
        language=sorted(languages_of(corpora)) or None,
        library_name="detente",
        pipeline_tag=_TASK,
        base_model=metrics["base_model"],
        datasets=[_dataset(name) for name in corpora],
        metrics=["f1", "accuracy"],
        tags=["detente", "tone", "stance", "foreign-policy", "safetensors", "onnx"],
        widget=[{"example_title": title, "text": text} for title, text in _WIDGET],
        model_name=metrics["name"],
        eval_results=list(_eval_results(metrics)),
    )


def licence_of(metrics: Mapping[str, Any]) -> str | None:
    """Returns the licence of the weights, as the hub writes it, or ``None`` where it is unknown.

    What was learned from public data alone, on a base that we know, is Apache-2.0. What a user's
    own table allows is for the user to say.
    """
    if stated := metrics.get("publication", {}).get("licence"):
        return str(stated)
    corpora = metrics["data"].values()
    ours = all(c["shippable"] and c["licence"] not in ("", OWN_TABLE) for c in corpora)
    return "apache-2.0" if ours and metrics["base_model"] in BASE_MODELS else None


def public_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metrics of a run as others may read them.

    Of a path of this machine its last part remains. There is no sentence in them: of rows they
    hold counts and, where one repeated another, ids.

    Args:
        metrics: What ``metrics.json`` of the run holds. What is public already stays as it is.
    """
    base = {"base_model": public_name(metrics["config"]["base"]["name"])}
    public: dict[str, Any] = _without_paths(base | dict(metrics))
    return public


def write_card(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Writes the card of a run, and the figures it was rendered from, into its model folder."""
    write_json(folder / METRICS, public_metrics(metrics))
    with whole_file(folder / CARD) as file:
        file.write(render_card(metrics))


def main(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    repo: Annotated[
        str | None, typer.Option(help="Where it will be on the hub: OWNER/NAME.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Of the weights, as the hub writes it: apache-2.0, mit, …")
    ] = None,
) -> None:
    """Render the card of a run again."""
    for value, pattern, name in ((repo, _REPO_ID, "--repo"), (licence, _LICENCE_ID, "--licence")):
        if value is not None and not pattern.fullmatch(value):
            raise ConfigError("not such a name", where=name, got=value, expected=pattern.pattern)
    try:
        metrics = json.loads((run / METRICS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the metrics cannot be read ({error})",
            where=str(run / METRICS),
            expected="the folder of a finished run",
        ) from error
    stated = {"repo": repo, "licence": licence}
    publication = metrics.get("publication", {}) | {k: v for k, v in stated.items() if v}
    if publication:
        metrics["publication"] = publication
        write_json(run / METRICS, metrics)
    write_card(run / "model", metrics)
    write_manifest(run / "model", only=(CARD, METRICS))
    typer.echo(f"{run / 'model' / CARD} is what {run / METRICS} gives.")


def _eval_results(metrics: Mapping[str, Any]) -> Iterator[EvalResult]:
    """Yields every figure of the model that the card reports, but for those of other systems."""
    for corpus, systems in metrics["results"].items():
        model = systems["model"]
        yield _result(corpus, "f1", "macro-F1", model["macro_f1"], model["macro_f1_interval"])
        for label, value in model["f1"].items():
            yield _result(corpus, "f1", f"F1 of {label}", value)
        yield _result(corpus, "accuracy", "accuracy", model["accuracy"])
        yield _result(corpus, "ordinal_error", "ordinal error", model["ordinal_error"])
        yield _result(corpus, "ece", "expected calibration error", model["ece"])
        if model["contrast_groups"]["groups"]:
            share = model["contrast_groups"]["wholly_right"]
            yield _result(corpus, "accuracy", "contrast groups wholly right", share)
        for name, part in model["slices"].items():
            yield _result(corpus, "accuracy", f"accuracy, {name}", part["accuracy"])
    for name, contract in metrics["contracts"].items():
        words = f"{name.replace('_', ' ')}: {contract['measure']}"
        yield _result("contracts", name, words, contract["value"])


def _result(
    corpus: str, kind: str, name: str, value: float, interval: list[float] | None = None
) -> EvalResult:
    return EvalResult(
        task_type=_TASK,
        task_name="tone toward a state",
        dataset_type=_dataset(corpus),
        dataset_name=corpus,
        dataset_split="test",
        metric_type=kind,
        metric_name=name,
        metric_value=round(value, 4),
        metric_args={"interval_95": [round(x, 4) for x in interval]} if interval else None,
    )


def _dataset(corpus: str) -> str:
    """Returns what a corpus is called on the hub: with a prefix, since it is not one there."""
    return "detente-" + re.sub(r"[^a-z0-9]+", "-", corpus.lower()).strip("-")


def _without_paths(value: Any) -> Any:  # noqa: ANN401  (any JSON)
    if isinstance(value, Mapping):
        return {key: _without_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_paths(each) for each in value]
    return (
        PurePath(value).name if isinstance(value, str) and PurePath(value).is_absolute() else value
    )


if __name__ == "__main__":
    run_command(main, "train.card")
