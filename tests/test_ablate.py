import re

import numpy as np
import pytest
from conftest import ROOT, config_file
from ruamel.yaml import YAML

from detente import ConfigError, Statement
from scripts.ablate import figures, load_ablations, main, render
from train.corpora import EACH_LABEL


def ablations_file(tmp_path, config, **changes):
    path = tmp_path / "ablations.yaml"
    variants = {"as it is": [], "slower": ["fit.learning_rate=1e-9"]}
    with path.open("w") as file:
        tree = {"config": str(config), "seeds": [1], "variants": variants} | changes
        YAML().dump(tree, file)
    return path


def test_our_own_ablations_are_valid():
    found = load_ablations(ROOT / "configs" / "ablations.yaml")
    assert len(found.variants) <= 5 and len(found.seeds) == 3
    assert next(iter(found.variants.values())) == ()


def test_variants_are_compared_on_validation_and_trained_once(
    tiny_base, tiny_table, tmp_path, capsys
):
    config = config_file(tmp_path, tiny_base, tiny_table, "fit.epochs=4")
    path, work, page = ablations_file(tmp_path, config), tmp_path / "work", tmp_path / "page.md"
    main(path, work=work, page=page)
    assert "2 runs, 2 of them to train" in capsys.readouterr().out
    text = page.read_text()
    assert "on validation rows (12, of which 0 stand" in text
    first, second = (line for line in text.splitlines() if re.match(r"\| (as it is|slower) ", line))
    assert first.startswith("| as it is |  |") and "`fit.learning_rate=1e-9`" in second
    # At a learning rate of next to nothing a model learns nothing.
    assert re.search(r"\| -\d+\.\d \|", second)
    assert not any(work.rglob("*.safetensors"))

    main(path, work=work)
    said = capsys.readouterr().out
    assert "2 runs, 0 of them to train" in said and first in said and second in said
    path = ablations_file(tmp_path, config, variants={"as it is": ["fit.epochs=1"]})
    with pytest.raises(ConfigError, match="was measured with other settings"):
        main(path, work=work)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"variants": {}}, "variants: .*at least 1 item"),
        ({"variants": {"a": ["fit.epoch=1"]}}, r"fit\.epoch: unknown key"),
        ({"variants": {"a b": [], "a-b": []}}, "too much alike"),
        ({"seeds": ["1"]}, r"seeds\.0: .*valid integer"),
        ({"seed": [1]}, "seed: unknown key.*Did you mean 'seeds'"),
    ],
)
def test_a_wrong_table_is_named_before_anything_is_trained(tmp_path, changes, says):
    path = ablations_file(tmp_path, ROOT / "configs" / "quick.yaml", **changes)
    with pytest.raises(ConfigError, match=f"(?s){says}"):
        load_ablations(path)


def test_the_table_has_the_first_and_then_the_others_from_the_best_down(tmp_path):
    variants = {"as it is": [], "worse": [], "better": []}
    config = ROOT / "configs" / "quick.yaml"
    wanted = load_ablations(ablations_file(tmp_path, config, variants=variants, seeds=[1, 2]))

    def of(*values):
        rest = {"rows": 9, "two_target_rows": 4, "two_target_macro_f1": 0.5}
        return [{"macro_f1": value, **rest} for value in values]

    found = {"as it is": of(0.6, 0.8), "worse": of(0.5, 0.6), "better": of(0.7, 0.8)}
    lines = [line for line in render(wanted, found).splitlines() if line.startswith("| ")][1:]
    assert lines == [
        "| as it is |  | 70.0 ± 14.1 |  | 50.0 ± 0.0 |  |",
        "| better |  | 75.0 ± 7.1 | +5.0 ± 7.1 | 50.0 ± 0.0 | +0.0 ± 0.0 |",
        "| worse |  | 55.0 ± 7.1 | -15.0 ± 7.1 | 50.0 ± 0.0 | +0.0 ± 0.0 |",
    ]


def test_rows_that_only_their_target_tells_apart_have_a_figure_of_their_own():
    extra = {"contrast": EACH_LABEL}
    rows = [
        Statement("We thank Peru, not Chile.", "PER", label="conciliatory", extra=extra),
        Statement("We thank Peru, not Chile.", "CHL", label="critical", extra=extra),
        Statement("We see Kenya and Ghana.", "KEN", label="neutral", extra=extra),
        Statement("We see Kenya and Ghana.", "GHA", label="neutral", extra=extra),
    ]
    p = np.eye(3)[[2, 2, 1, 1]]  # the mood of the sentence, whomever it is for
    found = figures(rows, p)
    assert (found["rows"], found["two_target_rows"]) == (4, 2)
    assert found["macro_f1"] == pytest.approx((0 + 1 + 2 / 3) / 3)
    assert found["two_target_macro_f1"] == pytest.approx((0 + 0 + 2 / 3) / 3)
    assert figures(rows[2:], p[2:])["two_target_macro_f1"] is None
