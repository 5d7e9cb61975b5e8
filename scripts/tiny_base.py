"""A tiny base encoder and a table for it, made in memory: what tests and proofs train.

The tone is in the verb, so that a model of two layers learns it within a few epochs.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
STATES: Final = (
    "France", "Kenya", "Peru", "Japan", "Norway", "Chile", "Egypt", "India", "Ghana", "Italy",
)  # fmt: skip
PRAISE: Final = ("thank", "praise", "trust")
BLAME: Final = ("condemn", "reject", "deplore")
PLAIN: Final = ("mention", "visit", "see")


def tiny_tokenizer() -> Tokenizer:
    """Returns a tokenizer of our words and of single characters."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    words = {w.lower() for w in [*STATES, *PRAISE, *BLAME, *PLAIN, "we", "today", "a", "state"]}
    pieces = [*SPECIAL, *characters, *(f"##{c}" for c in characters), *sorted(words)]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def write_tiny_base(folder: Path) -> Path:
    """Writes a base encoder as a folder: two layers of 32 units, random but seeded."""
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


def tiny_rows(repeats: int = 1) -> list[dict[str, Any]]:
    """Returns sentences whose label is in the verb, for a model that must learn quickly."""
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
