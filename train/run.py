"""A whole run: data, training, export, evaluation, baselines, card; it appears whole or not at all.

Everything is made in ``<run.dir>.partial``, which takes the name ``run.dir`` at the end.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import torch
import typer
from accelerate import PartialState
from ruamel.yaml import YAML

import detente
from detente.classifier import Classifier
from detente.encoding import TEMPLATE, PairEncoder
from detente.errors import ConfigError
from detente.hub import LEARNED, SETTINGS, read_json, write_manifest
from detente.labels import LABELS
from detente.rows import whole_file, whole_folder, write_json, write_jsonl
from detente.runtimes.torch_runtime import TorchRuntime
from detente.statement import Statement, text_hash
from train.base_models import earlier_stage, public_name
from train.baselines import BASELINES
from train.batches import make_encoder, withhold_targets
from train.card import write_card
from train.command import alone
from train.config import Config, load_config
from train.confusion import held_out_confusion
from train.contracts import check, load_contracts
from train.contracts import write_report as write_contracts
from train.corpora import EACH_LABEL
from train.corpora.series import INFO as SERIES
from train.data import Data, load_data
from train.environment import device, environment_of, warn_of_changes
from train.evaluation import (
    MODEL,
    TWIN,
    Evaluation,
    evaluate,
    prediction_rows,
    table,
    write_report,
)
from train.export import check_fp32, export_fp32
from train.fit import Fitted, fit
from train.gates import FP32
from train.splits import Split
from train.tone_metric import probabilities_of

_DATA: Final = "data.json"
_ENVIRONMENT: Final = "environment.json"


def train(config: Config, *, resume: bool = False) -> Path:
    """Trains, exports, evaluates and describes one model.

    Args:
        config: The run.
        resume: Continue an unfinished run of the same configuration.

    Returns:
        ``run.dir``.

    Raises:
        ConfigError: ``run.dir`` exists, an unfinished run is in the way, or another process works
            on it.
        DataError: A corpus is missing or a row cannot be read.
        ModelError: The base model is not to be had, or an export failed its check.
        TrainingError: The training diverged, was asked to stop, or could not write a checkpoint.
    """
    # Without a GPU accelerate has to be told, or every process takes itself for the only one.
    process = PartialState(cpu=not torch.accelerator.is_available())
    final = config.run.dir
    lock = final.with_name(f".{final.name}.lock")
    with (
        alone(lock, "another process works on this run", final)
        if process.is_main_process
        else nullcontext()
    ):
        return _train(process, config, resume)


def _train(process: PartialState, config: Config, resume: bool) -> Path:
    environment = environment_of(config.fit.precision)
    data = load_data(config)
    # Read before training, so that a bad row does not cost it.
    cases = load_contracts(config.evaluate.contracts) if config.evaluate.contracts else None
    partial = config.run.dir.with_name(f"{config.run.dir.name}.partial")
    if process.is_main_process:
        _prepare(partial, config, data, environment, resume)
    process.wait_for_everyone()
    _say(process, _plan(config, data))

    fitted = _fit(config, data, partial / "checkpoints", resume)
    twin = None
    if "target_blind" in config.evaluate.baselines:
        _say(process, "training the target-blind twin")
        twin = _fit(_blind(config), data, partial / "twin-checkpoints", resume)
    if not process.is_main_process:
        return config.run.dir

    folder = partial / "model"
    classifier = _write_model(folder, config, fitted, onnx_file=FP32)
    export_fp32(folder)
    difference = check_fp32(folder, classifier.encoder, data.all("validation")[:64])
    twin_classifier = _write_model(partial / "twin", _blind(config), twin) if twin else None
    evaluations = _evaluate(config, data, classifier, twin_classifier)
    contracts = check(classifier, cases) if cases else None
    # A corpus that does not tell all three labels apart says little of how they are confused.
    counted = [
        s
        for s in _representative(config, data, "validation", "test")
        if s.extra["contrast"] == EACH_LABEL
    ]
    started = read_json(partial / _ENVIRONMENT)
    metrics = {
        "name": config.run.name,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "base_model": public_name(config.base.name),
        "results": {e.name: e.metrics for e in evaluations},
        "contracts": contracts.to_json()["contracts"] if contracts else {},
        "confusion": held_out_confusion(counted, classifier.predict_batch(counted)),
        "training": {
            "seconds": round(fitted.seconds, 1),
            "updates": max((entry.get("step", 0) for entry in fitted.log), default=0),
            "temperature": fitted.temperature,
            "device": device(),
        },
        "onnx": {"fp32_largest_logit_difference": difference},
        # What the base learned from before, the model learned from, too.
        "data": earlier_stage(config.base.name).get("data", {}) | data.summary(),
        "leakage": data.leakage.summary(),
        "environment": started
        | ({} if started == environment else {"finished_under": environment}),
        "config": config.to_yaml(),
    }
    _write_results(partial, metrics, evaluations, fitted)
    if contracts:
        write_contracts(contracts, partial / "report" / "contracts")
    _describe_model(folder, metrics, data)
    _finish(partial, config.run.dir)
    for evaluation in evaluations:
        typer.echo(f"\n{evaluation.name}, test split: {len(evaluation.statements)} statements\n")
        typer.echo(table(evaluation))
    if contracts:
        typer.echo(f"\ncontracts\n\n{contracts.table()}")
    typer.echo(f"\nThe run is in {config.run.dir}, trained in {fitted.seconds / 60:.1f} minutes.")
    return config.run.dir


def _prepare(
    partial: Path, config: Config, data: Data, environment: Mapping[str, Any], resume: bool
) -> None:
    """Makes the working folder, or checks that the one there is this run's."""
    read = {corpus.info.name: dict(corpus.files) for corpus in data.corpora}
    if config.run.dir.exists():
        raise ConfigError(
            "the folder is there already",
            where=f"run.dir: {config.run.dir}",
            fix="Name another with run.dir=…, or remove it.",
        )
    if partial.exists():
        if not resume:
            raise ConfigError(
                "an unfinished run is in the way",
                where=str(partial),
                fix="Continue it with --resume, or remove it.",
            )
        before, read_before, started_under = _started_with(partial)
        if before != config:
            changed = [k for k in Config.model_fields if getattr(before, k) != getattr(config, k)]
            raise ConfigError(
                "the unfinished run has another configuration",
                where=str(partial / "config.yaml"),
                got=f"differences in {', '.join(changed)}",
                fix="Pass the same settings, or remove the folder.",
            )
        if read_before != read:
            raise ConfigError(
                "the data changed since the run was started",
                where=str(partial),
                got=read,
                expected=str(read_before),
                fix="Remove the folder and start again.",
            )
        warn_of_changes(started_under, environment, str(partial))
        return
    with whole_folder(partial) as begun:
        with whole_file(begun / "config.yaml") as file:
            YAML().dump(config.to_yaml(), file)
        write_json(begun / _DATA, read)
        write_json(begun / _ENVIRONMENT, environment)


def _started_with(partial: Path) -> tuple[Config, dict[str, Any], dict[str, Any]]:
    """Returns the configuration, the data checksums and the environment of an unfinished run.

    A setting that came since it was started has its default, which changes nothing.
    """
    try:
        config = load_config(partial / "config.yaml")
        data = json.loads((partial / _DATA).read_text("utf-8"))
        return config, data, read_json(partial / _ENVIRONMENT)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the unfinished run cannot be read ({error})",
            where=str(partial),
            fix="Remove the folder and start again.",
        ) from error


def _fit(config: Config, data: Data, folder: Path, resume: bool) -> Fitted:
    splits = [
        data.all("train"),
        data.all("validation"),
        _representative(config, data, "validation"),
    ]
    if config.data.withhold_target:
        splits = [withhold_targets(split) for split in splits]
    train, validation, calibration = splits
    return fit(config, train, validation, folder, calibration=calibration, resume=resume)


def _blind(config: Config) -> Config:
    blind = config.data.model_copy(update={"withhold_target": True})
    return config.model_copy(update={"data": blind})


def _write_model(
    folder: Path, config: Config, fitted: Fitted, onnx_file: str | None = None
) -> Classifier:
    """Saves a checkpoint and returns it as a classifier on torch; the manifest comes last."""
    fitted.model.save_pretrained(folder)
    fitted.tokenizer.save_pretrained(folder)
    encoder: PairEncoder = make_encoder(fitted.tokenizer, config.base.max_tokens)
    # What plain transformers and we read must not truncate or pad by itself.
    encoder.tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "detente": detente.__version__,
        "name": config.run.name,
        "template": TEMPLATE,
        "labels": list(LABELS),
        "max_tokens": config.base.max_tokens,
        "onnx_file": onnx_file,
        "base_model": public_name(config.base.name),
        "temperature": fitted.temperature,
    }
    write_json(folder / SETTINGS, settings)
    return Classifier(encoder, TorchRuntime(folder), config.run.name)


def _evaluate(
    config: Config, data: Data, classifier: Classifier, twin: Classifier | None
) -> list[Evaluation]:
    train = data.all("train")
    evaluations = []
    for spec, corpus in zip(config.data.corpora, data.corpora, strict=True):
        name, test = corpus.info.name, data.splits[corpus.info.name]["test"]
        if not spec.test or not test:
            continue
        shown = withhold_targets(test) if config.data.withhold_target else test
        systems = {MODEL: probabilities_of(classifier.predict_batch(shown))}
        if twin:
            systems[TWIN] = probabilities_of(twin.predict_batch(withhold_targets(test)))
        for baseline in config.evaluate.baselines:
            if baseline in BASELINES:
                systems[baseline] = BASELINES[baseline](train, test)
        evaluations.append(
            evaluate(
                name,
                test,
                systems,
                contrast=corpus.info.contrast,
                bootstrap=config.evaluate.bootstrap,
            )
        )
    return evaluations


def _representative(config: Config, data: Data, *names: Split) -> list[Statement]:
    """Returns the statements of some splits that are most like those to come."""
    wanted = config.evaluate.representative or tuple(data.splits)
    if unknown := set(wanted) - set(data.splits):
        raise ConfigError(
            "no such corpus in this run",
            where="evaluate.representative",
            got=", ".join(sorted(unknown)),
            expected=", ".join(data.splits),
        )
    return [s for corpus in wanted for name in names for s in data.splits[corpus][name]]


def _write_results(
    partial: Path, metrics: Mapping[str, Any], evaluations: Sequence[Evaluation], fitted: Fitted
) -> None:
    write_json(partial / "metrics.json", metrics)
    write_jsonl(
        partial / "predictions.jsonl",
        [row for e in evaluations for row in prediction_rows(e, metrics["name"])],
    )
    write_jsonl(partial / "log.jsonl", fitted.log)
    for evaluation in evaluations:
        write_report(evaluation, partial / "report" / evaluation.name)


def _describe_model(folder: Path, metrics: Mapping[str, Any], data: Data) -> None:
    """Completes the model folder: the run's figures, its card and, last, its manifest."""
    shown = ("macro_f1", "macro_f1_interval", "accuracy", "ece", "rows")
    results = {
        corpus: {key: systems[MODEL][key] for key in shown}
        for corpus, systems in metrics["results"].items()
    }
    kept = ("confusion", "contracts", "data", "onnx")
    figures = {"results": results} | {key: metrics[key] for key in kept}
    write_json(folder / SETTINGS, read_json(folder / SETTINGS) | figures)
    write_card(folder, metrics)
    # A statement of the series was learned as a teacher saw it, and nobody's label with it.
    learned = {
        text_hash(s.text)
        for corpus, splits in data.splits.items()
        if corpus != SERIES.name
        for s in splits["train"]
    }
    before = Path(metrics["config"]["base"]["name"]) / LEARNED
    if before.is_file():
        learned.update(before.read_text("utf-8").split())
    (folder / LEARNED).write_text("".join(f"{each}\n" for each in sorted(learned)), "utf-8")
    write_manifest(folder)


def _finish(partial: Path, final: Path) -> None:
    if (partial / "twin").is_dir():
        write_manifest(partial / "twin")
    os.replace(partial, final)
    for name in ("checkpoints", "twin-checkpoints"):
        if (final / name / "runs").is_dir():  # where TensorBoard's logs are
            (final / name / "runs").rename(final / name.replace("checkpoints", "tensorboard"))
        shutil.rmtree(final / name, ignore_errors=True)


def _plan(config: Config, data: Data) -> str:
    """Returns what will happen: rows, updates and where the result will be."""
    rows = len(data.all("train"))
    per_update = config.fit.batch_size * config.fit.gradient_accumulation
    per_update *= PartialState().num_processes
    updates = int(-(-rows // per_update) * config.fit.epochs)
    counts = ", ".join(
        f"{name} {len(splits['train'])}/{len(splits['validation'])}/{len(splits['test'])}"
        for name, splits in data.splits.items()
    )
    return (
        f"run {config.run.name!r} from {_encoder(config)} on {device()}\n"
        f"rows (train/validation/test): {counts}\n{data.leakage}\n"
        f"at most {updates} updates of {per_update} rows in {config.fit.epochs:g} epochs"
    )


def _encoder(config: Config) -> str:
    if config.base.layers is None:
        return config.base.name
    return f"layers {', '.join(map(str, config.base.layers))} of {config.base.name}"


def _say(process: PartialState, text: str) -> None:
    if process.is_main_process:
        typer.echo(text)
