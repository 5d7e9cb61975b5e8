"""From a model name to a verified folder: bundled, local, or from the Hugging Face hub.

A model folder is data. It holds ``config.json``, ``tokenizer.json``, ``detente.json``, the
weights, and ``manifest.json`` with the size and the sha256 of every other file; a folder whose
files do not match its manifest is refused, and so is one that holds more than data
(:mod:`detente.trust`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from detente.encoding import TEMPLATE
from detente.errors import ModelError
from detente.labels import LABELS
from detente.remote import fetch
from detente.runtimes import RuntimeName, choose
from detente.trust import LARGEST, check_config, check_files, check_name, check_weights

DEFAULT: Final = "default"
MULTILINGUAL: Final = "multilingual"
"""Not bundled: the name only tells how to get that model."""
MANIFEST: Final = "manifest.json"
SETTINGS: Final = "detente.json"
LEARNED: Final = "learned.txt"
"""Hashes of the sentences whose labels the model learned (:func:`detente.statement.text_hash`)."""
_NEEDED: Final = ("config.json", "tokenizer.json", SETTINGS)
_WEIGHTS: Final = ("model.safetensors",)

LEAST_TOKENS: Final = 16
"""A pair of fewer has no room for a sentence beside its target."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model folder whose files have been checked.

    Attributes:
        path: The folder.
        name: What the user called it; scored rows carry it.
        max_tokens: The longest pair the model was made for, in tokens.
        onnx_file: The ONNX file to run, relative to the folder, or ``None``.
        pad_id: The token id that fills up short rows.
        settings: The whole of ``detente.json``.
    """

    path: Path
    name: str
    max_tokens: int
    onnx_file: str | None
    pad_id: int
    settings: dict[str, Any]

    @property
    def languages(self) -> frozenset[str]:
        """ISO 639 codes of the languages that the model learned from; empty if not known."""
        return languages_of(self.settings.get("data"))


def languages_of(corpora: object) -> frozenset[str]:
    """Returns the languages of corpora, as ``detente.json`` and ``metrics.json`` describe them.

    Empty where one of them does not say.
    """
    found = [
        str(corpus.get("language", "")) if isinstance(corpus, dict) else ""
        for corpus in (corpora.values() if isinstance(corpora, dict) else ())
    ]
    codes = frozenset(code.strip() for each in found for code in each.split(","))
    return frozenset() if codes & {"", "unknown"} else codes


def locate(
    model: str | Path, revision: str | None = None, runtime: RuntimeName = "auto"
) -> ModelFolder:
    """Finds a model, fetches it if it is on the hub, and checks its files.

    Args:
        model: ``"default"`` for the bundled model, a folder, or a hub id (``owner/name``).
        revision: A branch, tag or commit of the hub; only with a hub id.
        runtime: What will compute: of a model on the hub, only its weights are fetched.

    Raises:
        ModelError: There is no such model, it cannot be fetched, or its files are not right.
    """
    name = str(model)
    if revision is not None and (name == DEFAULT or Path(model).is_dir()):
        raise ModelError(
            "a revision goes with a hub id, not with a model on this machine", got=revision
        )
    if name == DEFAULT:
        # As much to be trusted as the package, whose files an installer may have linked.
        bundled = Path(str(resources.files("detente") / "default_model"))
        return open_folder(bundled, name, links=True)
    if Path(model).is_dir():
        return open_folder(Path(model), name)
    if isinstance(model, str) and _is_hub_id(model) and not Path(model).exists():
        # In the hub's cache the files of a revision are links to where each is kept once. What a
        # repository says is a link, the hub's own client writes as a file of text.
        folder = _fetch(model, revision, runtime)
        try:
            return open_folder(folder, name, links=True)
        except ModelError as error:
            try:
                _fetch_damaged(model, folder)
            except ModelError:
                raise error from None
        return open_folder(folder, name, links=True)
    if name == MULTILINGUAL:
        raise ModelError(
            "the multilingual model is not part of the package",
            got=name,
            expected="its folder, or the hub id under which somebody published it",
            fix="Build it in a clone: make multilingual-base, then python -m train "
            "configs/multilingual.yaml data.root=FOLDER, and load runs/multilingual/model "
            "(docs/multilingual.md).",
        )
    raise ModelError(
        "no such model",
        got=name,
        expected="'default', a folder that training wrote, or a hub id such as owner/name",
        fix="A training run keeps its model in the subfolder model/ of run.dir. Archives are not "
        "unpacked.",
    )


def open_folder(folder: Path, name: str, *, links: bool = False) -> ModelFolder:
    """Checks a model folder against its manifest and reads its settings.

    Args:
        folder: The folder.
        name: What to call the model.
        links: Let its files be symbolic links.

    Raises:
        ModelError: A file is missing, damaged or none that is trusted, or the model speaks another
            contract.
    """
    files = verify(folder, links=links)
    settings, config = read_json(folder / SETTINGS), read_json(folder / "config.json")
    if settings.get("template") != TEMPLATE:
        raise ModelError(
            "the model was trained with another pair template",
            where=str(folder / SETTINGS),
            got=settings.get("template"),
            expected=repr(TEMPLATE),
            fix="Load it with the detente version that made it.",
        )
    if config.get("id2label") != {str(i): label for i, label in enumerate(LABELS)}:
        raise ModelError(
            "the model has other labels",
            where=f"{folder / 'config.json'}: id2label",
            got=config.get("id2label"),
            expected=", ".join(LABELS),
        )
    check_config(config, str(folder / "config.json"))
    return ModelFolder(
        path=folder,
        name=name,
        max_tokens=_tokens(settings, "max_tokens", folder / SETTINGS),
        onnx_file=_listed(settings.get("onnx_file"), files, folder),
        pad_id=pad_id if isinstance(pad_id := config.get("pad_token_id"), int) else 0,
        settings=settings,
    )


def verify(folder: Path, *, links: bool = False) -> dict[str, dict[str, Any]]:
    """Compares every file that the manifest names with its size and sha256.

    Args:
        folder: The folder.
        links: Let its files be symbolic links.

    Returns:
        What the manifest records of each file, by its name.

    Raises:
        ModelError: The manifest or a file every model needs is missing, a file has another size or
            checksum than when the model was made, or one is none that :mod:`detente.trust` lets a
            model have.
    """
    if not (folder / MANIFEST).is_file():
        raise ModelError(
            f"the folder has no {MANIFEST}",
            where=str(folder),
            expected="a model folder written by `python -m train`",
        )
    files = _manifest(folder)
    check_files(folder, [*files, MANIFEST], links=links)
    for name in _NEEDED:
        if name not in files or not (folder / name).is_file():
            raise ModelError(
                f"the model folder lacks {name}",
                where=str(folder),
                expected=", ".join(_NEEDED),
                fix="Copy the whole folder, or train or fetch the model again.",
            )
    for name, recorded in files.items():
        path = folder / name
        if not path.is_file():
            # What a runtime does not need may be left behind, such as torch weights.
            continue
        if path.stat().st_size != recorded["bytes"] or sha256(path) != recorded["sha256"]:
            raise ModelError(
                "the file is not the one the manifest names",
                where=str(path),
                got=f"{path.stat().st_size} bytes, sha256 {sha256(path)[:12]}…",
                expected=f"{recorded['bytes']} bytes, sha256 {recorded['sha256'][:12]}…",
                fix="It was damaged or changed: fetch it again, or train again.",
            )
        check_weights(path)
    return files


def write_manifest(folder: Path, only: Iterable[str] | None = None) -> None:
    """Writes the manifest of all files in ``folder`` that are not hidden, in a stable order.

    Whether it may hold them, :func:`verify` says.

    Args:
        folder: A model folder.
        only: Files that were written anew; all others stay as the manifest there records them.
    """
    written = checksums(folder)
    written.pop(MANIFEST, None)
    files = written if only is None else _manifest(folder) | {name: written[name] for name in only}
    files = dict(sorted(files.items()))
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n", "utf-8")


def checksums(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the size and the sha256 of each file in a folder, hidden ones aside, by its name."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def sha256(path: Path) -> str:
    """Returns the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ModelError: The file is missing, too large or holds no JSON object.
    """
    try:
        if path.stat().st_size > LARGEST[".json"]:
            raise ValueError(f"more than {LARGEST['.json']} bytes")
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot be read as JSON ({error})", where=str(path)) from error
    if not isinstance(value, dict):
        raise ModelError("holds no JSON object", where=str(path), got=value)
    return value


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    files = read_json(folder / MANIFEST).get("files")
    if not isinstance(files, dict) or not all(
        isinstance(entry, dict)
        and isinstance(entry.get("bytes"), int)
        and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    ):
        raise ModelError(
            "not a manifest",
            where=str(folder / MANIFEST),
            expected='{"files": {name: {"bytes": …, "sha256": …}}}',
        )
    for name in files:
        check_name(name, str(folder / MANIFEST))
    return files


def _listed(onnx_file: object, files: Mapping[str, object], folder: Path) -> str | None:
    """Returns the ONNX file that the settings name, if the manifest vouches for it."""
    if onnx_file is None:
        return None
    if not isinstance(onnx_file, str) or onnx_file not in files or not onnx_file.endswith(".onnx"):
        raise ModelError(
            "the ONNX file is not in the manifest",
            where=f"{folder / SETTINGS}: onnx_file",
            got=onnx_file,
        )
    return onnx_file


def _tokens(settings: dict[str, Any], key: str, path: Path) -> int:
    value = settings.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < LEAST_TOKENS:
        raise ModelError(
            "not a number of tokens",
            where=f"{path}: {key}",
            got=value,
            expected=f"at least {LEAST_TOKENS}",
        )
    return value


def _is_hub_id(model: str) -> bool:
    parts = model.split("/")
    return len(parts) == 2 and all(parts) and not model.startswith((".", "~"))


def _fetch(model: str, revision: str | None, runtime: RuntimeName) -> Path:
    """Fetches what a runtime needs of a model: a few small files and one with weights."""
    folder = fetch(model, revision, (*_NEEDED, MANIFEST, LEARNED))
    if (folder / SETTINGS).is_file():
        onnx_file = read_json(folder / SETTINGS).get("onnx_file")
        onnx = choose(runtime, onnx_file is not None) == "onnx"
        # By the commit: what a branch is called may have moved since.
        fetch(model, folder.name, (str(onnx_file),) if onnx else _WEIGHTS)
    return folder


def _fetch_damaged(model: str, folder: Path) -> None:
    """Fetches again what is not as the manifest says: nothing damaged stays in the cache."""
    fetch(model, folder.name, (MANIFEST,), again=True)
    damaged = [
        name
        for name, recorded in _manifest(folder).items()
        if (folder / name).is_file() and sha256(folder / name) != recorded["sha256"]
    ]
    if damaged:
        fetch(model, folder.name, damaged, again=True)
