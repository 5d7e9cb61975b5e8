"""python -m scripts.benchmark --root FOLDER: every corpus that is there, one table.

Two kinds of lines, each with the command behind it: the bundled model and the baselines on the
test split of each corpus; and trainings, over seeds: on the corpus itself, with a fold, a period,
a source or a debate held out after the other, and without the corpus they are tested on. What is
finished stays in --work and is not done again, so that a stop costs little: each training goes on
where it was, and more seeds add to those there are. Another bundled model is measured anew.
"""

from __future__ import annotations

import json
import shlex
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import typer

from detente.classifier import Classifier
from detente.errors import ConfigError, DetenteError
from detente.hub import DEFAULT, MANIFEST, locate, sha256
from detente.labels import LABELS
from detente.rows import read_rows, whole_file, write_json
from detente.statement import Statement
from train.baselines import BASELINES
from train.config import FOLDS, Config, Corpus, CorpusName, HoldOut, load_config
from train.corpora import LoadedCorpus, load_corpus
from train.corpora.series import text_hash
from train.data import load_data
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
Probabilities = npt.NDArray[np.float64]

_HEADS: Final = ("corpus", "system", "rows", "macro-F1", "95 % interval", "±", "command")


# Every row of the archive is in one period, three quarters of them are of these sources.
_PERIODS: Final = ((1945, 1980), (1981, 1991), (1992, 2006), (2007, 2016), (2017, 2026))
_SOURCES: Final = ("RUS", "USA", "SUN", "CHN")

By = Literal["fold", "period", "source", "debate"]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A training whose figures stand in the table.

    Attributes:
        system: What to call it.
        corpus: What it is tested on.
        config: Its configuration, by stem.
        overrides: Settings in place of the file's.
        beside: What else it learns from.
        unseen: It does not learn from the corpus that it is tested on.
        by: Hold out one part of the corpus after the other, by so many runs a seed; each row is
            tested on once.
        tfidf: Put TF-IDF beside it, trained on the same rows.
    """

    system: str
    corpus: CorpusName
    config: str
    overrides: tuple[str, ...] = ()
    beside: tuple[CorpusName, ...] = ()
    unseen: bool = False
    by: By | None = None
    tfidf: bool = False

    @property
    def part(self) -> str:
        """The corpus, and what of it is held out."""
        return f"{self.corpus}, other {self.by}s" if self.by else self.corpus

    def needs(self) -> tuple[CorpusName, ...]:
        """Returns the corpora that have to be there."""
        return (self.corpus, *self.beside)

    def runs(self, root: Path, work: Path, seed: int) -> Iterator[tuple[str, Config]]:
        """Yields what is held out, and the run, of each run of one seed."""
        for hold_out in _hold_outs(self.by, root):
            tested = {"name": self.corpus, "train": not self.unseen}
            tested |= {"hold_out": hold_out.model_dump(mode="json")} if hold_out else {}
            corpora = [tested, *({"name": name, "test": False} for name in self.beside)]
            name = "-".join([self.slug, str(seed), *([str(hold_out)] if hold_out else [])])
            settings = [
                *self.overrides,
                f"data.corpora={json.dumps(corpora)}",
                f"data.root={root}",
                f"run.seed={seed}",
                f"run.dir={work / name}",
                # Both are measured here, over all runs together.
                "evaluate.baselines=[]",
                "evaluate.contracts=null",
                # What a file names may be absent here, or have a part held out and another name.
                "evaluate.representative=null",
            ]
            yield str(hold_out or ""), load_config(self.path, settings)

    @property
    def path(self) -> Path:
        """The configuration's file."""
        return ROOT / "configs" / f"{self.config}.yaml"

    @property
    def slug(self) -> str:
        """A name for files; other settings have another, and are trained anew."""
        settings = text_hash(f"{self}{self.path.read_text('utf-8')}")
        return slug(f"{self.config} {self.corpus} {self.system} {settings}")

    @property
    def command(self) -> str:
        """How one of its runs is started."""
        extra = " data.corpora=…" if self.by or self.beside or self.unseen else ""
        settings = shlex.join(self.overrides)
        return f"python -m train configs/{self.config}.yaml {settings}".strip() + extra


_LARGE: Final = ("base.name=sentence-transformers/all-mpnet-base-v2", "fit.learning_rate=4e-5")
EXPERIMENTS: Final = (
    Experiment("MiniLM", "official", "default", beside=("own",)),
    Experiment("mpnet", "official", "teacher", beside=("own",)),
    Experiment("MiniLM", "official", "default", beside=("own",), by="period", tfidf=True),
    Experiment("MiniLM", "official", "default", beside=("own",), by="source", tfidf=True),
    Experiment(
        "MiniLM that never saw it", "official", "default", beside=("own", "newsmtsc"), unseen=True
    ),
    Experiment(
        "MiniLM that never saw it", "own", "default", beside=("official", "newsmtsc"), unseen=True
    ),
    Experiment("MiniLM", "newsmtsc", "default"),
    Experiment("mpnet", "newsmtsc", "teacher"),
    Experiment(
        "MiniLM that never saw it", "newsmtsc", "default", beside=("official", "own"), unseen=True
    ),
    Experiment("MiniLM", "dse2qa", "default"),
    Experiment("MiniLM", "plv", "plv", by="fold", tfidf=True),
    Experiment("mpnet", "plv", "plv", _LARGE, by="fold"),
    Experiment("MiniLM", "umuc", "default", by="debate", tfidf=True),
    Experiment(
        "MiniLM and what may be shipped",
        "umuc",
        "default",
        beside=("official", "own"),
        by="debate",
    ),
)


def main(
    root: Annotated[Path, typer.Option(help="The folder of the public corpora.")],
    work: Annotated[Path, typer.Option(help="Keeps what is finished.")] = Path("runs/benchmark"),
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each training.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="Corpora; all by default.")] = None,
    trained: Annotated[bool, typer.Option(help="Also what has to be trained.")] = True,
    page: Annotated[Path, typer.Option(help="Where the table goes.")] = PAGE,
) -> None:
    """Measure the bundled model and the published trainings on every corpus there is."""
    show_progress(False)
    root = root.resolve()
    if unknown := sorted({*(only or ())} - {*CORPORA}):
        raise ConfigError("no such corpus", where="--only", got=unknown, expected=str(CORPORA))
    there = [name for name in CORPORA if name == "own" or (root / name).is_dir()]
    if missing := [name for name in CORPORA if name not in there]:
        print(f"not in {root}, and left out: {', '.join(missing)}")
    wanted = [name for name in there if not only or name in only]
    model = sha256(locate(DEFAULT).path / MANIFEST)[:12]
    for name in wanted:
        if not (done := work / f"bundled-{model}-{name}.json").exists():
            write_json(done, list(_bundled(name, root)))
            print(f"measured: the bundled model on {name}", flush=True)
    for experiment in EXPERIMENTS if trained else ():
        done = _done(experiment, work, seeds)
        if experiment.corpus in wanted and {*experiment.needs()} <= {*there} and not done.exists():
            write_json(done, list(_trained(experiment, root, work, seeds)))
            print(f"measured: {experiment.system} on {experiment.part}", flush=True)
    finished = list(work.glob(f"bundled-{model}-*.json"))
    for experiment in EXPERIMENTS:
        # Of the same training over more seeds and over fewer, the former.
        most = max((n for n in range(1, 100) if _done(experiment, work, n).exists()), default=None)
        finished += [_done(experiment, work, most)] if most else []
    rows = [row for path in finished for row in json.loads(path.read_text("utf-8"))]
    with whole_file(page) as file:
        file.write(render(rows))
    print(f"written: {page}")


def _done(experiment: Experiment, work: Path, seeds: int) -> Path:
    return work / f"trained-{experiment.slug}-{seeds}.json"


def _hold_outs(by: By | None, root: Path) -> list[HoldOut | None]:
    """Returns what is held out, run by run; nothing if the corpus's own test split is tested on."""
    if by is None:
        return [None]
    if by == "fold":
        return [HoldOut(fold=fold) for fold in range(FOLDS)]
    if by == "period":
        return [HoldOut(period=period) for period in _PERIODS]
    if by == "source":
        return [HoldOut(source=source) for source in _SOURCES]
    splits = load_corpus(Corpus(name="umuc"), root).splits
    debates = {s.extra["debate"] for statements in splits.values() for s in statements}
    return [HoldOut(debate=debate) for debate in sorted(debates)]


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
        "seeds, with the interval of its first one; those that were not run are not here. ± is the",
        "standard deviation over seeds or, of one run alone, over the parts that were held out.",
        "",
        "*Other folds*, *other periods*, *other sources* and *other debates*: trained on all but",
        "the part that is tested on, one part after the other. Four classes of PLV are no tones:",
        "`python -m scripts.bench_plv_four --root FOLDER` gives the same encoder, pairs and folds",
        "a head of four classes, for a figure beside published ones.",
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


def _trained(
    experiment: Experiment, root: Path, work: Path, seeds: int
) -> Iterator[dict[str, Any]]:
    """Trains over seeds, and yields lines: of all rows together, and of each part held out.

    Of parts held out by fold there is only the line of all.
    """
    contrast = load_corpus(Corpus(name=experiment.corpus), root).info.contrast
    # By what is held out: the rows, and what each system says of them, a seed after the other.
    rows: dict[str, Sequence[Statement]] = {}
    said: dict[str, dict[str, list[Probabilities]]] = {MODEL: defaultdict(list)}
    for seed in range(seeds):
        for held_out, config in experiment.runs(root, work, seed):
            said[MODEL][held_out].append(_predicted(config))
            if held_out not in rows:
                data = load_data(config)
                rows[held_out] = data.splits[data.corpora[0].info.name]["test"]
                if experiment.tfidf:
                    guess = BASELINES["tfidf"](data.all("train"), rows[held_out])
                    said.setdefault("tfidf", defaultdict(list))[held_out].append(guess)
    parts = {experiment.part: list(rows)}
    if experiment.by not in (None, "fold"):
        parts |= {f"{experiment.corpus}, {name}": [name] for name in rows}

    def measured(names: Sequence[str], run: Sequence[Probabilities]) -> dict[str, Any]:
        statements = [s for name in names for s in rows[name]]
        systems = {MODEL: np.concatenate(run)}
        metrics: dict[str, Any] = evaluate("", statements, systems, contrast=contrast).metrics[
            MODEL
        ]
        return metrics

    for part, names in parts.items():
        for system, by_name in said.items():
            runs = list(zip(*(by_name[name] for name in names), strict=True))
            found = [measured(names, run) for run in runs]
            spread = [m["macro_f1"] for m in found]
            if len(runs) == 1 and len(names) > 1:
                of_parts = zip(names, runs[0], strict=True)
                spread = [measured([name], [p])["macro_f1"] for name, p in of_parts]
            seeds_of = f" ({len(runs)} seed{'s' * (len(runs) > 1)})"
            yield {
                "corpus": experiment.corpus,
                "part": part,
                "system": experiment.system + seeds_of if system == MODEL else system,
                "rows": found[0]["rows"],
                "macro_f1": statistics.mean(m["macro_f1"] for m in found),
                "interval": found[0]["macro_f1_interval"],
                "deviation": statistics.stdev(spread) if len(spread) > 1 else None,
                "command": experiment.command,
            }


def _predicted(config: Config) -> Probabilities:
    """Returns what a run says of its test rows; trains it first, if it is not there."""
    if not config.run.dir.exists():
        train(config, resume=True)
        # Only what it said is needed again, and dozens of encoders would fill a disk.
        shutil.rmtree(config.run.dir / "model")
    found = [row for _, row in read_rows(config.run.dir / "predictions.jsonl")]
    return np.array([[row[f"p_{label}"] for label in LABELS] for row in found])


def slug(words: str) -> str:
    """Returns words as part of a file name."""
    return "-".join("".join(c if c.isalnum() else " " for c in words.lower()).split())


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"benchmark: {error}") from None
