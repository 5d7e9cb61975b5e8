import json
import pickle
import re
import zipfile

import pytest

from detente import ConfigError
from detente.hub import sha256, write_manifest
from scripts.publish import main
from train.card import main as describe_run
from train.release import prepare

REPO = "someone/tone"
SECRET = "hf_" + "x1" * 20


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


def replace(path, old, new):
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def add(run, name, content):
    (run / "model" / name).write_bytes(content)
    write_manifest(run / "model")


def a_pickle(run):
    add(run, "optimizer.pkl", b"what it holds does not matter")


def a_pickle_by_another_name(run):
    add(run, "state.dat", pickle.dumps({"step": 1}))


def a_zipped_pickle(run):
    with zipfile.ZipFile(run / "model" / "state.zip", "w") as archive:
        archive.writestr("archive/data.pkl", "")
    write_manifest(run / "model")


def a_file_outside_the_manifest(run):
    (run / "model" / "notes.txt").write_text("for us alone")


def a_file_that_is_gone(run):
    (run / "model" / "model.safetensors").unlink()


def a_damaged_file(run):
    replace(run / "model" / "tokenizer.json", "[UNK]", "[unk]")


def a_wrong_figure(run):
    results = json.loads((run / "metrics.json").read_text())["results"]["tiny"]["model"]
    right = f"| tiny | model | {100 * results['macro_f1']:.1f} |"
    replace(run / "model" / "README.md", right, "| tiny | model | 99.9 |")
    write_manifest(run / "model")


def a_wrong_figure_in_the_metadata(run):
    card = run / "model" / "README.md"
    card.write_text(re.sub(r"value: [\d.]+", "value: 0.9987", card.read_text("utf-8"), count=1))
    write_manifest(run / "model")


def a_wrong_figure_beside_the_card(run):
    change(run / "model" / "metrics.json", date="2001-01-01")
    write_manifest(run / "model")


def a_wrong_figure_in_the_settings(run):
    settings = json.loads((run / "model" / "detente.json").read_text())
    settings["results"]["tiny"]["macro_f1"] = 0.9987
    change(run / "model" / "detente.json", **settings)
    write_manifest(run / "model")


def no_metrics(run):
    (run / "metrics.json").unlink()


def metrics_without_results(run):
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["results"]
    (run / "metrics.json").write_text(json.dumps(metrics))


def no_licence(run):
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["publication"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    describe_run(run)


def no_licence_in_the_metadata(run):
    replace(run / "model" / "README.md", "license: apache-2.0\n", "")
    write_manifest(run / "model")


def a_corpus_that_may_not_be_shipped(run):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["data"]["tiny"]["shippable"] = False
    change(run / "metrics.json", **metrics)
    describe_run(run)


def no_card(run):
    (run / "model" / "README.md").unlink()
    write_manifest(run / "model")


def metadata_that_cannot_be_read(run):
    replace(run / "model" / "README.md", "---\n", "---\n{ not: [yaml\n")
    write_manifest(run / "model")


def an_onnx_file_that_failed(run):
    failed = {"fp32_largest_logit_difference": 0.25}
    change(run / "metrics.json", onnx=failed)
    change(run / "model" / "detente.json", onnx=failed)
    describe_run(run)
    write_manifest(run / "model")


def an_int8_file_that_failed(run):
    add(run, "onnx/model_int8.onnx", b"\0int8")
    int8 = {
        "statements": 6000, "label_agreement": 0.91, "mean_probability_difference": 0.002,
        "macro_f1": 0.7, "macro_f1_drop": 0.0, "score_difference_alone": 0.0,
    }  # fmt: skip
    onnx = {"fp32_largest_logit_difference": 0.0, "int8_against_checkpoint": int8}
    change(run / "metrics.json", onnx=onnx)
    change(run / "model" / "detente.json", onnx=onnx)
    describe_run(run)
    write_manifest(run / "model")


def an_onnx_file_nobody_compared(run):
    add(run, "onnx/model_int8.onnx", b"\0int8")


def a_secret(run):
    change(run / "model" / "tokenizer_config.json", auth=SECRET)
    write_manifest(run / "model")


def a_secret_among_weights(run):
    add(run, "extra.safetensors", b"\0" * 1000 + SECRET.encode() + b"\0")


def a_private_key(run):
    add(run, "notes.txt", b"-----BEGIN OPENSSH " + b"PRIVATE KEY-----\n")


def the_token_in_use(run):
    add(run, "notes.txt", b"log in with plain-word-token")


def a_path(run):
    change(run / "model" / "config.json", _name_or_path="/data/someone/base")
    write_manifest(run / "model")


def a_path_of_windows(run):
    change(run / "model" / "config.json", _name_or_path="C:\\Users\\someone\\base")
    write_manifest(run / "model")


def a_path_among_weights(run):
    add(run, "extra.safetensors", b"\0\0/home/someone/base\0")


def a_card_for_another_repository(run):
    describe_run(run, repo="someone/else")


FAULTS = {
    a_pickle: "optimizer.pkl: a pickle, which can run code",
    a_pickle_by_another_name: "state.dat: a pickle",
    a_zipped_pickle: "state.zip: a pickle",
    a_file_outside_the_manifest: "notes.txt: is not in the manifest",
    a_file_that_is_gone: "model.safetensors: the manifest names it, and it is not there",
    a_damaged_file: "tokenizer.json: the file is not the one the manifest names",
    a_wrong_figure: "README.md: the card says '| tiny | model | 99.9 |",
    a_wrong_figure_in_the_metadata: "README.md: the card says 'value: 0.9987'",
    a_wrong_figure_beside_the_card: "model/metrics.json: not what the run's metrics.json holds",
    a_wrong_figure_in_the_settings: "detente.json: results.tiny.macro_f1 is 0.9987, not",
    no_metrics: "metrics.json: the run's figures are not there or not whole",
    metrics_without_results: "metrics.json: the run's figures are not there or not whole",
    no_licence: "README.md: no licence of the weights",
    no_licence_in_the_metadata: "README.md: its metadata has no licence",
    a_corpus_that_may_not_be_shipped: "the weights learned from tiny, which may not be shipped",
    no_card: "README.md: there is no card",
    metadata_that_cannot_be_read: "README.md: its metadata cannot be read",
    an_onnx_file_that_failed: "onnx/model.onnx: logits differ by 0.25",
    an_int8_file_that_failed: "onnx/model_int8.onnx: label agreement is 0.9100",
    an_onnx_file_nobody_compared: "onnx/model_int8.onnx: was not compared",
    a_secret: "tokenizer_config.json: looks like a Hugging Face token",
    a_secret_among_weights: "extra.safetensors: looks like a Hugging Face token, at byte 1000",
    a_private_key: "notes.txt: looks like a private key",
    the_token_in_use: "notes.txt: holds the value of HF_TOKEN",
    a_path: "config.json: an absolute path, /data/someone/base",
    a_path_of_windows: "config.json: an absolute path, C:",
    a_path_among_weights: "extra.safetensors: an absolute path, /home/someone/base",
    a_card_for_another_repository: "README.md: is written for someone/else, not for someone/tone",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_rehearsal_names_the_fault_and_fails(fault, publishable, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "plain-word-token")
    fault(publishable)
    with pytest.raises(SystemExit) as stop:
        main(publishable, REPO)
    shown = capsys.readouterr().out
    assert stop.value.code == 1
    assert any(FAULTS[fault] in line for line in shown.splitlines() if line.startswith("refused"))
    assert SECRET not in shown and "plain-word-token" not in shown


def test_a_rehearsal_without_fault_shows_all_and_contacts_nobody(publishable, capsys):
    # No hub is there, and no socket may be opened but on this machine.
    main(publishable, REPO)
    shown = capsys.readouterr().out
    assert "refused" not in shown and "A rehearsal: nobody was contacted." in shown
    files = [p for p in (publishable / "model").rglob("*") if p.is_file()]
    for path in files:
        name = path.relative_to(publishable / "model").as_posix()
        size = f"{path.stat().st_size:,}"
        assert re.search(rf"^{re.escape(name)} +{size}  {sha256(path)}$", shown, re.M), name
    assert f"{len(files)} files" in shown
    card = (publishable / "model" / "README.md").read_text()
    assert card.split("---\n", 2)[2].strip() in shown
    assert "license: apache-2.0\n" in shown and "model-index:\n- name: quick\n" in shown


def test_sentences_of_corpora_stay(publishable, capsys):
    release = prepare(publishable, REPO)
    names = {file.name for file in release.files}
    assert not [n for n in names if "predictions" in n or "report" in n or "twin" in n]
    assert {"predictions.jsonl", "report/", "config.yaml", "twin/"} <= set(release.stays)
    sentence = json.loads((publishable / "predictions.jsonl").open().readline())["text"]
    for file in release.files:
        assert sentence.encode() not in (release.folder / file.name).read_bytes(), file.name


def test_a_card_without_its_place_is_noted(publishable):
    metrics = json.loads((publishable / "metrics.json").read_text())
    del metrics["publication"]["repo"]
    (publishable / "metrics.json").write_text(json.dumps(metrics))
    describe_run(publishable)
    release = prepare(publishable, REPO)
    assert not release.refusals
    assert any("The card calls the repository OWNER/NAME" in note for note in release.notes)


def test_a_folder_that_is_no_run_is_an_error_of_ours(tmp_path):
    with pytest.raises(ConfigError, match="there is no model to publish"):
        prepare(tmp_path, REPO)
