import json
import shutil

import pytest

from detente import Classifier, ModelError
from detente.hub import MANIFEST, languages_of, locate, open_folder, write_manifest


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def change(path, **values):
    content = json.loads(path.read_text("utf-8")) | values
    path.write_text(json.dumps(content), "utf-8")


def test_a_whole_folder_opens(folder):
    found = locate(folder)
    assert found.max_tokens == 64 and found.onnx_file == "onnx/model.onnx"
    assert found.settings["results"]["tiny"]["rows"] > 0


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "detente.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"lacks {name}"):
        Classifier.load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "onnx/model.onnx", "model.safetensors"])
def test_a_changed_file_is_refused(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: the file is not the one the manifest names"):
        Classifier.load(folder)


def test_what_a_runtime_does_not_need_may_be_absent(folder):
    (folder / "model.safetensors").unlink()
    assert Classifier.load(folder).runtime.name == "onnx"
    (folder / "onnx" / "model.onnx").unlink()
    with pytest.raises(ModelError, match="the model has no ONNX file"):
        Classifier.load(folder, runtime="onnx")
    with pytest.raises(ModelError, match="transformers cannot load the checkpoint"):
        Classifier.load(folder, runtime="torch")


def test_a_folder_without_manifest_is_no_model(folder):
    (folder / MANIFEST).unlink()
    with pytest.raises(ModelError, match="the folder has no manifest.json"):
        Classifier.load(folder)


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000])
def test_a_broken_manifest_is_an_error_of_ours(folder, content):
    (folder / MANIFEST).write_text(content)
    with pytest.raises(ModelError, match=MANIFEST):
        open_folder(folder, "x")


@pytest.mark.parametrize(
    "files",
    [None, ["config.json"], {"config.json": {}}, {"../x": {"bytes": 1, "sha256": ""}}],
)
def test_a_manifest_of_another_shape_is_an_error_of_ours(folder, files):
    (folder / MANIFEST).write_text(json.dumps({"files": files}))
    with pytest.raises(ModelError, match="not a manifest|leads out of the folder"):
        Classifier.load(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "onnx/other.onnx", 7])
def test_only_onnx_files_of_the_manifest_are_run(folder, name):
    change(folder / "detente.json", onnx_file=name)
    write_manifest(folder)
    with pytest.raises(ModelError, match="onnx_file: the ONNX file is not in the manifest"):
        Classifier.load(folder)


def test_weights_that_the_manifest_does_not_name_are_refused(folder):
    content = json.loads((folder / MANIFEST).read_text())
    del content["files"]["model.safetensors"]
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ModelError, match="model.safetensors: the file is not in the manifest"):
        Classifier.load(folder, runtime="torch")


@pytest.mark.parametrize(
    ("file", "values", "says"),
    [
        ("detente.json", {"template": {"text_pair": "{target}!"}}, "another pair template"),
        ("detente.json", {"max_tokens": 0}, "max_tokens: not a number of tokens; got 0"),
        ("config.json", {"id2label": None}, "the model has other labels"),
        ("config.json", {"id2label": {"0": "NEG", "1": "POS"}}, "the model has other labels"),
        (
            "config.json",
            {"id2label": {"0": "conciliatory", "1": "neutral", "2": "critical"}},
            "the model has other labels",
        ),
    ],
)
def test_a_model_of_another_contract_is_refused(folder, file, values, says):
    change(folder / file, **values)
    write_manifest(folder)
    with pytest.raises(ModelError, match=says):
        Classifier.load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "onnx/model.onnx"])
def test_nonsense_with_a_right_checksum_is_an_error_of_ours(folder, name):
    (folder / name).write_text("{}")
    write_manifest(folder)
    with pytest.raises(ModelError, match=name):
        Classifier.load(folder)


def test_the_multilingual_model_says_how_to_get_it():
    with pytest.raises(ModelError, match=r"not part of the package.*configs/multilingual\.yaml"):
        Classifier.load("multilingual")


@pytest.mark.parametrize(
    ("corpora", "languages"),
    [
        ({"own": {"language": "en"}, "versions": {"language": "ru, zh"}}, {"en", "ru", "zh"}),
        ({"own": {"language": "en"}, "mine": {"language": "unknown"}}, set()),
        ({"own": {}}, set()),
        (None, set()),
        ("own", set()),
    ],
)
def test_languages_are_those_of_the_corpora(corpora, languages):
    assert languages_of(corpora) == languages


def test_an_unreachable_hub_is_named():
    with pytest.raises(ModelError, match="nobody/nothing@v1: cannot be fetched from the hub"):
        Classifier.load("nobody/nothing", revision="v1")
    with pytest.raises(ModelError, match="cannot be fetched from the hub"):
        Classifier.load("my runs/quick model")
