import pytest
from conftest import ROOT

from detente import ConfigError
from train.config import load_config

QUICK = ROOT / "configs" / "quick.yaml"


def test_overrides_are_read_as_yaml():
    config = load_config(QUICK, ["fit.learning_rate=2e-5", "fit.epochs=2", "data.root=/x"])
    assert config.fit.learning_rate == 2e-5 and config.fit.epochs == 2
    assert str(config.data.root) == "/x"
    assert load_config(QUICK, ["evaluate.baselines=[tfidf]"]).evaluate.baselines == ("tfidf",)


def test_a_resolved_configuration_reads_back_as_itself(tmp_path):
    from ruamel.yaml import YAML

    config = load_config(QUICK)
    path = tmp_path / "config.yaml"
    with path.open("w") as file:
        YAML().dump(config.to_yaml(), file)
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("fit.learning_rat=1", r"fit\.learning_rat: unknown key.*Did you mean 'learning_rate'"),
        ("fitt.epochs=1", r"fitt: unknown key.*Did you mean 'fit'"),
        ("data.corpora=[{name: own, pth: x}]", r"corpora\.0\.pth: unknown key.*'path'"),
        ("data.corpora=[{name: owm}]", r"corpora\.0\.name: input should be 'own', 'multilingual'"),
        ("data.corpora=[{name: file}]", "a path goes with `name: file`"),
        ("data.corpora=[{name: own, hold_out: {source: KEN}}]", "hold_out goes with official by"),
        ("data.corpora=[{name: official, hold_out: {}}]", "either a period, a source, a fold or"),
        ("data.corpora=[{name: official, hold_out: {fold: 5}}]", "less than 5"),
        ("data.corpora=[{name: plv, hold_out: {source: KEN}}]", "plv by fold, umuc by debate"),
        ("data.corpora=[{name: official, hold_out: {sorce: KEN}}]", "hold_out.sorce: unknown key"),
        ("data.corpora=[{name: official, hold_out: {source: Atlantis}}]", "gazetteer knows"),
        (
            "data.corpora=[{name: official, hold_out: {period: [2022, 2017]}}]",
            "not come after",
        ),
        ("data.corpora=[{name: official, hold_out: {period: [2017, '2022']}}]", "valid integer"),
        ("data.corpora=[{name: official, hold_out: {period: 2017}}]", "valid tuple"),
        ("data.corpora=[{name: umuc, hold_out: {fold: 1}}]", "umuc by debate, and no other"),
        ("data.corpora=[{name: own, train: false, test: false}]", "from, reported on, or both"),
        ("data.corpora=[]", r"corpora: tuple should have at least 1 item"),
        ("fit.learning_rate=-1", r"learning_rate: input should be greater than 0; got -1"),
        ("fit.epochs=three", r"fit\.epochs: .*valid number.*got 'three'"),
        ("fit.epochs=yes", r"fit\.epochs: .*got 'yes'"),
        ("fit.epochs=true", r"fit\.epochs: .*valid number.*got True"),
        ("fit.epochs='3'", r"fit\.epochs: .*valid number.*got '3'"),
        ("fit.epochs=.inf", r"fit\.epochs: .*finite number"),
        ("data.withhold_target='yes'", r"withhold_target: .*valid boolean"),
        ("fit.epochs=2025-02-30", r"fit\.epochs: "),
        ("run.seed=9999999999999", r"run\.seed: .*less than 4294967296"),
        ("run.dir=.", "must name a folder of its own"),
        ("base.max_tokens=1000000", "less than or equal to 512"),
        ("base.layers=[4, 2]", r"base\.layers: .*from the lowest up; got \[4, 2\]"),
        ("base.layers=[0, 2]", r"base\.layers\.0: .*greater than or equal to 1"),
        ("base.layers=[]", r"base\.layers: .*at least 1 item"),
        ("base.layers=3", r"base\.layers: .*valid tuple"),
        ("fit.epochs", "not an override; got 'fit.epochs'"),
        ("epochs=1", "not an override"),
        ("fit.epochs=[1", r"fit\.epochs: the value is not YAML"),
    ],
)
def test_a_wrong_setting_is_named(override, says):
    with pytest.raises(ConfigError, match=f"(?s){says}"):
        load_config(QUICK, [override])


def test_a_hold_out_is_one_period_or_one_state_by_its_code():
    def hold_out(value):
        corpora = f"data.corpora=[{{name: official, hold_out: {value}}}]"
        return load_config(QUICK, [corpora]).data.corpora[0].hold_out

    assert hold_out("{period: [2017, 2022]}").period == (2017, 2022)
    assert hold_out("{source: Soviet Union}").source == "SUN" == hold_out("{source: SUN}").source


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("run: {name: a, name: b}", "cannot be read as YAML"),
        ("- a", "holds no sections"),
        ("run: [", "cannot be read as YAML"),
        ("", "holds no sections"),
        ("run: {name: a, dir: b}\nbase: {name: c}", "data: field required"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, says):
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"(?s)broken.yaml.*{says}"):
        load_config(path)


def test_a_missing_file_lists_those_there_are():
    with pytest.raises(ConfigError, match="no such file.*There are: .*quick.yaml"):
        load_config(ROOT / "configs" / "quik.yaml")
