"""python -m scripts.russia_us --root FOLDER: Moscow's words about Washington, 2012 to 2025.

The worked example that detente was built for, from the series alone: the Kremlin toward the United
States in English transcripts to 2022 and in Russian originals of 2025, scored by one model that
reads both. Writes the page, its picture and the scored rows without their text. What it says of
single statements it says by id and date: the text is not ours.
"""

from __future__ import annotations

import datetime as dt
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from detente import hub
from detente.classifier import Classifier
from detente.errors import DataError, DetenteError, InputError
from detente.findings import Change, Level, PeriodTone, Shift
from detente.labels import LABELS
from detente.rows import at_row, read_csv, read_statements, whole_file, write_jsonl
from detente.shifts import shift
from detente.statement import Statement, text_hash
from train.corpora import cell, decode

SERIES: Final = {"en": "kremlin_en.jsonl", "ru": "kremlin_ru_2025.jsonl"}
"""The files of the series, by their language."""

FIRST: Final = dt.date(2012, 1, 1)
INVASION: Final = dt.date(2022, 2, 24)
EVENTS: Final = {
    dt.date(2014, 3, 18): "annexation of Crimea",
    dt.date(2017, 1, 20): "Trump takes office",
    dt.date(2021, 1, 20): "Biden takes office",
    INVASION: "invasion of Ukraine",
    dt.date(2025, 1, 20): "Trump takes office again",
}
_LABELS: Final = {label: label for label in LABELS}
PRESS_SERVICE: Final = ("Presidential Press Service", "Пресс-служба")
ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "russia-us.md"
READINGS: Final = ROOT / "data" / "annotations" / "kremlin_us_2025.csv"
"""How readers labelled the statements of 2025: see ``data/README.md``."""

PICTURE: Final = "images/russia-us.png"


@dataclass(frozen=True, slots=True)
class Answers:
    """What was asked, and what came out.

    Attributes:
        whole: From 2012 to 2025.
        regardless: The same if a change of language is let pass.
        recent: From 2022 on: the last English year and the Russian one.
        english: To 2022, by the same model.
        bundled: The same rows by the bundled English model.
        last: The year 2025 alone.
    """

    whole: Shift
    regardless: Shift
    recent: Shift
    english: Shift
    bundled: Shift
    last: PeriodTone


def scored(root: Path, model: str, languages: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the statements about the United States since :data:`FIRST`, scored.

    Those whose labels the model learned are left out: its errors on them are not its own.

    Raises:
        DataError: A file is missing, or a row cannot be read.
        ModelError: There is no such model.
    """
    path = hub.locate(model).path / hub.LEARNED
    learned = set(path.read_text("utf-8").split()) if path.is_file() else set()
    rows: list[tuple[str, Statement]] = []
    for language in languages:
        path = root / "series" / SERIES[language]
        if not path.is_file():
            raise DataError("no such corpus file", where=str(path), fix="Pass --root FOLDER.")
        rows += [
            (language, s)
            for s in read_statements(path)
            if (s.source, s.target) == ("RUS", "USA")
            and s.date is not None
            and s.date >= FIRST
            and text_hash(s.text) not in learned
        ]
    classifier = Classifier.load(model)
    found = classifier.predict_batch([s for _, s in rows], progress=True)
    return [
        s.to_row()
        | {"language": language, "model": classifier.name, "label": p.label, "score": p.score}
        | {f"p_{label}": p.probabilities[label] for label in LABELS}
        for (language, s), p in zip(rows, found, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Reading:
    """A scored statement beside the labels of its readers.

    Attributes:
        first: The first reader's label.
        second: The second reader's.
        settled: The label both gave, or that of a third reading.
        predicted: The model's.
    """

    first: str
    second: str
    settled: str
    predicted: str


def readings(path: Path, rows: Sequence[Mapping[str, Any]]) -> list[Reading]:
    """Returns those of the rows that were read, by id and hash of their text.

    Raises:
        DataError: The file cannot be read, or a text is another than was read.
    """
    scored = {row["id"]: row for row in rows}
    found = []
    for number, read in read_csv(path):
        with at_row(path, number):
            if (row := scored.get(cell(read, "id"))) is None:
                continue
            if text_hash(row["text"]) != cell(read, "text_hash"):
                raise InputError("another text than was read", got=row["id"])
            labels = (decode(_LABELS, cell(read, name)) for name in ("first", "second", "label"))
            found.append(Reading(*labels, row["label"]))
    return found


def ask(rows: Sequence[Mapping[str, Any]], model: str, **window: dt.date) -> Shift:
    """Returns what the rows say of a shift, by year."""
    return shift(rows, source="RUS", target="USA", model=model, period="year", **window)


def render(
    answers: Answers, rows: Sequence[Mapping[str, Any]], read: Sequence[Reading], command: str
) -> str:
    """Returns the page."""
    whole, recent = answers.whole, answers.recent
    counts = {language: [row for row in rows if row["language"] == language] for language in SERIES}
    sizes = {
        language: f"{len(of):,} sentences in {len({row['doc_id'] for row in of})} documents"
        for language, of in counts.items()
    }
    if answers.last.level is None or not all(counts.values()):
        raise DataError("there are no statements of a language, or of the last year")
    last_english = max(str(row["date"])[:10] for row in counts["en"])
    first_russian = min(str(row["date"])[:10] for row in counts["ru"])
    silent = [str(p.start.year) for p in whole.series if p.level is None]
    parts = [
        "# Russia toward the United States, 2012 to 2025",
        "After January 2025 analysts wrote that Moscow's words about Washington had moved from "
        "criticism to restraint and conciliation. This page is what detente makes of it from the "
        "Kremlin's own site, with its doubt. With a model that reads both languages "
        "([multilingual.md](multilingual.md)) and the project's dated series in `FOLDER/series/`, "
        "one command writes this page anew:",
        f"```sh\n{command}\n```",
        f"English transcripts to {last_english}: {sizes['en']}. Russian originals from "
        f"{first_russian} on: {sizes['ru']}. Sentences whose labels the model learned are left "
        "out.",
        _in_short(answers, read, last_english, first_russian),
        "What detente says of the whole: "
        f"**{_sentence(whole.verdict)}** The last English document is of {last_english}, the first "
        f"Russian one of {first_russian}. In the English years alone: "
        f"**{_sentence(answers.english.verdict)}** {_dates(answers.english)}",
        f"![Tone by year, with its changes]({PICTURE})",
        "## The series",
        _series(whole),
        "## When it changed",
        "Where the language changes, detente does not call a change of tone: it may be one of "
        "translation. If that is let pass, it says of the same rows: "
        f"**{_sentence(answers.regardless.verdict)}**",
        _changes(answers.regardless.changes),
        "A date is that of the first document after the change in the likeliest division; the set "
        "is what matters, and spans a gap in the series if the change fell into it.",
        _doubt(answers.regardless),
        "## 2022 and 2025",
        f"From 2022 on alone: **{_sentence(recent.verdict)}**",
        _sides(recent),
        "In the statements of 2025: "
        + ", ".join(
            f"{share.value:.0%} {label} ({share.low:.0%} to {share.high:.0%})"
            for label, share in answers.last.level.shares.items()
        )
        + f"; mean tone {answers.last.level.tone}. 90 % intervals, classifier errors taken out as "
        "its test rows count them.",
        _plain_shares(rows),
        *(("## What readers say", _read(read, answers.last.level)) if read else ()),
        "## The English part by two models",
        "The years to 2022 by the multilingual model, and by the bundled English one:",
        _beside(answers),
        "## Evidence",
        "Statements around the change, by id and date; the text is in the series.",
        _evidence(whole if whole.evidence else recent),
        "## What could mislead",
        "- **The language changes with the years in question.** To 2022 the text is the "
        "Kremlin's English translation, in 2025 the Russian original. A translation may be "
        "milder or harsher than its original, and the model errs otherwise in Russian. Its "
        "errors are counted on English and on our own sentences together, not on Kremlin "
        "Russian, so the correction is rough for 2025.\n"
        f"- **Nothing between {last_english} and {first_russian}.** A change in that time is dated "
        f"to the gap, not to a day. No statement at all: {', '.join(silent)}.\n"
        f"- **Other kinds of text.** The press service, whose summaries are courteous by their "
        f"form, says {_by_press_service(rows, 2022)} sentences of 2022 and "
        f"{_by_press_service(rows, 2025)} of 2025; the others are the president's. Who "
        "speaks, and where, shifts with the tone.\n"
        f"- **Few documents in Russian**: {len({r['doc_id'] for r in counts['ru']})}. The interval "
        "says what that costs by chance; it does not know what the site left out.\n"
        "- **The labels are those of language models.** Teachers and test rows of the official "
        "corpus were labelled by language models that read the codebook "
        "([how far to trust them](codebook.md)).\n"
        "- **The tone is that of words** about the United States in sentences that name it, by "
        "the president and his press service. It is neither policy nor what state television "
        "says.",
    ]
    return "\n\n".join(map(_wrapped, filter(None, parts))) + "\n"


def _in_short(
    answers: Answers, read: Sequence[Reading], last_english: str, first_russian: str
) -> str:
    """Returns what can be said without any term of detente's."""
    tones = {p.start.year: p.level.tone for p in answers.whole.series if p.level}
    parts = [
        "**In short.** On a scale from -1 (all critical) to +1 (all conciliatory), the sentences "
        f"of 2025 about the United States stand at {tones[answers.last.start.year]}"
    ]
    if before := tones.get(INVASION.year):
        parts.append(f", those of {INVASION.year} at {before}")
    parts.append(
        f". When this began cannot be told, because nothing here is of the time between "
        f"{last_english} and {first_russian}; nor how much of it is due to the change from English "
        "translations to Russian originals."
    )
    if read:
        shares = ", ".join(
            f"{sum(r.settled == label for r in read) / len(read):.0%} {label}" for label in LABELS
        )
        parts.append(f" Readers of the sentences of 2025 call {shares}.")
    return "".join(parts)


def _sentence(verdict: str) -> str:
    return f"{verdict[0].upper()}{verdict[1:]}."


def _series(found: Shift) -> str:
    lines = [
        "| year | mean tone | critical | neutral | conciliatory | documents | sentences |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for period in found.series:
        if (level := period.level) is None:
            lines.append(f"| {period.start.year} | nothing | | | | 0 | 0 |")
            continue
        shares = " | ".join(f"{level.shares[label].value:.0%}" for label in LABELS)
        lines.append(
            f"| {period.start.year} | {level.tone} | {shares} | {level.documents} "
            f"| {level.sentences} |"
        )
    return "\n".join(lines)


def _changes(changes: Sequence[Change]) -> str:
    if not changes:
        return "No change is called."
    lines = [
        "| date | 90 % set | direction | probability | effect | what moved |",
        "|---|---|---|--:|---|---|",
    ]
    lines += [
        f"| {c.date} | {c.interval[0]} to {c.interval[1]} | {c.direction} | {c.probability:.3f} "
        f"| {c.effect} | {', '.join(c.moved)} |"
        for c in changes
    ]
    return "\n".join(lines)


def _dates(found: Shift) -> str:
    return " ".join(
        f"({c.date}; 90 % set {c.interval[0]} to {c.interval[1]}; effect {c.effect})"
        for c in found.changes
    )


def _doubt(found: Shift) -> str:
    if found.probability is None:
        return ""
    return (
        f"Posterior probability of at least one change {found.probability:.3f}; p = "
        f"{found.p_value:.3f} against the best explanation without a step ({found.null})."
    )


def _sides(found: Shift) -> str:
    if found.before is None or found.after is None:
        return ""
    lines = ["| | before | after |", "|---|---|---|"]
    lines.append(f"| mean tone | {found.before.tone} | {found.after.tone} |")
    for label in LABELS:
        lines.append(f"| {label} | {_share(found.before, label)} | {_share(found.after, label)} |")
    lines.append(f"| documents | {found.before.documents} | {found.after.documents} |")
    lines.append(f"| sentences | {found.before.sentences} | {found.after.sentences} |")
    return "\n".join([*lines, "", f"Effect {found.effect}. {_doubt(found)}"])


def _share(level: Level, label: str) -> str:
    share = level.shares[label]
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"


def _plain_shares(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the shares as predicted, nothing corrected, for 2022 and 2025."""
    lines = ["As predicted, nothing corrected:", "", f"| | sentences | {' | '.join(LABELS)} |"]
    lines.append("|---|--:|--:|--:|--:|")
    for year in (2022, 2025):
        of_year = [row for row in rows if str(row["date"])[:4] == str(year)]
        by_service = [row for row in of_year if row["speaker"] in PRESS_SERVICE]
        for name, chosen in ((f"{year}", of_year), ("of these the press service", by_service)):
            labels = [row["label"] for row in chosen]
            shares = " | ".join(
                f"{labels.count(label) / max(len(labels), 1):.0%}" for label in LABELS
            )
            lines.append(f"| {name} | {len(labels)} | {shares} |")
    return "\n".join(lines)


def _read(read: Sequence[Reading], corrected: Level) -> str:
    """Returns the readers' shares beside the model's, and where they part."""
    columns: dict[str, list[str]] = {
        "one reader": [r.first for r in read],
        "another": [r.second for r in read],
        "settled": [r.settled for r in read],
        "the model": [r.predicted for r in read],
    }
    settled, predicted = columns["settled"], columns["the model"]
    agreed = sum(r.first == r.second for r in read) / len(read)
    kappa = cohen_kappa_score(columns["one reader"], columns["another"])
    right = sum(r.settled == r.predicted for r in read) / len(read)
    lines = [
        f"Two readers, language models that did not know what anybody else had said, labelled "
        f"{len(read)} of the statements of 2025 by the codebook; they agreed on {agreed:.1%} "
        f"(kappa {kappa:.2f}), and a third reading settled the rest. The model did not learn from "
        f"these labels. It gives {right:.1%} of the statements the settled one.",
        "",
        f"| | {' | '.join(LABELS)} |",
        "|---|--:|--:|--:|",
    ]
    for name, labels in columns.items():
        shares = " | ".join(f"{labels.count(label) / len(read):.0%}" for label in LABELS)
        lines.append(f"| {name} | {shares} |")
    shares = " | ".join(f"{corrected.shares[label].value:.0%}" for label in LABELS)
    lines.append(f"| the model, its errors taken out | {shares} |")
    lines += ["", f"| settled as | {' | '.join(f'said {label}' for label in LABELS)} |"]
    lines.append("|---|--:|--:|--:|")
    for label, counts in zip(
        LABELS, confusion_matrix(settled, predicted, labels=LABELS), strict=True
    ):
        lines.append(f"| {label} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def _by_press_service(rows: Sequence[Mapping[str, Any]], year: int) -> str:
    speakers = [row["speaker"] for row in rows if str(row["date"])[:4] == str(year)]
    return f"{sum(speaker in PRESS_SERVICE for speaker in speakers)} of {len(speakers)}"


def _beside(answers: Answers) -> str:
    lines = ["| model | verdict | when |", "|---|---|---|"]
    for name, found in (("multilingual", answers.english), ("bundled", answers.bundled)):
        lines.append(f"| {name} | {found.verdict} | {_dates(found)} |")
    return "\n".join(lines)


def _evidence(found: Shift) -> str:
    lines = ["| | | date | statement | score |", "|---|---|---|---|--:|"]
    lines += [
        f"| {e['when']} | {e['why']} | {e['date']} | `{e['id']}` | {e['score']:+.2f} |"
        for e in found.evidence
    ]
    return "\n".join(lines)


def main(
    root: Annotated[Path, typer.Option(help="The folder of the public corpora.")],
    model: Annotated[str, typer.Option(help="A model that reads English and Russian.")] = (
        "runs/multilingual/model"
    ),
    page: Annotated[Path, typer.Option(help="Where the page goes.")] = PAGE,
    labels: Annotated[Path, typer.Option(help="What readers said of statements.")] = READINGS,
    rows: Annotated[Path, typer.Option(help="The scored rows, without their text.")] = Path(
        "runs/russia-us.jsonl"
    ),
) -> None:
    """Write the worked example: the Kremlin's words about the United States, 2012 to 2025."""
    found = scored(root, model, ("en", "ru"))
    english = [row for row in found if row["language"] == "en"]
    whole = ask(found, model)
    if not whole.series:
        raise DataError("nothing can be said of these rows", where=str(root), got=whole.verdict)
    answers = Answers(
        whole=whole,
        regardless=ask([_without(row, "language") for row in found], model),
        recent=ask(found, model, start=dt.date(2022, 1, 1)),
        english=ask(english, model),
        bundled=ask(scored(root, hub.DEFAULT, ("en",)), hub.DEFAULT),
        last=whole.series[-1],
    )
    write_jsonl(rows, [_without(row, "text") for row in found])
    picture = page.parent / PICTURE
    picture.parent.mkdir(parents=True, exist_ok=True)
    whole.plot(str(picture), events=EVENTS)
    command = f"python -m scripts.russia_us --root FOLDER --model {Path(model).as_posix()}"
    with whole_file(page) as file:
        file.write(render(answers, found, readings(labels, found), command))
    print(f"{page}: {whole.verdict}")


def _without(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != column}


def _wrapped(part: str) -> str:
    """Returns a part of the page with its prose in lines of at most 100 characters."""
    lines = (
        line
        if line.startswith(("|", "`", "!", "#")) or part.startswith("`")
        else textwrap.fill(
            line,
            100,
            subsequent_indent="  " * line.startswith("- "),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in part.splitlines()
    )
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"russia_us: {error}") from None
