"""What is found about a shift: types, and how to read them as a report, a table and a picture."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from detente.errors import InputError, MissingExtraError
from detente.labels import LABELS

if TYPE_CHECKING:
    import pandas as pd

Direction = Literal["conciliatory", "critical"]
Floats = npt.NDArray[np.floating]

COVERAGE: Final = 0.9
"""Of all intervals."""

COLOURS: Final = {"critical": "#b2182b", "neutral": "#bababa", "conciliatory": "#2166ac"}
"""Of the labels; they stay apart for colour-blind readers and in grey."""

_SUFFIXES: Final = (".png", ".svg")
_INK: Final = "#333333"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 90 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Shows the number with its interval, with signs."""
        return f"{self.value:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def estimate(draws: Floats) -> Estimate:
    """Returns the mean of draws, shape (draws,), with their 90 % interval."""
    return Estimate(float(draws.mean()), *interval(draws))


def interval(draws: Floats) -> tuple[float, float]:
    """Returns the middle 90 % of draws, shape (draws,)."""
    low, high = np.quantile(draws, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Level:
    """How a source spoke in a stretch of time, classifier errors taken out.

    Attributes:
        tone: Mean tone, P(conciliatory) − P(critical), in [−1, 1].
        shares: The share of each label, in [0, 1].
        documents: How many documents there are.
        sentences: How many sentences they have on the target.
    """

    tone: Estimate
    shares: dict[str, Estimate]
    documents: int
    sentences: int


@dataclass(frozen=True, slots=True)
class Change:
    """A change of rhetoric.

    Attributes:
        date: The day of the first document of the new segment, at the most probable boundary.
        interval: First and last day of the smallest set of days that holds the change with
            probability 0.9, given that there is one. It reaches back to the day after the
            document before: the tone may have changed on any day since.
        direction: Where the tone moved.
        probability: Posterior probability of that direction.
        effect: Change of the mean tone, in [−2, 2].
        moved: What moved, such as "criticism receded"; empty where no share clearly did.
    """

    date: dt.date
    interval: tuple[dt.date, dt.date]
    direction: Direction
    probability: float
    effect: Estimate
    moved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trend:
    """A gradual change.

    Attributes:
        direction: Where the tone moves.
        slope: Change of the mean predicted tone a year.
    """

    direction: Direction
    slope: float


@dataclass(frozen=True, slots=True)
class PeriodTone:
    """One period of the series.

    Attributes:
        start: Its first day.
        end: The first day after it.
        level: The tone in it; ``None`` where there are no documents.
    """

    start: dt.date
    end: dt.date
    level: Level | None


@dataclass(frozen=True)
class Shift:
    """The answer.

    Attributes:
        verdict: Begins with ``shift toward conciliatory``, ``shift toward critical``,
            ``no shift found`` or ``not enough data``.
        source: Who speaks, as asked for.
        target: Of whom.
        changes: The changes that were found, in order of time; none unless the verdict is a
            shift.
        before: The level before the most probable change, found or not; ``None`` without data.
        after: The level after it.
        effect: The difference of both.
        probability: Posterior probability of at least one change.
        p_value: Against the best explanation without a step.
        null: That explanation.
        p_line: Against a gradual trend, also where trends were not asked about.
        trend: A gradual change, where a line explains the series better than chance (p ≤ 0.05)
            and no step is called.
        series: The tone in each period.
        notes: What a reader must know: merged documents, mixed strata, assumptions.
        evidence: Statements before and after the most probable change: rows with ``when``
            (before or after), ``why`` (typical or extreme), date, speaker, document, text.
    """

    verdict: str
    source: str | None = None
    target: str | None = None
    changes: tuple[Change, ...] = ()
    before: Level | None = None
    after: Level | None = None
    effect: Estimate | None = None
    probability: float | None = None
    p_value: float | None = None
    null: str | None = None
    p_line: float | None = None
    trend: Trend | None = None
    series: tuple[PeriodTone, ...] = ()
    notes: tuple[str, ...] = ()
    evidence: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    @property
    def found(self) -> bool:
        """Whether there is a shift."""
        return self.verdict.startswith("shift toward")

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as values that JSON can hold; dates are ISO text."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def to_frame(self) -> pd.DataFrame:
        """Returns the series: a row a period with tone, shares, their intervals and the volume."""
        import pandas as pd

        return pd.DataFrame.from_records([_flat(period) for period in self.series])

    def to_markdown(self) -> str:
        """Returns the report: verdict, figures, series and evidence."""
        return _markdown(self)

    def plot(self, path: str, *, events: Mapping[dt.date, str] | None = None) -> None:
        """Draws the series with its changes.

        Args:
            path: A ``.png`` or ``.svg`` file.
            events: Days to be marked, with their names.

        Raises:
            InputError: There is no series to draw, or the file is of another kind.
            MissingExtraError: matplotlib is not installed (extra ``analysis``).
        """
        _plot(self, path, events or {})


def _markdown(shift: Shift) -> str:
    parts = [f"# {_title(shift)}", f"**{shift.verdict[0].upper()}{shift.verdict[1:]}.**"]
    if shift.effect is not None:
        parts.append(_figures(shift))
    if shift.changes:
        parts.append(_changes(shift))
    if shift.series:
        parts.append(_series(shift))
    if shift.evidence:
        parts.append(_evidence(shift))
    if shift.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in shift.notes))
    return "\n\n".join(parts) + "\n"


def _plot(shift: Shift, path: str, events: Mapping[dt.date, str]) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError.of("the plot", "analysis") from error
    if not shift.series:
        raise InputError("there is no series to draw", got=shift.verdict)
    if Path(path).suffix not in _SUFFIXES:
        raise InputError("unknown kind of picture", got=path, expected=", ".join(_SUFFIXES))
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    tone, shares, volume = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1.6, 1]}
    )
    draw_tone(tone, shift)
    _draw_shares(shares, shift)
    starts, widths = _bars(shift)
    documents = [p.level.documents if p.level else 0 for p in shift.series]
    volume.bar(starts, documents, widths, align="edge", color=_INK, alpha=0.6)
    volume.set_ylabel("documents")
    for day, name in events.items():
        tone.axvline(day, color=_INK, linewidth=0.8, linestyle=":")
        tone.annotate(
            name, (day, 1), xycoords=("data", "axes fraction"), xytext=(2, -2),
            textcoords="offset points", rotation=90, va="top", fontsize=8, color=_INK,
        )  # fmt: skip
    figure.suptitle(f"{_title(shift)}: {shift.verdict}", x=0.01, ha="left", fontsize=10, wrap=True)
    for axis in (tone, shares, volume):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def _title(shift: Shift) -> str:
    return f"{shift.source or 'All sources'} toward {shift.target or 'all targets'}"


def _figures(shift: Shift) -> str:
    assert shift.before and shift.after  # where there is an effect, there are both
    lines = [
        "| | before | after |",
        "|---|---|---|",
        f"| mean tone | {shift.before.tone} | {shift.after.tone} |",
    ]
    for label in LABELS:
        before, after = _share(shift.before, label), _share(shift.after, label)
        lines.append(f"| {label} | {before} | {after} |")
    for what in ("documents", "sentences"):
        before, after = getattr(shift.before, what), getattr(shift.after, what)
        lines.append(f"| {what} | {before} | {after} |")
    which = "each side of the change" if shift.changes else "each side of the likeliest date"
    doubt = (
        f"Effect {shift.effect}. Posterior probability of at least one change: "
        f"{shift.probability:.3f}; p = {shift.p_value:.3f} against the best explanation without "
        f"a step ({shift.null})."
    )
    if shift.trend:
        doubt += f" Trend: {shift.trend.slope:+.3f} a year in the predicted tone."
    head = f"Levels on {which}, classifier errors taken out; 90 % intervals."
    return "\n".join([head, "", *lines, "", doubt])


def _share(level: Level, label: str) -> str:
    e = level.shares[label]
    return f"{e.value:.0%} ({e.low:.0%} to {e.high:.0%})"


def _changes(shift: Shift) -> str:
    lines = [
        "## Changes",
        "",
        "| date | 90 % set | direction | probability | effect | what moved |",
        "|---|---|---|--:|---|---|",
    ]
    lines += [
        f"| {c.date} | {c.interval[0]} to {c.interval[1]} | {c.direction} | {c.probability:.3f} "
        f"| {c.effect} | {', '.join(c.moved)} |"
        for c in shift.changes
    ]
    return "\n".join(lines)


def _series(shift: Shift) -> str:
    lines = [
        "## Series",
        "",
        "| from | tone | critical | neutral | conciliatory | documents | sentences |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for period in shift.series:
        if level := period.level:
            shares = " | ".join(f"{level.shares[label].value:.0%}" for label in LABELS)
            lines.append(
                f"| {period.start} | {level.tone} | {shares} | {level.documents} "
                f"| {level.sentences} |"
            )
    return "\n".join(lines)


def _evidence(shift: Shift) -> str:
    lines = ["## Evidence"]
    for when in ("before", "after"):
        for why in ("extreme", "typical"):
            found = [e for e in shift.evidence if e["when"] == when and e["why"] == why]
            if found:
                lines += ["", f"### {when.capitalize()}, most {why}", ""]
                lines += [f"- {_quoted(e)}" for e in found]
    return "\n".join(lines)


def _quoted(statement: Mapping[str, Any]) -> str:
    said_by = ", ".join(str(statement[k]) for k in ("speaker", "doc_id") if statement.get(k))
    where = f"{statement['date']}, {said_by}" if said_by else statement["date"]
    score = f" [{statement['score']:+.2f}]" if "score" in statement else ""
    return f"{statement['text']} ({where}){score}"


def _bars(shift: Shift) -> tuple[list[dt.date], list[dt.timedelta]]:
    return [p.start for p in shift.series], [p.end - p.start for p in shift.series]


def draw_tone(axis: Any, shift: Shift) -> None:  # noqa: ANN401 (matplotlib is not typed)
    """Draws the tone in each period with its band, and the changes, into matplotlib axes."""
    # A period without documents breaks line and band: nothing is known of it.
    days = [p.start + (p.end - p.start) / 2 for p in shift.series]
    tones, lows, highs = (
        [getattr(p.level.tone, name) if p.level else math.nan for p in shift.series]
        for name in ("value", "low", "high")
    )
    axis.fill_between(days, lows, highs, color=COLOURS["conciliatory"], alpha=0.2, linewidth=0)
    there = [False, *(p.level is not None for p in shift.series), False]
    # One with nothing on either side has no area that could be filled.
    alone = [at for at in range(len(days)) if there[at : at + 3] == [False, True, False]]
    for at in alone:
        axis.vlines(days[at], lows[at], highs[at], COLOURS["conciliatory"], alpha=0.2, linewidth=4)
    axis.plot(days, tones, color=COLOURS["conciliatory"], marker="o", markersize=2.5, linewidth=1)
    axis.axhline(0, color=_INK, linewidth=0.5)
    for change in shift.changes:
        axis.axvspan(*change.interval, color=COLOURS["critical"], alpha=0.15, linewidth=0)
        axis.axvline(change.date, color=COLOURS["critical"], linewidth=1.2)
        axis.annotate(
            f"{change.date}\n{change.effect.value:+.2f}",
            (change.date, 0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=8,
            color=COLOURS["critical"],
        )
    axis.set_ylim(-1, 1)
    axis.set_ylabel("mean tone\ncritical ← → conciliatory")


def _draw_shares(axis: Any, shift: Shift) -> None:  # noqa: ANN401 (matplotlib is not typed)
    starts, widths = _bars(shift)
    below = [0.0] * len(starts)
    for label in LABELS:
        shares = [p.level.shares[label].value if p.level else 0.0 for p in shift.series]
        axis.bar(starts, shares, widths, below, align="edge", color=COLOURS[label], label=label)
        below = [a + b for a, b in zip(below, shares, strict=True)]
    axis.set_ylim(0, 1)
    axis.set_ylabel("shares")
    axis.legend(ncols=3, fontsize=7, loc="upper left", frameon=False, bbox_to_anchor=(0, 1.3))


def _flat(period: PeriodTone) -> dict[str, Any]:
    row: dict[str, Any] = {"start": period.start, "end": period.end}
    level = period.level
    row |= {
        "documents": level.documents if level else 0,
        "sentences": level.sentences if level else 0,
    }
    if level is not None:
        for name, e in {"tone": level.tone, **level.shares}.items():
            row |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
    return row


def _plain(value: Any) -> Any:  # noqa: ANN401 (any tree)
    """Returns a tree of values that JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dt.date):
        return value.isoformat()
    return value.item() if isinstance(value, np.generic) else value
