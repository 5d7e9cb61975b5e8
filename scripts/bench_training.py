"""python -m scripts.bench_training: sentences a second in training, ours against plain Trainer.

The plain side feeds rows as the text-classification example of transformers does by default:
each padded to 128 tokens, in random order. Everything else is the same on both sides: rows,
encoder, frozen embeddings, batch size, precision, optimiser and schedule; so the difference is
what it costs to feed padding. What this project does to rows while it trains (withheld sources,
absent targets) is off, or the two would read different tokens, and so are its further questions.

A run trains for one epoch; its clock covers the epoch with the making of its batches, and
neither evaluation nor saving. The two sides take turns, after a turn each that does not count.

FLOPs of a training step are three forward passes (a backward pass is two). A forward pass costs,
for a sentence of n tokens, 2 n P for the P parameters in the layers' matrices and 4 n² h for the
attention of each layer of width h (Kaplan et al., arXiv 2001.08361, section 2.1, with attention
over all tokens). Only tokens that are not padding count: padding is no work done.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DefaultDataCollator,
    Trainer,
    TrainingArguments,
)

from detente.encoding import Target, as_target, pair_text
from detente.errors import DataError, DetenteError
from detente.labels import LABEL_TO_ID, LABELS
from detente.statement import Statement
from train.base_models import find_base_model
from train.batches import make_encoder
from train.config import Config, Corpus, load_config
from train.corpora import load_corpus
from train.fit import fit, show_progress
from train.stopwatch import Stopwatch

QUICK = Path(__file__).resolve().parents[1] / "configs" / "quick.yaml"
LENGTH = 128
MATRIX = 8192


def ours(config: Config, rows: Sequence[Statement], scratch: Path) -> float:
    """Returns the seconds of an epoch of this project's training."""
    watch = Stopwatch()
    # A few rows to validate on: they are not within the clock.
    fit(config, rows, rows[:8], scratch, callbacks=[watch])
    return watch.marks[-1] - watch.marks[0]


def plain(config: Config, rows: Sequence[Statement], scratch: Path) -> float:
    """Returns the seconds of an epoch of transformers' Trainer on rows padded to 128 tokens."""
    base = find_base_model(config.base.name)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    encoded = tokenizer(
        [row.text for row in rows],
        [pair_text(*triple(row)[1:]) for row in rows],
        padding="max_length",
        truncation=True,
        max_length=LENGTH,
    )
    labels = [LABEL_TO_ID[row.label] for row in rows if row.label]
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(LABELS), dtype=torch.float32, trust_remote_code=False
    )
    model.get_input_embeddings().requires_grad_(config.fit.embeddings_rate > 0)
    watch = Stopwatch()
    arguments = TrainingArguments(
        output_dir=str(scratch),
        seed=config.run.seed,
        num_train_epochs=1,
        per_device_train_batch_size=config.fit.batch_size,
        learning_rate=config.fit.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.fit.warmup,
        weight_decay=config.fit.weight_decay,
        use_cpu=not torch.accelerator.is_available(),
        bf16=config.fit.precision == "bf16",
        save_strategy="no",
        logging_steps=20,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to="none",
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({**encoded, "labels": labels}),
        data_collator=DefaultDataCollator(),
        callbacks=[watch],
    )
    trainer.train()
    return watch.marks[-1] - watch.marks[0]


def triple(row: Statement) -> tuple[str, Target, Target | None]:
    """Returns the sentence, its target and its source, as both sides read them."""
    return row.text, as_target(row.target), as_target(row.source) if row.source else None


def training_flops(config: Config, lengths: Sequence[int]) -> float:
    """Counts the floating-point operations of an epoch: three forward passes.

    Args:
        config: Names the encoder.
        lengths: Tokens of each sentence, padding not counted.
    """
    return 3 * forward_flops(find_base_model(config.base.name), lengths)


def forward_flops(model: Path, lengths: Sequence[int]) -> float:
    """Counts the floating-point operations of a forward pass, by the formula above.

    Args:
        model: A model folder.
        lengths: Tokens of each sentence, padding not counted.
    """
    shape = AutoConfig.from_pretrained(model, trust_remote_code=False)
    h, layers = shape.hidden_size, shape.num_hidden_layers
    parameters = layers * (4 * h * h + 2 * h * shape.intermediate_size)
    return float(sum(2 * n * parameters + 4 * n * n * h * layers for n in lengths))


def matrix_rate() -> float:
    """Measures the device's rate of bf16 matrix products, in FLOPs a second."""
    a = torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16)
    seconds = []
    for _ in range(20):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        a @ a
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return 2 * MATRIX**3 / statistics.median(seconds[5:])


def main(
    rows: Annotated[int, typer.Option(min=8, help="Of our own training sentences.")] = 2000,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each side that count.")] = 5,
    base: Annotated[
        str, typer.Option(help="The encoder.")
    ] = "sentence-transformers/all-MiniLM-L6-v2",
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a step.")] = 16,
    precision: Annotated[str, typer.Option(help="fp32 or bf16; bf16 where there is a GPU.")] = "",
) -> None:
    """Measure the speed of training, ours against plain Trainer padded to 128 tokens."""
    gpu = torch.cuda.is_available()
    config = load_config(
        QUICK,
        [
            f"base.name={base}",
            f"base.max_tokens={LENGTH}",
            f"fit.batch_size={batch_size}",
            f"fit.precision={precision or ('bf16' if gpu else 'fp32')}",
            "fit.epochs=1",
            "data.source_dropout=0",
            "data.absent_targets=0",
            "fit.mention_loss=0",
        ],
    )
    corpus = load_corpus(Corpus(name="own"), None).splits["train"]
    # One row a sentence: ours keeps rows of one sentence in one batch, which would then be larger.
    sample = list({row.text: row for row in corpus}.values())[:rows]
    if len(sample) < rows:
        raise DataError("not so many training sentences", got=rows, expected=f"up to {len(sample)}")
    show_progress(False)
    seconds: dict[str, list[float]] = {"ours": [], "plain Trainer, padded to 128": []}
    for turn in range(repeats + 1):
        for name, side in zip(seconds, (ours, plain), strict=True):
            with tempfile.TemporaryDirectory() as scratch:
                spent = side(config, sample, Path(scratch))
            if turn:
                seconds[name].append(spent)
    report(config, sample, seconds)


def report(config: Config, rows: Sequence[Statement], seconds: dict[str, list[float]]) -> None:
    """Prints the table: medians, the range of the turns, and the ratio."""
    tokenizer = AutoTokenizer.from_pretrained(
        find_base_model(config.base.name), trust_remote_code=False
    )
    encoder = make_encoder(tokenizer, LENGTH)
    lengths = [len(found) for found in encoder.encode([triple(row) for row in rows])]
    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{config.base.name}, {len(rows)} sentences of {statistics.mean(lengths):.1f} tokens, "
        f"batches of {config.fit.batch_size}, {config.fit.precision}, torch {torch.__version__}, "
        f"{device}\n"
    )
    rate = matrix_rate() if gpu else None
    flops = training_flops(config, lengths)
    print("| training | sentences a second | lowest–highest | TFLOP/s | of the matrix rate |")
    print("|---|--:|:-:|--:|--:|")
    for name, turns in seconds.items():
        median = statistics.median(turns)
        spread = f"{len(rows) / max(turns):.0f}–{len(rows) / min(turns):.0f}"
        share = f"{100 * flops / median / rate:.1f} %" if rate else ""
        shown = f"{len(rows) / median:.0f} | {spread} | {flops / median / 1e12:.3f} | {share}"
        print(f"| {name} | {shown} |")
    first, second = (statistics.median(turns) for turns in seconds.values())
    print(f"\nOurs is {second / first:.2f} times as fast; medians of {len(turns)} turns each.")
    if rate:
        print(f"The matrix rate: {rate / 1e12:.0f} TFLOP/s, bf16, {MATRIX} x {MATRIX}, this run.")


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"bench_training: {error}") from None
