"""A shift as a report to read and as a picture."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from detente.errors import InputError, MissingExtraError
from detente.labels import LABELS

if TYPE_CHECKING:
    from detente.shifts import Level, Shift

COLOURS: Final = {"critical": "#b2182b", "neutral": "#bababa", "conciliatory": "#2166ac"}
"""Of the labels; they stay apart for colour-blind readers and in grey."""

_SUFFIXES: Final = (".png", ".svg")
_INK: Final = "#333333"


def to_markdown(shift: Shift) -> str:
    """Returns the report of a shift as Markdown."""
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


def plot(shift: Shift, path: str, *, events: Mapping[dt.date, str]) -> None:
    """Draws the series with its band, the changes with their dates, and the volume.

    Args:
        shift: With a series.
        path: A ``.png`` or ``.svg`` file.
        events: Days to be marked, with their names.

    Raises:
        InputError: There is no series to draw, or the file is of another kind.
        MissingExtraError: matplotlib is not installed (extra ``analysis``).
    """
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
    _draw_tone(tone, shift)
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


def _draw_tone(axis: Any, shift: Shift) -> None:  # noqa: ANN401 (matplotlib is not typed)
    there = [(p.start + (p.end - p.start) / 2, p.level) for p in shift.series if p.level]
    days = [day for day, _ in there]
    axis.fill_between(
        days,
        [level.tone.low for _, level in there],
        [level.tone.high for _, level in there],
        color=COLOURS["conciliatory"],
        alpha=0.2,
        linewidth=0,
    )
    tones = [level.tone.value for _, level in there]
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
