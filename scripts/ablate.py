"""python -m scripts.ablate [configs/ablations.yaml] --root FOLDER: what each setting is worth.

Trains every variant of a base configuration with several seeds, and prints the mean and standard
deviation of macro-F1 on validation rows: all of them, and those whose sentence stands with two
targets and different labels. The table never holds a figure of the test split: who chooses by it
has nothing left to report. Losers stay in the table as well as winners.

What is finished stays in --work and is not done again; of a finished run the weights are dropped.
"""

from __future__ import annotations

import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from pydantic import Field, ValidationError

from detente.classifier import Classifier
from detente.errors import ConfigError, DetenteError
from detente.hub import read_json
from detente.rows import whole_file, write_json
from detente.statement import Statement
from scripts.benchmark import slug
from train.batches import classes_of, withhold_targets
from train.config import Config, Folder, Section, explain, load_config, read_yaml
from train.data import load_data
from train.fit import show_progress
from train.run import train
from train.tone_metric import labels_of, merge, probabilities_of, tone_metrics

ROOT: Final = Path(__file__).resolve().parents[1]
# A run is judged by validation rows alone: what else it could report only takes time.
_BARE: Final = ("evaluate.baselines=[]", "evaluate.contracts=null", "evaluate.bootstrap=100")
_HEADS: Final = ("variant", "settings", "validation", "against the first", "two targets",
                 "against the first")  # fmt: skip


class Ablations(Section):
    """What is tried.

    Attributes:
        config: The base configuration.
        seeds: Of each variant.
        variants: Settings in place of the base's, by the variant's name. The first is what the
            others are compared with.
    """

    config: Folder
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1, strict=False)
    variants: dict[str, Annotated[tuple[str, ...], Field(strict=False)]] = Field(min_length=1)


def load_ablations(path: Path) -> Ablations:
    """Reads what is tried, and checks every variant before anything is trained.

    Raises:
        ConfigError: The file or a variant is wrong, or two variants have one name for their files.
    """
    try:
        found = Ablations.model_validate(read_yaml(path))
    except ValidationError as error:
        raise explain(error, str(path), Ablations) from None
    for settings in found.variants.values():
        load_config(found.config, settings)
    names = [slug(name) for name in found.variants]
    if len(set(names)) < len(names) or not all(names):
        raise ConfigError("the variants' names are too much alike", where=str(path), got=names)
    return found


def runs(
    ablations: Ablations, overrides: Sequence[str], work: Path
) -> Iterator[tuple[str, Config]]:
    """Yields the run of each variant and seed: first the first seed of all variants."""
    for seed in ablations.seeds:
        for name, settings in ablations.variants.items():
            run = [f"run.seed={seed}", f"run.dir={work / f'{slug(name)}-{seed}'}"]
            yield name, load_config(ablations.config, [*overrides, *settings, *_BARE, *run])


def finished(config: Config) -> dict[str, Any] | None:
    """Returns the figures of a run that was measured before, or ``None``.

    Raises:
        ConfigError: It had other settings.
    """
    path = _figures_file(config)
    if not path.is_file():
        return None
    found = read_json(path)
    if Config.model_validate(found["config"]) != config:
        raise ConfigError(
            "the variant was measured with other settings",
            where=str(path),
            fix="Give the variant another name, or remove that file and its folder.",
        )
    return found


def measure(config: Config) -> dict[str, Any]:
    """Trains a run, or goes on with it, and returns its figures on validation."""
    if not config.run.dir.exists():
        train(config, resume=True)
    model = config.run.dir / "model"
    statements = load_data(config).all("validation")
    shown = withhold_targets(statements) if config.data.withhold_target else statements
    p = probabilities_of(Classifier.load(str(model)).predict_batch(shown))
    found = figures(statements, p) | {"config": config.to_yaml()}
    write_json(_figures_file(config), found)
    shutil.rmtree(model)
    return found


def figures(
    statements: Sequence[Statement], probabilities: np.ndarray[Any, np.dtype[np.float64]]
) -> dict[str, Any]:
    """Returns rows and macro-F1 of all statements, and of those that only their target tells apart.

    Args:
        statements: Labelled, with ``extra["contrast"]`` as :func:`train.data.load_data` gives it.
        probabilities: Shape (statements, 3).
    """
    labels = labels_of(statements)
    merged = merge(probabilities, np.array([classes_of(s.extra["contrast"]) for s in statements]))
    said: dict[str, set[str | None]] = defaultdict(set)
    for s in statements:
        said[s.text].add(s.label)
    two = np.array([len(said[s.text]) > 1 for s in statements])
    return {
        "rows": len(labels),
        "macro_f1": tone_metrics(merged, labels)["macro_f1"],
        "two_target_rows": int(two.sum()),
        "two_target_macro_f1": tone_metrics(merged[two], labels[two])["macro_f1"]
        if two.any()
        else None,
    }


def render(ablations: Ablations, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Returns the page: the first variant, and the others from the best to the worst.

    Args:
        ablations: What was tried.
        found: The figures of each variant, a seed after the other as in ``ablations.seeds``.
    """
    first, *others = found
    reference = found[first]
    others.sort(key=lambda name: -statistics.mean(f["macro_f1"] for f in found[name]))
    rows, two = reference[0]["rows"], reference[0]["two_target_rows"]
    lines = [
        "# What was tried",
        "",
        f"Macro-F1 in percent on validation rows ({rows:,}, of which {two:,} stand in sentences",
        f"with two targets and different labels), mean ± standard deviation over "
        f"{len(ablations.seeds)} seeds;",
        "differences are seed by seed. Validation also chose each run's checkpoint; the test split",
        f"was not looked at. Settings are in place of those of `{ablations.config}`; made by",
        "`python -m scripts.ablate`.",
        "",
        f"| {' | '.join(_HEADS)} |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name in (first, *others):
        cells = [name, ", ".join(f"`{s}`" for s in ablations.variants[name])]
        for key in ("macro_f1", "two_target_macro_f1"):
            values, before = ([f[key] for f in found[n]] for n in (name, first))
            differences = [b - a for a, b in zip(before, values, strict=True) if None not in (a, b)]
            cells.append(_spread(values))
            cells.append("" if name == first else _spread(differences, "+"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float | None], sign: str = "") -> str:
    """Returns the mean and, of several values, the standard deviation, in percent."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{statistics.mean(known):{sign}.1f}"
    return f"{mean} ± {statistics.stdev(known):.1f}" if len(known) > 1 else mean


def _figures_file(config: Config) -> Path:
    return config.run.dir.with_name(f"{config.run.dir.name}.json")


def main(
    ablations: Annotated[
        Path, typer.Argument(help="A base configuration, seeds and variants.")
    ] = ROOT / "configs" / "ablations.yaml",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Settings for all variants."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="The folder of the public corpora.")] = None,
    work: Annotated[Path, typer.Option(help="Keeps what is finished.")] = Path("runs/ablations"),
    page: Annotated[
        Path | None, typer.Option(help="Where the table goes, as docs/ablations.md; else printed.")
    ] = None,
) -> None:
    """Train variants of a configuration over seeds, and compare them on validation."""
    show_progress(False)
    wanted = load_ablations(ablations)
    settings = [*(overrides or ()), *([f"data.root={root}"] if root else ())]
    # All are checked before the first is trained.
    plan = [(name, config, finished(config)) for name, config in runs(wanted, settings, work)]
    left = sum(done is None for _, _, done in plan)
    print(f"{len(plan)} runs, {left} of them to train")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted.variants}
    for name, config, done in plan:
        found[name].append(done or measure(config))
        print(f"{name}, seed {config.run.seed}: {100 * found[name][-1]['macro_f1']:.1f}")
    text = render(wanted, found)
    if page is None:
        print(f"\n{text}")
        return
    with whole_file(page) as file:
        file.write(text)
    print(f"written: {page}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"ablate: {error}") from None
