"""Behavioural contracts: what a model must get right whatever its figures on a corpus are.

``python -m train.contracts --model M --out DIR`` holds a model to the cases of
``data/contracts.jsonl``. Such tests find what a mean hides: a model may read the mood of a
sentence and still not know whom it is for (Ribeiro et al., "Beyond Accuracy: Behavioral Testing
of NLP Models with CheckList", ACL 2020).

- **target swap**: a sentence warm to one state and critical of another, asked for both.
- **negation**: a sentence and its reversal, whose label differs.
- **quotation**: hostile or warm words of a third party that the speaker does not share.
- **substitution**: a sentence with many states in the place of the target, one after another;
  the score should not depend on the name.
- **language**: a statement in several languages, which should get the label that it gets in
  English (``data/contracts_languages.jsonl``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import typer

from detente.classifier import Classifier, Prediction
from detente.errors import DataError, InputError
from detente.labels import parse_label
from detente.rows import at_row, read_rows, whole_file, whole_folder, write_json
from detente.statement import Statement, check_text
from detente.states import mentions, state
from train.command import run_command

Contract = Literal["target_swap", "negation", "quotation", "substitution", "language"]
CONTRACTS: Final[tuple[Contract, ...]] = get_args(Contract)

LEAST_TARGET_SWAP: Final = 0.90
"""Share of sentences with both labels right, which also puts the praised state's score above."""
LEAST_NEGATION: Final = 0.90
"""Share of pairs with both labels right."""
LEAST_QUOTATION: Final = 0.85
"""Share of sentences with the label right."""
LEAST_LANGUAGE: Final = 0.88
"""Share of versions in other languages with the label that the English one gets."""
MOST_SUBSTITUTION: Final = 0.10
"""Mean absolute deviation of the score from the sentence's mean over names, on average."""

CASES: Final = Path(__file__).resolve().parents[1] / "data" / "contracts.jsonl"
LANGUAGE_CASES: Final = CASES.with_name("contracts_languages.jsonl")
"""Cases of the contract ``language``: for models that read more than English."""
SLOT: Final = "{target}"

_Kind = Contract | Literal["names"]
_COLUMNS: Final[Mapping[_Kind, frozenset[str]]] = {
    "target_swap": frozenset({"text", "praised", "blamed"}),
    "negation": frozenset({"target", "text", "label", "reversed", "reversed_label"}),
    "quotation": frozenset({"target", "text", "label"}),
    "names": frozenset({"names"}),
    "substitution": frozenset({"text", "label"}),
    "language": frozenset({"source", "target", "label", "texts"}),
}
_LEAST: Final[Mapping[Contract, tuple[str, float]]] = {
    "target_swap": ("both labels right", LEAST_TARGET_SWAP),
    "negation": ("both labels right", LEAST_NEGATION),
    "quotation": ("label right", LEAST_QUOTATION),
    "language": ("other languages' versions with the label of the English one", LEAST_LANGUAGE),
}
_ENGLISH: Final = "en"
_SHOWN_STATES: Final = 10


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a contract.

    Attributes:
        contract: Which contract it belongs to.
        id: Its name, unique within a file.
        text: The sentence; of a substitution, with the slot ``{target}``.
        statements: What is asked, each with the label that is right: of a target swap toward
            the praised and the blamed state, of a negation the sentence and its reversal, of a
            quotation the sentence, of a substitution the sentence with each name, of a language
            the English version and then the others, each with its ``extra["lang"]``.
    """

    contract: Contract
    id: str
    text: str
    statements: tuple[Statement, ...]


class Predictor(Protocol):
    """What is held to the contracts: a :class:`detente.Classifier`, or what predicts like one."""

    @property
    def name(self) -> str:
        """What to call it."""

    def predict_batch(
        self, statements: Sequence[Statement], *, progress: bool = ...
    ) -> list[Prediction]:
        """Returns the tone of many statements, in their order."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model keeps one contract.

    Attributes:
        contract: Which one.
        cases: Cases checked.
        measure: What was measured, in words.
        value: The measured figure: a share in [0, 1], or for substitution a mean deviation of
            scores in [0, 1].
        threshold: The least ``value`` that passes; for substitution, the most.
        passed: Whether the contract is kept.
        also: Further figures that decide nothing, by what they are.
    """

    contract: Contract
    cases: int
    measure: str
    value: float
    threshold: float
    passed: bool
    also: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContractReport:
    """A model held to its contracts.

    Attributes:
        model: The name of the model.
        verdicts: One for each contract that had cases.
        states: By name of a state, the mean signed deviation of its scores from the means of
            the substitution sentences, in [−2, 2]; the largest first, whatever its sign.
        failures: One row for each wrong statement, and for each substitution sentence whose
            score depends too much on the name.
    """

    model: str
    verdicts: tuple[Verdict, ...]
    states: Mapping[str, float]
    failures: tuple[Mapping[str, Any], ...]

    @property
    def passed(self) -> bool:
        """Whether every contract is kept."""
        return all(verdict.passed for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as plain values."""
        return {
            "model": self.model,
            "passed": self.passed,
            "contracts": {
                v.contract: {
                    "cases": v.cases,
                    "measure": v.measure,
                    "value": v.value,
                    "threshold": v.threshold,
                    "passed": v.passed,
                    "also": dict(v.also),
                }
                for v in self.verdicts
            },
            "states": dict(self.states),
            "failures": [dict(row) for row in self.failures],
        }

    def table(self) -> str:
        """Returns the verdicts as a Markdown table."""
        lines = [
            "| contract | cases | measure | value | must be | kept | also |",
            "|---|--:|---|--:|---|:-:|---|",
        ]
        for v in self.verdicts:
            bound = "at most" if v.contract == "substitution" else "at least"
            cells = [
                _spoken(v.contract),
                str(v.cases),
                v.measure,
                _figure(v, v.value),
                f"{bound} {_figure(v, v.threshold)}",
                "yes" if v.passed else "no",
                ", ".join(f"{name} {100 * share:.1f} %" for name, share in v.also.items()),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """Returns the whole report: the table, the worst states and every failure."""
        kept = sum(v.passed for v in self.verdicts)
        lines = [
            f"# Contracts of {self.model}: {kept} of {len(self.verdicts)} kept",
            "",
            self.table(),
        ]
        if self.states:
            lines += [
                "",
                "## States whose name moves the score most",
                "",
                "Mean deviation of the score from the sentence's mean over all names: below zero, "
                "the model reads the same words as more critical when they are about this state.",
                "",
                "| state | mean deviation |",
                "|---|--:|",
            ]
            shown = islice(self.states.items(), _SHOWN_STATES)
            lines += [f"| {name} | {_signed(deviation)} |" for name, deviation in shown]
        for v in self.verdicts:
            rows = [row for row in self.failures if row["contract"] == v.contract]
            if rows:
                lines += ["", f"## Failures: {_spoken(v.contract)}", "", *_failure_table(rows)]
        return "\n".join(lines) + "\n"


def load_contracts(path: Path = CASES) -> tuple[Case, ...]:
    """Reads cases, one a line, each with an ``id`` and its ``contract``.

    The further columns are, by contract: ``target_swap`` ``text``, ``praised``, ``blamed``;
    ``negation`` ``target``, ``text``, ``label``, ``reversed``, ``reversed_label``;
    ``quotation`` ``target``, ``text``, ``label``; ``substitution`` ``text`` (with the slot
    ``{target}``) and ``label``; ``language`` ``source``, ``target``, ``label`` and ``texts``, the
    version in each language by its ISO 639 code, English among them. One row ``names``, before
    the first substitution, holds under ``names`` the name to put into the slot for each state's
    code, with its article. States are
    codes of the gazetteer, and every sentence names those it is asked for.

    Raises:
        DataError: The file cannot be read, has no cases, or a row is not such a case; the
            message names the file and the row.
    """
    cases: list[Case] = []
    names: dict[str, str] = {}
    first_row_of: dict[str, int] = {}
    for number, row in read_rows(path):
        with at_row(path, number):
            kind = _kind_of(row)
            for key in {str(row["id"]), *_texts_of(row)}:
                if (first := first_row_of.setdefault(key, number)) != number:
                    raise InputError(
                        f"stands in row {first} already", got=key, expected="ids and texts once"
                    )
            if kind == "names":
                names = _read_names(row["names"])
            else:
                cases.append(_read_case(kind, row, names))
    if not cases:
        raise DataError("the file has no cases", where=str(path))
    return tuple(cases)


def check(
    classifier: Predictor, contracts: Sequence[Case], *, progress: bool = False
) -> ContractReport:
    """Holds a classifier to contracts.

    Args:
        classifier: What predicts.
        contracts: The cases, as :func:`load_contracts` reads them.
        progress: Show a progress bar on standard error.
    """
    statements = [statement for case in contracts for statement in case.statements]
    found = iter(classifier.predict_batch(statements, progress=progress))
    outcomes: dict[Contract, list[_Outcome]] = {contract: [] for contract in CONTRACTS}
    for case in contracts:
        predictions = tuple(islice(found, len(case.statements)))
        outcomes[case.contract].append(_Outcome(case, predictions))
    return ContractReport(
        model=classifier.name,
        verdicts=tuple(_verdict(contract, of) for contract, of in outcomes.items() if of),
        states=_state_deviations(outcomes["substitution"]),
        failures=tuple(row for of in outcomes.values() for o in of for row in o.failures()),
    )


def write_report(report: ContractReport, folder: Path) -> None:
    """Writes ``contracts.json`` and ``contracts.md``."""
    write_json(folder / "contracts.json", report.to_json())
    with whole_file(folder / "contracts.md") as file:
        file.write(report.to_markdown())


def main(
    out: Annotated[Path, typer.Option(help="Folder for the report; must not exist.")],
    model: Annotated[str, typer.Option(help="'default', a model folder, or a hub id.")] = "default",
    contracts: Annotated[
        Path, typer.Option(help="The cases, as JSON lines.", show_default="data/contracts.jsonl")
    ] = CASES,
) -> None:
    """Hold a model to its contracts: target swap, negation, quotation, substitution, language.

    Prints the table, and writes it to contracts.json and contracts.md with
    the states whose name moves the score most and with every failure.

    A contract that is not kept is a finding, not an error: the status is 0.

    Example: python -m train.contracts --model runs/mine/model --out report
    """
    with whole_folder(out) as partial:
        cases = load_contracts(contracts)
        report = check(Classifier.load(model), cases, progress=True)
        write_report(report, partial)
    typer.echo(report.table())
    typer.echo(f"\nEvery failure is in {out / 'contracts.md'}.")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A case with what was predicted for its statements, in their order."""

    case: Case
    predictions: tuple[Prediction, ...]

    @property
    def labels_right(self) -> list[bool]:
        pairs = zip(self.case.statements, self.predictions, strict=True)
        return [statement.label == prediction.label for statement, prediction in pairs]

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        return np.array([prediction.score for prediction in self.predictions])

    @property
    def deviations(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.scores - self.scores.mean())

    @property
    def spread(self) -> float:
        return float(np.abs(self.deviations).mean())

    def failures(self) -> Iterator[dict[str, Any]]:
        """Yields what is wrong with the case, as rows."""
        common = {"contract": self.case.contract, "id": self.case.id}
        if self.case.contract == "substitution":
            if self.spread > MOST_SUBSTITUTION:
                low, high = (
                    f"{self.predictions[at].target} {_signed(self.scores[at])}"
                    for at in (self.scores.argmin(), self.scores.argmax())
                )
                yield common | {"spread": self.spread, "lowest": low, "highest": high,
                                "text": self.case.text}  # fmt: skip
            return
        english = self.predictions[0].label
        for s, p, right in zip(
            self.case.statements, self.predictions, self.labels_right, strict=True
        ):
            if self.case.contract == "language":
                # The label of the English one is what counts here, right or wrong.
                if p.label != english:
                    yield common | {"lang": s.extra["lang"], "target": s.target, "found": p.label,
                                    "english": english, "text": s.text}  # fmt: skip
            elif not right:
                yield common | {"target": s.target, "label": s.label, "found": p.label,
                                "score": p.score, "text": s.text}  # fmt: skip


def _verdict(contract: Contract, outcomes: Sequence[_Outcome]) -> Verdict:
    labels_right = _share([right for o in outcomes for right in o.labels_right])
    if contract == "substitution":
        value = float(np.mean([o.spread for o in outcomes]))
        within = _share([o.spread <= MOST_SUBSTITUTION for o in outcomes])
        return Verdict(
            contract,
            len(outcomes),
            "mean deviation of the score from the sentence's mean over names",
            value,
            MOST_SUBSTITUTION,
            value <= MOST_SUBSTITUTION,
            {f"sentences within {MOST_SUBSTITUTION}": within, "labels right": labels_right},
        )
    measure, least = _LEAST[contract]
    if contract == "language":
        same, right = _by_language(outcomes)
        value = _share([each for of in same.values() for each in of])
        also = {f"same in {lang}": _share(of) for lang, of in same.items()}
        also |= {f"right in {lang}": _share(of) for lang, of in right.items()}
        return Verdict(contract, len(outcomes), measure, value, least, value >= least, also)
    value = _share([all(o.labels_right) for o in outcomes])
    also = {}
    if contract == "target_swap":
        also["praised scored above blamed"] = _share(
            [bool(o.scores[0] > o.scores[1]) for o in outcomes]
        )
    if contract != "quotation":
        also["labels right"] = labels_right
    return Verdict(contract, len(outcomes), measure, value, least, value >= least, also)


def _by_language(
    outcomes: Sequence[_Outcome],
) -> tuple[dict[str, list[bool]], dict[str, list[bool]]]:
    """Returns by language whether versions get the label of the English one, and the right one."""
    same: dict[str, list[bool]] = defaultdict(list)
    right: dict[str, list[bool]] = defaultdict(list)
    for outcome in outcomes:
        english = outcome.predictions[0].label
        for statement, prediction in zip(outcome.case.statements, outcome.predictions, strict=True):
            lang = statement.extra["lang"]
            right[lang].append(prediction.label == statement.label)
            if lang != _ENGLISH:
                same[lang].append(prediction.label == english)
    return same, right


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)


def _state_deviations(outcomes: Sequence[_Outcome]) -> dict[str, float]:
    deviations: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        for prediction, deviation in zip(outcome.predictions, outcome.deviations, strict=True):
            deviations[str(prediction.target)].append(float(deviation))
    means = {name: float(np.mean(of)) for name, of in deviations.items()}
    return dict(sorted(means.items(), key=lambda item: -abs(item[1])))


def _texts_of(row: Mapping[str, Any]) -> list[str]:
    versions = row.get("texts")
    found = [*versions.values()] if isinstance(versions, dict) else []
    return [str(text) for text in (row.get("text"), row.get("reversed"), *found) if text]


def _kind_of(row: Mapping[str, Any]) -> _Kind:
    """Returns which kind of row it is, once its columns are right."""
    kind = next((kind for kind in _COLUMNS if kind == row.get("contract")), None)
    if kind is None:
        raise InputError(
            "unknown contract",
            got=row.get("contract"),
            expected=f"a column contract with one of {', '.join(_COLUMNS)}",
        )
    expected = {"id", "contract"} | _COLUMNS[kind]
    if set(row) != expected:
        raise InputError(
            "the row has other columns", got=sorted(row), expected=", ".join(sorted(expected))
        )
    return kind


def _read_names(names: object) -> dict[str, str]:
    if not isinstance(names, dict) or len(names) < 2:
        raise InputError("not names of states", got=names, expected="two or more: {code: name}")
    for code, name in names.items():
        check_text(name, f"the name of {code}")
    return names


def _read_case(contract: Contract, row: Mapping[str, Any], names: Mapping[str, str]) -> Case:
    if contract == "target_swap":
        found = [
            _statement(row["text"], row["praised"], "conciliatory"),
            _statement(row["text"], row["blamed"], "critical"),
        ]
    elif contract == "substitution":
        found = _substituted(row["text"], row["label"], names)
    elif contract == "language":
        found = _versions(row)
    else:
        found = [_statement(row["text"], row["target"], row["label"])]
    if contract == "negation":
        found.append(_statement(row["reversed"], row["target"], row["reversed_label"]))
        if found[0].label == found[1].label:
            raise InputError(
                "the sentence and its reversal have the same label",
                got=row["label"],
                expected="two labels",
            )
    return Case(
        contract, str(row["id"]), found[0].text if "texts" in row else row["text"], tuple(found)
    )


def _versions(row: Mapping[str, Any]) -> list[Statement]:
    """Returns a statement in each of its languages, the English one first."""
    texts = row["texts"]
    if not isinstance(texts, dict) or _ENGLISH not in texts or len(texts) < 2:
        raise InputError(
            "not versions in several languages",
            got=texts,
            expected="{language: text}, with 'en' and another one",
        )
    return [
        replace(
            _statement(texts[lang], row["target"], row["label"], lang),
            source=state(row["source"]).code,
            extra={"lang": lang},
        )
        for lang in sorted(texts, key=lambda lang: lang != _ENGLISH)
    ]


def _substituted(text: object, label: str, names: Mapping[str, str]) -> list[Statement]:
    text = check_text(text)
    if not names:
        raise InputError("no names to put in", fix="Put a row with the contract 'names' before it.")
    # At the start of a sentence, the article of a name would need a capital letter.
    if text.count(SLOT) != 1 or text.startswith(SLOT):
        raise InputError(
            "the slot is missing, repeated or at the start", got=text, expected=f"one {SLOT}"
        )
    return [_statement(text.replace(SLOT, name), code, label) for code, name in names.items()]


def _statement(text: object, code: str, label: object, language: str = _ENGLISH) -> Statement:
    """Returns a labelled statement that names its target.

    Raises:
        InputError: It does not, or the text or the label cannot be read.
        UnknownStateError: There is no state with this code.
    """
    sentence, meant = check_text(text), state(code)
    if meant not in {mention.state for mention in mentions(sentence, language=language)}:
        raise InputError(f"the sentence does not name {meant}", got=text)
    return Statement(sentence, code, label=parse_label(label))


def _spoken(contract: str) -> str:
    return contract.replace("_", " ")


def _figure(verdict: Verdict, value: float) -> str:
    return f"{value:.3f}" if verdict.contract == "substitution" else f"{100 * value:.1f} %"


def _signed(score: float) -> str:
    return f"{score:+.2f}"


def _failure_table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    columns = [name for name in rows[0] if name != "contract"]
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        cells = (f"{x:.2f}" if isinstance(x, float) else str(x) for x in map(row.get, columns))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    run_command(main, "train.contracts")
