import json

import pytest
import torch
from conftest import tiny_config, tiny_rows
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
)

from detente import ConfigError, Statement
from train.fit import fit
from train.layers import keep_layers

SHAPE = {"vocab_size": 20, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(BertForSequenceClassification, BertConfig), (MPNetForSequenceClassification, MPNetConfig)],
)
def test_the_layers_kept_are_the_ones_named_and_come_back_with_the_model(kind, settings, tmp_path):
    model = kind(settings(**SHAPE, num_hidden_layers=4)).eval()
    second, fourth = (model.base_model.encoder.layer[i] for i in (1, 3))
    keep_layers(model, (2, 4))
    assert list(model.base_model.encoder.layer) == [second, fourth]

    ids = torch.tensor([[3, 4, 5, 6]])
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 2
    again = kind.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        found = model(ids, output_hidden_states=True)
        torch.testing.assert_close(again(ids).logits, found.logits)
    assert len(found.hidden_states) == 3  # the embeddings come first


def test_layers_that_are_not_there_are_refused():
    model = BertForSequenceClassification(BertConfig(**SHAPE, num_hidden_layers=2))
    with pytest.raises(ConfigError, match=r"base\.layers: .*got \[1, 3\]; .*from 1 to 2"):
        keep_layers(model, (1, 3))
    other = DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=20, dim=8, n_heads=2, hidden_dim=8, n_layers=2)
    )
    with pytest.raises(ConfigError, match="cannot be told apart; got 'distilbert'"):
        keep_layers(other, (1,))


def test_a_training_counts_the_layers_that_are_kept(tiny_base, tiny_table, tmp_path):
    rows = [Statement.from_row(row) for row in tiny_rows()]
    train, validation = (
        [s for s in rows if s.extra["split"] == split] for split in ("train", "validation")
    )

    def once(*overrides):
        settings = ("fit.epochs=1", "fit.mention_loss=1", "base.layers=[2]", *overrides)
        config = tiny_config(tiny_base, tiny_table, tmp_path / "r", *settings)
        return fit(config, train, validation, tmp_path / "fit")

    assert once("fit.mention_layer=1").model.config.num_hidden_layers == 1
    with pytest.raises(ConfigError, match=r"fit\.mention_layer: .*expected at most 1"):
        once("fit.mention_layer=2")
