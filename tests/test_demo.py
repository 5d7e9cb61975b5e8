"""The demo's folder as a Space reads it; the page itself: tests_browser."""

import re
import tomllib

from conftest import ROOT
from huggingface_hub import SpaceCard

DEMO = ROOT / "demo"


def pins(path):
    lines = path.read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_space_installs_what_the_package_needs_as_constrained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + extras["parquet"] + extras["analysis"] + extras["demo"]
    names = {re.match(r"[\w-]+", requirement)[0].replace("-", "_") for requirement in needed}
    installed = pins(DEMO / "requirements.txt")
    assert set(installed) == names - {"detente"}
    assert installed.items() <= pins(ROOT / "constraints.txt").items()


def test_the_card_of_the_space_is_one():
    data = SpaceCard.load(DEMO / "README.md").data
    assert (data.sdk, data.app_file) == ("gradio", "app.py")
    assert data.sdk_version == pins(DEMO / "requirements.txt")["gradio"]
    assert len(data.short_description) <= 60
