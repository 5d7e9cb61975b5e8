"""Model folders that somebody made to do harm: each is refused, and nothing happens."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from detente import Classifier, ModelError
from detente.hub import LEAST_TOKENS, MANIFEST, open_folder, write_manifest
from detente.trust import LARGEST


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


class Payload:
    """What a pickle of this does when it is loaded: it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


def pickled(folder):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(folder.parent / "executed")))
    write_manifest(folder)


def pickled_and_not_listed(folder):
    (folder / "training_args.bin").write_bytes(pickle.dumps(Payload(folder.parent / "executed")))


def code(folder):
    (folder / ".hidden.py").write_text(f"open({str(folder.parent / 'executed')!r}, 'w')")
    auto_map = {"AutoModelForSequenceClassification": ".hidden.Model", "AutoConfig": ".hidden.C"}
    change(folder / "config.json", auto_map=auto_map, model_type="unheard-of")
    write_manifest(folder)


def traversal(folder):
    (folder.parent / "secret.json").write_text("{}")
    name_in_manifest(folder, "../secret.json")


def name_in_manifest(folder, name):
    content = json.loads((folder / MANIFEST).read_text())
    content["files"][name] = {"bytes": 2, "sha256": "0" * 64}
    (folder / MANIFEST).write_text(json.dumps(content))


def linked_file(folder):
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/etc/hostname")


def linked_folder(folder):
    (folder / "onnx").rename(folder.parent / "elsewhere")
    (folder / "onnx").symlink_to(folder.parent / "elsewhere")


def wrong_checksum(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def huge_header(folder):
    (folder / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    write_manifest(folder)


def external_data(folder):
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    (folder / "onnx" / "weights.txt").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.txt")
    path.write_bytes(model.SerializeToString())
    write_manifest(folder)


def external_data_in_a_branch(folder):
    """The same, as the value of a constant in a branch of a condition."""
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(3)))
    tensor = constant.attribute[0].t
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="../../detente.json")
    result = helper.make_tensor_value_info("c", TensorProto.DOUBLE, [3])
    branch = helper.make_graph([constant], "branch", [], [result])
    add_node(folder, helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


def custom_operator(folder):
    add_node(folder, helper.make_node("Steal", ["input_ids"], ["loot"], domain="evil"), "evil")


def add_node(folder, node, domain=""):
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path)
    model.graph.node.append(node)
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    path.write_bytes(model.SerializeToString())
    write_manifest(folder)


def no_protobuf(folder):
    (folder / "onnx" / "model.onnx").write_bytes(b"\x3a\xff\xff\xff\x7fMZ")
    write_manifest(folder)


def truncated_tokenizer(folder):
    content = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(content[: len(content) // 2])
    write_manifest(folder)


def recursion(folder):
    (folder / "config.json").write_text('{"id2label": ' + "[" * 100_000 + "]" * 100_000 + "}")
    write_manifest(folder)


def recursion_of_a_depth_that_can_be_read(folder):
    change(folder / "config.json", id2label=json.loads("[" * 900 + "]" * 900))
    write_manifest(folder)


def label_map(folder):
    labels = ["critical", "neutral", "conciliatory", "joyful"]
    change(folder / "config.json", id2label={str(i): label for i, label in enumerate(labels)})
    write_manifest(folder)


def six_logits(folder):
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path)
    (logits,) = model.graph.output
    three = logits.name
    pair = helper.make_node("Concat", [three, three], ["six"], axis=1)
    model.graph.node.append(pair)
    logits.name = "six"
    logits.type.tensor_type.shape.dim[1].dim_value = 6
    path.write_bytes(model.SerializeToString())
    write_manifest(folder)


def nan_in_onnx(folder):
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    weights = numpy_helper.to_array(tensor).copy()
    weights.flat[weights.size // 2] = np.nan  # of a word that hardly anybody writes
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    path.write_bytes(model.SerializeToString())
    write_manifest(folder)


def nan_in_safetensors(folder):
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] = np.array([0, np.inf, 0], dtype=np.float32)
    save_file(weights, folder / "model.safetensors")
    write_manifest(folder)


def adapter(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/model"}')
    write_manifest(folder)


HOSTILE = [
    (pickled, "pytorch_model.bin.*can run code"),
    (pickled_and_not_listed, r"training_args\.bin: the file is not in the manifest"),
    (code, r"config\.json: auto_map: the configuration names code"),
    (traversal, r"leads out of the folder.*got '\.\./secret\.json'"),
    (linked_file, r"README\.md: a symbolic link"),
    (linked_folder, "onnx: a symbolic link"),
    (wrong_checksum, r"model\.safetensors: the file is not the one the manifest names"),
    (huge_header, r"model\.safetensors: the header of safetensors is longer"),
    (external_data, r"model\.onnx: a tensor of the ONNX model is in another file"),
    (external_data_in_a_branch, r"model\.onnx: a tensor of the ONNX model is in another file"),
    (custom_operator, r"model\.onnx: not a model that onnxruntime can run.*evil:Steal"),
    (no_protobuf, r"model\.onnx: not a whole ONNX model"),
    (truncated_tokenizer, r"tokenizer\.json: cannot be read as a tokenizer"),
    (recursion, r"config\.json: cannot be read as JSON"),
    (recursion_of_a_depth_that_can_be_read, r"config\.json: id2label: the model has other labels"),
    (label_map, r"config\.json: id2label: the model has other labels"),
    (six_logits, r"model\.onnx: not a model of sentences and their tone"),
    (nan_in_onnx, r"model\.onnx: the ONNX model has weights that are not finite"),
    (adapter, "the file names weights that are elsewhere; got 'adapter_config.json'"),
]


def everything_below(folder):
    """Names, sizes and times of all there is."""
    return {
        path: (stat.st_size, stat.st_mtime_ns, os.path.islink(path))
        for path in folder.rglob("*")
        if (stat := path.lstat())
    }


@pytest.mark.parametrize(("harm", "says"), HOSTILE, ids=[harm.__name__ for harm, _ in HOSTILE])
def test_a_hostile_folder_is_refused_and_nothing_happens(folder, harm, says):
    harm(folder)
    before = everything_below(folder.parent)
    with pytest.raises(ModelError, match=f"(?s){says}") as refused:
        Classifier.load(folder)
    assert len(str(refused.value)) < 1500
    assert everything_below(folder.parent) == before  # and so there is no file "executed"


def test_damaged_weights_are_refused_by_torch_too(folder):
    nan_in_safetensors(folder)
    with pytest.raises(ModelError, match=r"the weights classifier\.bias are not finite"):
        Classifier.load(folder, runtime="torch")


def test_a_payload_would_have_been_seen(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "name",
    ["", ".", "/etc/passwd", "a/../../b.json", "..\\b.json", "C:b.json", "a\0.json", "é.json",
     "a//b.json", "a/b/c/d/e.json", ".ssh/id.txt", "a.json\n", "CON.json:x"],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(folder, name):
    name_in_manifest(folder, name)
    with pytest.raises(ModelError, match="a name leads out of the folder"):
        Classifier.load(folder)


@pytest.mark.parametrize("name", ["m.pkl", "m.pt", "m.py", "m.zip", "onnx/m.onnx.so", "m.h5"])
def test_only_kinds_of_data_are_read(folder, name):
    name_in_manifest(folder, name)
    with pytest.raises(ModelError, match="not a kind of file that a model folder may hold"):
        Classifier.load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "README.md", MANIFEST])
def test_a_file_that_is_too_large_is_not_read(folder, name):
    with (folder / name).open("ab") as file:
        file.truncate(LARGEST[Path(name).suffix] + 1)  # sparse: it takes no room
    with pytest.raises(ModelError, match=f"{name}: .*(of a size that|more than)"):
        Classifier.load(folder)


def test_an_archive_is_not_unpacked(folder):
    archive = shutil.make_archive(str(folder.parent / "packed"), "zip", folder)
    with pytest.raises(ModelError, match="no such model.*Archives are not unpacked"):
        Classifier.load(archive)


def test_the_links_of_the_hubs_cache_are_followed(folder):
    blobs = folder.parent / "blobs"
    shutil.move(folder, blobs)
    for path in blobs.rglob("*.*"):
        link = folder / path.relative_to(blobs)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    assert open_folder(folder, "x", links=True).onnx_file == "onnx/model.onnx"
    with pytest.raises(ModelError, match="a symbolic link"):
        open_folder(folder, "x")
    (blobs / "README.md").unlink()
    with pytest.raises(ModelError, match="README.md: not a file"):
        open_folder(folder, "x", links=True)


def test_a_model_without_room_for_a_sentence_is_refused(folder):
    change(folder / "detente.json", max_tokens=LEAST_TOKENS - 1)
    write_manifest(folder)
    with pytest.raises(ModelError, match="max_tokens: not a number of tokens"):
        Classifier.load(folder)


def test_a_vocabulary_that_the_model_lacks_is_an_error_of_ours(folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["today"] = 10**6
    path.write_text(json.dumps(content))
    write_manifest(folder)
    classifier = Classifier.load(folder)
    with pytest.raises(ModelError, match=r"model\.onnx: the model cannot compute a batch"):
        classifier.predict("We thank Peru today.", "Peru")


def test_remote_code_is_trusted_nowhere():
    root = Path(__file__).resolve().parents[1]
    sources = [p for name in ("src", "train", "scripts") for p in (root / name).rglob("*.py")]
    assert len(sources) > 50
    for path in sources:
        text = path.read_text("utf-8")
        assert "trust_remote_code=True" not in text, path
        # Left to its default, transformers asks the person at the terminal.
        calls = text.count(".from_pretrained(")
        assert text.count("trust_remote_code=False") == calls, path
