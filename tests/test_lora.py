import pytest
import torch
from conftest import tiny_config, tiny_rows
from transformers import AutoModelForSequenceClassification, MPNetConfig, MPNetModel

from detente import Statement
from detente.encoding import as_target
from train.config import Lora
from train.fit import fit

pytest.importorskip("peft")
from train.lora import merge_adapters, with_adapters  # noqa: E402

STATEMENTS = [Statement.from_row(row) for row in tiny_rows()]
TRAIN = [s for s in STATEMENTS if s.extra["split"] == "train"]
VALIDATION = [s for s in STATEMENTS if s.extra["split"] == "validation"]


def test_only_adapters_and_head_train_and_merging_keeps_the_outputs(tmp_path):
    # MPNet's head has linear layers of its own, which must not get adapters.
    settings = MPNetConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=40, num_labels=3,
    )  # fmt: skip
    MPNetModel(settings).save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    names = set(dict(plain.named_parameters()))
    model = with_adapters(plain, Lora(rank=4, alpha=8))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or "classifier" in name for name in trained)
    assert not any("lora_" in name and "classifier" in name for name in trained)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in trained:
                parameter.normal_(std=0.3)
    ids = torch.arange(4, 14)[None]
    before = model.eval()(input_ids=ids).logits
    merged = merge_adapters(model)
    assert set(dict(merged.named_parameters())) == names
    assert torch.allclose(merged(input_ids=ids).logits, before, atol=1e-5)


@pytest.mark.parametrize("mention_loss", [0, 1])
def test_a_model_trained_with_adapters_is_saved_without_them(
    tiny_base, tiny_table, tmp_path, mention_loss
):
    config = tiny_config(
        tiny_base, tiny_table, tmp_path / "r", "fit.lora.rank=8", "fit.lora.alpha=32",
        "fit.epochs=2", "fit.learning_rate=1e-2",
        f"fit.mention_loss={mention_loss}", "fit.mention_layer=1",
    )  # fmt: skip
    assert config.fit.lora == Lora(rank=8, alpha=32)
    fitted = fit(config, TRAIN, VALIDATION, tmp_path / "f")
    base = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=3)
    assert {name for name, _ in fitted.model.named_parameters()} == {
        name for name, _ in base.named_parameters()
    }
    moved = {
        name
        for name, p in base.named_parameters()
        if not torch.equal(p, fitted.model.get_parameter(name))
    }
    assert "bert.encoder.layer.0.attention.self.query.weight" in moved
    assert not any("embeddings" in name or "LayerNorm" in name for name in moved)

    fitted.model.save_pretrained(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("adapter*"))
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    batch = fitted.tokenizer(
        [s.text for s in VALIDATION], [str(as_target(s.target)) for s in VALIDATION],
        padding=True, return_tensors="pt",
    )  # fmt: skip
    with torch.inference_mode():
        assert torch.equal(again.eval()(**batch).logits, fitted.model.eval()(**batch).logits)

    # As a run that was stopped while it wrote its last checkpoint.
    (tmp_path / "f" / "fitted" / "fitted.json").unlink()
    last = max(tmp_path.glob("f/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (last / "whole").unlink()
    resumed = fit(config, TRAIN, VALIDATION, tmp_path / "f", resume=True)
    for name, parameter in fitted.model.named_parameters():
        assert torch.equal(parameter, resumed.model.get_parameter(name))
