"""`detente score`: a model double that answers by the text alone, and stops where it is told."""

import csv
import hashlib
import io
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from detente import LABELS, DataError, InputError, Prediction, hub
from detente.cli import main
from detente.encoding import as_target
from detente.rows import read_rows, scan_rows
from detente.scoring import Scorer, cut_shards, score
from detente.shards import Counts
from detente.states import mentions


class Stopped(Exception):
    """A process that ends in the middle of its work."""


class Double:
    """A model without a model: each pair has its own numbers, whatever batch it comes in."""

    name = "double"

    def __init__(self, batches=10**9):
        self.batches = batches

    def predict_batch(self, statements):
        if self.batches == 0:
            raise Stopped
        self.batches -= 1
        if any("too long" in s.target for s in statements):
            raise InputError("target takes too many tokens")
        return [self._answer(s.text, s.target, s.source) for s in statements]

    def read(self, document, source):
        if not document.strip():
            raise InputError("document is empty")
        states = dict.fromkeys(mention.state for mention in mentions(document))
        return [self._answer(document, state, source, (0, len(document))) for state in states]

    def _answer(self, text, target, source, span=None):
        digest = hashlib.sha256(f"{text}{as_target(target)}{source}".encode()).digest()
        p = [(byte + 1) / sum(b + 1 for b in digest[:3]) for byte in digest[:3]]
        return Prediction(
            label=LABELS[p.index(max(p))],
            probabilities=dict(zip(LABELS, p, strict=True)),
            target=as_target(target),
            sentence=text,
            source=as_target(source) if source else None,
            span=span,
            tokens_cut=max(0, len(text) - 100),
        )


def engine(double=None):
    return lambda task, shards: map(Scorer(task, double or Double()), shards)


def run(inputs, out, *, double=None, **options):
    inputs = inputs if isinstance(inputs, list) else [inputs]
    return score(inputs, out, engine=engine(double), **{"shard_rows": 7, **options})


STATES = ["France", "Kenya", "Peru", "Japan", "Norway", "Chile", "Egypt", "India", "Ghana", "Italy"]
ROWS = [
    {"id": str(i), "text": f"We mention {state} today, “{i}”,\nagain.", "target": state, "x": "ö"}
    for i, state in enumerate(STATES * 3)
]


def write(path, rows=ROWS):
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def found(path):
    return [row for _, row in read_rows(path)]


def rejects(out):
    return found(out.with_name(f"{out.name}.rejects.jsonl"))


@pytest.mark.parametrize("given_as", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("wanted", [".csv", ".jsonl", ".parquet"])
def test_every_kind_gives_the_same_scored_rows(tmp_path, given_as, wanted):
    out = tmp_path / f"out{wanted}"
    counts = run(write(tmp_path / f"in{given_as}"), out)
    assert counts == Counts(read=30, scored=30, written=30)
    scored = found(out)
    for row, before in zip(scored, ROWS, strict=True):
        answer = Double()._answer(before["text"], before["target"], None).to_row()
        expected = {**before, **answer, "tokens_cut": 0, "model": "double"}
        assert {k: str(v) for k, v in row.items()} == {k: str(v) for k, v in expected.items()}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [f"in{given_as}", out.name, f"{out.name}.manifest.json"]
    )


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_folder_holds_a_file_for_each_shard(tmp_path, kind):
    single, folder = tmp_path / f"one.{kind}", tmp_path / "many"
    table = write(tmp_path / "in.parquet")
    run(table, single)
    run(table, folder, kind=kind)
    parts = sorted(folder.iterdir())
    assert [p.name for p in parts] == [f"part-00000{i}.{kind}" for i in range(5)]
    assert [row for part in parts for row in found(part)] == found(single)


def test_columns_have_their_standard_names_and_nothing_is_lost(tmp_path):
    rows = [
        {"speech": "We thank Peru.", "about": "Lima", "by": "KEN", "text": "t", "label": 3, "n": 1},
        {"speech": "We see Peru.", "about": "Peru", "by": None, "text": "u", "label": 4, "n": 2},
    ]
    out = tmp_path / "out.parquet"
    names = {"text_column": "speech", "target_column": "about", "source_column": "by"}
    run(write(tmp_path / "in.parquet", rows), out, **names)
    first, second = found(out)
    assert (first["text"], first["target"], first["source"]) == ("We thank Peru.", "PER", "KEN")
    assert (first["input_text"], first["input_label"], first["n"]) == ("t", 3, 1)
    assert second["source"] is None and first["label"] in LABELS
    assert parquet.read_schema(out).field("n").type == pa.int64()
    rows[0]["input_label"] = 1
    with pytest.raises(InputError, match="a column would be overwritten"):
        run(write(tmp_path / "in.jsonl", rows), tmp_path / "other.csv", **names)


def test_jsonl_columns_may_come_late_and_be_of_any_type(tmp_path):
    rows = [{"text": "We see Peru.", "target": "PER"} for _ in range(20)]
    rows[15] |= {"source": "Kenya", "tags": ["a", "ö"], "n": 1.5, "good": True}
    table = write(tmp_path / "in.jsonl", rows)
    for kind in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"out.{kind}"
        run(table, out)
        late = found(out)[15]
        assert late["source"] == "KEN"
        if kind == "jsonl":
            assert (late["tags"], late["n"], late["good"]) == (["a", "ö"], 1.5, True)
        else:
            assert (late["tags"], late["n"], late["good"]) == ('["a", "ö"]', "1.5", "true")


def test_without_a_target_every_state_gives_a_row(tmp_path):
    rows = [
        {"text": "We thank Peru and Kenya.", "n": 1}, {"text": "Nobody.", "n": 2},
        {"text": " ", "n": 3}, {"text": "Chile" + "!" * 100, "n": 4},
    ]  # fmt: skip
    table, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    counts = run(table, out)
    assert counts == Counts(read=4, scored=2, rejected=1, skipped=1, written=3, cut=1)
    assert [(r["target"], r["n"], r["doc_id"], r["start"], r["end"]) for r in found(out)] == [
        ("PER", 1, f"{table}:1", 0, 24), ("KEN", 1, f"{table}:1", 0, 24),
        ("CHL", 4, f"{table}:4", 0, 105),
    ]  # fmt: skip
    assert rejects(out) == [{"file": str(table), "row": 3, "reason": "document is empty"}]
    table = write(tmp_path / "in.csv")
    run(table, tmp_path / "all.csv", every_state=True)
    assert found(tmp_path / "all.csv")[0]["input_target"] == "France"


def test_bad_rows_are_rejected_with_their_reason_and_add_up(tmp_path):
    good = b'{"text": "We see Peru.", "target": "PER"}\n'
    bad = {
        2: (b'{"text": "", "target": "PER"}\n', "text is empty"),
        4: (b'{"text": "Yes.", "target": null}\n', "target is not a string"),
        5: (b'{"text": "\xff", "target": "PER"}\n', "not UTF-8 text"),
        8: (b'{"text": "half\n', "not valid JSON"),
        9: (b'{"text": "Yes."}\n', "the column 'target' is missing"),
        10: (b'{"text": "Yes.", "target": "PER", "x": "\\ud800"}\n', "holds a lone surrogate"),
        11: (b'{"text": "Yes.", "target": "too long"}\n', "target takes too many tokens"),
        12: (b"[1]\n", "not a JSON object"),
    }
    lines = [bad[i][0] if i in bad else good for i in range(1, 21)]
    lines[18] = b"\n"
    table, out = tmp_path / "in.jsonl", tmp_path / "out.csv"
    table.write_bytes(b"".join(lines))
    counts = run(table, out)
    assert counts == Counts(read=19, scored=11, rejected=8, written=11)
    assert [r["row"] for r in rejects(out)] == list(bad)
    for reject, (_, reason) in zip(rejects(out), bad.values(), strict=True):
        assert reject["reason"].startswith(reason) and reject["file"] == str(table)
    with pytest.raises(DataError, match=r"in\.jsonl, row 2: text is empty"):
        run(table, tmp_path / "b.csv", on_error="stop")


BROKEN = b'text,target\nA,PER\n"B ""b""",PER\nC "c",PER\n"D" d,PER\nE\n\nF\xff,PER\n"G\ng",PER\n'


def test_broken_rows_of_csv_are_rejected_one_by_one(tmp_path):
    table, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    table.write_bytes(BROKEN)
    assert run(table, out) == Counts(read=7, scored=4, rejected=3, written=4)
    assert [r["text"] for r in found(out)] == ["A", 'B "b"', 'C "c"', "G\ng"]
    assert [(r["row"], r["reason"][:13]) for r in rejects(out)] == [
        (4, "not valid CSV"), (5, "the row has m"), (6, "not UTF-8 tex"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "rest", [b'"', b"", b'f,PER\n"g",PER\n', b'f",PER,"x"\n'], ids=["end", "eof", "later", "cells"]
)
def test_a_quote_that_swallows_rows_stops_the_run_where_it_stands(tmp_path, rest):
    table, out = tmp_path / "in.csv", tmp_path / "out.csv"
    good = b"text,target\n" + b"We see Peru,PER\n" * 20
    table.write_bytes(good + b'"We see,PER\nd,PER\ne,PER\n' + rest)
    with pytest.raises(DataError, match=r"in\.csv, row 21: .*begins with '\"We see,PER'.*lines"):
        run(table, out)
    assert not out.exists()
    assert len(list((tmp_path / "out.csv.partial" / "parts").iterdir())) == 2
    # The finished shards are used: only the rest is left to predict.
    counts = run(table, out, on_error="salvage", double=Double(batches=5))
    assert counts.read == counts.scored + counts.rejected and counts.scored >= 22
    assert rejects(out)[0]["row"] == 21 and [r["text"] for r in found(out)][20:22] == ["d", "e"]


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet", "folder"])
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(tmp_path, name):
    table = tmp_path / "in.jsonl"
    table.write_text("\n".join(["{", *(json.dumps(row) for row in ROWS), "["]))
    whole = tmp_path / "whole" / name
    run(table, whole, kind="jsonl" if name == "folder" else None)
    out = tmp_path / "stopped" / name
    for _ in range(4):
        with pytest.raises(Stopped):
            run(table, out, kind="jsonl" if name == "folder" else None, double=Double(batches=1))
        assert not out.exists()
        # What a process that is killed in the middle of writing leaves behind.
        work = out.with_name(f"{name}.partial")
        with (work / "log.jsonl").open("a") as log:
            log.write('{"shard": 9')
        (work / "parts" / ".part-000009.tmp").write_text("half")
    run(table, out, kind="jsonl" if name == "folder" else None, double=Double(batches=1))
    assert tree(out.parent) == tree(whole.parent)
    # Finished: nothing is predicted again.
    again = run(table, out, kind="jsonl" if name == "folder" else None, double=Double(batches=0))
    assert again == Counts(read=32, scored=30, rejected=2, written=30)


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stopped(table, out, **options):
    with pytest.raises(Stopped):
        run(table, out, double=Double(batches=2), **options)


def test_a_damaged_shard_is_made_again(tmp_path):
    table, out = write(tmp_path / "in.csv"), tmp_path / "out.csv"
    stopped(table, out)
    (tmp_path / "out.csv.partial" / "parts" / "part-000001.csv").write_text("damaged")
    stopped(table, out)
    run(table, out, double=Double(batches=2))
    assert [row["id"] for row in found(out)] == [row["id"] for row in ROWS]


def test_another_input_option_or_model_is_refused(tmp_path):
    table, out = write(tmp_path / "in.csv"), tmp_path / "out.csv"
    stopped(table, out)
    with pytest.raises(DataError, match="another shard_rows; got 8; expected 7.*--restart"):
        run(table, out, shard_rows=8)
    with pytest.raises(DataError, match="another target_column"):
        run(table, out, target_column="id")
    with pytest.raises(DataError, match="another model"):
        run(table, out, runtime="torch")
    write(table, ROWS[:-1])
    with pytest.raises(DataError, match="another input"):
        run(table, out)
    assert run(table, out, restart=True).read == 29
    write(table, ROWS)
    with pytest.raises(DataError, match="another input"):
        run(table, out)
    assert run(table, out, restart=True).read == 30


def test_what_it_did_not_make_is_not_touched(tmp_path):
    table, out = write(tmp_path / "in.csv"), tmp_path / "out.csv"
    out.write_text("mine")
    for restart in (False, True):
        with pytest.raises(DataError, match="not made by detente score"):
            run(table, out, restart=restart)
    (tmp_path / "b.csv.partial").mkdir()
    (tmp_path / "b.csv.partial" / "mine").write_text("mine")
    with pytest.raises(DataError, match="something is in the way"):
        run(table, tmp_path / "b.csv", restart=True)
    with pytest.raises(DataError, match="the output is among the inputs"):
        run([str(tmp_path / "*.csv")], out)
    assert out.read_text() == "mine"


def test_two_processes_do_not_share_an_output(tmp_path):
    table, out = write(tmp_path / "in.csv"), tmp_path / "out.csv"

    def meanwhile(task, shards):
        with pytest.raises(DataError, match="another process is making this output"):
            run(table, out)
        return engine()(task, shards)

    score([table], out, shard_rows=7, engine=meanwhile)


def test_an_input_that_changes_meanwhile_is_noticed(tmp_path):
    table, out = write(tmp_path / "in.csv"), tmp_path / "out.csv"

    def changing(task, shards):
        yield from engine()(task, shards)
        write(table, ROWS[:3])

    with pytest.raises(DataError, match="has changed while it was read"):
        score([table], out, engine=changing)
    assert not out.exists()


def test_files_and_patterns_are_read_in_order(tmp_path):
    for i, name in enumerate(["b", "a", "c"]):
        write(tmp_path / f"{name}.jsonl", ROWS[i * 10 : i * 10 + 10])
    out = tmp_path / "out" / "all.csv"
    run([str(tmp_path / "b.jsonl"), str(tmp_path / "[ac].jsonl")], out)
    assert [row["id"] for row in found(out)] == [row["id"] for row in ROWS]
    with pytest.raises(DataError, match="no such file"):
        run([str(tmp_path / "z*.jsonl")], out)
    with pytest.raises(DataError, match="of several kinds"):
        run([str(tmp_path / "a.jsonl"), str(write(tmp_path / "d.csv"))], out)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"words,target\nYes.,PER\n", "there is no column 'text'; got .'words', 'target'"),
        ("a.csv", b'"text,target\n', "header: not valid CSV"),
        ("a.parquet", b"PAR1 and no more", "not valid Parquet"),
        ("a.xlsx", b"PK", "unknown kind of file"),
    ],
)
def test_a_file_that_cannot_be_scored_is_named(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        run(path, tmp_path / "out.jsonl")


def test_a_truncated_parquet_file_is_named(tmp_path):
    path = write(tmp_path / "in.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"in\.parquet: not valid Parquet"):
        run([write(tmp_path / "ok.parquet"), path], tmp_path / "out.jsonl")


def test_empty_inputs_give_empty_outputs(tmp_path):
    for name in ("in.csv", "in.jsonl"):
        (tmp_path / name).write_text("text,target\n" if name == "in.csv" else "")
        for kind in ("csv", "jsonl", "parquet"):
            out = tmp_path / f"{name}.{kind}"
            assert run(tmp_path / name, out) == Counts() and found(out) == []


def test_shards_are_cut_by_rows_across_files(tmp_path):
    tables = [write(tmp_path / name) for name in ("a.csv", "b.csv")]
    shards = list(cut_shards(tables, 25, "text"))
    assert [(s.index, len(s.rows)) for s in shards] == [(0, 25), (1, 25), (2, 10)]
    assert shards[1].rows[5][:2] == (str(tables[1]), 1)


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(st.lists(st.tuples(CELL, CELL), max_size=8), st.randoms(use_true_random=False))
def test_scanned_csv_is_what_the_library_reads(tmp_path_factory, rows, random):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    buffer = io.StringIO()
    csv.writer(buffer, quoting=random.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])).writerows(rows)
    path.write_bytes(b"a,b\r\n" + buffer.getvalue().encode())
    assert [(r["a"], r["b"]) for _, r in scan_rows(path)] == rows


@given(st.binary(max_size=60), st.sampled_from([".csv", ".jsonl"]))
def test_any_bytes_are_rows_or_errors_of_ours(tmp_path_factory, content, kind):
    path = tmp_path_factory.getbasetemp() / f"any{kind}"
    path.write_bytes(b'a,b\n1,"2"\n' + content)
    try:
        rows = list(scan_rows(path, salvage=True))
    except DataError:
        return
    numbers = [number for number, _ in rows]
    assert numbers == sorted(set(numbers))
    assert all(isinstance(row, dict | InputError) for _, row in rows)


def test_the_command_says_what_became_of_the_rows(capsys, tmp_path):
    rows = [{"sentence": "We thank Peru.", "about": "PER"}, {"sentence": "", "about": "PER"}]
    table, out = write(tmp_path / "in.csv", rows), tmp_path / "out.csv"
    with pytest.raises(SystemExit) as stop:
        main(
            ["score", str(table), str(out), "--text-column", "sentence", "--target-column", "about"]
        )
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert "2 rows read = 1 scored + 1 rejected + 0 skipped" in said and "rejects.jsonl" in said
    (row,) = found(out)
    assert (row["target"], row["label"], row["model"]) == ("PER", "conciliatory", "default")
    manifest = json.loads((tmp_path / "out.csv.manifest.json").read_text())
    assert manifest["sha256"] == hub.sha256(out)
