"""The contracts, held by fakes that keep or break them on purpose; and the cases themselves."""

import json
import re
from collections import Counter, defaultdict
from itertools import chain

import numpy as np
import pytest
from conftest import ROOT

from detente import LABELS, DataError, mentions
from detente.classifier import Prediction
from detente.encoding import as_target
from detente.rows import read_rows, write_jsonl
from detente.states import state
from train.contracts import (
    CONTRACTS,
    LANGUAGE_CASES,
    LEAST_LANGUAGE,
    LEAST_NEGATION,
    LEAST_QUOTATION,
    LEAST_TARGET_SWAP,
    MOST_SUBSTITUTION,
    check,
    load_contracts,
    main,
)

CONTRACT_CASES = load_contracts()
IN_ENGLISH = tuple(c for c in CONTRACTS if c != "language")
VERSIONS = load_contracts(LANGUAGE_CASES)


class Fake:
    """Predicts by a rule: from a statement to three probabilities."""

    def __init__(self, name, rule):
        self.name, self.rule = name, rule

    def predict_batch(self, statements, *, progress=False):
        return [self.predict(statement) for statement in statements]

    def predict(self, statement):
        p = np.asarray(self.rule(statement), dtype=float)
        probabilities = dict(zip(LABELS, (p / p.sum()).tolist(), strict=True))
        label = max(probabilities, key=probabilities.get)
        return Prediction(label, probabilities, as_target(statement.target), statement.text)


GOLD = {(s.text, s.target): s.label for case in CONTRACT_CASES for s in case.statements}
FIRST_LABEL = {s.text: case.statements[0].label for case in CONTRACT_CASES for s in case.statements}


def surely(label):
    return 0.7 * np.eye(3)[LABELS.index(label)] + 0.1


def right(statement):
    return surely(GOLD[statement.text, statement.target])


def mood(statement):
    """The tone of the words, whomever they are for and whatever is negated."""
    return surely(FIRST_LABEL[statement.text])


def biased(statement):
    """Right in every label, but harsher where some states are named."""
    return right(statement) + (0, 0, 0.9 * (statement.target not in ("RUS", "IRN", "PRK")))


ORACLE = check(Fake("oracle", right), CONTRACT_CASES)
MOOD = check(Fake("mood", mood), CONTRACT_CASES)


def verdicts(report):
    return {v.contract: v for v in report.verdicts}


def test_an_oracle_keeps_every_contract():
    assert ORACLE.passed and not ORACLE.failures
    found = verdicts(ORACLE)
    assert tuple(found) == IN_ENGLISH
    assert [found[c].value for c in IN_ENGLISH] == [1, 1, 1, pytest.approx(0)]
    assert [found[c].threshold for c in IN_ENGLISH] == [
        LEAST_TARGET_SWAP, LEAST_NEGATION, LEAST_QUOTATION, MOST_SUBSTITUTION
    ]  # fmt: skip
    assert found["target_swap"].also["praised scored above blamed"] == 1
    assert found["substitution"].also["sentences within 0.1"] == 1


def test_a_model_of_moods_fails_where_target_or_negation_matter():
    found = verdicts(MOOD)
    assert not MOOD.passed
    assert {c for c in IN_ENGLISH if not found[c].passed} == {"target_swap", "negation"}
    assert found["target_swap"].value == found["negation"].value == 0
    assert found["target_swap"].also == {"praised scored above blamed": 0, "labels right": 0.5}
    wrong = Counter(row["contract"] for row in MOOD.failures)
    assert wrong == {c: found[c].cases for c in ("target_swap", "negation")}


def test_a_model_that_parrots_quoted_words_fails_quotation():
    cases = [c for c in CONTRACT_CASES if c.contract == "quotation"]
    warm = {c.text for c in cases if c.statements[0].label == "critical"}

    def parrot(statement):
        return surely("conciliatory" if statement.text in warm else "critical")

    (verdict,) = check(Fake("parrot", parrot), cases).verdicts
    assert verdict.value == 0 and not verdict.passed and verdict.also == {}


def test_a_model_that_knows_its_enemies_fails_substitution():
    cases = [c for c in CONTRACT_CASES if c.contract == "substitution" and c.id.endswith("1")]
    report = check(Fake("biased", biased), cases)
    (verdict,) = report.verdicts
    # 3 of 40 names lie lower: the mean deviation is theirs and the others' share of it.
    scores = np.array([[Fake("", biased).predict(s).score for s in c.statements] for c in cases])
    spread = np.abs(scores - scores.mean(axis=1, keepdims=True)).mean(axis=1)
    assert verdict.value == pytest.approx(spread.mean())
    assert verdict.also["sentences within 0.1"] == np.mean(spread <= 0.1)
    assert list(report.states)[:3] == sorted(list(report.states)[:3], key=report.states.get)
    assert {*list(report.states)[:3]} == {"Russia", "Iran", "North Korea"}
    assert all(report.states[name] < -0.1 for name in ("Russia", "Iran", "North Korea"))


def test_half_of_the_names_apart_is_a_failure_with_its_extremes():
    codes = [s.target for s in CONTRACT_CASES[-1].statements]

    def torn(statement):
        return surely(LABELS[2 * (codes.index(statement.target) % 2)])

    cases = [c for c in CONTRACT_CASES if c.contract == "substitution"][:3]
    report = check(Fake("torn", torn), cases)
    (verdict,) = report.verdicts
    assert verdict.value == pytest.approx(0.7) and not verdict.passed
    assert len(report.failures) == len(cases)
    assert report.failures[0]["lowest"] == "Algeria -0.70"
    assert report.failures[0]["highest"] == "Nigeria +0.70"


@pytest.mark.parametrize(("wrong", "passed"), [(6, True), (7, False)])
def test_the_thresholds_are_where_they_are_said_to_be(wrong, passed):
    cases = [c for c in CONTRACT_CASES if c.contract == "negation"][:60]
    spoiled = {c.statements[1].text for c in cases[:wrong]}

    def rule(statement):
        return mood(statement) if statement.text in spoiled else right(statement)

    assert check(Fake("x", rule), cases).passed is passed  # 90 % of 60 are 54


def test_order_is_reported_apart_from_labels():
    """Scores that are too low for all still tell the praised state from the blamed one."""
    cases = [c for c in CONTRACT_CASES if c.contract == "target_swap"]
    (verdict,) = check(Fake("grim", lambda s: right(s) + (0.8, 0, 0)), cases).verdicts
    assert verdict.value == 0 and not verdict.passed
    assert verdict.also == {"praised scored above blamed": 1, "labels right": 0.5}


def test_the_same_label_in_every_language_is_counted_by_language():
    gold = {s.text: s.label for case in VERSIONS for s in case.statements}

    def deaf_to_two(s):
        return surely("neutral" if s.extra["lang"] in ("ru", "fa") else gold[s.text])

    oracle = check(Fake("oracle", lambda s: surely(gold[s.text])), VERSIONS)
    (kept,) = oracle.verdicts
    assert kept.passed and kept.value == 1 and kept.threshold == LEAST_LANGUAGE
    (verdict,) = check(Fake("deaf", deaf_to_two), VERSIONS).verdicts
    neutral = sum(case.statements[0].label == "neutral" for case in VERSIONS) / len(VERSIONS)
    assert verdict.also["same in ru"] == verdict.also["right in ru"] == pytest.approx(neutral)
    assert verdict.also["same in zh"] == verdict.also["right in en"] == 1
    assert verdict.value == pytest.approx((5 + 2 * neutral) / 7) and not verdict.passed
    found = check(Fake("deaf", deaf_to_two), VERSIONS).failures
    assert {row["lang"] for row in found} == {"ru", "fa"}
    assert len(found) == round(2 * (1 - neutral) * len(VERSIONS))
    # It is the English version's label that counts, right or wrong.
    (agreed,) = check(Fake("grim", lambda s: surely("critical")), VERSIONS).verdicts
    assert agreed.value == 1 and agreed.also["right in en"] < 0.5
    assert not check(Fake("grim", lambda s: surely("critical")), VERSIONS).failures


def test_the_report_in_both_forms():
    plain = json.loads(json.dumps(MOOD.to_json()))
    assert plain["model"] == "mood" and plain["passed"] is False
    assert plain["contracts"]["quotation"]["passed"] is True
    assert len(plain["states"]) == 40
    assert len(plain["failures"]) == len(MOOD.failures)
    text = MOOD.to_markdown()
    assert text.startswith("# Contracts of mood: 2 of 4 kept\n") and MOOD.table() in text
    assert "## Failures: target swap" in text and "## Failures: quotation" not in text
    assert all(row["text"] in text for row in MOOD.failures)
    assert "## Failures" not in ORACLE.to_markdown()


SWAP = {"id": "s", "contract": "target_swap", "text": "We thank Peru and condemn Chile.",
        "praised": "PER", "blamed": "CHL"}  # fmt: skip
NEGATION = {"id": "n", "contract": "negation", "target": "PER", "text": "We thank Peru.",
            "label": "conciliatory", "reversed": "We do not thank Peru.",
            "reversed_label": "critical"}  # fmt: skip
NAMES = {"id": "names", "contract": "names", "names": {"PER": "Peru", "NLD": "the Netherlands"}}
SUBSTITUTION = {"id": "x", "contract": "substitution", "text": "We thank {target}.",
                "label": "conciliatory"}  # fmt: skip
QUOTATION = {"id": "q", "contract": "quotation", "target": "PER", "label": "neutral",
             "text": "The book calls Peru a foe."}  # fmt: skip
LANGUAGE = {"id": "l", "contract": "language", "source": "CHL", "target": "PER",
            "label": "conciliatory",
            "texts": {"ru": "Мы благодарим Перу.", "en": "We owe Peru a debt."}}  # fmt: skip


def test_the_command_writes_a_whole_folder(tiny_model, tmp_path, capsys):
    few = tmp_path / "few.jsonl"
    write_jsonl(few, [SWAP, NEGATION, QUOTATION, NAMES, SUBSTITUTION, LANGUAGE])
    out = tmp_path / "out"
    main(out=out, model=str(tiny_model), contracts=few)
    assert sorted(path.name for path in out.iterdir()) == ["contracts.json", "contracts.md"]
    found = json.loads((out / "contracts.json").read_text("utf-8"))
    assert list(found["contracts"]) == list(CONTRACTS)
    assert "| target swap | 1 |" in capsys.readouterr().out
    with pytest.raises(DataError, match="the folder is there already"):
        main(out=out, model=str(tiny_model), contracts=few)
    few.write_text("{}\n")
    with pytest.raises(DataError, match=r"few\.jsonl, row 1: unknown contract"):
        main(out=tmp_path / "other", model=str(tiny_model), contracts=few)
    assert not (tmp_path / "other").exists()


def test_names_are_put_in_with_their_article(tmp_path):
    write_jsonl(tmp_path / "cases.jsonl", [NAMES, SUBSTITUTION])
    (case,) = load_contracts(tmp_path / "cases.jsonl")
    assert case.text == "We thank {target}."
    assert [s.text for s in case.statements] == ["We thank Peru.", "We thank the Netherlands."]
    assert [s.target for s in case.statements] == ["PER", "NLD"]
    assert {s.label for s in case.statements} == {"conciliatory"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([SWAP | {"contract": "swap"}], "row 1: unknown contract; got 'swap'"),
        ([SWAP, {k: v for k, v in NEGATION.items() if k != "label"}], "row 2: the row has other"),
        ([SWAP | {"label": "critical"}], "row 1: the row has other columns"),
        ([SWAP | {"praised": "Peru"}], "row 1: no state has this code"),
        ([SWAP | {"blamed": "BOL"}], "row 1: the sentence does not name Bolivia"),
        ([SWAP | {"text": " "}], "row 1: text is empty"),
        ([SWAP, SWAP | {"text": "Peru, thanks; Chile, shame."}], "row 2: stands in row 1 already"),
        ([SWAP, SWAP | {"id": "t"}], "row 2: stands in row 1 already"),
        ([NEGATION | {"label": "warm"}], "row 1: unknown label"),
        ([NEGATION | {"reversed_label": "conciliatory"}], "row 1: the sentence and its reversal"),
        ([SUBSTITUTION, NAMES], "row 1: no names to put in"),
        ([NAMES | {"names": ["Peru"]}], "row 1: not names of states"),
        ([NAMES, SUBSTITUTION | {"text": "We thank Peru."}], "row 2: the slot is missing"),
        ([NAMES, SUBSTITUTION | {"text": "{target} has our thanks."}], "row 2: the slot is"),
        ([NAMES], "the file has no cases"),
    ],
)
def test_errors_name_file_and_row(tmp_path, rows, message):
    write_jsonl(tmp_path / "cases.jsonl", rows)
    with pytest.raises(DataError) as error:
        load_contracts(tmp_path / "cases.jsonl")
    assert str(error.value).startswith(str(tmp_path / "cases.jsonl"))
    assert message in str(error.value)


# --- The cases in data/contracts.jsonl ---------------------------------------------------------


def sequences(text, n=5):
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def texts_of(case):
    return {case.text} if case.contract == "substitution" else {s.text for s in case.statements}


def test_there_are_enough_cases():
    counts = Counter(case.contract for case in CONTRACT_CASES)
    least = {"target_swap": 80, "negation": 60, "quotation": 60, "substitution": 30}
    assert all(counts[contract] >= n for contract, n in least.items())
    asked = [c for c in CONTRACT_CASES if c.contract != "substitution"]
    assert len({s.target for c in asked for s in c.statements}) >= 60
    assert all(40 <= len(text) <= 220 for c in CONTRACT_CASES for text in texts_of(c))
    assert all(len(c.statements) == 40 for c in CONTRACT_CASES if c.contract == "substitution")


def test_the_labels_are_mixed():
    for contract in ("quotation", "substitution"):
        cases = [c for c in CONTRACT_CASES if c.contract == contract]
        labels = Counter(c.statements[0].label for c in cases)
        assert all(labels[label] >= 0.25 * len(cases) for label in LABELS)
    pairs = Counter(
        frozenset(s.label for s in c.statements) for c in CONTRACT_CASES if c.contract == "negation"
    )
    assert len(pairs) == 3


def test_swaps_vary_order_and_names():
    first, plain, total = Counter(), 0, 0
    for case in (c for c in CONTRACT_CASES if c.contract == "target_swap"):
        found = [
            m for m in mentions(case.text) if m.state.code in {s.target for s in case.statements}
        ]
        first[found[0].state.code == case.statements[0].target] += 1
        plain += sum(m.text == m.state.name for m in found)
        total += len(found)
    assert min(first.values()) >= 0.4 * first.total()
    assert plain <= 0.4 * total  # else capitals, adjectives, official names


def test_a_substitution_names_no_other_state():
    for case in (c for c in CONTRACT_CASES if c.contract == "substitution"):
        for statement in case.statements:
            assert [m.state.code for m in mentions(statement.text)] == [statement.target]


def test_there_are_versions_in_eight_languages():
    assert len(VERSIONS) >= 60
    labels = Counter(case.statements[0].label for case in VERSIONS)
    assert all(labels[label] >= 0.3 * len(VERSIONS) for label in LABELS)
    for case in VERSIONS:
        languages = [s.extra["lang"] for s in case.statements]
        assert languages[0] == "en"
        assert set(languages) == {"en", "ru", "zh", "es", "fr", "ar", "uk", "fa"}


def test_no_two_cases_are_alike():
    seen = defaultdict(set)
    for case in CONTRACT_CASES:
        for sequence in chain.from_iterable(map(sequences, texts_of(case))):
            seen[sequence].add(case.id)
    assert not {s: ids for s, ids in seen.items() if len(ids) > 1}


def test_none_shares_words_with_the_training_sentences():
    files = [ROOT / "data" / f"{name}.jsonl" for name in ("statements", "multilingual")]
    texts = [row["text"] for path in files for _, row in read_rows(path)]
    trained = set().union(*map(sequences, texts))
    for case in CONTRACT_CASES:
        for text in texts_of(case):
            assert not sequences(text) & trained, case.id
    # Plain official prose in eight languages cannot do without its formulas.
    trained = set().union(*(sequences(text, 8) for text in texts))
    for case in VERSIONS:
        for text in texts_of(case):
            assert not sequences(text, 8) & trained, case.id


def test_the_dataset_card_counts_the_cases():
    card = (ROOT / "data" / "README.md").read_text("utf-8")
    for contract, n in Counter(case.contract for case in CONTRACT_CASES + VERSIONS).items():
        assert f"| `{contract}` | {n} |" in card
    states = {s.target for c in CONTRACT_CASES for s in c.statements}
    assert f"{len(states)} states" in card and all(state(code) for code in states)
