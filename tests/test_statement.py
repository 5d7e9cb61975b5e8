import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detente import InputError, Statement
from detente.labels import LABELS, parse_label, tone_score
from detente.statement import check_text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" \t\n", "empty"),
        ("a\0b", "NUL character at offset 1"),
        ("half \ud83d here", "lone surrogate at offset 5"),
        (None, "not a string"),
        (b"bytes", "not a string"),
    ],
)
def test_unreadable_text_is_refused_with_its_reason(text, says):
    for build in (lambda: check_text(text), lambda: Statement(text, "USA")):
        with pytest.raises(InputError, match=says):
            build()
    with pytest.raises(InputError, match=f"target .*{says}|target is {says}"):
        Statement("A sentence.", text)


@given(st.text())
def test_check_text_never_lets_unreadable_text_pass(text):
    readable = bool(text.strip()) and "\0" not in text
    readable = readable and not any("\ud800" <= c <= "\udfff" for c in text)
    if readable:
        assert check_text(text) == text
    else:
        with pytest.raises(InputError):
            check_text(text)


def test_a_label_is_checked_and_a_near_one_suggested():
    assert Statement("A sentence.", "USA", label=" Critical ").label == "critical"
    with pytest.raises(InputError, match=r"'concilliatory'.*Did you mean 'conciliatory'"):
        parse_label("concilliatory")
    with pytest.raises(InputError, match="expected one of critical, neutral, conciliatory"):
        parse_label(1)


@pytest.mark.parametrize("date", ["2025-02-14", "2025-02-14T09:30:00", dt.date(2025, 2, 14)])
def test_dates_are_read(date):
    assert Statement("A sentence.", "USA", date=date).date == dt.date(2025, 2, 14)


@pytest.mark.parametrize("date", ["14/02/2025", "2025-02-30", "", 20250214])
def test_other_dates_are_refused(date):
    with pytest.raises(InputError, match="date is not an ISO date"):
        Statement("A sentence.", "USA", date=date)


def test_rows_round_trip_with_unknown_columns():
    row = {
        "text": "We regret it.", "target": "FRA", "source": "KEN", "label": "critical",
        "speaker": "the minister", "date": "1999-01-02", "doc_id": "d1", "id": "7", "note": 3,
    }  # fmt: skip
    assert Statement.from_row(row).to_row() == row


def test_blank_cells_count_as_absent():
    statement = Statement.from_row({"text": "Yes.", "target": "FRA", "label": "", "date": None})
    assert statement.label is None and statement.date is None


def test_nan_counts_as_absent_and_ids_are_text():
    row = {"text": "Yes.", "target": "FRA", "doc_id": float("nan"), "id": 7, "source": " "}
    statement = Statement.from_row(row)
    assert statement.doc_id is None and statement.source is None and statement.id == "7"
    with pytest.raises(InputError, match="id is not a string"):
        Statement("Yes.", "FRA", id=7)
    with pytest.raises(InputError, match="speaker holds a lone surrogate"):
        Statement("Yes.", "FRA", speaker="\ud83d")


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match="column 'target' is missing.*got.*'txt'"):
        Statement.from_row({"text": "Yes.", "txt": 1})


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda p: sum(p) > 0.01))
def test_score_is_bounded_and_turns_with_the_scale(weights):
    import numpy as np

    p = np.array(weights) / sum(weights)
    assert -1 <= tone_score(p) <= 1
    assert tone_score(p[::-1]) == pytest.approx(-tone_score(p))
    assert len(LABELS) == 3
