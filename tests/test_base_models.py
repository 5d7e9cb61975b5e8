import zipfile

import pytest
from conftest import ROOT

from detente import ModelError
from detente.hub import sha256
from train import base_models
from train.base_models import BASE_MODELS, BaseModel, find_base_model, public_name


def test_a_local_folder_is_taken_as_it_is(tiny_base):
    assert find_base_model(str(tiny_base)) == tiny_base


def test_a_known_name_comes_from_its_package_and_is_checked():
    folder = find_base_model("sentence-transformers/all-MiniLM-L6-v2")
    assert (folder / "config.json").is_file() and (folder / "tokenizer.json").is_file()


def test_packages_are_pinned_and_listed():
    kinds = ("base-models", "mpnet", "multilingual")
    listed = [(ROOT / f"requirements-{kind}.txt").read_text() for kind in kinds]
    for model in BASE_MODELS.values():
        assert model.sha256 and all(len(checksum) == 64 for checksum in model.sha256)
        assert any(set(model.packages) <= set(text.splitlines()) for text in listed)


def test_a_copy_in_parts_is_put_together_once(tiny_base, monkeypatch, tmp_path):
    """As all-mpnet-base-v2 comes: a zip archive cut into pieces, one to a package."""
    archive = tmp_path / "whole.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in base_models._FILES:
            path = tiny_base / name
            file.write(path, f"tiny/{name}") if path.exists() else file.writestr(f"tiny/{name}", "")
    content, parts = archive.read_bytes(), []
    for i in range(3):
        parts.append(tmp_path / f"tiny.zip.00{i + 1}")
        parts[-1].write_bytes(content[i * len(content) // 3 : (i + 1) * len(content) // 3])
    found = {f"part-{i}": [Located(part)] for i, part in enumerate(parts)}
    monkeypatch.setattr(base_models.metadata, "files", found.__getitem__)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = BaseModel(
        name="nobody/tiny", licence="MIT",
        sha256=(sha256(tiny_base / "model.safetensors"),),
        packages=tuple(f"{name}==1" for name in found), folder="tiny",
    )  # fmt: skip
    monkeypatch.setitem(BASE_MODELS, model.name, model)
    folder = find_base_model(model.name)
    assert folder == tmp_path / "cache" / "detente" / "base_models" / "tiny"
    for part in parts:
        part.unlink()
    assert find_base_model(model.name) == folder


class Located:
    """Stands for a file of an installed package."""

    def __init__(self, path):
        self.path = path

    def locate(self):
        return self.path


def test_any_of_several_known_copies_is_taken(tiny_base, monkeypatch, tmp_path):
    """As multilingual-e5-small comes: from the hub, or converted into the cache of this user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = BaseModel(
        name="nobody/tiny", licence="MIT", packages=("nowhere==1",), folder="tiny",
        sha256=("0" * 64, sha256(tiny_base / "model.safetensors")), made_by="make tiny",
    )  # fmt: skip
    monkeypatch.setitem(BASE_MODELS, model.name, model)
    with pytest.raises(ModelError, match="Without the hub: make tiny"):
        find_base_model(model.name)
    copy = base_models.converted_copy(model)
    copy.parent.mkdir(parents=True)
    copy.symlink_to(tiny_base)
    assert find_base_model(model.name) == copy


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


@pytest.mark.parametrize("name", ["./my base", "../x", "a b/c", "-"])
def test_a_name_that_no_hub_takes_is_an_error_of_ours(name):
    with pytest.raises(ModelError, match="the base model is not on this machine"):
        find_base_model(name)


def test_a_local_folder_is_called_by_its_last_name(tiny_base):
    assert public_name(str(tiny_base)) == tiny_base.name
    assert public_name("owner/name") == "owner/name"
