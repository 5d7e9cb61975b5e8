"""python -m scripts.simulate_shift [--series 1000] [--only WORD]: how often the verdict is right.

Simulates series of dated documents whose true course is known, as a classifier with known errors
would label them, and reports for each cell of the design: how often a change is found, and how
often it is told from a gradual trend and called a shift (false alarms where there is no step,
power where there is one), how often the 90 % set holds the date and the 90 % interval the effect,
and the median error of the date; beside it what a sup-t test and ruptures (PELT, penalty log n)
call on the same series. Cells that are done are not done again. Writes docs/simulation.md and
its picture.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from tqdm import tqdm

import detente
from detente.dated import as_date
from detente.detection import LEAST, SIGNIFICANCE
from detente.labels import LABELS, tone_score
from detente.prevalence import Confusion
from detente.rows import whole_file, write_json
from detente.shifts import measure
from detente.timeline import Timeline

ROOT = Path(__file__).resolve().parents[1]
DONE = ROOT / "runs" / "simulation"
CRITICAL_VALUE_SERIES = 2000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of series.

    Attributes:
        name: In the table.
        documents: How many.
        sentences: A document has on average; a Poisson number, at least one.
        effect: Of the step on the mean tone.
        restraint: The step turns criticism into neutral words, and not into praise.
        at: Where the step is, as a share of the time.
        accuracy: Of the classifier, the same for each label.
        icc: Intraclass correlation of the true labels within documents.
        trend: Total rise of the mean tone over the whole time.
        season: Amplitude of an annual cycle.
        dependence: Correlation of neighbouring documents' levels (an AR(1) of deviation 0.15).
        bursts: Share of documents that come in three days with a level of their own.
        drift: Accuracy lost over the whole time.
        years: Length of the series.
    """

    name: str
    documents: int = 300
    sentences: float = 3.0
    effect: float = 0.0
    restraint: bool = False
    at: float = 0.5
    accuracy: float = 0.85
    icc: float = 0.2
    trend: float = 0.0
    season: float = 0.0
    dependence: float = 0.0
    bursts: float = 0.0
    drift: float = 0.0
    years: float = 10.0


def cells() -> list[Cell]:
    """Returns the design."""
    base = Cell("")
    none = [
        replace(base, name=f"no change, {n} documents", documents=n) for n in (30, 100, 300, 1000)
    ]
    none += [
        replace(base, name="no change, 5000 documents", documents=5000),
        replace(base, name="no change, accuracy 0.75", accuracy=0.75),
        replace(base, name="no change, ICC 0.5", icc=0.5),
        replace(base, name="no change, neighbours 0.6", dependence=0.6),
        replace(base, name="no change, bursts", bursts=0.2),
        replace(base, name="trend 0.3", trend=0.3),
        replace(base, name="trend 0.6", trend=0.6),
        replace(base, name="trend 1.0", trend=1.0),
        replace(base, name="trend 0.6, 1000 documents", trend=0.6, documents=1000),
        replace(base, name="season 0.15", season=0.15),
        replace(base, name="season 0.3", season=0.3),
        replace(base, name="confusion drifts by 0.1", drift=0.1),
    ]
    steps = [
        replace(base, name=f"step {e}, {n} documents", effect=e, documents=n)
        for n, e in (
            (30, 1.0), (100, 0.5), (100, 0.8), (300, 0.3), (300, 0.5), (1000, 0.2), (5000, 0.2),
        )
    ]  # fmt: skip
    steps += [
        replace(base, name="step 0.5, accuracy 0.75", effect=0.5, accuracy=0.75),
        replace(base, name="step 0.5, accuracy 0.95", effect=0.5, accuracy=0.95),
        replace(base, name="step 0.5 at a quarter", effect=0.5, at=0.25),
        replace(base, name="restraint 0.3", effect=0.3, restraint=True),
        replace(
            base, name="restraint 0.3, 100 documents", effect=0.3, documents=100, restraint=True
        ),
        replace(base, name="step 0.5, season 0.15", effect=0.5, season=0.15),
        replace(base, name="step 0.5, neighbours 0.3", effect=0.5, dependence=0.3),
        replace(base, name="step 0.5, bursts", effect=0.5, bursts=0.2),
    ]
    return none + steps


def _neighbours(cell: Cell, rng: np.random.Generator) -> Floats:
    """Returns levels of documents that resemble those of their neighbours."""
    levels = np.zeros(cell.documents)
    noise = rng.normal(0, 0.15, cell.documents)
    levels[0] = noise[0]
    for i in range(1, cell.documents):
        levels[i] = cell.dependence * levels[i - 1] + np.sqrt(1 - cell.dependence**2) * noise[i]
    return levels


def rates(accuracy: float | Floats) -> Floats:
    """Returns confusion rates, shape (…, 3, 3): errors fall mostly on the next label."""
    right = np.asarray(accuracy, dtype=np.float64)
    wrong = 1 - right
    return np.stack(
        [
            np.stack([right, 0.75 * wrong, 0.25 * wrong], axis=-1),
            np.stack([wrong / 2, right, wrong / 2], axis=-1),
            np.stack([0.25 * wrong, 0.75 * wrong, right], axis=-1),
        ],
        axis=-2,
    )


def simulate(cell: Cell, rng: np.random.Generator) -> tuple[Timeline, int]:
    """Returns a series and the first day after its step."""
    length = int(365.25 * cell.years)
    days = np.sort(rng.integers(0, length, cell.documents))
    if cell.bursts:
        moved = rng.choice(cell.documents, int(cell.bursts * cell.documents), replace=False)
        days[moved] = rng.integers(0, length, 3)[rng.integers(0, 3, len(moved))]
        days.sort()
    time = days / length
    tone = -0.1 + cell.effect * ((time >= cell.at) - 0.5) + cell.trend * (time - 0.5)
    tone += cell.season * np.sin(2 * np.pi * days / 365.25)
    if cell.dependence:
        tone += _neighbours(cell, rng)
    if cell.bursts:
        _, day = np.unique(days, return_inverse=True)
        busy = np.bincount(day)[day] > 3
        tone += busy * rng.normal(0, 0.3, day.max() + 1)[day]
    tone = np.clip(tone, -0.85, 0.85)
    # Four in ten are neutral where the tone allows it.
    neutral = np.minimum(0.4, 1 - np.abs(tone))
    if cell.restraint:
        neutral += cell.effect * ((time >= cell.at) - 0.5)
    shares = np.stack([(1 - neutral - tone) / 2, neutral, (1 - neutral + tone) / 2], axis=1)
    spread = (1 - cell.icc) / cell.icc
    of_document = rng.standard_gamma(np.clip(shares, 1e-6, None) * spread)
    of_document /= of_document.sum(axis=1, keepdims=True)
    sentences = 1 + rng.poisson(cell.sentences - 1, cell.documents)
    true = rng.multinomial(sentences, of_document)
    errors = rates(cell.accuracy - cell.drift * (time - 0.5))
    predicted = sum(rng.multinomial(true[:, k], errors[:, k]) for k in range(len(LABELS)))
    return Timeline(days, np.asarray(predicted, dtype=np.float64)), int(np.ceil(cell.at * length))


def _tones(timeline: Timeline) -> Floats:
    """Returns the mean tone of each document."""
    return np.asarray(tone_score(timeline.counts) / timeline.counts.sum(axis=1))


def one_series(cell: Cell, critical: float, seed: int) -> dict[str, Any]:
    """Returns what is found in one series."""
    rng = np.random.default_rng((sum(map(ord, cell.name)), seed))
    timeline, day = simulate(cell, rng)
    # What the model's card would hold: it was tested on 1,200 statements.
    tested = rng.multinomial(400, rates(cell.accuracy))
    # Detection is the same with and without trends: what a trend explains is asked afterwards.
    found = measure(timeline, Confusion(tested), trends=False, rng=rng)
    change = max(found.changes, key=lambda c: abs(c.effect.value), default=None)
    effect = found.effect
    scores = _tones(timeline)
    return {
        "changed": found.found,
        "called": found.found and found.p_line <= SIGNIFICANCE,
        "not_enough_data": found.verdict.startswith("not enough"),
        "date_error": abs((change.date - as_date(day)).days) if change else None,
        "date_held": change.interval[0] <= as_date(day) <= change.interval[1] if change else None,
        # Of a trend, the change at some date has no true size.
        "effect_held": effect.low <= cell.effect <= effect.high
        if effect and not cell.trend
        else None,
        "effect_width": effect.high - effect.low if effect else None,
        "sup_t": bool(sup_t(scores) > critical),
        "pelt": pelt(scores),
    }


def sup_t(scores: Floats) -> float:
    """Returns the largest t statistic of a step in the documents' mean tones."""
    n, upto = len(scores), scores.cumsum()
    left = np.arange(LEAST, n - LEAST + 1)
    before, after = upto[left - 1] / left, (upto[-1] - upto[left - 1]) / (n - left)
    rest = (scores**2).sum() - left * before**2 - (n - left) * after**2
    error = np.sqrt(rest / (n - 2) * (1 / left + 1 / (n - left)))
    return float((np.abs(after - before) / error).max())


def pelt(scores: Floats) -> bool | None:
    """Returns whether ruptures finds a change, or ``None`` where it is not installed."""
    try:
        import ruptures
    except ImportError:
        return None
    signal = (scores - scores.mean()) / scores.std()
    # With a linear kernel its cost is that of means, and it is written in C: the same boundaries
    # as Pelt(model="l2", jump=1), a thousand times as fast.
    found = ruptures.KernelCPD(kernel="linear", min_size=2).fit(signal)
    return len(found.predict(pen=np.log(len(signal)))) > 1


def critical_value(cell: Cell) -> float:
    """Returns the 95 % quantile of sup-t without any change, season, trend or dependence."""
    plain = Cell("critical", cell.documents, cell.sentences, accuracy=cell.accuracy, icc=cell.icc)
    found = []
    for seed in range(CRITICAL_VALUE_SERIES):
        timeline, _ = simulate(plain, np.random.default_rng((1, seed)))
        found.append(sup_t(_tones(timeline)))
    return float(np.quantile(found, 0.95))


def summary(cell: Cell, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the figures of a cell: shares of series, None where nothing can be said."""

    def share(name: str) -> float | None:
        values = [r[name] for r in results if r[name] is not None]
        return float(np.mean(values)) if values else None

    errors = [r["date_error"] for r in results if r["date_error"] is not None]
    return {
        "cell": asdict(cell),
        "series": len(results),
        "median_date_error_days": float(np.median(errors)) if errors else None,
        **{name: share(name) for name in results[0] if name != "date_error"},
    }


def _method() -> str:
    """Returns a digest of the estimator's code: what another version found is no result."""
    folder = Path(detente.__file__).parent
    modules = ("detection", "nulls", "prevalence", "segments", "timeline")
    sources = b"".join((folder / f"{name}.py").read_bytes() for name in modules)
    return hashlib.sha256(sources).hexdigest()[:8]


def run_cell(cell: Cell, series: int, processes: int) -> dict[str, Any]:
    """Returns the figures of a cell, from disk where this version of the method left them."""
    path = DONE / _method() / f"{cell.name.replace(' ', '_')}-{series}.json"
    if path.is_file() and (made := json.loads(path.read_text("utf-8")))["cell"] == asdict(cell):
        return dict(made)
    work = partial(one_series, cell, critical_value(cell))
    with ProcessPoolExecutor(processes) as pool:
        rows = pool.map(work, range(series), chunksize=max(series // 50, 1))
        results = list(tqdm(rows, total=series, desc=cell.name, leave=False))
    found = summary(cell, results)
    write_json(path, found)
    return found


COLUMNS = {
    "changed": "a change found",
    "called": "and told from a trend",
    "sup_t": "sup-t",
    "pelt": "PELT",
    "date_held": "date in its set",
    "effect_held": "effect in its interval",
}


def markdown(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yields the lines of the tables."""
    for title, changing in (("No step: false alarms", False), ("A step: power", True)):
        yield f"\n## {title}\n"
        yield f"| series | {' | '.join(COLUMNS.values())} | median date error |"
        yield "|---" + "|--:" * (len(COLUMNS) + 1) + "|"
        for f in found:
            if bool(f["cell"]["effect"]) is changing:
                shares = [_percent(f[name], changing or name != "date_held") for name in COLUMNS]
                days = f["median_date_error_days"]
                error = f"{days:.0f} days" if changing and days is not None else ""
                yield f"| {f['cell']['name']} | {' | '.join(shares)} | {error} |"


def _percent(share: float | None, applies: bool) -> str:
    return f"{100 * share:.1f} %" if share is not None and applies else ""


def picture(found: list[dict[str, Any]], path: Path) -> None:
    """Draws how often each cell's series are called, ours beside the other tests."""
    import matplotlib.pyplot as plt

    kinds = [
        [f for f in found if bool(f["cell"]["effect"]) is changing] for changing in (False, True)
    ]
    heights = [len(kind) + 2 for kind in kinds]
    figure, axes = plt.subplots(
        2, 1, figsize=(8, max(0.28 * sum(heights), 4)), height_ratios=heights, layout="constrained"
    )
    for axis, kind, title in zip(axes, kinds, ("No step", "A step"), strict=True):
        for name, marker in (("sup_t", "|"), ("pelt", "x"), ("changed", "o"), ("called", "s")):
            axis.plot(
                [100 * f[name] if f[name] is not None else np.nan for f in kind],
                range(len(kind)),
                marker,
                label=COLUMNS[name],
            )
        axis.set_yticks(range(len(kind)), [f["cell"]["name"] for f in kind])
        axis.invert_yaxis()
        axis.set_xlim(-2, 102)
        axis.axvline(80 if title == "A step" else 5, color="0.7", linewidth=0.8)
        axis.set_title(f"{title}: share of series called, %", loc="left", fontsize="medium")
        axis.grid(axis="x", color="0.93")
    names, labels = axes[0].get_legend_handles_labels()
    figure.legend(names, labels, loc="outside lower center", ncols=4, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(
    series: Annotated[int, typer.Option(min=1, help="Series in each cell.")] = 1000,
    only: Annotated[str, typer.Option(help="Only cells with this in their name.")] = "",
    processes: Annotated[int, typer.Option(min=1, help="At a time.")] = 2,
    out: Annotated[Path, typer.Option(help="The table.")] = ROOT / "docs" / "simulation.md",
) -> None:
    """Simulate series with a known course and tell how often the verdict is right."""
    found = []
    for cell in tqdm([c for c in cells() if only in c.name], unit="cell"):
        found.append(run_cell(cell, series, processes))
        row = max(markdown(found[-1:]), key=len)
        tqdm.write(row, file=sys.stderr)
    if not only:
        with whole_file(out) as file:
            text = __doc__.split("\n\n")[1].rsplit(". Cells that", 1)[0]
            shown = "![Share of series called](images/simulation.png)"
            head = ["# Series whose course is known", "", text + ".", "", shown]
            file.write("\n".join([*head, *markdown(found), ""]))
        picture(found, out.parent / "images" / "simulation.png")


if __name__ == "__main__":
    typer.run(main)
