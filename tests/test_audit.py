import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from conftest import PRAISE, STATES, tiny_config, tiny_rows
from ruamel.yaml import YAML
from scipy.stats import entropy

from detente import ConfigError, DataError, Statement
from detente.labels import LABELS
from detente.rows import read_rows, write_json, write_jsonl
from train.audit import (
    choose_next,
    cross_fit,
    find_errors,
    group_numbers,
    main,
    uncertainty,
)
from train.baselines import tfidf
from train.config import Corpus
from train.corpora import load_corpus

ROWS = tiny_rows(2)
STATEMENTS = [Statement.from_row(row) for row in ROWS]
WRONG = (3, 40, 66)


def with_wrong_labels():
    """The rows with three labels exchanged."""
    rows = list(STATEMENTS)
    for row in WRONG:
        other = LABELS[LABELS.index(rows[row].label) - 1]
        rows[row] = dataclasses.replace(rows[row], label=other)
    return rows


def test_rows_are_linked_by_document_group_or_sentence():
    def row(text, **columns):
        return Statement.from_row({"text": text, "target": "FRA", **columns})

    rows = [
        row("One.", doc_id="d"),
        row("Two.", doc_id="d"),
        row("two"),  # the sentence of the row before, in other letters
        row("Three.", group="d"),  # a group is no document
        row("Four.", group="g"),
        row("Five.", group="g", doc_id=""),
        row("Six."),
        row("Seven.", group=""),
    ]
    numbers = group_numbers(rows).tolist()
    assert len(set(numbers[:3])) == 1 and numbers[4] == numbers[5]
    assert len(set(numbers)) == 5


def test_no_group_is_judged_by_a_model_that_saw_it():
    grouped = [
        dataclasses.replace(s, doc_id=f"d{row // 7}") if row % 3 else s
        for row, s in enumerate(STATEMENTS)
    ]
    groups = dict(zip((s.id for s in grouped), group_numbers(grouped), strict=True))
    pool = [Statement("We thank Oslo.", "NOR")]
    judged = []

    def model(train, asked):
        seen = {groups[s.id] for s in train}
        assert asked[-1:] == pool
        assert not seen & {groups[s.id] for s in asked[:-1]}
        judged.extend(s.id for s in asked[:-1])
        return np.full((len(asked), 3), [0.2, 0.3, 0.5])

    found = cross_fit(grouped, pool, [model] * 4)
    assert sorted(judged) == sorted(groups)
    assert np.unique(found.folds).tolist() == [0, 1, 2, 3]
    assert np.allclose(found.unlabelled, [[0.2, 0.3, 0.5]])
    assert np.allclose(found.held_out, [0.2, 0.3, 0.5])


def test_wrong_labels_are_found():
    rows = with_wrong_labels()
    audit = find_errors(rows, cross_fit(rows, [], [tfidf] * 5).held_out)
    assert set(np.flatnonzero(audit.doubtful)) == set(WRONG)
    assert set(np.argsort(audit.quality)[:3]) == set(WRONG)
    assert not audit.contradicted.any()


def test_one_sentence_with_two_labels_contradicts_itself():
    twice = [
        Statement("We thank France.", "FRA", label="conciliatory"),
        Statement("we thank France!", "France", label="neutral"),
        Statement("We thank France.", "PER", label="neutral"),
        Statement("We thank France.", "FRA", source="USA", label="neutral"),
        Statement("We condemn Peru.", "PER", label="critical"),
    ]
    audit = find_errors(twice, np.full((5, 3), 1 / 3))
    assert audit.contradicted.tolist() == [True, True, False, False, False]


def test_uncertainty_is_entropy_or_margin():
    p = np.random.default_rng(0).dirichlet([1, 1, 1], size=50)
    assert np.allclose(uncertainty(p, "entropy"), entropy(p, axis=1, base=3))
    top = np.sort(p, axis=1)
    assert np.allclose(uncertainty(p, "margin"), 1 - top[:, 2] + top[:, 1])
    sure_and_not = np.array([[1.0, 0, 0], [1 / 3] * 3])
    for criterion in ("entropy", "margin"):
        assert np.allclose(uncertainty(sure_and_not, criterion), [0, 1], atol=1e-9)


def test_targets_take_turns_and_nothing_is_asked_twice():
    texts = [
        ("The harbour treaty was signed on Monday by both of the ministers.", "France"),
        ("The harbour treaty was signed on Friday by both of the ministers.", "France"),
        ("Nobody believes a word of what they promise us any more.", "FRA"),
        ("Grain shipments resumed last week without incident.", "Kenya"),
        ("Their envoy smiled, and we smiled back politely.", "KEN"),
        ("Nothing that is known already need be asked.", "Peru"),
    ]
    pool = [Statement(*pair) for pair in texts]
    known = [Statement("nothing that is known already need be asked", "CHL", label="neutral")]
    unsure = np.array([0.9, 0.8, 0.5, 0.2, 0.1, 1.0])
    assert choose_next(pool, unsure, known, 10) == [0, 3, 2, 4]
    assert choose_next(pool, unsure, known, 2) == [0, 3]


@pytest.fixture
def audited(tmp_path):
    """An audit of rows three of which have a wrong label, and its folder."""
    write_jsonl(tmp_path / "rows.jsonl", [s.to_row() for s in with_wrong_labels()])
    pool = [
        {"text": f"“{verb}”, he said, {n} of {state}…", "target": state, "date": "2020-01-01"}
        for n, (verb, state) in enumerate(zip(PRAISE * 4, STATES, strict=False))
    ]
    write_jsonl(tmp_path / "pool.jsonl", pool)
    main(
        tmp_path / "rows.jsonl",
        tmp_path / "audit",
        unlabelled=tmp_path / "pool.jsonl",
        count=4,
    )
    return tmp_path / "audit"


def edited(path, change):
    """Writes a table again as a spreadsheet would after ``change(row)``."""
    rows = [row for _, row in read_rows(path)]
    for row in rows:
        change(row)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_the_corrected_table_is_a_corpus_again(audited):
    columns = [row for _, row in read_rows(audited / "labels.csv")]
    assert list(columns[0])[:6] == ["id", "text", "source", "target", "label", "suggested_label"]
    first = columns[: len(WRONG)]
    assert {row["id"] for row in first} == {STATEMENTS[row].id for row in WRONG}
    assert all(row["reason"].startswith("the model says") for row in first)
    assert not any(row["suggested_label"] for row in columns[len(WRONG) :])

    def accept(row):
        row["label"] = row["suggested_label"] or row["label"]

    edited(audited / "labels.csv", accept)
    corpus = load_corpus(Corpus(name="file", path=audited / "labels.csv"), None)
    found = {s.id: (s, split) for split, rows in corpus.splits.items() for s in rows}
    for row, before in zip(ROWS, STATEMENTS, strict=True):
        assert found[before.id] == (before, row["split"])


def test_what_to_label_next_is_for_training_only(audited):
    spec = Corpus(name="file", path=audited / "next.csv")
    with pytest.raises(DataError, match=r"next\.csv, row 1: the row has no label"):
        load_corpus(spec, None)
    edited(audited / "next.csv", lambda row: row.update(label="neutral"))
    splits = load_corpus(spec, None).splits
    assert len(splits["train"]) == 4 and not splits["validation"] and not splits["test"]
    assert all(s.text.startswith("“") and s.date.year == 2020 for s in splits["train"])
    report = (audited / "audit.md").read_text("utf-8")
    assert "**3** labels are likely wrong" in report and "next.csv" in report


def test_a_whole_audit_is_not_overwritten_and_the_tables_can_be_audited_again(audited, tmp_path):
    with pytest.raises(DataError, match="the folder is there already"):
        main(tmp_path / "rows.jsonl", audited)
    before = next(row for _, row in read_rows(audited / "labels.csv"))
    main(audited / "labels.csv", tmp_path / "again")
    after = next(row for _, row in read_rows(tmp_path / "again" / "labels.csv"))
    assert list(after) == list(before)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (STATEMENTS[:3], "too few groups of rows for so many folds; got '3 groups, 5 folds'"),
        (STATEMENTS[:12], "there is only one label to learn from; got 'conciliatory'"),
    ],
)
def test_rows_that_cannot_be_judged_are_refused(rows, says):
    with pytest.raises(DataError, match=says):
        cross_fit(rows, [], [tfidf] * 5)


def test_an_audit_by_transformer(tiny_base, tiny_table, tmp_path, capsys):
    # A column of the user's that training has its own meaning for.
    write_jsonl(tmp_path / "rows.jsonl", [{**row, "weight": "2 kg"} for row in tiny_rows()])
    config = tiny_config(tiny_base, tiny_table, tmp_path / "run", "fit.epochs=1")
    with (tmp_path / "c.yaml").open("w") as file:
        YAML().dump(config.to_yaml(), file)

    def audit(folds=2):
        main(tmp_path / "rows.jsonl", tmp_path / "audit", config=tmp_path / "c.yaml", folds=folds)

    audit()
    said = capsys.readouterr().out
    assert "2 trainings of" in said and "minutes at most" in said
    assert {p.name for p in (tmp_path / "audit").iterdir()} == {
        "labels.csv", "audit.md", "audit.json",
    }  # fmt: skip

    # As it would lie there after a stop: it is gone on from, but not with other settings.
    about = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert about.pop("out_of_fold")["rows"] == len(tiny_rows())
    write_json(tmp_path / "audit.partial" / "audit.json", about)
    table = (tmp_path / "audit" / "labels.csv").read_bytes()
    shutil.rmtree(tmp_path / "audit")
    with pytest.raises(ConfigError, match="an unfinished audit of another kind is in the way"):
        audit(folds=3)
    audit()
    assert (tmp_path / "audit" / "labels.csv").read_bytes() == table
