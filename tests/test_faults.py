"""What a training survives: it ends with the weights of one that nothing happened to."""

import multiprocessing
import os
import resource
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from conftest import tiny_config, tiny_rows
from transformers import TrainerCallback

from detente import ConfigError, Statement
from detente.errors import (
    DamageWarning,
    DivergedError,
    EnvironmentWarning,
    StoppedError,
    TrainingError,
)
from detente.hub import read_json
from train.checkpoints import last_whole, mark_whole
from train.command import alone
from train.environment import environment_of, warn_of_changes
from train.fit import fit, show_progress
from train.run import train

show_progress(False)
STATEMENTS = [Statement.from_row(row) for row in tiny_rows()]
TRAIN = [s for s in STATEMENTS if s.extra["split"] == "train"][::2][:20]  # five updates an epoch
VALIDATION = [s for s in STATEMENTS if s.extra["split"] == "validation"][::2]
# All that is drawn at random in training.
DRAWS = ("fit.dropout=0.3", "fit.mention_loss=1", "fit.mention_layer=1", "data.absent_targets=0.3")


@pytest.fixture(scope="module")
def config(tiny_base, tiny_table, tmp_path_factory):
    run = tmp_path_factory.mktemp("r") / "run"
    return tiny_config(tiny_base, tiny_table, run, "fit.epochs=3", "fit.patience=2", *DRAWS)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The folder of an undisturbed training, and its weights."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, weights_of(fit(config, TRAIN, VALIDATION, folder))


def weights_of(fitted):
    return torch.cat([p.detach().flatten() for p in fitted.model.parameters()])


def checkpoints(folder):
    return sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))


class At(TrainerCallback):
    """Does something in an update."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def on_step_begin(self, args, state, control, **_):
        if state.global_step + 1 == self.step:
            self.what()


def unfinished(whole, tmp_path):
    """A copy of a training that ended after its last checkpoint."""
    folder = tmp_path / "copy"
    shutil.copytree(whole[0], folder)
    shutil.rmtree(folder / "fitted")
    for path in folder.glob("checkpoint-*/trainer_state.json"):
        path.write_text(path.read_text().replace(str(whole[0]), str(folder)))
        (path.parent / "whole").unlink()
        mark_whole(path.parent)
    return folder


def killed_in(config, folder, step):
    fit(config, TRAIN, VALIDATION, folder, callbacks=[At(step, lambda: os.kill(os.getpid(), 9))])


def test_a_killed_training_ends_where_an_undisturbed_one_does(config, whole, tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=killed_in, args=(config, tmp_path, 13)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(checkpoints(tmp_path)) == 2
    assert torch.equal(weights_of(fit(config, TRAIN, VALIDATION, tmp_path, resume=True)), whole[1])


@pytest.mark.parametrize("step", [2, 5, 8])  # within an epoch, and with the last update of one
def test_a_training_that_is_asked_to_stop_saves_and_goes_on(config, whole, tmp_path, step):
    asked = At(step, lambda: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        StoppedError, match=f"stopped by SIGTERM after update {step} of 15.*--resume"
    ):
        fit(config, TRAIN, VALIDATION, tmp_path, callbacks=[asked])
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoints(tmp_path)[-1].name == f"checkpoint-{step}"
    assert torch.equal(weights_of(fit(config, TRAIN, VALIDATION, tmp_path, resume=True)), whole[1])


def test_a_training_that_had_ended_is_not_trained_on(config, whole, tmp_path):
    folder = unfinished(whole, tmp_path)
    never = At(16, lambda: pytest.fail("trained on"))
    last = checkpoints(folder)[-1].name
    resumed = fit(config, TRAIN, VALIDATION, folder, resume=True, callbacks=[never])
    assert torch.equal(weights_of(resumed), whole[1])
    assert checkpoints(folder)[-1].name == last


def test_a_training_that_stopped_early_is_not_trained_on(config, tmp_path):
    short = config.model_copy(
        update={"fit": config.fit.model_copy(update={"patience": 1, "learning_rate": 1e-9})}
    )
    whole = fit(short, TRAIN, VALIDATION, tmp_path)
    assert checkpoints(tmp_path)[-1].name == "checkpoint-10"  # of 15: the second was no better
    shutil.rmtree(tmp_path / "fitted")
    resumed = fit(short, TRAIN, VALIDATION, tmp_path, resume=True)
    assert checkpoints(tmp_path)[-1].name == "checkpoint-10"
    assert torch.equal(weights_of(resumed), weights_of(whole))


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(config, whole, tmp_path, damage):
    folder = unfinished(whole, tmp_path)
    newest = checkpoints(folder)[-1]
    path = newest / "optimizer.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if damage == "missing":
        path.unlink()
    with pytest.warns(DamageWarning, match=f"{newest.name}: the checkpoint.*passed over"):
        resumed = fit(config, TRAIN, VALIDATION, folder, resume=True)
    assert torch.equal(weights_of(resumed), whole[1])
    assert (folder / newest.name.replace("checkpoint", "damaged")).is_dir()


def test_a_checkpoint_whose_best_one_is_damaged_is_none_to_go_on_from(whole, tmp_path):
    folder = unfinished(whole, tmp_path)
    for path in checkpoints(folder)[:-1]:
        (path / "model.safetensors").write_bytes(b"half")
    newest = checkpoints(folder)[-1]
    state = newest / "trainer_state.json"
    state.write_text(state.read_text().replace(newest.name, checkpoints(folder)[0].name))
    (newest / "whole").unlink()
    mark_whole(newest)
    with pytest.warns(DamageWarning):
        assert last_whole(folder) is None


def full_disk(config, folder, said):
    """Trains where no file can have more than 100 kB, which the weights have."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = At(9, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)))
    try:
        fit(config, TRAIN, VALIDATION, folder, callbacks=[limit])
    except TrainingError as error:
        said.write_text(str(error))


def test_a_full_disk_costs_no_checkpoint_that_was_whole(config, whole, tmp_path):
    folder, said = tmp_path / "f", tmp_path / "said.txt"
    process = multiprocessing.get_context("fork").Process(
        target=full_disk, args=(config, folder, said)
    )
    process.start()
    process.join()
    assert "checkpoint-10: the checkpoint cannot be written" in said.read_text()
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-5"]
    assert torch.equal(weights_of(fit(config, TRAIN, VALIDATION, folder, resume=True)), whole[1])


def test_a_loss_that_is_no_number_names_its_rows(config, tmp_path):
    extra = {**TRAIN[7].extra, "weight": float("nan")}
    broken = [*TRAIN[:7], replace(TRAIN[7], extra=extra), *TRAIN[8:]]
    with pytest.raises(DivergedError, match=r"update \d+: the loss.*rows of this batch") as found:
        fit(config, broken, VALIDATION, tmp_path)
    named = str(found.value).rpartition(": ")[2].split(", ")
    assert TRAIN[7].id in named and len(named) <= 5  # four units a batch, and those of one sentence


def test_a_second_process_is_kept_out_of_a_run(config, tmp_path):
    lock = config.run.dir.with_name(".run.lock")
    with alone(lock, "busy", lock):
        with pytest.raises(ConfigError, match="another process works on this run"):
            train(config)
    assert not lock.exists() and not config.run.dir.exists()


def test_the_same_configuration_data_and_seed_give_the_same_figures(
    tiny_base, tiny_table, tmp_path
):
    def run(name):
        settings = ("fit.epochs=1", "evaluate.baselines=[]", *DRAWS)
        folder = train(tiny_config(tiny_base, tiny_table, tmp_path / name, *settings))
        metrics = read_json(folder / "metrics.json")
        del metrics["training"]["seconds"]
        assert metrics["config"]["run"].pop("dir") == str(folder)
        return metrics, (folder / "predictions.jsonl").read_bytes()

    assert run("a") == run("b")


def test_a_run_says_what_it_depends_on(tiny_run):
    environment = read_json(tiny_run / "metrics.json")["environment"]
    assert environment == read_json(tiny_run / "environment.json")
    assert environment["threads"] == 1 and environment["precision"] == "fp32"
    assert environment["device"] == "CPU, 1 threads"
    assert all(environment["packages"][name] for name in ("torch", "transformers", "numpy"))


def test_a_run_that_goes_on_under_other_conditions_warns():
    now = environment_of("fp32")
    warn_of_changes(now | {"git_commit": "another"}, now, "here")
    with pytest.warns(EnvironmentWarning, match="here: .*another threads, packages, and may not"):
        warn_of_changes(now | {"threads": 99, "packages": {"torch": "1"}}, now, "here")
