import json

import pytest
from conftest import tiny_rows

from detente import Classifier, DataError, Statement
from scripts.bench_inference import (
    BATCHED,
    CROSS,
    INT8_SIDE,
    ONE_BY_ONE,
    ONNX,
    PEAK,
    TORCH,
    Measured,
    every_answer,
    export,
    first_answer,
    load,
    picture,
    process,
    profile,
    summary,
    table,
    write_inputs,
)

ROWS = [Statement.from_row(row) for row in tiny_rows()][:24]


@pytest.fixture(scope="module")
def int8(tiny_model, tmp_path_factory):
    return export(tiny_model, tmp_path_factory.mktemp("export") / "int8")


def test_all_sides_answer_the_same(tiny_model, int8):
    expected = [p.label for p in Classifier.load(tiny_model).predict_batch(ROWS)]
    for side in (ONE_BY_ONE, BATCHED, TORCH, ONNX):
        answer = load(side, tiny_model, 4)
        assert answer(ROWS) == expected, side
        assert answer(ROWS[:1]) == expected[:1], side
    found = load(INT8_SIDE, int8, 4)(ROWS)
    assert sum(a == b for a, b in zip(found, expected, strict=True)) >= 22


def test_an_export_is_a_model_folder_and_is_not_made_twice(int8, tmp_path):
    assert Classifier.load(int8).predict("We thank Peru today.", "PER").label
    assert export(int8, tmp_path / "again") == int8


def test_programs_answer(int8, tmp_path):
    assert "label=" in process(first_answer(INT8_SIDE, int8, ROWS[0]))[1]
    write_inputs(tmp_path / "rows.jsonl", ROWS)
    _, peak = process(every_answer(INT8_SIDE, int8, tmp_path / "rows.jsonl", 4))
    assert 20e6 < int(peak) < 300e6
    for side in (ONE_BY_ONE, BATCHED, CROSS, TORCH):
        compile(first_answer(side, int8, ROWS[0]), side, "exec")
        compile(every_answer(side, int8, tmp_path, 4), side, "exec")
    with pytest.raises(DataError, match="the program failed: .*not today"):
        process("raise SystemExit('not today')")


def test_the_peak_is_that_of_the_program_and_not_of_its_parent():
    held = bytearray(100_000_000)
    assert int(process(PEAK)[1]) < 40e6
    assert int(process(f"held = bytearray(50_000_000)\n{PEAK}")[1]) > 50e6
    assert len(held) == 100_000_000


def test_the_profile_covers_every_kind_of_work(int8):
    found = profile(int8, ROWS)
    assert {"tokenising", "matrix products", "attention", "finding states"} <= set(found)
    assert all(seconds >= 0 for seconds in found.values())


def test_ratios_are_of_rounds_and_the_picture_is_drawn(tmp_path):
    measured = {
        side: Measured(
            [2, 2, 2], seconds, [0.001, 0.002], [1.0, 2.0, 6.0], [10**8], ["critical", "neutral"]
        )
        for side, seconds in (
            (ONE_BY_ONE, [8.0, 8.0, 8.0]),
            (BATCHED, [4.0, 6.0, 4.0]),
            (INT8_SIDE, [1.0, 3.0, 2.0]),
        )
    }
    rows = [
        Statement("We reject Peru.", "PER", label="critical"),
        Statement("We thank Peru.", "PER", label="conciliatory"),
    ]
    figures = summary(measured, rows, 16)
    found = figures["sides"][INT8_SIDE]
    assert (found["rate"], found["rate_range"]) == (1.0, [2 / 3, 2.0])
    assert (found["to_batches"], found["to_one_by_one"]) == (2.0, 4.0)
    assert (found["cold_s"], found["peak_bytes"]) == (2.0, 10**8)
    assert found["macro_f1"] == pytest.approx(1 / 3)
    assert json.loads(json.dumps(figures)) == figures
    assert f"| {INT8_SIDE} | 1 | 2.00 | 4.00 | 1.5 |" in table(figures)
    picture(figures, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 1000
    unlabelled = [Statement(row.text, row.target) for row in rows]
    assert summary(measured, unlabelled, 16)["sides"][INT8_SIDE]["macro_f1"] is None
