"""Fine-tuning with transformers' Trainer on accelerate: one model from one configuration.

Beside the tone of the sentence an encoder can be asked which words name the target, and what
the tone is at those words (``fit.mention_loss``). Labels of whole sentences alone teach a small
encoder the mood and hardly at all whom it is for; a label on every word makes it match target
and sentence within a few hundred updates. The layers that answer are dropped after training.

A run works in ``<run.dir>.partial`` and moves to ``run.dir`` when it is whole. ``--resume``
continues from the last checkpoint there that is whole (:mod:`train.checkpoints`), and ends on a
processor with the same weights, bit for bit, as if nothing had happened.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from datasets import Dataset
from scipy.optimize import minimize_scalar
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    EarlyStoppingCallback,
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging as transformers_logging

from detente.classifier import softmax
from detente.encoding import as_target
from detente.errors import ConfigError, DataError, DivergedError, TrainingError
from detente.hub import read_json
from detente.labels import LABEL_TO_ID, LABELS
from detente.rows import write_json
from detente.statement import Statement
from train.base_models import find_base_model
from train.batches import Collator, LengthSampler, make_encoder, make_units
from train.checkpoints import is_over, last_whole, mark_whole
from train.config import Config, Fit
from train.layers import keep_layers
from train.lora import merge_adapters, with_adapters
from train.losses import MentionHeads, disagreement, weighted_cross_entropy
from train.stops import StopWhenAsked
from train.tone_metric import merge, tone_metrics
from train.trackers import installed

_FITTED: Final = "fitted"

# What they say is worth something only once they can say it: at the encoder's own rate they
# learn for an epoch before it learns from them.
_NEW_LAYERS_FASTER: Final = 8.0

_SHOWN: Final = 40
"""Characters that a row without an id is called by."""

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


def fit(
    config: Config,
    train: Sequence[Statement],
    validation: Sequence[Statement],
    folder: Path,
    *,
    calibration: Sequence[Statement] | None = None,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> Fitted:
    """Trains one model.

    Args:
        config: The run.
        train: Labelled statements to learn from.
        validation: Labelled statements that choose the checkpoint.
        folder: Where checkpoints go.
        calibration: Labelled statements that choose the temperature; ``validation`` if absent.
        resume: Continue from the last whole checkpoint in ``folder``, if there is one.
        callbacks: Told of every step and evaluation, as the Trainer's own are.

    Raises:
        ConfigError: The configuration does not go with the base model or with this machine.
        DataError: A split is empty.
        ModelError: The base model is not to be had.
        DivergedError: The loss or its gradient is no number any more; the message names the rows.
        StoppedError: SIGTERM has come, and a checkpoint is saved.
        TrainingError: A checkpoint cannot be written.
    """
    for name, split in (
        ("training", train),
        ("validation", validation),
        ("calibration", calibration),
    ):
        if split is not None and not split:
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
    tokenizer = AutoTokenizer.from_pretrained(
        base, model_max_length=config.base.max_tokens, trust_remote_code=False
    )
    if resume and (finished := _load_fitted(folder / _FITTED, tokenizer)):
        return finished
    encoder = make_encoder(tokenizer, config.base.max_tokens)
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        config=_model_config(base, config.fit),
        dtype=torch.float32,
        trust_remote_code=False,
    )
    if config.base.layers is not None:
        keep_layers(model, config.base.layers)
    _check_base(config, model.config)
    if config.fit.embeddings_rate == 0:
        model.get_input_embeddings().requires_grad_(False)
    collator = Collator(
        encoder,
        weights=_class_weights(train, config.fit),
        smoothing=config.fit.label_smoothing,
        source_dropout=config.data.source_dropout,
        absent_targets=0.0 if config.data.withhold_target else config.data.absent_targets,
        target_names=config.data.target_names,
        states=[str(as_target(s.target)) for s in train],
        seed=config.run.seed,
        segments=getattr(model.config, "type_vocab_size", 0) > 1,
        find_mentions=config.fit.mention_loss > 0,
    )
    if config.fit.mention_loss > 0:
        model.mention_heads = MentionHeads(model.config.hidden_size, config.fit.mention_layer)
    if config.fit.lora:
        model = with_adapters(model, config.fit.lora)
    units = make_units(train, encoder, contrast_weight=config.data.contrast_weight)
    # Several processes take turns of batch_size each: together they have one process's batches.
    together = config.fit.batch_size * PartialState().num_processes
    sampler = LengthSampler(units["length"], together, config.run.seed)
    held_out = make_units(validation, encoder)
    stops = StopWhenAsked()
    trainer = _ToneTrainer(
        config.fit,
        sampler,
        [s.id or repr(s.text[:_SHOWN]) for s in train],
        model=model,
        args=_arguments(config, folder),
        train_dataset=units,
        eval_dataset=held_out,
        data_collator=collator,
        compute_loss_func=weighted_cross_entropy,
        compute_metrics=_validation_metrics,
        callbacks=[
            EarlyStoppingCallback(early_stopping_patience=config.fit.patience),
            _Epochs(collator, sampler),
            stops,
            *callbacks,
        ],
    )
    # The main process clears broken checkpoints away before the others look.
    with PartialState().main_process_first():
        checkpoint = last_whole(folder) if resume else None
    if checkpoint and is_over(checkpoint, config.fit.patience):
        trainer.load_best(checkpoint)
    else:
        with stops.listening():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    asked = held_out if calibration is None else make_units(calibration, encoder)
    temperature = _fit_temperature(trainer, asked)
    model = merge_adapters(trainer.model) if config.fit.lora else trainer.model
    if config.fit.mention_loss > 0:
        del model.mention_heads
    _fold_temperature(model, temperature)
    seconds = sum(entry.get("train_runtime", 0.0) for entry in trainer.state.log_history)
    fitted = Fitted(model.cpu(), tokenizer, temperature, trainer.state.log_history, seconds)
    if PartialState().is_main_process:
        _save_fitted(fitted, folder / _FITTED)
    PartialState().wait_for_everyone()
    return fitted


class _ToneTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed here
    """A Trainer with batches of ours that asks about mentions and, if told to, asks twice.

    It stops where what it computes is no number, and keeps no half of a checkpoint.
    """

    def __init__(
        self,
        fit: Fit,
        sampler: LengthSampler,
        names: Sequence[str],
        **arguments: Any,  # noqa: ANN401 (its own)
    ) -> None:
        super().__init__(**arguments)
        self.fit, self.sampler = fit, sampler
        self.names, self._rows = names, list[torch.Tensor]()

    def load_best(self, checkpoint: Path) -> None:
        """Takes over what a training had found that ended with a checkpoint."""
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        self._load_best_model()

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> LengthSampler:
        return self.sampler

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:  # noqa: ANN401 (no types)
        """Returns the Trainer's own, with rates of their own for word embeddings and new layers."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if 0 < self.fit.embeddings_rate < 1:
            words = [p for p in self.model.get_input_embeddings().parameters() if p.requires_grad]
            rate = self.args.learning_rate * self.fit.embeddings_rate
            _at_rate(optimizer, words, rate, decay=self.args.weight_decay)
        if self.fit.mention_loss > 0:
            new = list(self.model.mention_heads.parameters())
            for parameter in new:
                # Adam's steps do not depend on the size of a gradient, but clipping does: those
                # of the new layers are large and would silence the encoder's.
                parameter.register_hook(lambda gradient: 1e-3 * gradient)
            _at_rate(optimizer, new, self.args.learning_rate * _NEW_LAYERS_FASTER, decay=0.0)
        return optimizer

    def compute_loss(
        self,
        model: Any,  # noqa: ANN401 (no types)
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401 (no types)
        """Returns the loss of the tone and, where a batch says what is named, of the mentions."""
        if (rows := inputs.pop("rows", None)) is not None:
            self._rows.append(rows)
        twice = self.fit.r_drop > 0 and model.training
        if twice:
            # Both passes in one: a row and its copy get dropout of their own.
            inputs = {name: torch.cat([tensor, tensor]) for name, tensor in inputs.items()}
            num_items_in_batch = None if num_items_in_batch is None else 2 * num_items_in_batch
        named = inputs.pop("mentions", None)
        if named is None and not twice:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"]
        loss, outputs = super().compute_loss(
            model, {**inputs, "output_hidden_states": named is not None}, True, num_items_in_batch
        )
        # This batch's share in the update, as the Trainer reckons it for the tone.
        share = 1.0 if num_items_in_batch is None else labels.numel() / num_items_in_batch
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            share = share * self.accelerator.num_processes
        if named is not None:
            heads = self.accelerator.unwrap_model(model).mention_heads
            asked = heads.loss(outputs.hidden_states, named, labels)
            loss = loss + self.fit.mention_loss * share * asked
        if twice:
            loss = loss + self.fit.r_drop * share * disagreement(outputs["logits"], labels)
        return (loss, outputs) if return_outputs else loss

    def _clip_grad_norm(self, model: Any) -> Any:  # noqa: ANN401 (no types)
        """Clips before each update; a loss that is no number has a gradient that is none."""
        norm = super()._clip_grad_norm(model)
        if not torch.isfinite(torch.as_tensor(norm)):
            rows = [self.names[int(row)] for row in torch.cat(self._rows).cpu()]
            raise DivergedError(
                "the loss, or its gradient, is no number",
                where=f"update {self.state.global_step + 1}",
                fix="Lower fit.learning_rate, or look at the rows of this batch: "
                + ", ".join(rows),
            )
        self._rows.clear()
        return norm

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ANN401 (no types)
        checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            PartialState().wait_for_everyone()
            if self.is_world_process_zero():
                mark_whole(checkpoint)
        except Exception as error:  # each file's writer has exceptions of its own
            if self.is_world_process_zero():
                shutil.rmtree(checkpoint, ignore_errors=True)
            raise TrainingError(
                f"the checkpoint cannot be written ({error})",
                where=str(checkpoint),
                fix="Make room; those before it are kept, and --resume continues from the last.",
            ) from error


def _at_rate(
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.nn.Parameter],
    rate: float,
    *,
    decay: float,
) -> None:
    """Moves parameters into a group of their own, whose peak is ``rate``."""
    if not parameters:
        return
    moved = {id(parameter) for parameter in parameters}
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in moved]
    optimizer.add_param_group({"params": parameters, "lr": rate, "weight_decay": decay})


class _Epochs(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """Tells what draws which epoch begins; a run resumed within an epoch is still in it."""

    def __init__(self, *drawing: Collator | LengthSampler) -> None:
        self.drawing = drawing

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        for each in self.drawing:
            each.epoch = int((state.epoch or 0) + 1e-6)


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
        bf16=computes_in_bf16(fit.precision),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
        restore_callback_states_from_checkpoint=True,
        logging_steps=20,
        # It would look at each batch's loss, and pass over what is no number.
        logging_nan_inf_filter=False,
        dataloader_pin_memory=gpu,
        # The search begins at the outputs, from where it does not find the layers that are asked
        # about mentions, and takes them for unused. Every layer that is trained is used.
        ddp_find_unused_parameters=False,
        disable_tqdm=not transformers_logging.is_progress_bar_enabled(),
        remove_unused_columns=False,
        label_names=["labels"],
        run_name=config.run.name,
        report_to=installed(config.run.trackers),
    )


def computes_in_bf16(precision: Literal["auto", "fp32", "bf16"]) -> bool:
    """Returns whether a training of this precision computes in bf16 on this machine."""
    return precision == "bf16" or (precision == "auto" and has_bf16())


def has_bf16() -> bool:
    """Returns whether bf16 is computed natively here; emulated it is slower than fp32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older versions of torch do not tell: then fp32.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _model_config(base: Path, fit: Fit) -> Any:  # noqa: ANN401 (no types)
    config = AutoConfig.from_pretrained(
        base,
        trust_remote_code=False,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id=dict(LABEL_TO_ID),
        problem_type="single_label_classification",
    )
    config.hidden_dropout_prob = fit.dropout
    # Any other value keeps torch from its fused attention.
    config.attention_probs_dropout_prob = 0.0
    # Paths of this machine must not travel with the model.
    config._name_or_path = ""
    return config


def _class_weights(statements: Sequence[Statement], fit: Fit) -> npt.NDArray[np.float64]:
    """Returns a weight for each label, one on average over the rows."""
    if fit.class_weights == "none":
        return np.ones(len(LABELS))
    counts = Counter(s.label for s in statements)
    return np.array([len(statements) / (len(LABELS) * max(counts[label], 1)) for label in LABELS])


def _validation_metrics(prediction: EvalPrediction) -> dict[str, float]:
    labels, classes = np.moveaxis(prediction.label_ids, 1, 0)
    metrics = tone_metrics(merge(softmax(prediction.predictions), classes), labels.argmax(axis=1))
    return {name: metrics[name] for name in ("macro_f1", "accuracy", "ordinal_error", "ece")}


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
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False
    )
    return Fitted(model.eval(), tokenizer, rest["temperature"], rest["log"], rest["seconds"])


def _check_base(config: Config, model_config: Any) -> None:  # noqa: ANN401 (no types)
    layers = model_config.num_hidden_layers
    if config.fit.mention_loss > 0 and config.fit.mention_layer > layers:
        raise ConfigError(
            "the base model has fewer layers",
            where="fit.mention_layer",
            got=config.fit.mention_layer,
            expected=f"at most {layers} for {config.base.name}",
        )
    positions = getattr(model_config, "max_position_embeddings", None)
    if positions is not None and config.base.max_tokens > positions:
        raise ConfigError(
            "longer than the base model reads",
            where="base.max_tokens",
            got=config.base.max_tokens,
            expected=f"at most {positions} for {config.base.name}",
        )


def _fit_temperature(trainer: Trainer, asked: Dataset) -> float:
    """Finds the temperature with the least negative log-likelihood on statements.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    output = trainer.predict(asked)
    logits, labels = torch.from_numpy(output.predictions), torch.from_numpy(output.label_ids)

    def loss(log_temperature: float) -> float:
        scaled = {"logits": logits / float(np.exp(log_temperature))}
        return weighted_cross_entropy(scaled, labels).item()

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
