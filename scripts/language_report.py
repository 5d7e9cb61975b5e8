"""python -m scripts.language_report MODEL: does a model say the same in every language?

On the test rows of ``data/multilingual.jsonl``, by language: macro-F1 with its interval, and how
often a sentence gets the label that its English counterpart gets. Beside it the contract of
``data/contracts_languages.jsonl``, and how many states are recognised by the name that Unicode
CLDR has for them in the language: a target that is recognised is asked for in the same way,
whatever language it was named in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from babel import Locale
from babel.core import get_global

from detente import State, resolve
from detente.classifier import Classifier
from detente.errors import DetenteError
from detente.rows import write_json
from detente.statement import Statement
from detente.states import Kind, all_states
from train.contracts import LANGUAGE_CASES, check, load_contracts
from train.corpora.multilingual import PATH
from train.corpora.own import PATH as ENGLISH
from train.corpora.own import read_splits
from train.counterparts import counterparts
from train.evaluation import MODEL, evaluate
from train.tone_metric import probabilities_of


@dataclass(frozen=True, slots=True)
class LanguageFigures:
    """What a model does in one language.

    Attributes:
        language: ISO 639 code.
        rows: Test rows.
        macro_f1: On them, in [0, 1].
        interval: Of macro-F1, 95 %, by bootstrap over contrast groups.
        same_as_english: Share of the rows with the label that the English counterpart gets.
        contract: Share of the contract's versions with the label of the English one.
        names: States with a name in the language.
        names_known: Share of these names by which the state is recognised.
    """

    language: str
    rows: int
    macro_f1: float
    interval: tuple[float, float]
    same_as_english: float
    contract: float
    names: int
    names_known: float


def report(classifier: Classifier) -> Iterator[LanguageFigures]:
    """Yields the figures of each language of our sentences."""
    versions = read_splits(PATH)["test"]
    english = counterparts(versions, read_splits(ENGLISH)["test"])
    found = classifier.predict_batch([*versions, *english], progress=True)
    there, here = found[: len(versions)], found[len(versions) :]
    (verdict,) = check(classifier, load_contracts(LANGUAGE_CASES)).verdicts
    for language in dict.fromkeys(str(s.extra["lang"]) for s in versions):
        at = [i for i, s in enumerate(versions) if s.extra["lang"] == language]
        rows: Sequence[Statement] = [versions[i] for i in at]
        systems = {MODEL: probabilities_of([there[i] for i in at])}
        metrics = evaluate(language, rows, systems).metrics[MODEL]
        names = dict(names_of(language))
        known = sum(resolve(name) == named for name, named in names.items())
        yield LanguageFigures(
            language=language,
            rows=len(rows),
            macro_f1=metrics["macro_f1"],
            interval=metrics["macro_f1_interval"],
            same_as_english=sum(there[i].label == here[i].label for i in at) / len(at),
            contract=verdict.also[f"same in {language}"],
            names=len(names),
            names_known=known / len(names),
        )


def names_of(language: str) -> Iterator[tuple[str, State]]:
    """Yields each state's name in a language, as far as Unicode CLDR has it, with the state."""
    territories = Locale.parse(language).territories
    alpha_2 = get_global("territory_aliases")
    for named in all_states():
        name = territories.get(alpha_2.get(named.code, [""])[0])
        if named.kind is Kind.STATE and name:
            yield name, named


HEADER: Final = (
    "| language | rows | macro-F1 | 95 % interval | as in English | contract | names known |\n"
    "|---|--:|--:|:-:|--:|--:|--:|"
)


def table(figures: Sequence[LanguageFigures]) -> str:
    """Returns the figures as a Markdown table, in percent, with a sentence on all together."""
    lines = [HEADER]
    for f in figures:
        low, high = (100 * end for end in f.interval)
        lines.append(
            f"| {f.language} | {f.rows} | {100 * f.macro_f1:.1f} | {low:.1f}–{high:.1f} "
            f"| {100 * f.same_as_english:.1f} | {100 * f.contract:.1f} "
            f"| {round(f.names_known * f.names)} of {f.names} |"
        )
    rows = sum(f.rows for f in figures)
    same = 100 * sum(f.same_as_english * f.rows for f in figures) / rows
    return "\n".join(
        [
            *lines,
            "",
            f"All: {same:.1f} % of {rows} rows get the label of their English counterpart.",
        ]
    )


def main(
    model: Annotated[str, typer.Argument(help="A folder, a hub id, or 'default'.")],
    out: Annotated[Path | None, typer.Option(help="A JSON file for the figures.")] = None,
) -> None:
    """Show how well a model reads each language, and whether it says the same in all."""
    found = list(report(Classifier.load(model)))
    print(table(found))
    if out is not None:
        write_json(out, [asdict(f) for f in found])


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"language_report: {error}") from None
