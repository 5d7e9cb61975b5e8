import json

import pytest
from huggingface_hub import ModelCard
from jinja2 import UndefinedError

from train.card import render_card


@pytest.fixture
def metrics(tiny_run):
    return json.loads((tiny_run / "metrics.json").read_text())


def test_the_card_shows_the_runs_own_figures(metrics, tiny_run):
    card = render_card(metrics)
    assert card == (tiny_run / "model" / "README.md").read_text()
    for system, m in metrics["results"]["tiny"].items():
        assert f"| tiny | {system} | {100 * m['macro_f1']:.1f} |" in card
    assert f"({metrics['training']['updates']} updates)" in card


def test_its_metadata_is_valid(metrics):
    data = ModelCard(render_card(metrics)).data
    assert data.license == "other"  # a user's own table: its licence is not ours to state
    assert data.pipeline_tag == "text-classification"
    assert data.base_model == "base0"
    metrics["data"]["tiny"]["licence"] = "MIT"
    metrics["config"]["base"]["name"] = "sentence-transformers/all-MiniLM-L6-v2"
    data = ModelCard(render_card(metrics)).data
    assert data.license == "apache-2.0"
    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2"


def test_a_missing_figure_is_an_error(metrics):
    del metrics["training"]["temperature"]
    with pytest.raises(UndefinedError):
        render_card(metrics)


def test_an_int8_file_stands_in_the_card_beside_its_checkpoint(metrics):
    assert "## int8" not in render_card(metrics)
    metrics["onnx"]["int8_against_checkpoint"] = {
        "statements": 5001, "label_agreement": 0.991, "mean_probability_difference": 0.0061,
        "macro_f1": 0.7, "macro_f1_drop": 0.0012, "score_difference_alone": 0.0003,
    }  # fmt: skip
    card = " ".join(render_card(metrics).split())
    assert "on the same 5001 labelled statements" in card
    assert "99.1 % of the labels agree, the mean |Δp| is 0.0061" in card
    assert "macro-F1 falls by 0.12 points. A score differs by 0.0003 at most" in card


def test_unshippable_weights_are_marked(metrics):
    assert "does not allow publishing" not in render_card(metrics)
    metrics["data"]["tiny"]["shippable"] = False
    assert "does not allow publishing" in render_card(metrics)
