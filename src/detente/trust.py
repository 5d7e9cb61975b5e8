"""What is checked of a model folder before anything else reads it: it may come from anybody.

A folder is data: text, safetensors and ONNX, in files of bounded size that lead nowhere else.
Nothing in it is unpacked, imported or run as code. ``SECURITY.md`` says what that promises.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from detente.errors import ModelError

_MIB: Final = 1 << 20
LARGEST: Final = {
    "": _MIB,  # LICENSE
    ".md": 16 * _MIB,
    ".json": 64 * _MIB,  # the tokenizer of a vocabulary of 250,000 takes 17
    ".txt": 1024 * _MIB,
    ".onnx": 2048 * _MIB,  # what protobuf can hold
    ".safetensors": 65536 * _MIB,
}
"""The kinds of file that a model folder may hold, by suffix, and how many bytes of each."""

_LONGEST_HEADER: Final = 16 * _MIB
# Neither `..` nor a drive, a stream or a blank of any system; and no hidden file.
_NAME: Final = re.compile(r"(?:[A-Za-z0-9_][\w.-]*/){0,3}[A-Za-z0-9_][\w.-]*", re.ASCII)
# Where transformers reads of weights that are somewhere else.
_ELSEWHERE: Final = ("adapter_config.json", "model.safetensors.index.json")
# By these, config.json has transformers load code, or other files than those of the manifest.
_NAMES_CODE: Final = frozenset({
    "attn_implementation", "_attn_implementation", "auto_map", "configuration_files",
    "custom_pipelines", "experts_implementation", "_experts_implementation",
    "quantization_config", "transformers_weights",
})  # fmt: skip


def check_name(name: str, where: str) -> None:
    """Refuses a name in a manifest that leads out of its folder, or is of an unknown kind.

    Args:
        name: With ``/`` between folders.
        where: The manifest.

    Raises:
        ModelError: The name is refused.
    """
    if not _NAME.fullmatch(name):
        raise ModelError(
            "a name leads out of the folder, or is none that all systems can have",
            where=where,
            got=name,
        )
    path = Path(name)
    if path.suffix not in LARGEST:
        raise ModelError(
            "not a kind of file that a model folder may hold",
            where=where,
            got=name,
            expected=f"only {', '.join(filter(None, LARGEST))}",
            fix="Pickled weights and scripts can run code, archives can hide them: neither is read",
        )
    if path.name in _ELSEWHERE:
        raise ModelError(
            "the file names weights that are elsewhere",
            where=where,
            got=name,
            expected="all weights in one model.safetensors",
        )


def check_files(folder: Path, names: Iterable[str], *, links: bool = False) -> None:
    """Refuses links, files that are too large, and files that a manifest does not name.

    Args:
        folder: The model folder.
        names: What its manifest names; of the files that are there, each is looked at.
        links: Let files be symbolic links, as in the cache of the Hugging Face hub.

    Raises:
        ModelError: A file is refused.
    """
    root, listed = folder.resolve(), set(names)
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts):
            continue
        if not links and path.resolve() != root.joinpath(*parts):
            raise ModelError(
                "a symbolic link",
                where=str(path),
                expected="a folder that holds its files itself",
                fix="Copy the folder with its files: cp -rL",
            )
        if path.is_dir():
            continue
        if "/".join(parts) not in listed:
            raise ModelError(
                "the file is not in the manifest",
                where=str(path),
                fix="Only what training wrote is loaded: remove the file.",
            )
        if not path.is_file() or path.stat().st_size > LARGEST[path.suffix]:
            raise ModelError(
                "not a file of a size that it can have",
                where=str(path),
                got=f"{path.lstat().st_size} bytes",
                expected=f"a plain file of at most {LARGEST[path.suffix]} bytes",
            )


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuses a ``config.json`` that names code or other files to load.

    Raises:
        ModelError: It does, at any depth.
    """
    left: list[Mapping[str, Any]] = [config]
    while left:
        for key, value in left.pop().items():
            if key in _NAMES_CODE and value is not None:
                raise ModelError(
                    "the configuration names code or files to load",
                    where=f"{where}: {key}",
                    got=value,
                    expected="a model of transformers' own, all of it in this folder",
                )
            if isinstance(value, dict):
                left.append(value)


def check_weights(path: Path) -> None:
    """Looks into a ``.safetensors`` or ``.onnx`` file before a library maps it.

    Raises:
        ModelError: The header of safetensors is longer than can be; or ONNX is not whole, has a
            tensor in another file, or a weight that is not finite.
    """
    if path.suffix == ".safetensors":
        _check_safetensors(path)
    elif path.suffix == ".onnx":
        _check_onnx(path)


def _check_safetensors(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    longest = min(path.stat().st_size - 8, _LONGEST_HEADER)
    if length > longest:
        raise ModelError(
            "the header of safetensors is longer than it can be",
            where=str(path),
            got=f"{length} bytes",
            expected=f"at most {longest}",
        )


# --- ONNX --------------------------------------------------------------------------------------
# onnxruntime refuses operators that nobody registered, and we register none. But it reads tensors
# from other files of the folder, which no manifest vouches for. The onnx package, which would tell
# of them, is not installed with ours: what is needed of the format is that messages hold messages.

_TENSOR: Final = "tensor"
_WITHIN: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
}
"""From onnx.proto: the fields of each message that hold, at any depth, a tensor."""
_DATA_TYPE, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 2, 9, 13, 14
_FLOATS: Final = {1: "<f4", 10: "<f2", 11: "<f8"}
_DEEPEST: Final = 100  # as in protobuf itself
_VARINT, _EIGHT_BYTES, _MESSAGE, _FOUR_BYTES = 0, 1, 2, 5

_Buffer = mmap.mmap


def _check_onnx(path: Path) -> None:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for start, stop in _tensors(data, 0, len(data), "model", _DEEPEST):
                _check_tensor(data, start, stop)
    except ModelError as error:
        raise error.at(str(path)) from None
    except ValueError as error:  # also an empty file, which cannot be mapped
        raise ModelError(f"not a whole ONNX model ({error})", where=str(path)) from None


def _check_tensor(data: _Buffer, start: int, stop: int) -> None:
    kind, raw = 0, (0, 0)
    for number, value in _fields(data, start, stop):
        if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
            raise ModelError(
                "a tensor of the ONNX model is in another file",
                expected="all tensors in the model itself",
                fix="Save it without external data.",
            )
        if number == _DATA_TYPE and isinstance(value, int):
            kind = value
        if number == _RAW_DATA and isinstance(value, tuple):
            raw = value
    if kind not in _FLOATS:
        return
    size = np.dtype(_FLOATS[kind]).itemsize
    weights = np.frombuffer(data, _FLOATS[kind], (raw[1] - raw[0]) // size, raw[0])
    finite = bool(np.isfinite(weights).all())
    del weights  # or the file could not be closed
    # One infinity alone is what some exporters mask attention with.
    if not finite and raw[1] - raw[0] > size:
        raise ModelError("the ONNX model has weights that are not finite")


def _tensors(
    data: _Buffer, start: int, stop: int, message: str, depth: int
) -> Iterator[tuple[int, int]]:
    """Yields where each tensor of a message stands."""
    if depth == 0:
        raise ValueError("messages within messages without end")
    within = _WITHIN[message]
    for number, value in _fields(data, start, stop):
        if isinstance(value, tuple) and (kind := within.get(number)):
            if kind == _TENSOR:
                yield value
            else:
                yield from _tensors(data, *value, kind, depth - 1)


def _fields(data: _Buffer, start: int, stop: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """Yields the fields of a message in protobuf's wire format.

    https://protobuf.dev/programming-guides/encoding

    Yields:
        The field's number, and its value or, for bytes and messages, where they begin and end.
    """
    at = start
    while at < stop:
        tag, at = _varint(data, at, stop)
        number, wire = tag >> 3, tag & 7
        value: int | tuple[int, int] = 0
        if wire == _VARINT:
            value, at = _varint(data, at, stop)
        elif wire == _MESSAGE:
            length, at = _varint(data, at, stop)
            value = at, at + length
            at += length
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of the kind {wire}")
        if at > stop or number == 0 or tag >> 32:
            raise ValueError("a field runs out of its message")
        yield number, value


def _varint(data: _Buffer, at: int, stop: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= stop:
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number without end")
