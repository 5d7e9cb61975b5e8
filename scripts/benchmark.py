"""python -m scripts.benchmark --root FOLDER: every corpus that is there, one table.

Two kinds of lines, each with the command behind it: the bundled model and the baselines on the
test split of each corpus; and trainings, over seeds and folds. What is finished stays in --work and
is not done again, so that a stop costs one line; another bundled model is measured anew.
"""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from detente.classifier import Classifier
from detente.errors import DetenteError
from detente.hub import DEFAULT, MANIFEST, locate, sha256
from detente.labels import LABELS
from detente.rows import read_rows, whole_file, write_json
from detente.statement import Statement
from train.baselines import BASELINES
from train.config import FOLDS, Corpus, CorpusName, load_config
from train.corpora import LoadedCorpus, load_corpus
from train.evaluation import MODEL, evaluate
from train.fit import show_progress
from train.leaks import remove_leaks
from train.run import train
from train.tone_metric import probabilities_of

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "benchmark.md"
CORPORA: Final[tuple[CorpusName, ...]] = (
    "official", "own", "newsmtsc", "dse2qa", "plv", "multicoped", "umuc",
)  # fmt: skip
_HEADS: Final = ("corpus", "system", "rows", "macro-F1", "95 % interval", "± over seeds", "command")


@dataclass(frozen=True, slots=True)
class Experiment:
    """A training whose figure stands in the table.

    Attributes:
        system: What to call it.
        corpus: What it is tested on.
        config: Its configuration, by stem.
        overrides: Settings in place of the file's.
        folds: Test on every row once, by five runs a seed.
    """

    system: str
    corpus: CorpusName
    config: str
    overrides: tuple[str, ...] = ()
    folds: bool = False

    def runs(self, root: Path, work: Path, seed: int) -> Iterator[tuple[Path, list[str]]]:
        """Yields the folder and the settings of each run of one seed."""
        for fold in range(FOLDS) if self.folds else (None,):
            name = f"{self.config}-{_slug(self.system)}-{seed}"
            settings = [*self.overrides, f"data.root={root}", f"run.seed={seed}"]
            if fold is not None:
                name += f"-fold-{fold}"
                corpora = f"[{{name: {self.corpus}, hold_out: {{fold: {fold}}}}}]"
                settings.append(f"data.corpora={corpora}")
            yield work / name, [*settings, f"run.dir={work / name}"]


EXPERIMENTS: Final = (
    Experiment("MiniLM, trained on the other folds", "plv", "plv", folds=True),
    Experiment(
        "mpnet, trained on the other folds",
        "plv",
        "plv",
        ("base.name=sentence-transformers/all-mpnet-base-v2", "fit.learning_rate=4e-5"),
        folds=True,
    ),
)


def main(
    root: Annotated[Path, typer.Option(help="The folder of the public corpora.")],
    work: Annotated[Path, typer.Option(help="Keeps what is finished.")] = Path("runs/benchmark"),
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each training.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="Corpora; all by default.")] = None,
    trained: Annotated[bool, typer.Option(help="Also what has to be trained.")] = True,
) -> None:
    """Measure the bundled model and the published trainings on every corpus there is."""
    show_progress(False)
    wanted = [name for name in CORPORA if not only or name in only]
    model = sha256(locate(DEFAULT).path / MANIFEST)[:12]
    for name in wanted:
        if not (done := work / f"bundled-{model}-{name}.json").exists():
            write_json(done, list(_bundled(name, root)))
            print(f"measured: the bundled model on {name}")
    for experiment in EXPERIMENTS if trained else ():
        done = work / f"trained-{experiment.config}-{_slug(experiment.system)}.json"
        if experiment.corpus in wanted and not done.exists():
            write_json(done, [_trained(experiment, root, work, seeds)])
            print(f"measured: {experiment.system} on {experiment.corpus}")
    finished = [*work.glob(f"bundled-{model}-*.json"), *work.glob("trained-*.json")]
    rows = [row for path in finished for row in json.loads(path.read_text("utf-8"))]
    with whole_file(PAGE) as file:
        file.write(render(rows))
    print(f"written: {PAGE.relative_to(ROOT)}")


def render(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the page: a line a system, those of one corpus together."""
    order = {name: place for place, name in enumerate(CORPORA)}
    lines = [
        "# Benchmark",
        "",
        "Macro-F1 in percent over the classes that the corpus tells apart ([corpora](corpora.md)),",
        "95 % intervals by bootstrap over documents or groups, made by",
        "`make benchmark ROOT=FOLDER`. Baselines learn from the corpus's own training split; the",
        "bundled model never saw plv, dse2qa, multicoped and umuc. A training is a mean over",
        "seeds, with the interval of its first one; those that were not run are not here.",
        "",
        f"| {' | '.join(_HEADS)} |",
        "|---|---|--:|--:|:-:|--:|---|",
    ]
    for row in sorted(rows, key=lambda r: (order[r["corpus"]], r["part"], -r["macro_f1"])):
        low, high = row["interval"]
        deviation = "" if row["deviation"] is None else f"{100 * row['deviation']:.1f}"
        cells = [
            row["part"],
            row["system"],
            f"{row['rows']:,}",
            f"{100 * row['macro_f1']:.1f}",
            # Rows of a single document or debate can only be drawn all together.
            f"{100 * low:.1f}–{100 * high:.1f}" if low < high else "one group",
            deviation,
            f"`{row['command']}`",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _bundled(name: CorpusName, root: Path) -> Iterator[dict[str, Any]]:
    """Yields lines of the bundled model and the baselines on a corpus."""
    corpus = load_corpus(Corpus(name=name), root)
    splits = remove_leaks({name: corpus.splits})[0][name]
    classifier = Classifier.load()
    for part, test in _parts(name, splits["test"]):
        systems = {MODEL: probabilities_of(classifier.predict_batch(test))}
        systems |= {system: guess(splits["train"], test) for system, guess in BASELINES.items()}
        yield from _lines(name, part, corpus, test, systems)
    if not corpus.info.shippable:
        # Nothing that is bundled learned from it: every row can be asked for.
        for part, rows in _parts(name, [s for split in corpus.splits.values() for s in split]):
            systems = {MODEL: probabilities_of(classifier.predict_batch(rows))}
            systems["lexicon"] = BASELINES["lexicon"]([], rows)
            yield from _lines(name, f"{part}, all splits", corpus, rows, systems)


def _parts(
    name: CorpusName, statements: Sequence[Statement]
) -> Iterator[tuple[str, Sequence[Statement]]]:
    """Yields statements as they are, and those that are between states or of words alone."""
    yield name, statements
    if name == "dse2qa":
        yield "dse2qa, states", [s for s in statements if s.extra["states"]]
    if name == "plv":
        yield "plv, words", [s for s in statements if s.extra["gold_penta"] in ("1", "3")]


def _lines(
    name: CorpusName,
    part: str,
    corpus: LoadedCorpus,
    statements: Sequence[Statement],
    systems: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    found = evaluate(part, statements, systems, contrast=corpus.info.contrast).metrics
    for system, m in found.items():
        yield {
            "corpus": name,
            "part": part,
            "system": "bundled model" if system == MODEL else system,
            "rows": m["rows"],
            "macro_f1": m["macro_f1"],
            "interval": m["macro_f1_interval"],
            "deviation": None,
            "command": f"python -m scripts.benchmark --root FOLDER --only {name} --no-trained",
        }


def _trained(experiment: Experiment, root: Path, work: Path, seeds: int) -> dict[str, Any]:
    """Trains over seeds and folds, and returns the line: the mean over seeds."""
    corpus = load_corpus(Corpus(name=experiment.corpus), root)
    config = f"configs/{experiment.config}.yaml"
    found = []
    for seed in range(seeds):
        statements: list[Statement] = []
        probabilities: list[list[float]] = []
        for folder, settings in experiment.runs(root.resolve(), work, seed):
            if not folder.exists():
                train(load_config(ROOT / config, settings), resume=True)
            for _, row in read_rows(folder / "predictions.jsonl"):
                extra = {"cluster": row["cluster"]}
                label = row["gold"]
                statements.append(Statement(row["text"], row["target"], label=label, extra=extra))
                probabilities.append([row[f"p_{name}"] for name in LABELS])
        systems = {MODEL: np.array(probabilities)}
        found.append(
            evaluate(experiment.corpus, statements, systems, contrast=corpus.info.contrast)
        )
    figures = [e.metrics[MODEL]["macro_f1"] for e in found]
    settings = shlex.join(experiment.overrides)
    return {
        "corpus": experiment.corpus,
        "part": experiment.corpus,
        "system": f"{experiment.system} ({seeds} seeds)",
        "rows": found[0].metrics[MODEL]["rows"],
        "macro_f1": statistics.mean(figures),
        "interval": found[0].metrics[MODEL]["macro_f1_interval"],
        "deviation": statistics.stdev(figures) if seeds > 1 else None,
        "command": f"python -m train {config} {settings}".strip()
        + (" data.corpora=… for each fold" if experiment.folds else ""),
    }


def _slug(words: str) -> str:
    """Returns words as part of a file name."""
    return "-".join("".join(c if c.isalnum() else " " for c in words.lower()).split())


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"benchmark: {error}") from None
