"""Hyperparameter search with optuna: ``python -m train.search CONFIG --trials N --storage FILE``.

Each trial is a training of the same rows under other settings, judged by its best macro-F1 on
the validation split; the test split is not read. Everything is in one SQLite file: the same
command again goes on where the last one stopped.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import optuna
import torch
import typer
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import Field, PlainValidator, ValidationError, model_validator
from ruamel.yaml import YAML
from transformers import TrainerCallback

from detente.errors import ConfigError, DivergedError, StoppedError
from detente.rows import whole_file
from train.command import alone, refuse_processes, run_command
from train.config import Config, Section, explain, load_config, read_yaml
from train.data import Data, load_data
from train.fit import Fitted, fit, show_progress

DEFAULT_SPACE: Final = Path(__file__).resolve().parents[1] / "configs" / "spaces" / "default.yaml"

Space = Mapping[str, BaseDistribution]
"""From ``section.key`` to the values that are tried."""

_METRIC: Final = "eval_macro_f1"
# These name the run or change what it is judged by.
_FIXED: Final = ("run.", "evaluate.", "data.root", "data.corpora", "data.withhold_target")


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("should be a number")
    return value


Number = Annotated[int | float, PlainValidator(_number)]
"""Stays the kind of number that it was written as."""


class Range(Section):
    """The values between two ends.

    Attributes:
        low: The least value.
        high: The greatest value.
        log: Draw evenly among factors rather than among differences.
        step: Draw from a grid that begins at ``low``.
    """

    low: Number
    high: Number
    log: bool = False
    step: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _ends_are_in_order(self) -> Range:
        if not self.low < self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("with log, low must be greater than 0")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self

    def distribution(self) -> BaseDistribution:
        """Returns the range as optuna has it; of whole numbers if all its numbers are whole."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            step = 1.0 if self.step is None else self.step
            if step.is_integer():
                return IntDistribution(self.low, self.high, log=self.log, step=int(step))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


def load_space(path: Path, config: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Reads a search space and tries the ends of each range and each choice on a configuration.

    Args:
        path: A YAML file such as ``configs/spaces/default.yaml``.
        config: The configuration that is to be varied.
        overrides: Settings in place of the file's, as for :func:`train.config.load_config`.

    Returns:
        From ``section.key`` to a distribution of optuna's.

    Raises:
        ConfigError: The file cannot be read, a key is unknown (the message suggests the right
            one) or may not be searched, or a value is not allowed.
    """
    load_config(config, overrides)
    space: dict[str, BaseDistribution] = {}
    for key, value in read_yaml(path).items():
        where = f"{path}: {key}"
        if str(key).startswith(_FIXED):
            raise ConfigError(
                "cannot be searched",
                where=where,
                expected="settings of how to train, not of what the result is judged by",
            )
        space[key] = _distribution(value, where)
        for end in _ends(space[key]):
            try:
                load_config(config, [*overrides, _setting(key, end)])
            except ConfigError as error:
                raise error.at(where) from None
    if not space:
        raise ConfigError("the search space is empty", where=str(path))
    return space


def search(
    path: Path,
    *,
    space: Space,
    trials: int,
    storage: Path,
    out: Path,
    overrides: Sequence[str] = (),
) -> optuna.Study:
    """Runs trials until the storage holds ``trials`` that are finished.

    The first trial has the configuration's own settings, as far as they lie in the space. A
    trial that was interrupted is queued again and goes on from its last whole checkpoint.

    Args:
        path: The configuration that is varied.
        space: See :func:`load_space`.
        trials: Finished trials, those of earlier starts included.
        storage: The SQLite file.
        out: The folder for the tables and the best configuration, written after each trial.
        overrides: Settings in place of the configuration's.

    Raises:
        ConfigError: The storage belongs to another search or is in use, a setting is wrong, or
            no trial came to its end.
        DataError: A corpus is missing or a row cannot be read.
    """
    config = load_config(path, overrides)
    refuse_processes("train.search")
    with alone(Path(f"{storage}.lock"), "another search is writing to it", storage):
        data = load_data(config)
        study = _open(storage, config, space, data)
        _requeue(study, space)
        while (left := trials - len(_finished(study))) > 0:
            typer.echo(f"\ntrial {len(_finished(study)) + 1} of {trials}, {left} to go")
            _run_trial(study, path, overrides, space, data, out / "checkpoints")
            write_tables(study, config, out)
    if not _complete(study):
        raise ConfigError("no trial came to its end", where=str(storage))
    write_tables(study, config, out)
    return study


def best_config(study: optuna.Study, config: Config) -> Config:
    """Returns the whole configuration of the best trial, for a run of its own."""
    settings = study.best_trial.user_attrs["config"]
    run = settings["run"] | {
        "name": f"{config.run.name}-best",
        "dir": f"{config.run.dir}-best",
    }
    return Config.model_validate(settings | {"run": run})


def write_tables(study: optuna.Study, config: Config, out: Path) -> None:
    """Writes ``trials.csv``, ``trials.md`` and, once a trial is complete, ``best.yaml``."""
    trials = sorted(_finished(study), key=_rank)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    header = ["trial", "state", "validation_macro_f1", "epochs_run", "seconds", *names]
    rows = [
        [
            trial.number,
            trial.user_attrs.get("failure", trial.state.name.lower()),
            "" if (value := _value(trial)) is None else round(value, 6),
            len(trial.intermediate_values),
            trial.user_attrs.get("seconds", ""),
            *(trial.params.get(name, "") for name in names),
        ]
        for trial in trials
    ]
    with whole_file(out / "trials.csv") as file:
        csv.writer(file).writerows([header, *rows])
    with whole_file(out / "trials.md") as file:
        file.write(_markdown(header, rows))
    if _complete(study):
        with whole_file(out / "best.yaml") as file:
            YAML().dump(best_config(study, config).to_yaml(), file)


class _Report(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """Tells optuna of each epoch's validation macro-F1, and stops a trial that lags behind."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._reported = 0

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        # All of the log: a trial that goes on from a checkpoint has epochs behind it.
        values = _epochs(state.log_history)
        for epoch in range(self._reported, len(values)):
            self.trial.report(values[epoch], epoch + 1)
        self._reported = len(values)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _distribution(value: object, where: str) -> BaseDistribution:
    if isinstance(value, dict):
        try:
            return Range.model_validate(value).distribution()
        except ValidationError as error:
            raise explain(error, where, Range) from None
    scalar = (bool, int, float, str)
    if isinstance(value, list) and value and all(v is None or isinstance(v, scalar) for v in value):
        return CategoricalDistribution(value)
    raise ConfigError(
        "not something to choose from",
        where=where,
        got=value,
        expected="a list of plain values, or a range such as {low: 1, high: 8}",
    )


def _ends(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low, distribution.high


def _setting(key: str, value: object) -> str:
    return f"{key}={json.dumps(value)}"  # which YAML reads as well


def _open(storage: Path, config: Config, space: Space, data: Data) -> optuna.Study:
    """Opens the study, or begins it with the configuration's own settings."""
    study = optuna.create_study(
        storage=f"sqlite:///{storage}",
        study_name="search",
        direction="maximize",
        # The first epoch says little while the learning rate still rises.
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        load_if_exists=True,
    )
    # With the seed alone, a continued search would draw its first trials once more.
    study.sampler = optuna.samplers.TPESampler(seed=config.run.seed + len(study.trials))
    about = {
        "config": config.to_yaml(),
        "space": {key: repr(values) for key, values in space.items()},
        "data": {corpus.info.name: dict(corpus.files) for corpus in data.corpora},
    }
    if not study.user_attrs:
        for name, value in about.items():
            study.set_user_attr(name, value)
        study.enqueue_trial(
            {key: value for key, value in _own(config, space).items() if _has(space[key], value)}
        )
    if changed := [name for name in about if study.user_attrs[name] != about[name]]:
        raise ConfigError(
            "the storage holds a search of another kind",
            where=str(storage),
            got=f"differences in {', '.join(changed)}",
            fix="Pass the same configuration, space and data, or name another --storage.",
        )
    return study


def _own(config: Config, space: Space) -> dict[str, Any]:
    """Returns the configuration's own value of each key of the space."""

    def value(key: str) -> Any:  # noqa: ANN401 (whatever a key holds)
        found: Any = config
        for name in key.split("."):
            found = getattr(found, name, None)
        return found

    return {key: value(key) for key in space}


def _has(distribution: BaseDistribution, value: Any) -> bool:  # noqa: ANN401 (whatever a key holds)
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    low, high = _ends(distribution)
    return isinstance(value, int | float) and low <= value <= high


def _requeue(study: optuna.Study, space: Space) -> None:
    """Queues trials again that never ended: the lock says that nobody is running them."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        # Stopped before its last setting was drawn, it has nothing to repeat.
        if set(trial.params) == set(space):
            study.enqueue_trial(trial.params)
            typer.echo(f"trial {trial.number} was interrupted and is queued again")


def _run_trial(
    study: optuna.Study,
    path: Path,
    overrides: Sequence[str],
    space: Space,
    data: Data,
    checkpoints: Path,
) -> None:
    trial = study.ask(dict(space))
    settings = [_setting(key, trial.params[key]) for key in space]
    typer.echo("  " + "  ".join(settings))
    config = load_config(path, [*overrides, *settings])
    trial.set_user_attr("config", config.to_yaml())
    if same := next((t for t in _complete(study) if t.params == trial.params), None):
        study.tell(trial, same.value)
        typer.echo(f"  the same as trial {same.number}, which is not trained twice")
        return
    # Named by its settings, so that the same trial queued again finds its checkpoints.
    folder = checkpoints / hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    train, validation = data.all("train"), data.all("validation")
    try:
        fitted = fit(config, train, validation, folder, resume=True, callbacks=[_Report(trial)])
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        typer.echo("  stopped: behind the median of the trials before it")
    except DivergedError:
        trial.set_user_attr("failure", "diverged")
        study.tell(trial, state=TrialState.PRUNED)
        typer.echo("  failed: its loss is no number any more")
    except torch.OutOfMemoryError:
        trial.set_user_attr("failure", "out of memory")
        study.tell(trial, state=TrialState.PRUNED)
        typer.echo("  failed: the device has not enough memory for it")
    except StoppedError:  # to be queued again
        raise
    except Exception:
        # Another trial would end the same way.
        study.tell(trial, state=TrialState.FAIL)
        raise
    else:
        _tell(study, trial, fitted)
    shutil.rmtree(folder, ignore_errors=True)


def _tell(study: optuna.Study, trial: Trial, fitted: Fitted) -> None:
    value = max(_epochs(fitted.log))
    trial.set_user_attr("seconds", round(fitted.seconds, 1))
    study.tell(trial, value)
    best = 100 * study.best_value
    typer.echo(f"  validation macro-F1 {100 * value:.1f}, the best so far {best:.1f}")


def _epochs(log: Sequence[Mapping[str, Any]]) -> list[float]:
    """Returns the validation macro-F1 of each epoch that the Trainer logged."""
    return [entry[_METRIC] for entry in log if _METRIC in entry]


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return [t for t in study.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return [t for t in study.trials if t.state == TrialState.COMPLETE]


def _value(trial: FrozenTrial) -> float | None:
    """Returns the best macro-F1 of a trial, also of one that was stopped early."""
    value: float | None = max(trial.intermediate_values.values(), default=trial.value)
    return value


def _rank(trial: FrozenTrial) -> tuple[bool, float]:
    return trial.state != TrialState.COMPLETE, -(_value(trial) or 0)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "--:|" * len(header)]
    for row in rows:
        lines.append(
            "| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row) + " |"
        )
    note = (
        "Chosen by macro-F1 on the validation split, the best of several tries, and so a little "
        "too high; the test split was not read. `pruned`: stopped early, behind the median."
    )
    return "\n".join(["# Trials, the best first", "", note, "", *lines, ""])


def main(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as configs/quick.yaml.")],
    storage: Annotated[Path, typer.Option(help="SQLite file; the same one continues a search.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Settings in place of the file's."),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials in all, those of earlier starts included.")
    ] = 20,
    space: Annotated[Path, typer.Option(help="What to try.")] = DEFAULT_SPACE,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the tables; else named like the storage.")
    ] = None,
) -> None:
    """Search for better settings of a run, on its validation split.

    Example: python -m train.search configs/quick.yaml --trials 20 --storage runs/search.db
    """
    show_progress(sys.stderr.isatty())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = out or storage.with_suffix("")
    study = search(
        config,
        space=load_space(space, config, overrides or ()),
        trials=trials,
        storage=storage,
        out=folder,
        overrides=overrides or (),
    )
    best = study.best_trial
    own = _own(load_config(config, overrides or ()), best.distributions)
    typer.echo(f"\nThe best of {len(_finished(study))} trials is trial {best.number}:")
    typer.echo(f"  validation macro-F1 {100 * study.best_value:.1f}")
    for trial in _complete(study):
        if trial.params == own:
            typer.echo(f"  the configuration's own settings: {100 * (trial.value or 0):.1f}")
    typer.echo(f"All of them: {folder / 'trials.md'}. Train and test it once with\n")
    typer.echo(f"  python -m train {folder / 'best.yaml'}")


if __name__ == "__main__":
    run_command(main, "train.search")
