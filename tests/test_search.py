import csv

import optuna
import pytest
from conftest import ROOT, config_file
from optuna.trial import TrialState

from detente import ConfigError
from train.config import load_config
from train.fit import show_progress
from train.search import DEFAULT_SPACE, load_space, main, search

optuna.logging.set_verbosity(optuna.logging.WARNING)
show_progress(False)
QUICK = ROOT / "configs" / "quick.yaml"


def space_file(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


def test_the_space_that_comes_with_it_holds_our_settings():
    space = load_space(DEFAULT_SPACE, QUICK)
    config = load_config(QUICK)
    assert space["fit.learning_rate"].log
    assert space["fit.learning_rate"].low < config.fit.learning_rate
    assert config.fit.epochs in space["fit.epochs"].choices


def test_whole_ends_make_whole_numbers(tmp_path):
    text = "fit.batch_size: {low: 4, high: 16, step: 4}\nfit.dropout: {low: 0, high: 0.5}"
    space = load_space(space_file(tmp_path, text), QUICK)
    assert isinstance(space["fit.batch_size"], optuna.distributions.IntDistribution)
    assert isinstance(space["fit.dropout"], optuna.distributions.FloatDistribution)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fit.learning_rat: [1]", r"learning_rat: unknown key.*Did you mean 'learning_rate'"),
        ("fitt.epochs: [1]", r"fitt\.epochs: unknown key.*Did you mean 'fit'"),
        ("fit.epochs: {lo: 1, high: 2}", r"fit\.epochs: low: field required \(1 more"),
        ("fit.epochs: {low: 1, high: 2, logs: true}", r"logs: unknown key.*Did you mean 'log'"),
        ("fit.epochs: {low: 3, high: 2}", "fit.epochs: .*low must be less than high"),
        ("fit.epochs: {low: 0, high: 2, log: true}", "low must be greater than 0"),
        ("fit.epochs: {low: '1', high: 2}", r"fit\.epochs: low: .*should be a number; got '1'"),
        ("fit.epochs: {low: yes, high: .inf}", r"fit\.epochs: low: .*should be a number"),
        ("fit.dropout: {low: 0.1, high: 1.5}", r"fit\.dropout: .*less than 1; got 1\.5"),
        ("fit.precision: [fp32, fp16]", r"fit\.precision: .*got 'fp16'"),
        ("fit.batch_size: {low: 1.0, high: 8.0}", r"fit\.batch_size: .*valid integer"),
        ("fit.epochs: 3", "not something to choose from; got 3"),
        ("fit.epochs: []", "not something to choose from"),
        ("run.seed: [1, 2]", r"run\.seed: cannot be searched"),
        ("data.corpora: [1]", r"data\.corpora: cannot be searched"),
        ("{}", "the search space is empty"),
    ],
)  # fmt: skip
def test_a_wrong_space_is_named(tmp_path, text, says):
    with pytest.raises(ConfigError, match=f"(?s)space.yaml.*({says})"):
        load_space(space_file(tmp_path, text), QUICK)


def test_a_search_goes_on_and_its_best_is_a_run(tiny_base, tiny_table, tmp_path, capsys):
    path = config_file(tmp_path, tiny_base, tiny_table)
    text = "fit.learning_rate: {low: 1.0e-4, high: 6.0e-3, log: true}\nfit.epochs: [1, 2]"
    space = load_space(space_file(tmp_path, text), path)
    storage, out = tmp_path / "s" / "search.db", tmp_path / "out"

    def go(trials):
        return search(path, space=space, trials=trials, storage=storage, out=out)

    first = go(1)
    assert first.trials[0].params == {"fit.learning_rate": 3e-3, "fit.epochs": 1}
    assert len(go(1).trials) == 1  # nothing left to do

    # As a search that was killed within its second trial.
    killed = first.ask(dict(space))
    study = go(2)
    assert study.trials[killed.number].state == TrialState.FAIL
    assert [t.params for t in study.trials[1:]] == [killed.params] * 2
    assert [t.state for t in (study.trials[0], study.trials[2])] == [TrialState.COMPLETE] * 2
    assert not any((out / "checkpoints").iterdir())

    with (out / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows][0] == study.best_trial.number
    assert float(rows[0]["validation_macro_f1"]) == pytest.approx(study.best_value, abs=1e-6)
    assert (out / "trials.md").read_text().count("complete") == 2
    best = load_config(out / "best.yaml")
    assert best.fit.learning_rate == study.best_params["fit.learning_rate"]
    assert best.run.dir == tmp_path / "run-best"

    main(path, storage, trials=2, space=tmp_path / "space.yaml", out=out)
    said = capsys.readouterr().out
    assert f"python -m train {out / 'best.yaml'}" in said
    assert "the configuration's own settings: " in said

    with pytest.raises(ConfigError, match="search of another kind; got 'differences in config'"):
        search(path, space=space, trials=1, storage=storage, out=out, overrides=["run.seed=9"])


def test_a_trial_that_lags_behind_is_stopped(tiny_base, tiny_table, tmp_path):
    path = config_file(tmp_path, tiny_base, tiny_table, "fit.epochs=3")
    # At a learning rate of next to nothing a model learns nothing.
    text = "fit.learning_rate: {low: 1.0e-9, high: 1.0e-2}"
    space = load_space(space_file(tmp_path, text), path)
    storage, out = tmp_path / "search.db", tmp_path / "out"
    study = search(path, space=space, trials=1, storage=storage, out=out)
    for _ in range(3):  # the pruner wants four to compare with
        study.add_trial(
            optuna.create_trial(
                params={"fit.learning_rate": 5e-3},
                distributions=space,
                value=0.99,
                intermediate_values={1: 0.98, 2: 0.99, 3: 0.99},
                user_attrs=study.trials[0].user_attrs,
            )
        )
    study.enqueue_trial({"fit.learning_rate": 1e-9})
    study = search(path, space=space, trials=5, storage=storage, out=out)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 4 + [TrialState.PRUNED]
    assert len(study.trials[-1].intermediate_values) == 2
    assert "| pruned |" in (out / "trials.md").read_text()


def test_the_same_settings_are_not_trained_twice(tiny_base, tiny_table, tmp_path):
    path = config_file(tmp_path, tiny_base, tiny_table)
    space = load_space(space_file(tmp_path, "fit.epochs: [1]"), path)
    study = search(path, space=space, trials=3, storage=tmp_path / "s.db", out=tmp_path / "out")
    assert [t.value for t in study.trials] == [study.best_value] * 3
    assert [len(t.intermediate_values) for t in study.trials] == [1, 0, 0]
