import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT, tiny_config, tiny_rows
from ruamel.yaml import YAML

from detente import Classifier, ConfigError, DataError
from detente.hub import sha256, verify
from detente.rows import write_jsonl
from train import fit as fit_module
from train import run as run_module
from train.config import load_config
from train.data import load_data
from train.run import train


def test_a_run_folder_is_whole(tiny_run):
    verify(tiny_run / "model")
    names = {p.relative_to(tiny_run).as_posix() for p in tiny_run.rglob("*") if p.is_file()}
    assert {
        "config.yaml", "metrics.json", "predictions.jsonl", "log.jsonl",
        "model/model.safetensors", "model/onnx/model.onnx", "model/detente.json",
        "model/manifest.json", "model/README.md", "model/tokenizer.json", "model/config.json",
        "twin/model.safetensors", "report/tiny/report.md", "report/tiny/confusion.png",
    } <= names  # fmt: skip
    assert not any("checkpoint" in name or name.endswith((".bin", ".pt", ".pkl")) for name in names)
    assert not tiny_run.with_name("tiny.partial").exists()


def test_metrics_say_what_the_run_depends_on(tiny_run, tiny_table):
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert set(metrics["results"]["tiny"]) == {"model", "target_blind", "majority", "tfidf"}
    assert metrics["data"]["tiny"]["sha256"] == {"tiny.jsonl": sha256(tiny_table)}
    rows = metrics["data"]["tiny"]["rows"]
    assert sum(n for split in rows.values() for n in split.values()) == len(tiny_rows())
    assert metrics["leakage"]["checked"] == len(tiny_rows())
    commit = metrics["environment"]["git_commit"]  # None where the sources are no clone
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)
    assert "torch" in metrics["environment"]["packages"]
    assert metrics["onnx"]["fp32_largest_logit_difference"] <= 1e-3
    config = load_config(tiny_run / "config.yaml")
    assert config.to_yaml() == metrics["config"]


def test_predictions_are_what_the_model_says(tiny_run):
    classifier = Classifier.load(tiny_run / "model")
    rows = [json.loads(line) for line in (tiny_run / "predictions.jsonl").open()]
    assert (
        len(rows)
        == json.loads((tiny_run / "metrics.json").read_text())["results"]["tiny"]["model"]["rows"]
    )
    for row in rows[:5]:
        found = classifier.predict(row["text"], row["target"], source=row.get("source"))
        assert found.label == row["label"]
        assert found.score == pytest.approx(row["score"], abs=1e-4)


def test_the_tiny_model_has_learned_its_verbs(tiny_run):
    results = json.loads((tiny_run / "metrics.json").read_text())["results"]["tiny"]
    assert results["model"]["macro_f1"] > 0.9 > results["majority"]["macro_f1"]


def test_the_model_folder_names_no_place_of_this_machine(tiny_run, tiny_base):
    files = [p for p in (tiny_run / "model").rglob("*") if p.suffix in (".json", ".md")]
    assert len(files) >= 5
    for path in files:
        text = path.read_text()
        assert str(tiny_base.parent) not in text and str(tiny_run.parent) not in text, path


def test_an_existing_folder_is_not_touched(tiny_run, tiny_base, tiny_table):
    with pytest.raises(ConfigError, match=r"run\.dir: .*the folder is there already"):
        train(tiny_config(tiny_base, tiny_table, tiny_run))


def test_a_failed_run_leaves_no_run_and_is_resumed(tiny_base, tiny_table, tmp_path, monkeypatch):
    config = tiny_config(tiny_base, tiny_table, tmp_path / "r", "evaluate.baselines=[majority]")
    real = run_module.export_fp32
    monkeypatch.setattr(run_module, "export_fp32", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(config)
    assert not config.run.dir.exists()
    monkeypatch.setattr(run_module, "export_fp32", real)

    with pytest.raises(ConfigError, match="an unfinished run is in the way.*--resume"):
        train(config)
    other = tiny_config(
        tiny_base, tiny_table, tmp_path / "r", "evaluate.baselines=[majority]", "fit.epochs=5"
    )
    with pytest.raises(ConfigError, match="another configuration; got 'differences in fit'"):
        train(other, resume=True)
    # What was trained is not trained again.
    monkeypatch.setattr(fit_module, "Trainer", None)
    assert train(config, resume=True) == config.run.dir
    assert YAML(typ="safe").load((tmp_path / "r" / "config.yaml").read_text()) == config.to_yaml()


def test_changed_data_and_a_broken_start_are_not_resumed(tiny_base, tmp_path, monkeypatch):
    table = tmp_path / "t.jsonl"
    write_jsonl(table, tiny_rows())
    config = tiny_config(tiny_base, table, tmp_path / "r", "evaluate.baselines=[majority]")
    monkeypatch.setattr(run_module, "_fit", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(config)
    write_jsonl(table, tiny_rows()[:-1])
    with pytest.raises(ConfigError, match="the data changed since the run was started"):
        train(config, resume=True)
    (tmp_path / "r.partial" / "config.yaml").unlink()
    with pytest.raises(ConfigError, match="the unfinished run cannot be read"):
        train(config, resume=True)


def test_a_run_that_reports_on_nothing_is_refused(tiny_base, tiny_table, tmp_path):
    corpora = f"data.corpora=[{{name: file, path: {tiny_table}, test: false}}]"
    with pytest.raises(ConfigError, match="no corpus is reported on"):
        train(tiny_config(tiny_base, tiny_table, tmp_path / "r", corpora))


def test_more_tokens_than_the_base_reads_are_refused(tiny_base, tiny_table, tmp_path):
    config = tiny_config(tiny_base, tiny_table, tmp_path / "r", "base.max_tokens=200")
    with pytest.raises(ConfigError, match=r"base\.max_tokens: longer than the base model reads"):
        train(config)


def test_leaks_within_a_users_table_are_removed(tiny_base, tmp_path):
    rows = tiny_rows()
    test_row = next(row for row in rows if row["split"] == "test")
    rows.append(test_row | {"id": "leak", "split": "train", "text": test_row["text"].upper()})
    write_jsonl(tmp_path / "t.jsonl", rows)
    data = load_data(tiny_config(tiny_base, tmp_path / "t.jsonl", tmp_path / "r"))
    assert data.leakage.removed["t"]["equal"] == 1
    assert data.summary()["t"]["removed_as_leaks"] == data.leakage.removed["t"]


def test_a_corpus_that_is_only_reported_on_is_not_learned_from(tiny_base, tmp_path):
    rows = tiny_rows()
    for name, words in (("learned", "Today"), ("reported", "Now")):
        write_jsonl(tmp_path / f"{name}.jsonl", [r | {"text": words + r["text"]} for r in rows])
    corpora = (
        f"data.corpora=[{{name: file, path: {tmp_path}/learned.jsonl, test: false}},"
        f" {{name: file, path: {tmp_path}/reported.jsonl, train: false}}]"
    )
    data = load_data(tiny_config(tiny_base, tmp_path, tmp_path / "r", corpora))
    assert [len(data.splits["reported"][s]) for s in ("train", "validation")] == [0, 0]
    assert data.splits["reported"]["test"] and data.all("train") == data.splits["learned"]["train"]


def test_the_official_corpus_needs_its_folder(tmp_path):
    config = load_config(ROOT / "configs" / "official.yaml")
    with pytest.raises(ConfigError, match=r"data\.root: .*python -m scripts\.fetch_corpora"):
        load_data(config)
    config = load_config(ROOT / "configs" / "official.yaml", [f"data.root={tmp_path}"])
    with pytest.raises(DataError, match=r"annotated\.jsonl: no such corpus file.*fetch_corpora"):
        load_data(config)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "train", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_the_command_teaches_and_fails_in_one_line():
    shown = command("--help")
    assert shown.returncode == 0 and "configs/quick.yaml" in shown.stdout
    failed = command("configs/quick.yaml", "fit.epoch=3")
    assert failed.returncode == 2 and "Did you mean 'epochs'?" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_run_keeps_what_its_contracts_showed(tiny_run):
    contracts = json.loads((tiny_run / "metrics.json").read_text())["contracts"]
    assert {name: c["cases"] for name, c in contracts.items()} == {"negation": 1, "quotation": 1}
    settings = json.loads((tiny_run / "model" / "detente.json").read_text())
    assert settings["contracts"] == contracts
    card = (tiny_run / "model" / "README.md").read_text()
    assert f"| negation | 1 | {contracts['negation']['measure']} |" in card
    assert (tiny_run / "report" / "contracts" / "contracts.md").is_file()


def test_a_second_stage_tells_what_the_first_one_learned(tiny_run, tiny_table, tmp_path):
    first = tiny_run / "model"
    rows = [{**row, "text": f"Later: {row['text']}"} for row in map(json.loads, tiny_table.open())]
    table = tmp_path / "later.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = train(tiny_config(first, table, tmp_path / "second", "fit.epochs=1"))
    settings = json.loads((run / "model" / "detente.json").read_text())
    assert settings["base_model"] == json.loads((first / "detente.json").read_text())["base_model"]
    learned = [set((m / "learned.txt").read_text().split()) for m in (first, run / "model")]
    assert learned[0] < learned[1]
