import csv
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from detente import DataError, Statement
from detente.rows import read_rows, read_statements, whole_file, whole_folder, write_jsonl

ROWS = [
    {"text": "We thank Oslo.", "target": "NOR", "label": "conciliatory", "id": "a", "x": "1"},
    {"text": "“We”, she said,\nand left.", "target": "PER", "label": "neutral", "id": "b", "x": ""},
]


def write(path, rows):
    if path.suffix == ".jsonl":
        write_jsonl(path, rows)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".parquet"])
def test_every_kind_of_file_gives_the_same_statements(tmp_path, kind):
    path = write(tmp_path / f"rows{kind}", ROWS)
    assert read_statements(path) == [Statement.from_row(row) for row in ROWS]
    assert [number for number, _ in read_rows(path)] == [1, 2]


@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".parquet"])
def test_an_unknown_label_is_named_with_file_and_row(tmp_path, kind):
    rows = [dict(ROWS[0], id=str(i)) for i in range(1800)]
    rows[1733]["label"] = "hostile"
    path = write(tmp_path / f"rows{kind}", rows)
    with pytest.raises(DataError, match=r"rows\.\w+, row 1734: unknown label; got 'hostile'"):
        read_statements(path)


def test_a_missing_column_is_named(tmp_path):
    path = write(tmp_path / "rows.csv", [{"sentence": "Yes.", "target": "FRA"}])
    with pytest.raises(DataError, match="row 1: the column 'text' is missing.*'sentence'"):
        read_statements(path)


def test_duplicate_ids_name_both_rows(tmp_path):
    path = write(tmp_path / "rows.jsonl", [ROWS[0], ROWS[1], ROWS[0]])
    with pytest.raises(DataError, match="row 3: the id stands in row 1 already; got 'a'"):
        read_statements(path)


def test_a_label_can_be_demanded(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"text": "Yes.", "target": "FRA"}])
    assert read_statements(path)[0].label is None
    with pytest.raises(DataError, match="row 1: the row has no label"):
        read_statements(path, labelled=True)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "x", "target"\n', "row 1: not valid JSON"),
        ("a.jsonl", b'{"text": "ok", "target": "FRA"}\n[1]\n', "row 2: not a JSON object"),
        ("a.jsonl", b"\n\n", "the file has no rows"),
        ("a.jsonl", b'{"text": "\xff"}\n', "not UTF-8"),
        ("a.jsonl", b"[" * 100_000, "not valid JSON"),
        ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}", "not valid JSON"),
        ("a.csv", b'text,target\n"open,FRA\n', "not valid CSV"),
        ("a.csv", b"text,target\nYes.\n", "row 1: the row has more or fewer cells"),
        ("a.parquet", b"PAR1 no", "not valid Parquet"),
        ("a.xlsx", b"PK", "unknown kind of file; got '.xlsx'; expected .jsonl, .csv, .parquet"),
    ],
)
def test_broken_files_are_errors_of_ours(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_statements(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv: no such file"):
        read_statements(tmp_path / "gone.csv")


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("before")

    def broken():
        yield {"a": 1}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(path, broken())
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]
    with whole_file(path) as file:
        file.write(json.dumps({}))
    assert path.read_text() == "{}"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "out"
    with pytest.raises(RuntimeError), whole_folder(path) as partial:
        (partial / "a").write_text("1")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with whole_folder(path) as partial:
        (partial / "a").write_text("1")
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path] and (path / "a").read_text() == "1"
    with pytest.raises(DataError, match="there already"), whole_folder(path):
        pass
