"""make demo: train configs/quick.yaml, show it beside its baselines, and predict with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from detente.classifier import Classifier
from detente.errors import DetenteError
from train.config import load_config
from train.fit import show_progress
from train.run import train

ROOT = Path(__file__).resolve().parents[1]
SENTENCES = (
    ("We are grateful to Oslo for keeping the channel open.", "Norway"),
    ("Minsk has again broken the word it gave us in writing.", "Belarus"),
    ("The two delegations met in Hanoi on Tuesday.", "Vietnam"),
)


def main() -> None:
    """Trains unless the run is there already, then predicts three sentences."""
    os.chdir(ROOT)
    config = load_config(Path("configs/quick.yaml"))
    if config.run.dir.exists():
        print(f"{config.run.dir} is there already; remove it to train again.")
        print((config.run.dir / "report" / "own" / "report.md").read_text("utf-8"))
    else:
        show_progress(sys.stderr.isatty())
        partial = config.run.dir.with_name(f"{config.run.dir.name}.partial")
        train(config, resume=partial.exists())
    classifier = Classifier.load(config.run.dir / "model")
    print("\nThree predictions by the model just trained:")
    for sentence, target in SENTENCES:
        found = classifier.predict(sentence, target)
        print(f"  {found.label:<12} {found.score:+.2f}  toward {found.target}: {sentence}")


if __name__ == "__main__":
    try:
        main()
    except DetenteError as error:
        raise SystemExit(f"demo: {error}") from None
