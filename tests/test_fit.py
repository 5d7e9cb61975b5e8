from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_rows
from sklearn.metrics import log_loss

from detente import DataError, Statement
from detente.encoding import PairEncoder
from detente.labels import LABEL_TO_ID
from train.fit import (
    Collator,
    _dataset,
    fit,
    make_encoder,
    weighted_cross_entropy,
    withhold_targets,
)

STATEMENTS = [Statement.from_row(row) for row in tiny_rows()]
TRAIN = [s for s in STATEMENTS if s.extra["split"] == "train"]
VALIDATION = [s for s in STATEMENTS if s.extra["split"] == "validation"]


@pytest.fixture
def encoder(tiny_base):
    from transformers import AutoTokenizer

    return make_encoder(AutoTokenizer.from_pretrained(tiny_base), 64)


def collator(encoder: PairEncoder, **changes) -> Collator:
    settings = {"weights": np.ones(3), "smoothing": 0.0, "source_dropout": 0.0, "seed": 1}
    return Collator(encoder, segments=True, **(settings | changes))


def rows(n=6, training=True):
    return [
        {"row": i, "text": "We thank France.", "target": "FRA", "source": "USA", "label": i % 3,
         "weight": 1.0, "training": training}
        for i in range(n)
    ]  # fmt: skip


def units(*arguments):
    return [{"rows": [row]} for row in rows(*arguments)]


def test_the_loss_is_torchs_with_weights_and_smoothing(encoder):
    weights, logits = np.array([0.5, 1.0, 2.0]), torch.randn(6, 3)
    batch = collator(encoder, weights=weights, smoothing=0.2)(units())
    ours = weighted_cross_entropy({"logits": logits}, batch["labels"])
    theirs = torch.nn.functional.cross_entropy(
        logits, torch.tensor([0, 1, 2] * 2), label_smoothing=0.2, reduction="none"
    )
    # torch spreads smoothing over weighted labels; ours weighs the whole row by its label.
    expected = (theirs * torch.tensor([0.5, 1, 2] * 2)).mean()
    assert ours == pytest.approx(expected.item(), rel=1e-5)


def test_accumulated_batches_add_up_to_the_whole(encoder):
    logits = torch.randn(6, 3)
    labels = collator(encoder)(units())["labels"]
    whole = weighted_cross_entropy({"logits": logits}, labels)
    parts = [
        weighted_cross_entropy({"logits": logits[i : i + 2]}, labels[i : i + 2], labels.numel())
        for i in (0, 2, 4)
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)
    expected = log_loss([0, 1, 2] * 2, torch.softmax(logits, -1).numpy(), labels=[0, 1, 2])
    assert whole.item() == pytest.approx(expected, rel=1e-5)


def test_sources_are_withheld_by_epoch_and_only_in_training(encoder):
    def without(epoch, training=True):
        c = collator(encoder, source_dropout=0.5)
        c.epoch = epoch
        ids = c(units(200, training))["input_ids"]
        return (ids[:, -1] == 0).numpy()  # rows without source are shorter, hence padded

    assert 0.35 < without(0).mean() < 0.65
    assert (without(0) == without(0)).all() and (without(0) != without(1)).any()
    assert not without(0, training=False).any()


def test_absent_targets_are_neutral_and_really_absent(encoder):
    states = ["France", "Peru", "Japan", "United States"]
    c = collator(encoder, absent_targets=0.5, states=states)
    seen = [c._augmented(row) for row in rows(300)]
    changed = [row for row in seen if row["target"] != "FRA"]
    # Half are drawn; a quarter of those draw France and a quarter the source, and stay.
    assert 0.15 < len(changed) / 300 < 0.35
    assert {row["target"] for row in changed} == {"Peru", "Japan"}
    assert {row["label"] for row in changed} == {LABEL_TO_ID["neutral"]}
    assert all(a == b for a, b in zip(rows(300), seen, strict=True) if b["target"] == "FRA")
    assert [c._augmented(row) for row in rows(300)] == seen


def test_rows_of_one_sentence_are_one_unit_with_their_weight(encoder):
    pair = [
        Statement("We thank Peru and not Chile.", "PER", label="conciliatory"),
        Statement("We thank Peru and not Chile.", "CHL", label="neutral"),
    ]
    found = _dataset([*pair, TRAIN[0]], encoder, contrast_weight=2.0)
    assert [len(unit["rows"]) for unit in found] == [2, 1]
    assert [row["weight"] for unit in found for row in unit["rows"]] == [2, 2, 1]
    labels = collator(encoder)(list(found))["labels"]
    assert labels.sum(dim=1).tolist() == [2, 2, 1]
    assert [len(unit["rows"]) for unit in _dataset(pair, encoder)] == [1, 1]


def test_the_twin_sees_no_state():
    for before, after in zip(STATEMENTS, withhold_targets(STATEMENTS), strict=True):
        assert after.text == before.text and after.label == before.label
        assert (after.target, after.source) == ("a state", None)


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
    config = tiny_config(tiny_base, tiny_table, tmp_path / "r", "fit.epochs=2")
    whole = fit(config, TRAIN, VALIDATION, tmp_path / "whole")

    stopped = tmp_path / "stopped"
    fit(config, TRAIN, VALIDATION, stopped)
    checkpoints = sorted(stopped.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    (checkpoints[-1] / "whole").unlink()  # as a run killed while it wrote its last checkpoint
    (checkpoints[-1] / "model.safetensors").write_bytes(b"half")
    resumed = fit(config, TRAIN, VALIDATION, stopped, resume=True)

    assert torch.equal(weights_of(whole), weights_of(resumed))
    assert resumed.temperature == whole.temperature


def test_the_folded_temperature_is_the_best(tiny_base, tiny_table, tmp_path):
    # A third of the labels wrong: the best temperature is neither zero nor boundless.
    muddled = [replace(s, label="neutral") if i % 3 else s for i, s in enumerate(VALIDATION)]
    longer = ("fit.epochs=16", "fit.patience=16")
    config = tiny_config(tiny_base, tiny_table, tmp_path / "r", *longer)
    fitted = fit(config, TRAIN, muddled, tmp_path / "t")
    batch = collator(make_encoder(fitted.tokenizer, 64))(
        [
            {"rows": [{"row": i, "text": s.text, "target": s.target, "source": s.source,
                       "weight": 1.0, "training": False, "label": LABEL_TO_ID[s.label]}]}
            for i, s in enumerate(muddled)
        ]
    )  # fmt: skip
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
