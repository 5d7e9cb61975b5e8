"""A tiny seeded encoder made in memory, and one run trained from it for the whole session."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from ruamel.yaml import YAML
from stand_in_hub import TOKEN, StandInHub, running
from transformers import AutoTokenizer

from detente.encoding import PairEncoder
from detente.rows import write_jsonl
from scripts.tiny_base import PRAISE, STATES, tiny_rows, tiny_tokenizer, write_tiny_base
from train.batches import make_encoder
from train.card import main as describe_run
from train.config import Config, load_config
from train.fit import show_progress
from train.run import train

# One thread: more of them only wait for each other on models this small.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]
__all__ = ["PRAISE", "STATES", "tiny_rows", "tiny_tokenizer"]  # for the tests
TINY_CONTRACTS = [
    {"id": "n", "contract": "negation", "target": "PER", "text": "We thank Peru today.",
     "label": "conciliatory", "reversed": "We reject Peru today.", "reversed_label": "critical"},
    {"id": "q", "contract": "quotation", "target": "KEN", "text": "We see Kenya today.",
     "label": "neutral"},
]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A base encoder as a folder: two layers of 32 units, random but seeded."""
    return write_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def encoder(tiny_base) -> PairEncoder:
    return make_encoder(AutoTokenizer.from_pretrained(tiny_base), 64)


@pytest.fixture(scope="session")
def tiny_table(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "tiny.jsonl"
    write_jsonl(path, tiny_rows())
    return path


def tiny_config(base: Path, table: Path, run: Path, *overrides: str) -> Config:
    settings = [
        f"run.dir={run}",
        f"base.name={base}",
        "base.max_tokens=64",
        f"data.corpora=[{{name: file, path: {table}}}]",
        "fit.epochs=6",
        "fit.patience=6",
        "fit.dropout=0",
        "fit.precision=fp32",
        "data.absent_targets=0",
        "fit.mention_loss=0",
        "fit.batch_size=4",
        "fit.learning_rate=3e-3",
        "evaluate.bootstrap=100",
        *overrides,
    ]
    return load_config(ROOT / "configs" / "quick.yaml", settings)


def config_file(tmp_path: Path, base: Path, table: Path, *overrides: str) -> Path:
    """A configuration file of a training of one epoch."""
    config = tiny_config(base, table, tmp_path / "run", "fit.epochs=1", *overrides)
    path = tmp_path / "tiny.yaml"
    with path.open("w") as file:
        YAML().dump(config.to_yaml(), file)
    return path


@pytest.fixture(scope="session")
def tiny_run(tiny_base, tiny_table, tmp_path_factory) -> Path:
    """A finished run folder, with a target-blind twin."""
    show_progress(False)
    contracts = tmp_path_factory.mktemp("contracts") / "tiny.jsonl"
    write_jsonl(contracts, TINY_CONTRACTS)
    settings = [f"evaluate.contracts={contracts}"]
    runs = tmp_path_factory.mktemp("runs")
    return train(tiny_config(tiny_base, tiny_table, runs / "tiny", *settings))


@pytest.fixture(scope="session")
def tiny_model(tiny_run) -> Path:
    return tiny_run / "model"


@pytest.fixture(scope="session")
def described_run(tiny_run, tmp_path_factory) -> Path:
    """The finished run, with its licence stated and its place on the hub named."""
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("described") / "run")
    describe_run(run, repo="someone/tone", licence="apache-2.0")
    return run


@pytest.fixture
def publishable(described_run, tmp_path) -> Path:
    """A run of one's own, to publish or to spoil."""
    return shutil.copytree(described_run, tmp_path / "run")


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[StandInHub]:
    """A hub on this machine, which the real client takes for the only one."""
    with running() as server:
        # What HF_ENDPOINT, HF_HOME and HF_HUB_DISABLE_XET set before the client is imported.
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
