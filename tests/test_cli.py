import json
import subprocess
import sys

import pytest

from detente.cli import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


def test_help_teaches(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and "predict" in out and "read" in out
    code, out, _ = run(capsys, "predict", "--help")
    assert "--target" in out and "Example" in out


def test_one_sentence_as_table_and_as_json(capsys, tiny_model):
    arguments = ["predict", "We thank France.", "-t", "Paris", "-m", str(tiny_model)]
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and "France" in out and "P(critical)" in out
    code, out, _ = run(capsys, *arguments, "--json")
    row = json.loads(out)
    assert row["target"] == "FRA" and row["label"] in ("critical", "neutral", "conciliatory")
    assert row["score"] == pytest.approx(row["p_conciliatory"] - row["p_critical"], abs=2e-6)


def test_a_file_of_statements(capsys, tiny_model, tiny_table):
    code, out, _ = run(capsys, "predict", "-f", str(tiny_table), "-m", str(tiny_model), "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == len(tiny_table.read_text().splitlines())


def test_a_text_file_is_one_sentence_a_line(capsys, tiny_model, tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("We thank Peru.\n\nWe reject Peru.\n")
    code, out, _ = run(
        capsys, "predict", "-f", str(path), "-t", "PER", "-m", str(tiny_model), "--json"
    )
    assert code == 0 and len(out.splitlines()) == 2


def test_reading_a_document(capsys, tiny_model, tmp_path):
    path = tmp_path / "speech.txt"
    path.write_text("We thank Peru. Bogotá agrees.")
    code, out, _ = run(capsys, "read", "-f", str(path), "-m", str(tiny_model))
    assert code == 0 and "Peru" in out and "Colombia" in out
    code, out, _ = run(capsys, "read", "Nobody.", "-m", str(tiny_model))
    assert code == 0 and "No state is named" in out


def test_a_pipe_gets_the_whole_table(capsys, tiny_model):
    sentence = "We thank a state today :smile: a state we mention."
    target = "Saint Vincent and the Grenadines"
    code, out, _ = run(capsys, "predict", sentence, "-t", target, "-m", str(tiny_model))
    assert code == 0 and target in out and sentence in out


def test_table_columns_are_carried_into_json(capsys, tiny_model, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,text,target,note\na7,We thank Peru.,Peru,first\n")
    arguments = ["predict", "-f", str(path), "-m", str(tiny_model), "--json"]
    code, out, _ = run(capsys, *arguments)
    row = json.loads(out)
    assert code == 0 and (row["id"], row["note"], row["target"]) == ("a7", "first", "PER")
    assert row["model"] == str(tiny_model)
    code, _, err = run(capsys, *arguments, "-t", "Chile")
    assert code == 2 and "do not go with a table" in err


def test_an_unknown_target_is_said(capsys, tiny_model):
    code, _, err = run(capsys, "predict", "We thank it.", "-t", "Frrance", "-m", str(tiny_model))
    assert code == 0 and "no state known to detente" in err and "did you mean France" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["predict", "Yes."], "--target is missing"),
        (["predict", " ", "-t", "USA"], "text is empty"),
        (["read", "-f", "gone.txt"], "gone.txt: cannot be read"),
        (["read", "x", "-f", "gone.txt"], "both TEXT and --file"),
        (["predict", "x", "-t", "USA", "-m", "nowhere"], "no such model"),
    ],
)
def test_errors_are_one_line_and_status_2(capsys, tiny_model, arguments, says):
    if "-m" not in arguments:
        arguments = [*arguments, "-m", str(tiny_model)]
    code, out, err = run(capsys, *arguments)
    assert code == 2 and says in err and "Traceback" not in err and not out


def test_standard_input(tiny_model):
    done = subprocess.run(
        [sys.executable, "-m", "detente.cli", "predict", "-t", "Peru", "-m", str(tiny_model)],
        input="We thank Peru.", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Peru" in done.stdout
