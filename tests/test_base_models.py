import pytest
from conftest import ROOT

from detente import ModelError
from train import base_models
from train.base_models import BASE_MODELS, find_base_model


def test_a_local_folder_is_taken_as_it_is(tiny_base):
    assert find_base_model(str(tiny_base)) == tiny_base


@pytest.mark.parametrize("name", list(BASE_MODELS))
def test_a_known_name_comes_from_its_package_and_is_checked(name):
    folder = find_base_model(name)
    assert (folder / "config.json").is_file() and (folder / "tokenizer.json").is_file()
    assert BASE_MODELS[name].package in (ROOT / "requirements-base-models.txt").read_text()


def test_other_weights_under_a_known_name_are_refused(tiny_base, monkeypatch, tmp_path):
    name = "sentence-transformers/all-MiniLM-L6-v2"
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).symlink_to(tiny_base)
    with pytest.raises(ModelError, match="not the weights of sentence-transformers/all-MiniLM"):
        find_base_model(name)


def test_an_unknown_name_says_where_it_was_looked_for():
    with pytest.raises(ModelError, match="nobody/nothing: the base model is not on this machine"):
        find_base_model("nobody/nothing")


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no model\.safetensors.*pickled weights"):
        find_base_model(str(tmp_path))


def test_packages_are_pinned():
    for model in base_models.BASE_MODELS.values():
        assert "==" in model.package and len(model.sha256) == 64
