import hashlib
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from huggingface_hub import HfApi
from stand_in_hub import TOKEN, Fault

from detente import Classifier, ConfigError, ModelError
from detente.hub import write_manifest
from scripts.publish import PAIRS, main, publish
from train.card import main as describe_run
from train.release import prepare

REPO = "someone/tone"
LOAD = """
import json, sys
from detente import Classifier
from scripts.publish import PAIRS
loaded = Classifier.load(sys.argv[1], revision=sys.argv[2])
print(json.dumps([p.probabilities for p in loaded.predict_batch(PAIRS)]))
"""


def push(run, tag="v1", public=False):
    return publish(HfApi(), prepare(run, REPO), REPO, public=public, tag=tag)


def retrain(run):
    """Makes another model of a run: other weights, by which every figure would be another."""
    for name in ("model.safetensors", "onnx/model.onnx"):
        content = bytearray((run / "model" / name).read_bytes())
        content[-5] ^= 1
        (run / "model" / name).write_bytes(content)
    write_manifest(run / "model")


def on_hub(hub, revision="main"):
    return hub.repositories[REPO].at(revision)


def test_published_loaded_and_asked_it_says_the_same(publishable, hub, tmp_path):
    client = {
        "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "home"),
    }  # fmt: skip

    def run(*command):
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=os.environ | client,
            capture_output=True, text=True,
        )  # fmt: skip
        assert TOKEN not in done.stdout + done.stderr
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = run("-m", "scripts.publish", str(publishable), "--repo", REPO, "--push")
    assert "10 predictions are the same" in said and hub.repositories[REPO].private
    # What the rehearsal lists is what is there, byte by byte.
    listed = dict(re.findall(r"^(\S+) +[\d,]+  ([0-9a-f]{64})$", said, re.M))
    _, files = on_hub(hub, "v1")
    there = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert listed | {".gitattributes": there[".gitattributes"]} == there
    commits = [r for r in hub.requests if "/commit/" in r]
    assert len(commits) == 1

    before = [p.probabilities for p in Classifier.load(publishable / "model").predict_batch(PAIRS)]
    assert json.loads(run("-c", LOAD, REPO, "v1")) == before
    client["HF_HUB_OFFLINE"] = "1"
    hub.requests.clear()
    assert json.loads(run("-c", LOAD, REPO, "v1")) == before
    assert not hub.requests


def test_the_second_push_sends_nothing(publishable, hub):
    first = push(publishable)
    hub.requests.clear()
    assert push(publishable) == first and not hub.sent()
    # Nor does a tag more on the same files.
    assert push(publishable, tag="v1.0") == first and not hub.sent()


def test_a_tag_never_moves_and_a_new_one_holds_its_files_alone(publishable, hub):
    first = push(publishable)
    retrain(publishable)
    with pytest.raises(ConfigError, match="the tag names another model already"):
        push(publishable)
    assert on_hub(hub)[0] == first
    (publishable / "model" / "tokenizer_config.json").unlink()
    write_manifest(publishable / "model")
    second = push(publishable, tag="v2")
    assert on_hub(hub, "v1")[0] == first and on_hub(hub)[0] == second
    assert "tokenizer_config.json" in on_hub(hub, "v1")[1]
    names = {file.name for file in prepare(publishable, REPO).files}
    assert set(on_hub(hub)[1]) == {".gitattributes", *names}


@pytest.mark.parametrize(
    "faults",
    [
        # The connection ends in the middle of a file; when the client tries again, the address
        # that it was given has expired.
        [Fault("PUT /lfs/", cut=True, times=1), Fault("PUT /lfs/", status=403)],
        [Fault("POST .*/commit/", status=500)],
        [Fault("POST .*/commit/", status=412)],
    ],
    ids=["in a file", "at the commit", "another came first"],
)
def test_a_broken_push_leaves_the_old_revision_in_force(publishable, hub, faults):
    first = push(publishable)
    before = Classifier.load(REPO).predict(*PAIRS[0])
    retrain(publishable)
    hub.faults = faults
    with pytest.raises(ModelError, match=f"{REPO}: cannot be published: .*HTTP (403|500|412)"):
        push(publishable, tag="v2")
    assert on_hub(hub)[0] == first and on_hub(hub, "v2") is None
    assert Classifier.load(REPO).predict(*PAIRS[0]) == before
    hub.faults = []
    assert push(publishable, tag="v2") == on_hub(hub)[0] != first


def test_what_arrived_damaged_gets_no_tag(publishable, hub):
    hub.faults = [Fault("GET .*/resolve/.*model.onnx", corrupt=True)]
    with pytest.raises(ModelError, match="something else arrived.*other bytes in onnx/model.onnx"):
        push(publishable)
    assert on_hub(hub, "v1") is None


def test_a_public_repository_is_not_taken_for_a_private_one(publishable, hub):
    push(publishable, public=True)
    assert not hub.repositories[REPO].private
    with pytest.raises(ConfigError, match="there already, and public"):
        push(publishable)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "the hub does not know who asks.*hf auth login"),
        (403, "the hub does not allow it.*a token that has the right"),
        (404, "the hub has no such repository"),
        (429, "too many requests.*Wait some minutes"),
        (500, "the hub failed.*Try again later"),
    ],
)
def test_what_the_hub_answers_is_an_error_of_ours(publishable, hub, status, says):
    hub.faults = [Fault("POST /api/repos/create", status=status, said=f"no {TOKEN}")]
    with pytest.raises(ModelError, match=f"{says}") as error:
        push(publishable)
    assert f"HTTP {status}, no …" in str(error.value) and TOKEN not in str(error.value)


def test_metadata_that_the_hub_refuses_is_not_sent(publishable, hub):
    hub.faults = [Fault("POST /api/validate-yaml", status=400, said="unknown licence")]
    with pytest.raises(ModelError, match="cannot be published.*unknown licence"):
        push(publishable)
    assert not hub.sent()


def test_what_is_refused_is_never_sent(publishable, hub, capsys):
    describe_run(publishable, repo="someone/else")
    with pytest.raises(SystemExit):
        main(publishable, REPO, push=True)
    assert not hub.requests and "refused: " in capsys.readouterr().out
