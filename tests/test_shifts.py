import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest

import detente
from detente.errors import InputError
from detente.findings import Estimate, Level, PeriodTone, Shift, draw_tone
from detente.labels import LABELS
from detente.prevalence import Confusion
from detente.shifts import shift

GOOD = Confusion(np.array([[340, 40, 20], [30, 340, 30], [20, 40, 340]]))
START = dt.date(2001, 1, 1)


def rows(documents=240, effect=0.8, years=8, seed=0, sentences=3, **columns):
    """Dated rows as a scorer writes them; the tone steps up by ``effect`` in the middle.

    Columns are functions of the time, from 0 to 1.
    """
    rng = np.random.default_rng(seed)
    found = []
    for number, day in enumerate(np.sort(rng.integers(0, 365 * years, documents))):
        move = effect / 4 * (1 if day >= 365 * years / 2 else -1)
        shares = rng.dirichlet(4 * np.array([0.35 - move, 0.3, 0.35 + move]))
        for k, label in enumerate(rng.choice(3, sentences, p=shares)):
            found.append(
                {
                    "text": f"Sentence {k} of document {number} about Washington.",
                    "source": "RUS",
                    "target": "USA",
                    "date": (START + dt.timedelta(int(day))).isoformat(),
                    "doc_id": f"d{number}",
                    "speaker": "The spokesman",
                    "label": LABELS[label],
                    "score": float(label) - 1,
                    **{name: value(day / (365 * years)) for name, value in columns.items()},
                }
            )
    return found


def test_finds_a_step_where_it_is_and_how_large():
    found = detente.shift(rows(), source="Russia", target="Washington", confusion=GOOD)
    assert found.verdict.startswith("shift toward conciliatory")
    (change,) = found.changes
    middle = START + dt.timedelta(365 * 4)
    assert change.interval[0] <= middle <= change.interval[1]
    assert abs(change.date - middle) < dt.timedelta(120)
    assert change.interval[0] <= change.date <= change.interval[1]
    assert change.effect.low < 0.8 < change.effect.high or change.effect.value > 0.5
    assert found.after.tone.value - found.before.tone.value == pytest.approx(found.effect.value)
    assert found.before.documents + found.after.documents == 240


def test_the_other_way_round_is_a_shift_toward_critical():
    found = shift(rows(effect=-0.8), confusion=GOOD)
    assert found.verdict.startswith("shift toward critical")
    assert found.effect.high < 0


def test_without_a_step_there_is_none():
    found = shift(rows(effect=0.0), confusion=GOOD)
    assert found.verdict == "no shift found"
    assert not found.changes
    assert found.effect.low < 0 < found.effect.high


def test_the_same_rows_and_seed_give_the_same_answer_in_any_order():
    table = rows(documents=60)
    expected = shift(table, confusion=GOOD).to_dict()
    assert shift(table, confusion=GOOD).to_dict() == expected
    for same in (table[::-1], sorted(table, key=lambda row: row["text"])):
        found = shift(same, confusion=GOOD).to_dict()
        for name in ("verdict", "probability", "p_value", "effect", "series"):
            assert found[name] == expected[name]


def test_a_step_that_may_be_a_trend_is_one_where_trends_are_not_asked_about():
    table = rows(documents=100, effect=0.5, seed=6)
    strict, free = shift(table, confusion=GOOD), shift(table, confusion=GOOD, trends=False)
    assert strict.verdict.startswith("not enough data: the tone moved toward conciliatory")
    assert "from a gradual trend" in strict.verdict
    assert not strict.changes
    assert free.verdict.startswith("shift toward conciliatory")
    assert free.p_value <= 0.05 < strict.p_value == free.p_line


def test_one_step_in_more_days_than_blocks_is_one_change_on_its_day():
    found = shift(rows(documents=3000, sentences=1), confusion=GOOD)
    (change,) = found.changes
    middle = START + dt.timedelta(365 * 4)
    assert abs(change.date - middle) < dt.timedelta(15)
    assert change.interval[1] - change.interval[0] < dt.timedelta(40)


def test_classifier_errors_widen_the_effect_and_undo_its_attenuation():
    table = rows()
    perfect = shift(table, confusion=Confusion.perfect())
    noisy = shift(table, confusion=GOOD)
    assert noisy.effect.value > perfect.effect.value
    assert noisy.effect.high - noisy.effect.low > perfect.effect.high - perfect.effect.low


def test_takes_files_tables_and_statements_alike(tmp_path):
    table = rows(documents=40)
    expected = shift(table, confusion=GOOD).to_dict()
    assert shift(pd.DataFrame(table), confusion=GOOD).to_dict() == expected
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    assert shift(path, confusion=GOOD).to_dict() == expected


def test_a_scored_csv_file_gives_the_same_answer_and_names_its_rows(tmp_path):
    table = rows(documents=40)
    path = tmp_path / "rows.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    expected = shift(table, confusion=GOOD)
    assert shift(path, confusion=GOOD).to_dict()["effect"] == expected.to_dict()["effect"]
    table[7] |= {"date": ""}
    pd.DataFrame(table).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"rows\.csv, row 8: date is missing"):
        shift(path, confusion=GOOD)


def test_a_place_is_that_of_the_row_and_not_of_the_selection():
    table = rows(documents=40)
    table[0] |= {"target": "FRA"}
    table[7] |= {"label": "angry"}
    with pytest.raises(InputError, match="row 7: .*angry"):
        shift(table, target="USA", confusion=GOOD)


def test_a_person_s_labels_are_taken_as_true_and_said_so():
    table = [{k: v for k, v in row.items() if k != "score"} for row in rows(documents=40)]
    found = shift(table)
    assert any("taken as true" in note for note in found.notes)


def test_a_copy_of_a_document_counts_once():
    table = rows(documents=60)
    copies = [row | {"doc_id": f"copy of {row['doc_id']}"} for row in table]
    once, twice = shift(table, confusion=GOOD), shift(table + copies, confusion=GOOD)
    assert any("60 documents" in note for note in twice.notes)
    assert twice.probability == pytest.approx(once.probability)


def test_a_change_of_language_at_the_boundary_leaves_nothing_to_say():
    found = shift(rows(language=lambda when: "en" if when < 0.5 else "ru"), confusion=GOOD)
    assert found.verdict.startswith("not enough data: about ")
    assert "language" in found.verdict
    assert not found.changes


def test_another_mix_of_series_is_noted():
    def mix(when):
        return "papers" if (1000 * when) % 1 < (0.2 if when < 0.5 else 0.8) else "tweets"

    found = shift(rows(series=mix), confusion=GOOD)
    assert found.found
    assert any("mix of series" in note for note in found.notes)


@pytest.mark.parametrize(
    ("table", "word"),
    [
        (rows(documents=8), "8 documents, and at least 20"),
        (rows(documents=25, effect=0.0), "would show in about"),
        ([row | {"date": "2001-01-01"} for row in rows(documents=60)], "of one day"),
    ],
)
def test_too_little_is_said_so_with_what_is_needed(table, word):
    found = shift(table, confusion=GOOD)
    assert found.verdict.startswith("not enough data")
    assert word in found.verdict
    assert not found.changes


def test_a_classifier_that_was_hardly_tested_gives_no_answer():
    found = shift(rows(), confusion=Confusion(np.diag([5.0, 5.0, 5.0])))
    assert found.verdict.startswith("not enough data: the classifier was tested on too few")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"date": "1 May 2001"}, "row 7.*not an ISO date"),
        ({"date": None}, "row 7.*date is missing"),
        ({"date": "2999-01-01"}, "row 7.*future"),
        ({"score": 1.5}, "row 7.*outside"),
        ({"label": "angry"}, "angry"),
    ],
)
def test_wrong_cells_are_named(change, message):
    table = rows(documents=40)
    table[7] |= change
    with pytest.raises(InputError, match=message):
        shift(table, confusion=GOOD)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "France"}, "no row has the target"),
        ({"source": "France"}, "no row has the source"),
        ({"start": dt.date(2020, 1, 1)}, "no row is after"),
        ({"period": "day"}, "unknown period"),
    ],
)
def test_what_is_asked_for_and_not_there_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        shift(rows(documents=40), confusion=GOOD, **arguments)


def test_rows_without_dates_or_anything_to_score_are_refused():
    with pytest.raises(InputError, match="no dates"):
        shift([{"text": "Chad.", "target": "TCD"}])
    with pytest.raises(InputError, match="neither labels nor text"):
        shift([{"date": "2001-01-01", "target": "TCD"}], confusion=GOOD)
    with pytest.raises(InputError, match="no rows"):
        shift([])


def test_rows_of_another_model_are_refused():
    with pytest.raises(InputError, match="another model"):
        shift([row | {"model": "somebody/else"} for row in rows(documents=40)])


def test_scores_what_has_no_label_yet(tiny_model):
    table = [{k: v for k, v in row.items() if k not in ("label", "score")} for row in rows(30)]
    found = shift(table, model=str(tiny_model))
    assert found.verdict.startswith(("shift toward", "no shift found", "not enough data"))


def test_report_picture_and_table_show_the_same_answer(tmp_path):
    found = shift(rows(), source="RUS", target="USA", confusion=GOOD)
    report = found.to_markdown()
    assert str(found.changes[0].date) in report
    assert "Before, most extreme" in report
    frame = found.to_frame()
    assert frame["documents"].sum() == 240
    assert ((frame["tone_low"] <= frame["tone"]) & (frame["tone"] <= frame["tone_high"])).all()
    json.dumps(found.to_dict())
    for suffix in ("png", "svg"):
        found.plot(str(tmp_path / f"shift.{suffix}"), events={dt.date(2003, 3, 3): "A summit"})
        assert (tmp_path / f"shift.{suffix}").stat().st_size > 5000
    with pytest.raises(InputError, match="unknown kind of picture"):
        found.plot(str(tmp_path / "shift.doc"))


def test_a_row_without_text_is_named(tmp_path):
    table = tmp_path / "speeches.csv"
    table.write_text("date,target,text\n2020-01-01,PER,They met.\n2020-01-02,PER,\n")
    with pytest.raises(InputError, match=r"speeches.csv, row 2: text is empty"):
        shift(str(table))


def test_labels_do_not_need_texts():
    labelled = [row | {"text": None if i % 7 == 0 else row["text"]} for i, row in enumerate(rows())]
    assert shift(labelled, confusion=GOOD).found


def test_the_picture_does_not_bridge_what_is_not_known():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    share = Estimate(0.5, 0.4, 0.6)
    level = Level(tone=share, shares=dict.fromkeys(LABELS, share), documents=5, sentences=9)
    levels = (level, level, None, level)
    years = [dt.date(2020 + n, 1, 1) for n in range(5)]
    periods = zip(years, years[1:], levels, strict=False)
    axis = figure.subplots()
    draw_tone(axis, Shift("no shift found", series=tuple(PeriodTone(*p) for p in periods)))
    drawn = axis.lines[0].get_ydata()
    assert [bool(np.isnan(y)) for y in drawn] == [False, False, True, False]


def test_rows_without_a_source_are_said_to_be_taken_for_its_own():
    table = [{k: v for k, v in row.items() if k != "source"} for row in rows(60)]
    found = shift(table, source="RUS", target="USA", confusion=GOOD)
    assert any("no column source" in note and "RUS" in note for note in found.notes)
    assert not any("source" in note for note in shift(rows(60), source="RUS", confusion=GOOD).notes)
