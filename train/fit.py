"""Fine-tuning with transformers' Trainer on accelerate: one model from one configuration.

A run works in ``<run.dir>.partial`` and moves to ``run.dir`` when it is whole. There each
checkpoint gets a marker once everything of it is written, and ``--resume`` continues from the
last one that has it.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from datasets import Dataset
from scipy.optimize import minimize_scalar
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    EarlyStoppingCallback,
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging as transformers_logging

from detente.classifier import softmax
from detente.encoding import PairEncoder, Target, as_target
from detente.errors import ConfigError, DataError
from detente.hub import read_json
from detente.labels import LABEL_TO_ID, LABELS
from detente.rows import write_json
from detente.statement import Statement
from detente.states import mentions
from train.base_models import find_base_model
from train.config import Config, Fit
from train.lora import merge_adapters, with_adapters
from train.tone_metric import tone_metrics
from train.trackers import installed

WITHHELD: Final = "a state"
"""The target of every statement for the target-blind twin."""

_WHOLE: Final = "whole"
_FITTED: Final = "fitted"

# A small validation split without an error would ask for boundless confidence.
_LOG_TEMPERATURES: Final = (-1.0, 3.0)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained model in memory.

    Attributes:
        model: The best checkpoint, its temperature folded into the last layer.
        tokenizer: The tokenizer that goes with it, as transformers saves it.
        temperature: What the logits were divided by.
        log: What the Trainer logged, in order.
        seconds: Time spent training since the start that finished it.
    """

    model: Any
    tokenizer: Any
    temperature: float
    log: list[dict[str, Any]]
    seconds: float


def withhold_targets(statements: Sequence[Statement]) -> list[Statement]:
    """Returns the statements as the target-blind twin sees them: same text, no states named."""
    return [replace(s, target=WITHHELD, source=None) for s in statements]


def fit(
    config: Config,
    train: Sequence[Statement],
    validation: Sequence[Statement],
    folder: Path,
    *,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> Fitted:
    """Trains one model.

    Args:
        config: The run.
        train: Labelled statements to learn from.
        validation: Labelled statements that choose the checkpoint and the temperature.
        folder: Where checkpoints go.
        resume: Continue from the last whole checkpoint in ``folder``, if there is one.
        callbacks: Told of every step and evaluation, as the Trainer's own are.

    Raises:
        ConfigError: The configuration does not go with the base model or with this machine.
        DataError: A split is empty.
        ModelError: The base model is not to be had.
    """
    for name, split in (("training", train), ("validation", validation)):
        if not split:
            raise DataError(
                f"there are no {name} statements",
                fix="Add rows, or a column `split` that says which rows are for what.",
            )
    if torch.cuda.device_count() > 1 and PartialState().num_processes == 1:
        raise ConfigError(
            "several GPUs and one process",
            got=f"{torch.cuda.device_count()} GPUs",
            fix="Start with `accelerate launch -m train CONFIG`, or show one GPU to it with "
            "CUDA_VISIBLE_DEVICES=0.",
        )
    set_seed(config.run.seed)
    base = find_base_model(config.base.name)
    tokenizer = AutoTokenizer.from_pretrained(base, model_max_length=config.base.max_tokens)
    if resume and (finished := _load_fitted(folder / _FITTED, tokenizer)):
        return finished
    encoder = make_encoder(tokenizer, config.base.max_tokens)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, config=_model_config(base, config.fit), dtype=torch.float32
    )
    _check_length(config, model.config)
    if config.fit.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    if config.fit.lora:
        model = with_adapters(model, config.fit.lora)
    collator = Collator(
        encoder,
        weights=_class_weights(train, config.fit),
        smoothing=config.fit.label_smoothing,
        source_dropout=config.data.source_dropout,
        absent_targets=0.0 if config.data.withhold_target else config.data.absent_targets,
        states=[str(as_target(s.target)) for s in train],
        seed=config.run.seed,
        segments=getattr(model.config, "type_vocab_size", 0) > 1,
    )
    arguments = _arguments(config, folder)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=_dataset(train, encoder, contrast_weight=config.data.contrast_weight),
        eval_dataset=_dataset(validation, encoder),
        data_collator=collator,
        compute_loss_func=weighted_cross_entropy,
        compute_metrics=_validation_metrics,
        callbacks=[
            EarlyStoppingCallback(early_stopping_patience=config.fit.patience),
            _Epochs(collator),
            _MarkWhole(),
            *callbacks,
        ],
    )
    # The main process clears broken checkpoints away before the others look.
    with PartialState().main_process_first():
        checkpoint = _last_whole(folder) if resume else None
    trainer.train(resume_from_checkpoint=checkpoint)
    temperature = _fit_temperature(trainer, _dataset(validation, encoder))
    model = merge_adapters(trainer.model) if config.fit.lora else trainer.model
    _fold_temperature(model, temperature)
    seconds = sum(entry.get("train_runtime", 0.0) for entry in trainer.state.log_history)
    fitted = Fitted(model.cpu(), tokenizer, temperature, trainer.state.log_history, seconds)
    if PartialState().is_main_process:
        _save_fitted(fitted, folder / _FITTED)
    PartialState().wait_for_everyone()
    return fitted


def make_encoder(tokenizer: Any, max_tokens: int) -> PairEncoder:  # noqa: ANN401 (no types)
    """Builds our encoder around a copy of a transformers tokenizer."""
    rust = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    return PairEncoder(rust, max_tokens, tokenizer.pad_token_id)


class Collator:
    """Encodes statements into padded batches with weighted soft labels.

    The packed ``labels`` have shape (rows, 3): each row's label distribution times its weight,
    so that class weights, smoothing and, later, soft labels need no column of their own.

    In training each row's source is withheld with a fixed probability, and with another one
    its target is exchanged for a state that the sentence does not name, toward which its tone
    is neutral. The draws depend on seed, epoch and row alone, so that a resumed run sees what
    an undisturbed one would.

    Args:
        encoder: Makes token ids.
        weights: Shape (3,), the weight of each label.
        smoothing: Share of a row's weight spread evenly over the labels.
        source_dropout: Share of training rows without source.
        absent_targets: Share of training rows with a target that the sentence does not name.
        states: What such targets are drawn from: those of the training rows, so that a state
            that is often talked about is often absent.
        seed: Of the draws.
        segments: Whether the encoder takes token types.

    Attributes:
        epoch: The epoch that the draws belong to.
    """

    def __init__(
        self,
        encoder: PairEncoder,
        *,
        weights: npt.NDArray[np.float64],
        smoothing: float,
        source_dropout: float,
        seed: int,
        absent_targets: float = 0.0,
        states: Sequence[str] = (),
        segments: bool,
    ) -> None:
        self.encoder, self.segments, self.seed = encoder, segments, seed
        self.source_dropout, self.absent_targets = source_dropout, absent_targets
        self._states = np.asarray(states)
        smooth = (1 - smoothing) * np.eye(len(LABELS)) + smoothing / len(LABELS)
        self._hard = np.eye(len(LABELS), dtype=np.float32)
        self._packed = (weights[:, None] * smooth).astype(np.float32)
        self.epoch = 0

    def __call__(self, units: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Collates units of :func:`_dataset` into ``input_ids``, masks and ``labels``."""
        rows = [row for unit in units for row in unit["rows"]]
        rows = [self._augmented(row) if row["training"] else row for row in rows]
        batch = self.encoder.collate(self.encoder.encode([_triple(row) for row in rows]))
        if not self.segments:
            del batch["token_type_ids"]
        labels = np.stack(
            [
                row["weight"] * (self._packed if row["training"] else self._hard)[row["label"]]
                for row in rows
            ]
        )
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        return tensors | {"labels": torch.from_numpy(labels.astype(np.float32))}

    def _augmented(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        draws = np.random.default_rng((self.seed, self.epoch, row["row"]))
        source = None if draws.random() < self.source_dropout else row["source"]
        if draws.random() >= self.absent_targets:
            return {**row, "source": source}
        named = {str(mention.state) for mention in mentions(row["text"])}
        named |= {str(as_target(name)) for name in (row["target"], row["source"]) if name}
        absent = str(draws.choice(self._states))
        if absent in named or absent in row["text"]:
            return {**row, "source": source}
        return {**row, "source": source, "target": absent, "label": LABEL_TO_ID["neutral"]}


def weighted_cross_entropy(
    outputs: Mapping[str, torch.Tensor],
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Cross-entropy with packed labels, as the Trainer's ``compute_loss_func``.

    Args:
        outputs: The model's outputs; ``logits`` of shape (rows, 3).
        labels: Shape (rows, 3): a weight times a distribution over the labels.
        num_items_in_batch: Elements of ``labels`` over all accumulated batches, as the Trainer
            counts them: three a row. ``None`` stands for this batch alone.

    Returns:
        The mean loss a row, as a scalar.
    """
    log_probabilities = torch.log_softmax(outputs["logits"].float(), dim=-1)
    rows = labels.shape[0] if num_items_in_batch is None else num_items_in_batch / labels.shape[1]
    return -(labels * log_probabilities).sum() / rows


class _Epochs(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """Tells the collator which epoch begins; a run resumed within an epoch is still in it."""

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        self.collator.epoch = int((state.epoch or 0) + 1e-6)


class _MarkWhole(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint once all processes have written their files of it."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _WHOLE).touch()


def _arguments(config: Config, folder: Path) -> TrainingArguments:
    fit = config.fit
    gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        seed=config.run.seed,
        data_seed=config.run.seed,
        num_train_epochs=fit.epochs,
        per_device_train_batch_size=fit.batch_size,
        per_device_eval_batch_size=64,
        gradient_accumulation_steps=fit.gradient_accumulation,
        learning_rate=fit.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=fit.warmup,
        weight_decay=fit.weight_decay,
        use_cpu=not torch.accelerator.is_available(),
        bf16=fit.precision == "bf16" or (fit.precision == "auto" and _has_bf16()),
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
        restore_callback_states_from_checkpoint=True,
        logging_steps=20,
        dataloader_pin_memory=gpu,
        disable_tqdm=not transformers_logging.is_progress_bar_enabled(),
        remove_unused_columns=False,
        label_names=["labels"],
        run_name=config.run.name,
        report_to=installed(config.run.trackers),
    )


def _has_bf16() -> bool:
    """Returns whether bf16 is computed natively here; emulated it is slower than fp32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older versions of torch do not tell: then fp32.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _model_config(base: Path, fit: Fit) -> Any:  # noqa: ANN401 (no types)
    config = AutoConfig.from_pretrained(
        base,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id=dict(LABEL_TO_ID),
        problem_type="single_label_classification",
    )
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(config, name, fit.dropout)
    # Paths of this machine must not travel with the model.
    config._name_or_path = ""
    return config


def _class_weights(statements: Sequence[Statement], fit: Fit) -> npt.NDArray[np.float64]:
    """Returns a weight for each label, one on average over the rows."""
    if fit.class_weights == "none":
        return np.ones(len(LABELS))
    counts = Counter(s.label for s in statements)
    return np.array([len(statements) / (len(LABELS) * max(counts[label], 1)) for label in LABELS])


def _triple(row: Mapping[str, Any]) -> tuple[str, Target, Target | None]:
    source = as_target(row["source"], "source") if row["source"] else None
    return row["text"], as_target(row["target"]), source


def _dataset(
    statements: Sequence[Statement],
    encoder: PairEncoder,
    *,
    contrast_weight: float | None = None,
) -> Dataset:
    """Builds what the Trainer samples: units of one row, or for training of one sentence.

    Rows that share a sentence are a unit, so that they meet in one batch and what they have in
    common, the mood of the sentence, cancels out of the gradient.

    Args:
        statements: Labelled statements.
        encoder: Tells how long they are.
        contrast_weight: For training: the weight of rows whose sentence has several labels.
    """
    training = contrast_weight is not None
    units: dict[str, list[int]] = defaultdict(list)
    for row, s in enumerate(statements):
        units[s.text if training else str(row)].append(row)
    pairs = [_triple({"text": s.text, "target": s.target, "source": s.source}) for s in statements]
    lengths = [len(pair) for pair in encoder.encode(pairs)]

    def weight(rows: list[int]) -> float:
        contrasting = len({statements[row].label for row in rows}) > 1
        return contrast_weight if contrasting and contrast_weight is not None else 1.0

    return Dataset.from_list(
        [
            {
                "length": max(lengths[row] for row in rows),
                "rows": [
                    {
                        "row": row,
                        "text": s.text,
                        "target": s.target,
                        "source": s.source,
                        "label": LABEL_TO_ID[s.label] if s.label else None,
                        "weight": weight(rows),
                        "training": training,
                    }
                    for row in rows
                    for s in (statements[row],)
                ],
            }
            for rows in units.values()
        ]
    )


def _validation_metrics(prediction: EvalPrediction) -> dict[str, float]:
    metrics = tone_metrics(softmax(prediction.predictions), prediction.label_ids.argmax(axis=1))
    return {name: metrics[name] for name in ("macro_f1", "accuracy", "ordinal_error", "ece")}


def _last_whole(folder: Path) -> str | None:
    """Returns the newest checkpoint that was written to the end, and deletes broken ones."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for checkpoint in checkpoints:
        if not (checkpoint / _WHOLE).exists():
            shutil.rmtree(checkpoint)
    whole = [c for c in checkpoints if c.exists()]
    return str(whole[-1]) if whole else None


def _save_fitted(fitted: Fitted, folder: Path) -> None:
    """Keeps a finished training, so that a stop in what follows does not cost it."""
    fitted.model.save_pretrained(folder)
    rest = {"temperature": fitted.temperature, "log": fitted.log, "seconds": fitted.seconds}
    write_json(folder / f"{_FITTED}.json", rest)


def _load_fitted(folder: Path, tokenizer: Any) -> Fitted | None:  # noqa: ANN401 (no types)
    """Returns a training that was finished before, or ``None``."""
    if not (folder / f"{_FITTED}.json").is_file():
        return None
    rest = read_json(folder / f"{_FITTED}.json")
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    return Fitted(model.eval(), tokenizer, rest["temperature"], rest["log"], rest["seconds"])


def _check_length(config: Config, model_config: Any) -> None:  # noqa: ANN401 (no types)
    positions = getattr(model_config, "max_position_embeddings", None)
    if positions is not None and config.base.max_tokens > positions:
        raise ConfigError(
            "longer than the base model reads",
            where="base.max_tokens",
            got=config.base.max_tokens,
            expected=f"at most {positions} for {config.base.name}",
        )


def _fit_temperature(trainer: Trainer, validation: Dataset) -> float:
    """Finds the temperature with the least negative log-likelihood on validation.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    output = trainer.predict(validation)
    logits, labels = output.predictions.astype(np.float64), output.label_ids.argmax(axis=1)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        chosen = scaled[np.arange(len(labels)), labels]
        return float((np.logaddexp.reduce(scaled, axis=1) - chosen).mean())

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded").x))


def _fold_temperature(model: torch.nn.Module, temperature: float) -> None:
    """Divides the last linear layer by the temperature, so that plain softmax is calibrated."""
    last = [
        layer
        for layer in model.modules()
        if isinstance(layer, torch.nn.Linear) and layer.out_features == len(LABELS)
    ][-1]
    with torch.no_grad():
        last.weight.div_(temperature)
        if last.bias is not None:
            last.bias.div_(temperature)


def show_progress(visible: bool) -> None:
    """Switches the progress bars of transformers and datasets on or off."""
    import datasets

    if visible:
        transformers_logging.enable_progress_bar()
        datasets.enable_progress_bars()
    else:
        transformers_logging.disable_progress_bar()
        datasets.disable_progress_bars()
