from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_rows
from sklearn.metrics import log_loss
from transformers import AutoModelForSequenceClassification

from detente import ConfigError, DataError, Statement
from train.batches import UNKNOWN, Collator, make_units
from train.fit import fit
from train.losses import MentionHeads, disagreement, weighted_cross_entropy

STATEMENTS = [Statement.from_row(row) for row in tiny_rows()]
TRAIN = [s for s in STATEMENTS if s.extra["split"] == "train"]
VALIDATION = [s for s in STATEMENTS if s.extra["split"] == "validation"]


def packed(labels, weights=(1.0, 1.0, 1.0), smoothing=0.0):
    """Labels as the collator packs them, written out again."""
    rows = (1 - smoothing) * torch.eye(3)[labels] + smoothing / 3
    rows = rows * torch.tensor(weights)[labels][:, None]
    return torch.stack([rows, torch.arange(3.0).expand(len(labels), 3)], dim=1)


def test_the_loss_is_torchs_with_weights_and_smoothing():
    truth, logits = torch.tensor([0, 1, 2] * 2), torch.randn(6, 3)
    ours = weighted_cross_entropy({"logits": logits}, packed(truth, (0.5, 1.0, 2.0), 0.2))
    theirs = torch.nn.functional.cross_entropy(logits, truth, label_smoothing=0.2, reduction="none")
    # torch spreads smoothing over weighted labels; ours weighs the whole row by its label.
    expected = (theirs * torch.tensor([0.5, 1, 2] * 2)).mean()
    assert ours == pytest.approx(expected.item(), rel=1e-5)


def test_accumulated_batches_add_up_to_the_whole():
    logits, labels = torch.randn(6, 3), packed(torch.tensor([0, 1, 2] * 2))
    whole = weighted_cross_entropy({"logits": logits}, labels)
    parts = [
        weighted_cross_entropy({"logits": logits[i : i + 2]}, labels[i : i + 2], labels.numel())
        for i in (0, 2, 4)
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)
    expected = log_loss([0, 1, 2] * 2, torch.softmax(logits, -1).numpy(), labels=[0, 1, 2])
    assert whole.item() == pytest.approx(expected, rel=1e-5)


def test_the_losses_of_mentions_are_torchs_over_what_is_known():
    named = torch.tensor([[UNKNOWN, 1.0, 0.0, UNKNOWN], [UNKNOWN, 0.0, 0.0, 0.0]])
    hidden, labels = [torch.randn(2, 4, 8) for _ in range(3)], packed(torch.tensor([2, 0]))
    heads = MentionHeads(8, layer=1)
    of_tokens = torch.nn.functional.binary_cross_entropy_with_logits(
        heads.names(hidden[1])[named >= 0].squeeze(-1),
        named[named >= 0],
        pos_weight=torch.tensor(5.0),
    )
    # Only the first row names its target, with its second token.
    of_rows = torch.nn.functional.cross_entropy(heads.tone(hidden[2][:1, 1]), torch.tensor([2]))
    found = heads.loss(hidden, named, labels)
    assert found.item() == pytest.approx((of_tokens + of_rows / 2).item(), rel=1e-5)
    assert heads.loss(hidden, torch.full((2, 4), UNKNOWN), labels) == 0


def test_two_passes_disagree_by_their_divergences():
    labels = packed(torch.tensor([2, 0] * 2), weights=(0.5, 1.0, 1.0))
    first = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    second = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    found = disagreement(torch.cat([first, second]).log() + 7, labels)
    # By hand, of the first row alone: both divergences are 0.2 log(5/3), the second row has none.
    assert found.item() == pytest.approx(0.2 * np.log(5 / 3) / 2, rel=1e-5)
    # The second row weighs half as much.
    swapped = disagreement(torch.cat([first.flip(0), second.flip(0)]).log(), labels)
    assert swapped.item() == pytest.approx(found.item() / 2, rel=1e-5)


def test_asking_twice_trains_with_and_without_mentions(tiny_base, tiny_table, tmp_path):
    def train(name, *overrides):
        settings = ("fit.epochs=1", "fit.dropout=0.3", *overrides)
        config = tiny_config(tiny_base, tiny_table, tmp_path / "r", *settings)
        return weights_of(fit(config, TRAIN, VALIDATION, tmp_path / name))

    plain, twice = train("plain"), train("twice", "fit.r_drop=1")
    asked = train("asked", "fit.r_drop=1", "fit.mention_loss=1", "fit.mention_layer=2")
    assert not torch.equal(plain, twice) and not torch.equal(twice, asked)


def test_asking_for_mentions_teaches_and_leaves_no_trace(tiny_base, tiny_table, tmp_path):
    def train(name, *overrides):
        config = tiny_config(tiny_base, tiny_table, tmp_path / "r", "fit.epochs=1", *overrides)
        return fit(config, TRAIN, VALIDATION, tmp_path / name)

    without, with_ = train("without"), train("with", "fit.mention_loss=1", "fit.mention_layer=2")
    assert [n for n, _ in with_.model.named_parameters()] == [
        n for n, _ in without.model.named_parameters()
    ]
    assert not torch.equal(weights_of(with_), weights_of(without))
    with pytest.raises(ConfigError, match="fewer layers"):
        train("deep", "fit.mention_loss=1", "fit.mention_layer=3")


def test_word_embeddings_learn_at_a_rate_of_their_own(tiny_base, tiny_table, tmp_path):
    def moved(rate):
        settings = ("fit.epochs=1", "fit.weight_decay=0", f"fit.embeddings_rate={rate}")
        config = tiny_config(tiny_base, tiny_table, tmp_path / "r", *settings)
        model = fit(config, TRAIN, VALIDATION, tmp_path / f"rate-{rate}").model
        start = AutoModelForSequenceClassification.from_pretrained(tiny_base)
        now, then = (m.get_input_embeddings().weight.detach() for m in (model, start))
        return (now - then).abs().max().item()

    still, slow, full = moved(0), moved(0.1), moved(1)
    assert still == 0
    assert slow == pytest.approx(full / 10, rel=0.5)


def weights_of(fitted):
    return torch.cat([p.detach().flatten() for p in fitted.model.parameters()])


def test_the_same_seed_gives_the_same_model_and_another_another(tiny_base, tiny_table, tmp_path):
    def once(name, *overrides):
        config = tiny_config(tiny_base, tiny_table, tmp_path / "r", "fit.epochs=1", *overrides)
        return weights_of(fit(config, TRAIN, VALIDATION, tmp_path / name))

    first = once("a")
    assert torch.equal(first, once("b"))
    assert not torch.equal(first, once("c", "run.seed=8"))


def test_a_resumed_run_ends_where_an_undisturbed_one_does(tiny_base, tiny_table, tmp_path):
    asked = ("fit.mention_loss=1", "fit.mention_layer=1", "data.absent_targets=0.2")
    config = tiny_config(tiny_base, tiny_table, tmp_path / "r", "fit.epochs=2", *asked)
    whole = fit(config, TRAIN, VALIDATION, tmp_path / "whole")

    stopped = tmp_path / "stopped"
    fit(config, TRAIN, VALIDATION, stopped)
    (stopped / "fitted" / "fitted.json").unlink()
    checkpoints = sorted(stopped.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    (checkpoints[-1] / "whole").unlink()  # as a run killed while it wrote its last checkpoint
    (checkpoints[-1] / "model.safetensors").write_bytes(b"half")
    resumed = fit(config, TRAIN, VALIDATION, stopped, resume=True)

    assert torch.equal(weights_of(whole), weights_of(resumed))
    assert resumed.temperature == whole.temperature


def test_the_folded_temperature_is_the_best(encoder, tiny_base, tiny_table, tmp_path):
    # A third of the labels wrong: the best temperature is neither zero nor boundless.
    muddled = [replace(s, label="neutral") if i % 3 else s for i, s in enumerate(VALIDATION)]
    longer = ("fit.epochs=16", "fit.patience=16")
    config = tiny_config(tiny_base, tiny_table, tmp_path / "r", *longer)
    fitted = fit(config, TRAIN, muddled, tmp_path / "t")
    held_out = make_units(muddled, encoder)
    batch = Collator(
        encoder, weights=np.ones(3), smoothing=0, source_dropout=0, seed=0, segments=True
    )(list(held_out))
    labels = batch.pop("labels")
    with torch.inference_mode():
        logits = fitted.model.eval()(**batch).logits
    calibrated = weighted_cross_entropy({"logits": logits}, labels)
    for factor in (0.8, 1.25):
        other = weighted_cross_entropy({"logits": logits * factor}, labels)
        assert calibrated <= other + 1e-4


@pytest.mark.parametrize(("train", "validation"), [([], VALIDATION), (TRAIN, [])])
def test_an_empty_split_is_refused(tiny_base, tiny_table, tmp_path, train, validation):
    config = tiny_config(tiny_base, tiny_table, tmp_path / "r")
    with pytest.raises(DataError, match="there are no (training|validation) statements"):
        fit(config, train, validation, tmp_path / "x")
