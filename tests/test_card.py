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


def test_unshippable_weights_are_marked(metrics):
    assert "does not allow publishing" not in render_card(metrics)
    metrics["data"]["tiny"]["shippable"] = False
    assert "does not allow publishing" in render_card(metrics)
