"""Did a state's rhetoric toward another shift, when, by how much, and how sure is that?

How it is found, with formulas, assumptions and sources, is in ``docs/shift.md``; in short:
documents are the unit, a change is called where the exact posterior over segmentations *and* a
block bootstrap against trend, season and dependence agree, and levels carry the classifier's
own errors.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from detente import hub
from detente.dated import (
    add_labels,
    as_date,
    documents_of,
    labels_are_true,
    read_table,
    select,
    strata_of,
    without_learned,
)
from detente.detection import LEAST, POSTERIOR, SIGNIFICANCE, Detection, detect
from detente.errors import InputError
from detente.findings import COVERAGE, Change, Level, PeriodTone, Shift, Trend, estimate, interval
from detente.labels import LABELS, tone_score
from detente.nulls import NullTest
from detente.prevalence import Confusion, draw_shares
from detente.sampled import Sample, sample_of
from detente.timeline import Timeline

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Period = Literal["auto", "week", "month", "quarter", "year"]

_LEAST_DOCUMENTS: Final = 20
_DRAWS: Final = 1000
_DRAWS_OF_SERIES: Final = 300
_EXAMPLES: Final = 3
_MOST_PERIODS: Final = 120
_PERIODS: Final = {"week": "W", "month": "M", "quarter": "Q", "year": "Y"}
_CLEAR_MIX: Final = 0.3
_OVERLAP: Final = 0.1

# A change of half a unit, a quarter of the scale, is one that readers notice; a series that
# would not show it says nothing by showing none. 3.6: what it takes to be found in four of five
# series (2.8 standard errors at a known date, 0.8 more for not knowing it).
_NOTICEABLE: Final = 0.5
_ERRORS_NEEDED: Final = 3.6

# What the best of many boundaries explains of a series without a step, as a chi-square.
_BY_CHANCE: Final = 5.0


def shift(
    rows: Any,  # noqa: ANN401 (see Args)
    *,
    source: str | None = None,
    target: str | None = None,
    start: dt.date | None = None,
    end: dt.date | None = None,
    period: Period = "auto",
    trends: bool = True,
    model: str = hub.DEFAULT,
    confusion: Confusion | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Shift:
    """Tells whether a source's rhetoric toward a target shifted.

    Args:
        rows: Dated statements: a file, a DataFrame, or statements or mappings in memory. They
            are scored unless they have labels. Labels without a sign of a model (a column
            ``model``, ``score`` or ``p_critical`` …) are taken as a person's, without error.
            A random sample with ``true_label`` and ``sampling_probability`` corrects the levels.
        source: The state that speaks; ``None`` takes every row.
        target: The state it speaks of; ``None`` takes every row.
        start: The first day of the window.
        end: Its last day.
        period: Length of the periods of the series; ``"auto"`` goes by how dense they are.
        trends: A step must also be told from a gradual trend. For a step in the middle that takes,
            in theory, four times as many documents; without it a long drift is called a shift.
        model: The model that scores, or that scored: its confusion counts are used.
        confusion: Other confusion counts.
        seed: Of all draws: the same rows and seed give the same answer.
        progress: Show a progress bar while scoring.

    Raises:
        InputError: The rows cannot be read, have no dates, or none has the source and target.
        ModelError: The model is not there, or has no confusion counts.
        MissingExtraError: pandas, scipy or pyarrow are not installed (extra ``analysis``).
    """
    if period not in ("auto", *_PERIODS):
        raise InputError("unknown period", got=period, expected="auto, " + ", ".join(_PERIODS))
    table = select(read_table(rows), source, target, start, end)
    prepared = prepare(table, model, confusion, progress=progress)
    found = answer(prepared, period=period, trends=trends, seed=seed)
    if source is not None and "source" not in table:
        note = f"The rows have no column source: all of them were taken for words of {source}."
        found = replace(found, notes=(*found.notes, note))
    return replace(found, source=source, target=target)


def answer(
    prepared: Prepared, *, period: Period = "auto", trends: bool = True, seed: int = 0
) -> Shift:
    """Answers for rows that are prepared; the arguments are those of :func:`shift`."""
    rng = np.random.default_rng(seed)
    sample = prepared.sample
    found, main = _measure(prepared.timeline, prepared.confusion, trends, rng, sample)
    found = replace(found, notes=prepared.notes)
    if main is None:
        return found
    if sample is not None:
        used = "corrects" if sample.enough(*main.documents) else "is too small to correct"
        note = f"A labelled sample of {sample.labelled.sum()} statements {used} the levels."
        found = replace(found, notes=(*found.notes, note))
    table, document, drawn = prepared.table, prepared.document, prepared.confusion.draw
    mixed, mixes = _mixed_strata(table, document, main)
    if mixed and found.found:
        found = replace(found, verdict=f"not enough data: {mixed}", changes=())
    return replace(
        found,
        notes=(*found.notes, *mixes),
        series=_series(prepared.timeline, period, drawn(_DRAWS_OF_SERIES, rng), rng),
        evidence=tuple(_evidence(table, document, main)),
    )


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows of one source and target, ready to be analysed.

    Attributes:
        timeline: Their documents.
        confusion: How their labels err.
        table: The rows, labelled.
        document: Shape (rows,): the place of each in the timeline, -1 for a repeated sentence.
        sample: Statements that a person labelled, if any.
        notes: What was merged or left out.
    """

    timeline: Timeline
    confusion: Confusion
    table: pd.DataFrame
    document: npt.NDArray[np.int64]
    sample: Sample | None
    notes: tuple[str, ...]


def prepare(
    table: pd.DataFrame, model: str, confusion: Confusion | None, *, progress: bool = False
) -> Prepared:
    """Labels rows, leaves out what the model learned, and groups the rest into documents.

    Args:
        table: Of :func:`detente.dated.select`.
        model: See :func:`shift`.
        confusion: See :func:`shift`.
        progress: Show a progress bar while scoring.

    Raises:
        InputError: The rows cannot be read, or the model learned all of them.
        ModelError: The model is not there, or has no confusion counts.
    """
    notes: list[str] = []
    if confusion is None and _says_true(table):
        confusion = Confusion.perfect()
        notes.append("The labels are taken as true: nothing in the rows says that a model ran.")
    elif confusion is None:
        _check_model(table, model)
        folder = hub.locate(model)
        confusion = Confusion.of_settings(folder.settings, str(folder.path / hub.SETTINGS))
        table, learned = without_learned(table, folder)
        if learned:
            notes.append(f"{learned} sentences that the model learned from were left out.")
        if table.empty:
            raise InputError("the model learned from every one of the sentences", got=learned)
    table = add_labels(table, model, progress=progress)
    timeline, document, merged = documents_of(table)
    if merged:
        notes.append(f"{merged} documents that repeat others were merged with them.")
    sample = sample_of(table, document, len(timeline))
    return Prepared(timeline, confusion, table, document, sample, tuple(notes))


def change_at(
    timeline: Timeline, rates: Floats, date: dt.date, rng: np.random.Generator
) -> Floats | None:
    """Draws how the true mean tone changes at a given date.

    Args:
        timeline: The documents.
        rates: Shape (draws, 3, 3), as :meth:`Confusion.draw` returns them.
        date: The first day after the change.
        rng: Draws.

    Returns:
        Shape (draws,), in [−2, 2]; ``None`` where fewer than ``LEAST`` documents are on a side.
    """
    after = timeline.days >= np.datetime64(date, "D").astype(np.int64)
    if min(after.sum(), (~after).sum()) < LEAST:
        return None
    effective = timeline.effective(timeline.correlation(np.flatnonzero(after)[:1]))
    sides = np.stack([effective[~after].sum(axis=0), effective[after].sum(axis=0)])
    shares = draw_shares(sides, rates, rng)
    return np.asarray(tone_score(shares[:, 1] - shares[:, 0]))


def measure(
    timeline: Timeline,
    confusion: Confusion,
    *,
    trends: bool = True,
    rng: np.random.Generator,
) -> Shift:
    """Answers for a timeline of predicted labels alone, without series and evidence.

    Args:
        timeline: The documents.
        confusion: How the labels err.
        trends: See :func:`shift`.
        rng: Draws.
    """
    return _measure(timeline, confusion, trends, rng)[0]


def _measure(
    timeline: Timeline,
    confusion: Confusion,
    trends: bool,
    rng: np.random.Generator,
    sample: Sample | None = None,
) -> tuple[Shift, _Move | None]:
    """Returns the answer, and the largest change or the likeliest place of one."""
    if lacking := _lacking(timeline, confusion):
        return _no_answer(lacking), None
    found = detect(timeline, rng=rng)
    if found is None:
        return _no_answer(f"no day has {LEAST} documents on either side of it"), None
    rates = confusion.draw(_DRAWS, rng)
    called = found.told(trends=trends)
    moves = _moves(timeline, found, called, rates, rng, sample)
    main = max(moves, key=lambda move: abs(move.change.effect.value))
    shifted = called and main.change.probability >= POSTERIOR
    trend = None if called else _trend(found.test)
    if shifted:
        verdict = _verdict(main.change)
    elif called:
        verdict = (
            f"no shift found: the mix of labels changed about {main.change.date}, but not "
            "clearly the mean tone"
        )
    elif found.changed and found.test.step >= found.test.line:
        verdict = (
            f"not enough data: the tone moved toward {main.change.direction}, but {len(timeline)} "
            f"documents do not tell a step about {main.change.date} from a gradual trend"
        )
        needed = len(timeline) * _ERRORS_NEEDED**2 / max(found.test.beyond - _BY_CHANCE, 1)
        # Where more than one step hides in what looks like a trend, more of the same does not help.
        if needed > len(timeline):
            verdict += f"; about {_rounded(needed)} would"
    elif trend and found.test.line > found.test.step:
        verdict = f"no shift found, gradual trend toward {trend.direction}"
    elif (needed := _documents_needed(timeline, found, rates)) > len(timeline):
        verdict = (
            f"not enough data: a change of {_NOTICEABLE} would show in about {_rounded(needed)} "
            f"documents, and there are {len(timeline)}"
        )
    else:
        verdict = "no shift found"
    result = Shift(
        verdict=verdict,
        changes=tuple(m.change for m in moves) if shifted else (),
        before=main.before,
        after=main.after,
        effect=main.change.effect,
        probability=found.segmentation.any_change,
        p_value=found.test.p_value(trends=trends),
        null=found.test.null(trends=trends),
        p_line=found.test.p_line,
        trend=trend,
    )
    return result, main


def _no_answer(reason: str) -> Shift:
    return Shift(f"not enough data: {reason}")


@dataclass(frozen=True, slots=True)
class _Move:
    """A change with the levels around it.

    ``documents`` are the first one before it, the first one after it, and the end.
    """

    change: Change
    before: Level
    after: Level
    documents: tuple[int, int, int]


def _moves(
    timeline: Timeline,
    found: Detection,
    called: bool,
    rates: Floats,
    rng: np.random.Generator,
    sample: Sample | None,
) -> list[_Move]:
    """Measures each change that is called, or else the most probable single one.

    Each draw takes a place for the boundary from its posterior, confusion rates, and the true
    shares on either side.
    """
    segmentation, starts = found.segmentation, found.starts
    boundaries, places = segmentation.boundaries, segmentation.places
    if not called:
        places = segmentation.one[None]
        boundaries = (int(segmentation.one.argmax()),)
    upto = np.vstack(
        [np.zeros(len(LABELS)), np.add.reduceat(found.effective, starts).cumsum(axis=0)]
    )
    firsts = np.append(starts, len(timeline))
    moves = []
    for low, at, high, place in zip(
        (0, *boundaries), boundaries, (*boundaries[1:], len(starts)), places, strict=False
    ):
        inside = np.zeros(len(place))
        inside[low + 1 : high] = place[low + 1 : high]
        drawn = rng.choice(len(place), size=len(rates), p=inside / inside.sum())
        documents = (int(firsts[low]), int(firsts[at]), int(firsts[high]))
        if sample is not None and sample.enough(*documents):
            worth = found.effective.sum(axis=1) / timeline.counts.sum(axis=1)
            shares = sample.draw_shares(
                timeline.counts, worth, documents[0], firsts[drawn], documents[2], rng
            )
        else:
            predicted = np.stack([upto[drawn] - upto[low], upto[high] - upto[drawn]], axis=1)
            shares = draw_shares(predicted, rates, rng)
        before, after = (
            _level(shares[:, side], timeline.counts[documents[side] : documents[side + 1]])
            for side in (0, 1)
        )
        first, last = _smallest_set(inside / inside.sum())
        moves.append(
            _Move(
                _change(
                    shares[:, 1] - shares[:, 0],
                    as_date(timeline.days[documents[1]]),
                    # The tone may have changed on any day since the document before.
                    (
                        as_date(timeline.days[starts[first] - 1] + 1),
                        as_date(timeline.days[starts[last]]),
                    ),
                ),
                before,
                after,
                documents,
            )
        )
    return moves


def _change(moved: Floats, date: dt.date, held: tuple[dt.date, dt.date]) -> Change:
    """Describes a change from draws of how far each share moved, shape (draws, 3)."""
    effects = tone_score(moved)
    up = float((effects > 0).mean())
    words = []
    for label, fell, rose in (
        ("critical", "criticism receded", "criticism rose"),
        ("conciliatory", "conciliation receded", "conciliation rose"),
    ):
        low, high = interval(moved[:, LABELS.index(label)])
        if low > 0 or high < 0:
            words.append(rose if low > 0 else fell)
    return Change(
        date=date,
        interval=held,
        direction="conciliatory" if up >= 0.5 else "critical",
        probability=max(up, 1 - up),
        effect=estimate(effects),
        moved=tuple(words),
    )


def _level(shares: Floats, counts: Floats) -> Level:
    """Describes a stretch from draws of its true shares, shape (draws, 3)."""
    return Level(
        tone=estimate(tone_score(shares)),
        shares={label: estimate(shares[:, i]) for i, label in enumerate(LABELS)},
        documents=len(counts),
        sentences=int(counts.sum()),
    )


def _smallest_set(probabilities: Floats) -> tuple[int, int]:
    """Returns the first and the last of the fewest places that hold the coverage."""
    order = np.argsort(-probabilities, kind="stable")
    needed = int(np.searchsorted(probabilities[order].cumsum(), COVERAGE)) + 1
    return int(order[:needed].min()), int(order[:needed].max())


def _verdict(change: Change) -> str:
    what = f": {' and '.join(change.moved)}" if change.moved else ""
    return f"shift toward {change.direction}{what}"


def _trend(test: NullTest) -> Trend | None:
    if test.p_of_line > SIGNIFICANCE:
        return None
    return Trend("conciliatory" if test.slope > 0 else "critical", test.slope)


def _says_true(table: pd.DataFrame) -> bool:
    """Returns whether all rows have labels, and nothing says that a model gave them."""
    return "label" in table and bool(table["label"].notna().all()) and labels_are_true(table)


def _check_model(table: pd.DataFrame, model: str) -> None:
    if "model" in table:
        others = sorted(set(table["model"].dropna()) - {model})
        if others:
            raise InputError(
                "the rows were scored by another model than the one whose errors are known",
                got=", ".join(map(str, others)),
                expected=model,
                fix=f"Name it: model={others[0]!r}.",
            )


def _lacking(timeline: Timeline, confusion: Confusion) -> str | None:
    """Returns why nothing can be said at all, or ``None``."""
    if len(timeline) < _LEAST_DOCUMENTS:
        return f"{len(timeline)} documents, and at least {_LEAST_DOCUMENTS} are needed"
    if timeline.days[0] == timeline.days[-1]:
        return f"all documents are of one day, {as_date(timeline.days[0])}"
    return confusion.problem


def _rounded(documents: float) -> str:
    """Returns a number of documents to two digits, upwards: more would say too much."""
    step = 10 ** max(len(str(int(documents))) - 2, 0)
    return f"{int(-(-documents // step) * step):,}"


def _documents_needed(timeline: Timeline, found: Detection, rates: Floats) -> float:
    """Returns how many documents like these would show a noticeable change."""
    worth = found.effective.sum(axis=1)
    tones = tone_score(found.effective) / worth
    spread = np.sqrt(np.cov(tones, aweights=worth))
    # What is left of a change after the classifier's errors, half of it in either tone.
    mean = tone_score(rates.mean(axis=0))
    visible = _NOTICEABLE * (mean[-1] - mean[0]) / 2
    needed = (2 * _ERRORS_NEEDED * spread / visible) ** 2 * (worth**2).sum() / worth.sum() ** 2
    return float(needed * len(timeline))


def _mixed_strata(
    table: pd.DataFrame, document: npt.NDArray[np.int64], move: _Move
) -> tuple[str | None, list[str]]:
    """Returns why strata leave nothing to say of a change, if so, and notes on their mix."""
    import pandas as pd

    low, at, high = move.documents
    notes: list[str] = []
    for name in strata_of(table):
        sides = [
            table[name][(document >= a) & (document < b)].astype(str).value_counts()
            for a, b in ((low, at), (at, high))
        ]
        both = pd.concat(sides, axis=1).fillna(0).to_numpy()
        enough = max(LEAST, _OVERLAP * both.sum(axis=0).min())
        if not (both.min(axis=1) >= enough).any():
            return f"about {move.change.date} all of the {name} changes, too", notes
        apart = float(np.abs(np.diff(both / both.sum(axis=0), axis=1)).sum() / 2)
        if apart > _CLEAR_MIX:
            notes.append(
                f"About {move.change.date} the mix of {name} changes, too, for {apart:.0%} of the "
                "sentences: compare within each."
            )
    return None, notes


def _series(
    timeline: Timeline, period: Period, rates: Floats, rng: np.random.Generator
) -> tuple[PeriodTone, ...]:
    import pandas as pd

    days = pd.to_datetime(timeline.days, unit="D")
    frequency = _PERIODS[period] if period != "auto" else _density(days)
    periods = days.to_period(frequency)
    codes = periods.astype("int64") - periods.min().ordinal
    counts = np.zeros((codes.max() + 1, len(LABELS)))
    effective = timeline.effective(timeline.correlation(np.empty(0, dtype=np.int64)))
    np.add.at(counts, codes, effective)
    filled = np.flatnonzero(counts.sum(axis=1) > 0)
    shares = draw_shares(counts[filled], rates, rng)
    levels: dict[int, Level] = {
        int(code): _level(shares[:, i], timeline.counts[codes == code])
        for i, code in enumerate(filled)
    }
    every = pd.period_range(periods.min(), periods.max(), freq=frequency)
    return tuple(
        PeriodTone(p.start_time.date(), (p + 1).start_time.date(), levels.get(code))
        for code, p in enumerate(every)
    )


def _density(days: pd.DatetimeIndex) -> str:
    """Returns the shortest period that mostly has some documents and is not too often there."""
    for frequency in _PERIODS.values():
        periods = days.to_period(frequency)
        every = periods.max().ordinal - periods.min().ordinal + 1
        if every <= _MOST_PERIODS and len(days) / every >= LEAST:
            return frequency
    return "Y"


def _evidence(
    table: pd.DataFrame, document: npt.NDArray[np.int64], move: _Move
) -> list[dict[str, Any]]:
    """Returns statements on either side of a change: the most extreme, and the most typical."""
    if "text" not in table:
        return []
    scores = (
        table["score"].astype(float)
        if "score" in table
        else table["label"].map(dict(zip(LABELS, tone_score(np.eye(len(LABELS))), strict=True)))
    )
    rows = table.assign(score=scores, place=document)
    sign = 1.0 if move.change.direction == "conciliatory" else -1.0
    low, at, high = move.documents
    chosen = []
    for when, first, end, level, extreme in (
        ("before", low, at, move.before, -sign),
        ("after", at, high, move.after, sign),
    ):
        side = rows[(rows["place"] >= first) & (rows["place"] < end)]
        orders = {
            "extreme": side["score"] * -extreme,
            "typical": (side["score"] - level.tone.value).abs(),
        }
        for why, order in orders.items():
            one_each = side.loc[order.sort_values(kind="stable").index].drop_duplicates("place")
            for _, row in one_each.head(_EXAMPLES).iterrows():
                names = ("speaker", "doc_id", "id", "score", "label", "text")
                found = {name: row[name] for name in names if name in row}
                date = as_date(row["day"]).isoformat()
                chosen.append({"when": when, "why": why, "date": date, **found})
    return chosen
