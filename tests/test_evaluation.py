import json

import numpy as np
import pytest
from conftest import tiny_rows

from detente import DataError, Statement
from train.baselines import BASELINES
from train.evaluation import evaluate, main, prediction_rows, table, write_report
from train.tone_metric import labels_of

STATEMENTS = [Statement.from_row(row) for row in tiny_rows(2)]
LABELS_TRUE = labels_of(STATEMENTS)


def noisy(share, seed=0):
    """Probabilities that are right for about a share of the statements."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(len(LABELS_TRUE)) < share, LABELS_TRUE, (LABELS_TRUE + 1) % 3)
    return 0.7 * np.eye(3)[labels] + 0.1


def test_intervals_hold_the_estimate_and_leads_are_paired():
    systems = {"model": noisy(0.9), "weak": noisy(0.5), "same": noisy(0.9)}
    found = evaluate("x", STATEMENTS, systems, bootstrap=300).metrics
    for m in found.values():
        low, high = m["macro_f1_interval"]
        assert low <= m["macro_f1"] <= high and high > low
    assert found["weak"]["lead"] == found["model"]["macro_f1"] - found["weak"]["macro_f1"]
    assert found["weak"]["lead_interval"][0] > 0
    assert found["same"]["lead"] == 0 and found["same"]["lead_interval"] == [0, 0]


def test_clusters_widen_the_interval():
    p = noisy(0.7)
    right = p.argmax(axis=1) == LABELS_TRUE
    # Rows of a cluster are right or wrong together, as sentences of one document may be.
    alike = [
        Statement(s.text, s.target, label=s.label, extra={"cluster": f"{r}{i % 5}"})
        for i, (s, r) in enumerate(zip(STATEMENTS, right, strict=True))
    ]
    widths = [
        np.diff(evaluate("x", rows, {"model": p}).metrics["model"]["macro_f1_interval"])[0]
        for rows in (STATEMENTS, alike)
    ]
    assert widths[1] > 1.5 * widths[0]


def test_evaluation_is_the_same_every_time():
    first, second = (evaluate("x", STATEMENTS, {"model": noisy(0.8)}).metrics for _ in "ab")
    assert first == second


def test_slices_and_contrast_groups():
    rows = [
        Statement(f"{i}", t, source="KEN", label=label,
                  extra={"cluster": str(i // 2), "phenomena": ["irony"]})
        for i in range(40)
        for t, label in [(("FRA", "critical") if i % 2 else ("PER", "neutral"))]
    ]  # fmt: skip
    p = np.tile([0.6, 0.3, 0.1], (40, 1))  # always critical: each pair half right
    p[:2] = [[0, 1, 0], [1, 0, 0]]
    m = evaluate("x", rows, {"model": p}).metrics["model"]
    assert m["contrast_groups"] == {"groups": 20, "wholly_right": 1 / 20}
    assert m["slices"]["phenomenon: irony"]["rows"] == 40
    assert m["slices"]["pair: Kenya -> France"]["accuracy"] == 1
    assert "pair: Kenya -> Peru" in m["slices"]


@pytest.mark.parametrize("name", list(BASELINES))
def test_baselines_give_probabilities(name):
    train, test = STATEMENTS[::2], STATEMENTS[1::2]
    p = BASELINES[name](train, test)
    assert p.shape == (len(test), 3)
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_tfidf_learns_words_and_copes_with_a_missing_label():
    two = [s for s in STATEMENTS if s.label != "neutral"]
    p = BASELINES["tfidf"](two, STATEMENTS)
    assert (p[:, 1] == 0).all()
    tonal = LABELS_TRUE != 1
    assert (p.argmax(axis=1) == LABELS_TRUE)[tonal].mean() > 0.95


def test_the_report_has_its_tables_and_pictures(tmp_path):
    evaluation = evaluate("tiny", STATEMENTS, {"model": noisy(0.8), "tfidf": noisy(0.5)})
    write_report(evaluation, tmp_path)
    for name in ("confusion.png", "reliability.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    report = (tmp_path / "report.md").read_text()
    assert table(evaluation) in report and "length: up to 80 characters" in report
    errors = (tmp_path / "errors.md").read_text()
    wrong = int((evaluation.probabilities["model"].argmax(axis=1) != LABELS_TRUE).sum())
    assert f"worst of {wrong} errors" in errors
    assert len(errors.splitlines()) == 4 + min(50, wrong)


def test_the_command_writes_a_whole_folder(tiny_run, tiny_table, tmp_path, capsys):
    out = tmp_path / "out"
    main(
        model=str(tiny_run / "model"), data=tiny_table, out=out,
        baselines_from=tiny_table, twin=str(tiny_run / "twin"), bootstrap=100,
    )  # fmt: skip
    found = json.loads((out / "metrics.json").read_text())["tiny"]
    assert set(found) == {"model", "target_blind", *BASELINES}
    assert "| target-blind |" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / "predictions.jsonl").open()]
    assert {"gold", "label", "score", "p_critical", "text", "target"} <= set(rows[0])
    with pytest.raises(DataError, match="the folder is there already"):
        main(model=str(tiny_run / "model"), data=tiny_table, out=out)


def test_predictions_keep_the_gold_label():
    evaluation = evaluate("x", STATEMENTS, {"model": noisy(0.5)})
    rows = prediction_rows(evaluation, "m")
    assert {r["model"] for r in rows} == {"m"}
    assert [r["gold"] for r in rows] == [s.label for s in STATEMENTS]
    assert {r["label"] for r in rows} <= {"critical", "neutral", "conciliatory"}


def test_the_lexicon_hears_praise_and_blame_and_knows_no_target():
    texts = ["We love this wonderful friend.", "They met at noon.", "We hate this terrible crime."]
    statements = [Statement(text, "FRA", label="neutral") for text in texts]
    assert BASELINES["lexicon"]([], statements).argmax(axis=1).tolist() == [2, 1, 0]
    other = [Statement(text, "KEN", label="neutral") for text in texts]
    assert (BASELINES["lexicon"]([], statements) == BASELINES["lexicon"]([], other)).all()
