import pytest
from conftest import ROOT
from transformers.integrations import get_available_reporting_integrations

from detente import ConfigError, MissingExtraError
from train.config import load_config
from train.trackers import installed

QUICK = ROOT / "configs" / "quick.yaml"
KNOWN = ("tensorboard", "wandb", "mlflow", "trackio")


def test_nobody_is_told_unless_asked():
    assert installed(load_config(QUICK).run.trackers) == []


@pytest.mark.parametrize("name", KNOWN)
def test_a_tracker_is_there_or_its_package_is_named(name):
    trackers = load_config(QUICK, [f"run.trackers=[{name}]"]).run.trackers
    if name in get_available_reporting_integrations():
        assert installed(trackers) == [name]
    else:
        with pytest.raises(MissingExtraError, match=f"run.trackers: .*pip install {name}"):
            installed(trackers)


def test_an_unknown_tracker_is_refused():
    with pytest.raises(ConfigError, match=r"run\.trackers\.0: input should be 'tensorboard'"):
        load_config(QUICK, ["run.trackers=[tensorbord]"])
