import json

import pytest
from huggingface_hub import constants
from stand_in_hub import Fault

from detente import Classifier, ModelError
from detente.hub import MANIFEST, write_manifest

REPO = "someone/tone"
PAIR = ("We thank Peru today.", "Peru")


@pytest.fixture
def published(publishable, hub):
    """The hub, with a model on it that nobody has fetched yet."""
    hub.hold(REPO, publishable / "model", "v1")
    return hub


def fetched(hub):
    marks = [r.partition("/resolve/")[2] for r in hub.requests if r.startswith("GET /someone")]
    return sorted(mark.partition("/")[2] for mark in marks)


SMALL = ["config.json", "detente.json", "learned.txt", "manifest.json", "tokenizer.json"]


def test_only_what_the_runtime_needs_is_fetched(published):
    Classifier.load(REPO, revision="v1")
    assert fetched(published) == sorted([*SMALL, "onnx/model.onnx"])
    published.requests.clear()
    Classifier.load(REPO, revision="v1")
    assert not fetched(published)
    assert Classifier.load(REPO, revision="v1", runtime="torch").runtime.name == "torch"
    assert fetched(published) == ["model.safetensors"]


def test_a_revision_is_what_it_was(published, publishable):
    before = Classifier.load(publishable / "model").predict(*PAIR)
    settings = json.loads((publishable / "model" / "detente.json").read_text())
    (publishable / "model" / "detente.json").write_text(json.dumps(settings | {"max_tokens": 48}))
    write_manifest(publishable / "model")
    published.hold(REPO, publishable / "model", "v2")
    assert [Classifier.load(REPO, revision=r).encoder.max_tokens for r in ("v1", "v2")] == [64, 48]
    assert Classifier.load(REPO).encoder.max_tokens == 48
    assert Classifier.load(REPO, revision="v1").predict(*PAIR) == before
    with pytest.raises(ModelError, match=f"{REPO}@v3: .*the repository has no such revision"):
        Classifier.load(REPO, revision="v3")


def test_without_network_the_cache_is_enough(published, monkeypatch):
    online = Classifier.load(REPO).predict(*PAIR)
    for name in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE"):  # where nobody listens
        there = getattr(constants, name)
        monkeypatch.setattr(constants, name, there.replace(f":{published.server_port}", ":9"))
    assert Classifier.load(REPO).predict(*PAIR) == online
    with pytest.raises(ModelError, match="no network: the hub cannot be reached.*HF_ENDPOINT"):
        Classifier.load("someone/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Classifier.load(REPO).predict(*PAIR) == online
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids the network"):
        Classifier.load("someone/other")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "the hub does not know who asks, or has no such repository.*HF_TOKEN"),
        (403, "the hub does not allow it"),
        (404, "the hub has no such repository"),
        (429, "too many requests"),
        (500, "the hub failed"),
    ],
)
def test_what_the_hub_answers_is_an_error_of_ours(published, status, says):
    published.faults = [Fault("GET /api/models/", status=status)]
    with pytest.raises(ModelError, match=f"{REPO}@main: cannot be fetched.*{says}") as error:
        Classifier.load(REPO)
    assert f"HTTP {status}" in str(error.value)


def test_a_private_model_is_for_those_who_may_read_it(published, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    with pytest.raises(ModelError, match="log in with `hf auth login`.*HF_TOKEN"):
        Classifier.load(REPO)


@pytest.mark.parametrize("name", [MANIFEST, "tokenizer.json", "onnx/model.onnx"])
def test_what_came_damaged_is_fetched_again(published, publishable, name):
    published.faults = [Fault(f"GET .*/resolve/.*/{name}", corrupt=True, times=1)]
    found = Classifier.load(REPO).predict(*PAIR)
    assert found == Classifier.load(publishable / "model").predict(*PAIR)


def test_what_comes_damaged_each_time_is_refused_and_does_not_stay(published):
    published.faults = [Fault("GET .*/resolve/.*/onnx/model.onnx", corrupt=True)]
    with pytest.raises(ModelError, match="model.onnx: the file is not the one the manifest names"):
        Classifier.load(REPO)
    published.faults = []
    assert Classifier.load(REPO).predict(*PAIR).label == "conciliatory"


def test_a_download_that_breaks_goes_on_where_it_broke(published):
    published.faults = [Fault("GET .*/resolve/.*/onnx/model.onnx", cut=True, times=1)]
    assert Classifier.load(REPO).predict(*PAIR).label == "conciliatory"
    assert fetched(published).count("onnx/model.onnx") == 2


def test_a_repository_that_is_no_model_of_ours_is_refused(published):
    del published.repositories[REPO].at("main")[1][MANIFEST]
    with pytest.raises(ModelError, match="the folder has no manifest.json"):
        Classifier.load(REPO)
