"""python -m scripts.bench_plv_four --root FOLDER [--base NAME]: PLV's four classes, five folds.

Verbal and material cooperation, verbal and material conflict are not tones: a demand and a blow
are both critical. So this is no model of detente but its encoder, its pairs and its folds with a
head of four classes, for a figure beside published ones. A plain Trainer with the settings of
configs/plv.yaml learns from all other folds, without a choice of epochs on validation.

Each fold's probabilities stay in --work and are not made again.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import torch
import typer
from sklearn.metrics import f1_score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)

from detente.encoding import EncodedPair, as_target
from detente.errors import DetenteError
from detente.rows import whole_file
from detente.statement import Statement
from scripts.benchmark import slug
from train.base_models import find_base_model
from train.batches import make_encoder
from train.config import FOLDS, Config, load_config
from train.corpora.series import text_hash
from train.data import load_data
from train.fit import computes_in_bf16, show_progress

ROOT: Final = Path(__file__).resolve().parents[1]
CLASSES: Final = ("1", "2", "3", "4")
"""Of ``gold_penta``: verbal and material cooperation, verbal and material conflict."""

Probabilities = npt.NDArray[np.float32]


def main(
    root: Annotated[Path, typer.Option(help="The folder of the public corpora.")],
    base: Annotated[
        str, typer.Option(help="The encoder.")
    ] = "sentence-transformers/all-mpnet-base-v2",
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SECTION.KEY=VALUE",
            help="Settings in place of plv.yaml's and of fit.learning_rate=4e-5, for mpnet.",
        ),
    ] = None,
    work: Annotated[Path, typer.Option(help="Keeps what is finished.")] = Path("runs/plv-four"),
) -> None:
    """Train and test on PLV's four classes, by folds and seeds."""
    show_progress(False)
    figures: list[float] = []
    for seed in range(seeds):
        truth: list[int] = []
        said: list[int] = []
        for fold in range(FOLDS):
            settings = [
                "fit.learning_rate=4e-5",
                *(overrides or ()),
                f"data.root={root}",
                f"data.corpora=[{{name: plv, hold_out: {{fold: {fold}}}}}]",
                f"base.name={base}",
                f"run.seed={seed}",
            ]
            config = load_config(ROOT / "configs" / "plv.yaml", settings)
            data = load_data(config)
            learned, test = [*data.all("train"), *data.all("validation")], data.all("test")
            done = work / f"{slug(Path(base).name)}-{seed}-{fold}-{text_hash(str(config))}.npy"
            if not done.exists():
                found = probabilities(config, learned, test)
                with whole_file(done, binary=True) as file:
                    np.save(file, found)
                print(f"seed {seed}, fold {fold}: {macro_f1(classes(test), found):.1f}", flush=True)
            truth += classes(test)
            said += np.load(done).argmax(axis=1).tolist()
        figures.append(100 * f1_score(truth, said, average="macro"))
    spread = f" ± {statistics.stdev(figures):.1f}" if seeds > 1 else ""
    print(
        f"PLV, four classes, {FOLDS} folds, {len(truth)} rows, {base}, {seeds} seeds: "
        f"macro-F1 {statistics.mean(figures):.1f}{spread}"
    )


def probabilities(
    config: Config, learned: Sequence[Statement], test: Sequence[Statement]
) -> Probabilities:
    """Trains on some statements and returns the probabilities of others, shape (rows, 4)."""
    base = find_base_model(config.base.name)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    encoder = make_encoder(tokenizer, config.base.max_tokens)
    fit = config.fit

    def units(statements: Sequence[Statement]) -> list[dict[str, Any]]:
        pairs = [
            (s.text, as_target(s.target), as_target(s.source) if s.source else None)
            for s in statements
        ]
        rows = zip(encoder.encode(pairs), classes(statements), strict=True)
        return [{"pair": pair, "label": label} for pair, label in rows]

    torch.manual_seed(config.run.seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(CLASSES), dtype=torch.float32, trust_remote_code=False
    )
    model.get_input_embeddings().requires_grad_(fit.embeddings_rate > 0)
    segments = getattr(model.config, "type_vocab_size", 0) > 1

    def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        encoded: list[EncodedPair] = [row["pair"] for row in rows]
        batch = {k: torch.from_numpy(v) for k, v in encoder.collate(encoded).items()}
        if not segments:
            del batch["token_type_ids"]
        return batch | {"labels": torch.tensor([row["label"] for row in rows])}

    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=scratch,
                seed=config.run.seed,
                num_train_epochs=fit.epochs,
                per_device_train_batch_size=fit.batch_size,
                learning_rate=fit.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=fit.warmup,
                weight_decay=fit.weight_decay,
                label_smoothing_factor=fit.label_smoothing,
                use_cpu=not torch.accelerator.is_available(),
                bf16=computes_in_bf16(fit.precision),
                save_strategy="no",
                remove_unused_columns=False,
                disable_tqdm=True,
                report_to="none",
            ),
            train_dataset=units(learned),
            data_collator=collate,
        )
        trainer.train()
        logits = torch.from_numpy(trainer.predict(units(test)).predictions)
    found: Probabilities = torch.softmax(logits.float(), dim=-1).numpy()
    return found


def classes(statements: Sequence[Statement]) -> list[int]:
    """Returns the class of each statement as a number from 0."""
    return [CLASSES.index(s.extra["gold_penta"]) for s in statements]


def macro_f1(truth: Sequence[int], found: Probabilities) -> float:
    """Returns macro-F1 over the four classes, in percent."""
    return 100 * float(f1_score(truth, found.argmax(axis=1), average="macro"))


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"bench_plv_four: {error}") from None
