"""A tiny seeded encoder made in memory, and one run trained from it for the whole session."""

import shutil
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from ruamel.yaml import YAML
from stand_in_hub import TOKEN, StandInHub, running
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from detente.encoding import PairEncoder
from detente.rows import write_jsonl
from train.batches import make_encoder
from train.card import main as describe_run
from train.config import Config, load_config
from train.fit import show_progress
from train.run import train

# One thread: more of them only wait for each other on models this small.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
STATES = ["France", "Kenya", "Peru", "Japan", "Norway", "Chile", "Egypt", "India", "Ghana", "Italy"]
PRAISE = ["thank", "praise", "trust"]
BLAME = ["condemn", "reject", "deplore"]
PLAIN = ["mention", "visit", "see"]
TINY_CONTRACTS = [
    {"id": "n", "contract": "negation", "target": "PER", "text": "We thank Peru today.",
     "label": "conciliatory", "reversed": "We reject Peru today.", "reversed_label": "critical"},
    {"id": "q", "contract": "quotation", "target": "KEN", "text": "We see Kenya today.",
     "label": "neutral"},
]  # fmt: skip


def tiny_tokenizer() -> Tokenizer:
    characters = string.ascii_lowercase + string.digits + string.punctuation
    words = {w.lower() for w in [*STATES, *PRAISE, *BLAME, *PLAIN, "we", "today", "a", "state"]}
    pieces = [*SPECIAL, *characters, *(f"##{c}" for c in characters), *sorted(words)]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A base encoder as a folder: two layers of 32 units, random but seeded."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        pad_token_id=0,
        initializer_range=0.05,
    )
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(tiny_base) -> PairEncoder:
    return make_encoder(AutoTokenizer.from_pretrained(tiny_base), 64)


def tiny_rows(repeats: int = 1) -> list[dict]:
    """Sentences whose label is in the verb, for a model that must learn something quickly."""
    rows = []
    for label, verbs in (("conciliatory", PRAISE), ("critical", BLAME), ("neutral", PLAIN)):
        for v, verb in enumerate(verbs):
            for s, state in enumerate(STATES[: 3 + 4 * repeats]):
                split = ("train", "train", "train", "validation", "test")[(v + s) % 5]
                text = f"We {verb} {state} today {v} {s}."
                source = "USA" if s % 2 else None
                rows.append({"text": text, "target": state, "label": label, "split": split})
                rows[-1] |= {"id": f"{label}-{v}-{s}", "source": source}
    return rows


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
