import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import UndefinedError

from detente import ConfigError, ModelError
from detente.hub import verify
from train.card import TEMPLATE, main, public_metrics, render_card

BUNDLED = ROOT / "src" / "detente" / "default_model"
CARD = ROOT / "model_cards" / "default"
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:[.,]\d+)*(?:e[-+]\d+)?(?!\w)")

# A whole card: what stands in it and in which order. In the file, {…} is a figure, … anything
# within a line, and a line of @ some lines.
PATTERN = (ROOT / "tests" / "card_pattern.txt").read_text("utf-8")


@pytest.fixture
def metrics(tiny_run):
    return json.loads((tiny_run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def bundled():
    return json.loads((CARD / "metrics.json").read_text("utf-8"))


def as_regex(pattern):
    lines = []
    for line in pattern.splitlines(keepends=True):
        if line == "@\n":
            lines.append(r"(?:.*\n)+?")
            continue
        parts = re.split(r"(\{…\}|…)", line)
        figures = {"{…}": r"[-+−]?\d+(?:\.\d+)?(?:e-\d+)?", "…": ".*"}
        lines.append("".join(figures.get(part, re.escape(part)) for part in parts))
    return "".join(lines)


def test_the_whole_card(metrics, tiny_run):
    card = render_card(metrics)
    assert card == (tiny_run / "model" / "README.md").read_text()
    # Section by section, so that a failure says which one.
    parts = [re.split(r"^(?=## )", text, flags=re.M) for text in (card, PATTERN)]
    for found, wanted in zip(*parts, strict=True):
        assert re.fullmatch(as_regex(wanted), found), found


def leaves(value):
    """Yields every number of a JSON document, and the sums of those that stand together."""
    if isinstance(value, dict | list):
        numbers = list(value.values() if isinstance(value, dict) else value)
        for each in numbers:
            yield from leaves(each)
        counts = [n for n in numbers if isinstance(n, int) and not isinstance(n, bool)]
        yield sum(counts)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, str):
        yield from (float(n) for n in NUMBER.findall(value) if n.count(".") < 2 and "," not in n)


def test_every_number_comes_from_the_metrics(bundled):
    _, metadata, text = (CARD / "README.md").read_text("utf-8").split("---\n", 2)
    found = set()
    for leaf in leaves(bundled):
        for value in (leaf, 100 * leaf, leaf / 60):
            found |= {f"{value:.{digits}f}" for digits in range(5)} | {f"{value:+.1f}", f"{leaf}"}
        found |= {f"{leaf:.1e}", f"{round(leaf, 4)}"}
    removed = bundled["leakage"]["removed"].values()
    found |= {str(sum(kinds[kind] for kinds in removed)) for kind in ("equal", "near")}
    words = re.sub(r"\{[{%].*?[}%]\}", " ", TEMPLATE.read_text("utf-8"), flags=re.S)
    said = set(NUMBER.findall(words)) | set(NUMBER.findall(json.dumps(bundled)))
    for number in NUMBER.findall(text) + re.findall(r"(?:value:|- (?=\d)) *(\S+)", metadata):
        assert number in found | said or number.lstrip("+") in found, number


def test_a_figure_that_changes_changes_the_card(bundled):
    before = render_card(bundled)
    for path in [
        ("results", "own", "model", "macro_f1"), ("results", "own", "tfidf", "lead"),
        ("results", "official", "model", "slices", "pair: Russia -> China", "accuracy"),
        ("contracts", "negation", "value"), ("training", "seconds"), ("training", "temperature"),
        ("data", "series", "rows", "train", "neutral"), ("leakage", "checked"),
        ("onnx", "int8_against_checkpoint", "label_agreement"), ("confusion", "documents"),
    ]:  # fmt: skip
        changed = json.loads(json.dumps(bundled))
        place = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] += 100
        assert render_card(changed) != before, path


def test_the_metadata_is_what_the_hubs_classes_read(bundled):
    data = ModelCard(render_card(bundled)).data
    assert isinstance(data, ModelCardData)
    assert (data.license, data.language, data.pipeline_tag, data.library_name) == (
        "apache-2.0", ["en"], "text-classification", "detente",
    )  # fmt: skip
    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert data.datasets == ["detente-official", "detente-own", "detente-series"]
    assert all(set(example) == {"example_title", "text"} for example in data.widget)
    assert all(isinstance(result, EvalResult) for result in data.eval_results)
    reported = {(r.dataset_name, r.metric_name): r.metric_value for r in data.eval_results}
    assert len(reported) == len(data.eval_results)
    model = bundled["results"]["own"]["model"]
    assert reported["own", "macro-F1"] == round(model["macro_f1"], 4)
    assert reported["own", "F1 of neutral"] == round(model["f1"]["neutral"], 4)
    irony = model["slices"]["phenomenon: irony"]["accuracy"]
    assert reported["own", "accuracy, phenomenon: irony"] == round(irony, 4)
    assert ("contracts", "negation: both labels right") in reported
    # Read and written again, nothing is lost.
    again = ModelCardData(**ModelCard(f"---\n{data.to_yaml()}\n---\n").data.__dict__)
    assert again.to_dict() == data.to_dict()


def test_the_bundled_models_card_is_what_its_run_renders_now(bundled):
    assert render_card(bundled) == (CARD / "README.md").read_text("utf-8")
    assert public_metrics(bundled) == bundled
    # And the run is the one whose model is bundled.
    settings = json.loads((BUNDLED / "detente.json").read_text("utf-8"))
    for key in ("contracts", "confusion", "onnx", "base_model", "name"):
        assert bundled[key] == settings[key], key
    for corpus, figures in settings["results"].items():
        model = bundled["results"][corpus]["model"]
        assert {key: model[key] for key in figures} == figures
    for corpus, known in settings["data"].items():
        assert {key: bundled["data"][corpus][key] for key in known} == known


def test_public_metrics_name_no_place_of_this_machine(metrics, tiny_base, tiny_table):
    shown = json.dumps(public_metrics(metrics))
    assert str(tiny_base.parent) not in shown and str(tiny_table.parent) not in shown
    assert tiny_table.name in shown and public_metrics(metrics)["base_model"] == tiny_base.name
    assert public_metrics(public_metrics(metrics)) == public_metrics(metrics)


def test_a_licence_is_stated_and_not_guessed(metrics):
    assert ModelCard(render_card(metrics)).data.license == "other"  # of a user's own table
    metrics["publication"] = {"licence": "cc-by-4.0", "repo": "someone/tone"}
    card = render_card(metrics)
    assert ModelCard(card).data.license == "cc-by-4.0"
    assert 'Classifier.load("someone/tone")' in card and "OWNER/NAME" not in card
    assert ModelCard(card).data.eval_results[0].metric_args["interval_95"]


def test_a_missing_figure_is_an_error(metrics):
    del metrics["training"]["temperature"]
    with pytest.raises(UndefinedError):
        render_card(metrics)


def test_unshippable_weights_are_marked(metrics):
    assert "does not allow publishing" not in render_card(metrics)
    metrics["data"]["tiny"]["shippable"] = False
    assert "does not allow publishing" in render_card(metrics)


def test_what_an_older_run_did_not_record_is_said(bundled):
    older = json.loads(json.dumps(bundled))
    for corpus in older["data"].values():
        del corpus["years"], corpus["sources"]
    del older["onnx"]["int8_against_checkpoint"]
    card = render_card(older)
    assert card.count("| not recorded | not recorded |") == len(older["data"])
    assert "int8" not in card


def test_the_command_renders_again_and_launders_nothing(described_run, tmp_path, publishable):
    folder = publishable / "model"
    (folder / "README.md").write_text("# Wonderful\n")
    (folder / "smuggled.txt").write_text("not in the manifest")
    main(publishable)
    assert (folder / "README.md").read_text() == (described_run / "model" / "README.md").read_text()
    with pytest.raises(ModelError, match="smuggled.txt: the file is not in the manifest"):
        verify(folder)
    (folder / "smuggled.txt").unlink()
    assert set(verify(folder)) == set(verify(described_run / "model"))
    with pytest.raises(ConfigError, match="--repo: not such a name"):
        main(publishable, repo="tone")
    done = subprocess.run(
        [sys.executable, "-m", "train.card", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "the metrics cannot be read" in done.stderr
