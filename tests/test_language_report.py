"""The report of languages, by fakes that are good and bad at some of them."""

import pytest
from test_contracts import Fake, surely

from detente.languages import language_of
from scripts.language_report import names_of, report, table
from train.contracts import LANGUAGE_CASES, load_contracts
from train.corpora.multilingual import PATH
from train.corpora.own import PATH as ENGLISH
from train.corpora.own import read_splits

ROWS = [s for path in (PATH, ENGLISH) for s in read_splits(path)["test"]]
GOLD = {(s.text, s.target): s.label for s in ROWS}
GOLD |= {(s.text, s.target): s.label for c in load_contracts(LANGUAGE_CASES) for s in c.statements}


def deaf_to_chinese(statement):
    if language_of(statement.text) == "zh":
        return surely("neutral")
    return surely(GOLD[statement.text, statement.target])


def test_each_language_has_figures_of_its_own():
    found = {f.language: f for f in report(Fake("deaf", deaf_to_chinese))}
    assert list(found) == ["ru", "zh", "es", "fr", "ar", "uk", "fa"]
    test = [s for s in ROWS if "lang" in s.extra]
    for language, f in found.items():
        labels = [s.label for s in test if s.extra["lang"] == language]
        assert f.rows == len(labels)
        neutral = labels.count("neutral") / len(labels)
        assert f.same_as_english == pytest.approx(neutral if language == "zh" else 1)
        assert (f.macro_f1 == 1) == (language != "zh") == (f.contract == 1)
        assert f.interval[0] <= f.macro_f1 <= f.interval[1]
        assert f.names >= 190 and f.names_known >= 0.97
    shown = table(list(found.values()))
    assert f"\n| ru | {found['ru'].rows} | 100.0 | 100.0–100.0 | 100.0 | 100.0 | " in shown
    chinese = 1 - found["zh"].same_as_english
    wrong = chinese * found["zh"].rows / len(test)
    assert f"All: {100 * (1 - wrong):.1f} % of {len(test)} rows" in shown


def test_names_are_those_of_the_language():
    assert {s.code for name, s in names_of("ru") if name == "Норвегия"} == {"NOR"}
