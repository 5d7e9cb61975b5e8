"""The installed package: what the wheel holds, and predict() with nothing but base packages."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
from conftest import ROOT

import detente
from detente import Classifier
from detente.hub import verify

BUNDLED = ROOT / "src" / "detente" / "default_model"

# Everything that only the extras install.
EXTRAS = (
    "torch", "transformers", "safetensors", "accelerate", "datasets", "evaluate", "scipy",
    "sklearn", "pandas", "pyarrow", "matplotlib", "onnx", "pydantic", "ruamel", "jinja2", "babel",
    "train",
)  # fmt: skip


def test_the_wheel_holds_the_model_and_the_gazetteer(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "detente/states.json",
        "detente/py.typed",
        "detente/default_model/onnx/model_int8.onnx",
        "detente/default_model/tokenizer.json",
        "detente/default_model/manifest.json",
        "detente/default_model/README.md",
    } <= names
    assert all(name.startswith(("detente/", "detente-")) for name in names)
    assert wheel.stat().st_size < 30e6


def test_the_bundled_model_is_whole_small_and_gated():
    verify(BUNDLED)
    assert sum(p.stat().st_size for p in BUNDLED.rglob("*") if p.is_file()) < 30e6
    gate = json.loads((BUNDLED / "detente.json").read_text())["onnx"]["int8_against_checkpoint"]
    assert gate["statements"] >= 5000 and gate["label_agreement"] >= 0.985
    assert gate["mean_probability_difference"] <= 0.01 and gate["macro_f1_drop"] <= 0.01


def test_predict_needs_only_the_base_packages():
    code = f"""
import sys
blocked = {EXTRAS!r}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
import detente
print(detente.predict("We thank Ankara for its patience.", "Turkey").label)
print(detente.Classifier.load().read("Moscow broke its word. Oslo kept it.")[0].target)
try:
    detente.Classifier.load(runtime="torch")
except detente.MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    label, target, error = done.stdout.splitlines()
    assert (label, target) == ("conciliatory", "Russia")
    assert "pip install 'detente[torch]'" in error


@pytest.mark.parametrize(
    ("sentence", "target", "label"),
    [
        ("We thank our Norwegian friends for their help.", "Norway", "conciliatory"),
        ("We condemn Eritrea's illegal seizure of the island.", "Eritrea", "critical"),
        ("The delegation will land in Lima at noon.", "Peru", "neutral"),
        ("We thank Norway for what Eritrea has refused to do.", "Norway", "conciliatory"),
    ],
)
def test_the_bundled_model_reads_plain_sentences(sentence, target, label):
    assert detente.predict(sentence, target).label == label


def test_the_bundled_model_beats_chance_on_our_test_split():
    rows = [json.loads(line) for line in (ROOT / "data" / "statements.jsonl").open()]
    rows = [row for row in rows if row["split"] == "test"][:200]
    statements = [
        detente.Statement(row["text"], row["target"], source=row["source"]) for row in rows
    ]
    found = Classifier.load().predict_batch(statements)
    right = sum(p.label == row["label"] for p, row in zip(found, rows, strict=True))
    assert right / len(rows) > 0.6


def test_what_a_user_installs_has_hashes_of_the_versions_that_we_test():
    def versions(path):
        found = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / path).read_text(), re.MULTILINE)
        return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}

    tested, hashed = versions("constraints.txt"), versions("requirements-hashes.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for dependency in project["dependencies"]:
        assert re.match(r"[\w-]+", dependency)[0] in hashed
    assert set(hashed) - set(tested) == {"httpx2-jsfetch"}  # for another system
    assert {name: tested[name] for name in hashed if name in tested}.items() <= hashed.items()
    entries = (ROOT / "requirements-hashes.txt").read_text().split("\n", 4)[-1]
    assert entries.count("==") <= entries.count("--hash=sha256:")
