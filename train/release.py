"""What of a run is published, and every reason not to; nobody is contacted to find out.

What goes up is the folder ``model/`` of a run, exactly as its manifest names it. Everything else
in the run folder stays: ``predictions.jsonl`` and ``report/`` hold sentences of corpora that may
not be passed on, ``config.yaml`` and ``log.jsonl`` say how a machine looks.
"""

from __future__ import annotations

import difflib
import mmap
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from huggingface_hub import CardData, ModelCard
from jinja2 import UndefinedError

from detente.errors import ConfigError, ModelError
from detente.hub import MANIFEST, SETTINGS, open_folder, read_json, sha256
from train.card import CARD, METRICS, PLACEHOLDER, licence_of, public_metrics, render_card
from train.gates import onnx_failures

_PICKLES: Final = (".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
# Each begins with the letters that its maker marks it by, which are found fast in large files; what
# has no mark is told by nothing.
_SECRETS: Final = {
    "a Hugging Face token": rb"hf_(?<!\whf_)[A-Za-z0-9]{30}",
    "a Hugging Face key": rb"api_org_[A-Za-z0-9]{30}",
    "a GitHub token": rb"gh[pousr]_[A-Za-z0-9]{36}",
    "a fine-grained GitHub token": rb"github_pat_\w{60}",
    "a GitLab token": rb"glpat-[\w-]{20}",
    "a PyPI token": rb"pypi-AgEI[\w-]{40}",
    "an AWS key": rb"AKIA(?<!\wAKIA)[0-9A-Z]{16}\b",
    "a Google key": rb"AIza(?<!\wAIza)[\w-]{35}",
    "a Slack token": rb"xox[abeoprs]-[\w-]{20}",
    "an API key": rb"sk-(?<!\wsk-)[\w-]{32}",
    "a private key": rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----",
    "a JSON Web Token": rb"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.",
    "a password in an address": rb"://(?<=[a-z]://)[\w.%+-]{1,64}:[\w.%+!$-]{3,64}@[\w-]+\.",
}
_PART: Final = rb"[\w.@+-]+"
_PATH_IN_TEXT: Final = re.compile(
    rb"(?<![\w.:/~<>*-])/(?:" + _PART + rb"/)+" + _PART + rb"|\b[A-Za-z]:\\\\?" + _PART + rb"\\"
)
# Any bytes can look like a path: in a binary file, one has to begin like those of people.
_PATH_IN_BINARY: Final = re.compile(
    rb"/(?:home|mnt|opt|root|srv|tmp|Users|usr|var|work)/" + _PART + rb"/" + _PART
)
_SHOWN: Final = 5
_AGAIN: Final = "Render it again with `python -m train.card RUN`"


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file that goes up.

    Attributes:
        name: Its place in the model folder and in the repository.
        size: In bytes.
        sha256: 64 hexadecimal digits.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Release:
    """A run as it would be published.

    Attributes:
        folder: Its model folder.
        files: What goes up, in the order of their names.
        stays: What of the run folder does not.
        metadata: Of the card, as the hub's own classes read it.
        text: The card below its metadata.
        refusals: Why it may not be published; nothing, if it may.
        notes: What a reader of the repository will wonder at.
    """

    folder: Path
    files: tuple[ReleaseFile, ...]
    stays: tuple[str, ...]
    metadata: str
    text: str
    refusals: tuple[str, ...]
    notes: tuple[str, ...]


def prepare(run: Path, repo: str) -> Release:
    """Lists what of a run would be published, and every reason not to.

    Args:
        run: A finished run folder.
        repo: Where it would be published: ``OWNER/NAME``.

    Raises:
        ConfigError: There is no model folder.
    """
    folder = run / "model"
    if not folder.is_dir():
        raise ConfigError(
            "there is no model to publish",
            where=str(folder),
            expected="the folder of a finished run, as `python -m train` writes it",
        )
    present = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    recorded = _object(folder / MANIFEST).get("files")
    named = set(recorded) if isinstance(recorded, dict) else set()
    going = [name for name in present if name in named or name == MANIFEST]
    refusals = [
        *_manifest_refusals(folder, set(present), named),
        *(refusal for name in present for refusal in _content_refusals(folder / name, name)),
        *_onnx_refusals(folder, present),
    ]
    metrics: dict[str, Any] = {}
    try:
        metrics = public_metrics(read_json(run / METRICS))
        expected = render_card(metrics)
        refusals += [*_licence_refusals(metrics), *_figure_refusals(folder, metrics)]
    except (ModelError, LookupError, TypeError, UndefinedError) as error:
        expected = None
        refusals.append(f"{METRICS}: the run's figures are not there or not whole ({error!r})")
    metadata = text = ""
    if CARD in present:
        content = (folder / CARD).read_text("utf-8", "replace")
        if expected is not None:
            refusals += _card_refusals(content, expected)
        try:
            card = ModelCard(content)
            metadata, text = card.data.to_yaml(), card.text
            refusals += _metadata_refusals(card.data)
        except Exception as error:  # the errors of YAML and of the card classes share no base class
            refusals.append(f"{CARD}: its metadata cannot be read ({error})")
    else:
        refusals.append(f"{CARD}: there is no card")
    if (stated := metrics.get("publication", {}).get("repo", repo)) != repo:
        refusals.append(f"{CARD}: is written for {stated}, not for {repo}")
    files = tuple(
        ReleaseFile(name, (folder / name).stat().st_size, sha256(folder / name)) for name in going
    )
    stays = tuple(
        path.name + "/" * path.is_dir() for path in sorted(run.iterdir()) if path != folder
    )
    notes = tuple(_notes(metrics, repo))
    return Release(folder, files, stays, metadata, text, tuple(refusals), notes)


def _object(path: Path) -> dict[str, Any]:
    """Returns a JSON object, or nothing where there is none: the checks name what is missing."""
    try:
        return read_json(path)
    except ModelError:
        return {}


def _manifest_refusals(folder: Path, present: set[str], named: set[str]) -> Iterator[str]:
    try:
        open_folder(folder, str(folder))
    except ModelError as error:
        yield str(error)
    for name in sorted(present - named - {MANIFEST}):
        yield f"{name}: is not in the manifest"
    for name in sorted(named - present):
        yield f"{name}: the manifest names it, and it is not there"


def _content_refusals(path: Path, name: str) -> Iterator[str]:
    if _is_pickle(path):
        yield f"{name}: a pickle, which can run code where it is loaded"
    if path.stat().st_size == 0:
        return
    own_token = os.environ.get("HF_TOKEN", "").encode()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for what, pattern in _SECRETS.items():
            if match := re.search(pattern, content):
                # Not the secret itself: what is printed ends up in logs.
                yield f"{name}: looks like {what}, at byte {match.start()}"
        if own_token and content.find(own_token) >= 0:
            yield f"{name}: holds the value of HF_TOKEN"
        binary = content.find(b"\0", 0, 65536) >= 0
        if match := (_PATH_IN_BINARY if binary else _PATH_IN_TEXT).search(content):
            yield f"{name}: an absolute path, {match.group()[:60].decode('utf-8', 'replace')}"


def _is_pickle(path: Path) -> bool:
    """Returns whether a file is a pickle, by its name, its first bytes, or what is zipped in it."""
    if path.suffix.lower() in _PICKLES:
        return True
    with path.open("rb") as file:
        start = file.read(2)
    # A pickle since Python 2.3 begins with the opcode PROTO and its number.
    if len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= 5:
        return True
    if start == b"PK" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(member.endswith(".pkl") for member in archive.namelist())
    return False


def _onnx_refusals(folder: Path, present: list[str]) -> list[str]:
    exports = [name for name in present if name.endswith(".onnx")]
    return onnx_failures(exports, _object(folder / SETTINGS).get("onnx", {}))


def _licence_refusals(metrics: Mapping[str, Any]) -> Iterator[str]:
    for name, corpus in metrics["data"].items():
        if not corpus.get("shippable"):
            yield f"the weights learned from {name}, which may not be shipped"
        if not corpus.get("licence"):
            yield f"{METRICS}: no licence of the corpus {name}"
    if licence_of(metrics) is None:
        yield (
            f"{CARD}: no licence of the weights. They learned from data of your own, or started "
            "from a base that detente does not know: state one with `python -m train.card RUN "
            "--licence ID`"
        )


def _figure_refusals(folder: Path, metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yields where the files that go up hold other figures than the run measured."""
    if not metrics["results"]:
        yield f"{METRICS}: the run was measured on nothing"
    if _object(folder / METRICS) != metrics:
        yield f"model/{METRICS}: not what the run's {METRICS} holds. {_AGAIN}"
    settings = _object(folder / SETTINGS)
    for key in ("contracts", "confusion", "onnx"):
        if settings.get(key) != metrics.get(key):
            yield f"{SETTINGS}: {key} is not what the run's {METRICS} holds"
    for corpus, systems in metrics["results"].items():
        for key, value in settings.get("results", {}).get(corpus, {}).items():
            if systems["model"][key] != value:
                yield f"{SETTINGS}: results.{corpus}.{key} is {value}, not {systems['model'][key]}"


def _card_refusals(card: str, expected: str) -> Iterator[str]:
    """Yields where the card is not what the run's metrics render now."""
    diff = difflib.unified_diff(card.splitlines(), expected.splitlines(), n=0)
    lines = [line for line in list(diff)[2:] if line[0] in "-+"]
    for line in lines[:_SHOWN]:
        side = "the card says" if line[0] == "-" else "the run's metrics give"
        yield f"{CARD}: {side} {line[1:].strip()!r}"
    if lines:
        more = f"{len(lines) - _SHOWN} more such lines. " if len(lines) > _SHOWN else ""
        yield f"{CARD}: {more}{_AGAIN}"


def _metadata_refusals(data: CardData) -> Iterator[str]:
    if not data.get("license"):
        yield f"{CARD}: its metadata has no licence"
    if not data.get("eval_results"):
        yield f"{CARD}: its metadata has no figures"


def _notes(metrics: Mapping[str, Any], repo: str) -> Iterator[str]:
    if "repo" not in metrics.get("publication", {}):
        yield (
            f"The card calls the repository {PLACEHOLDER}; "
            f"`python -m train.card RUN --repo {repo}` puts its name in."
        )
    commit = metrics.get("environment", {}).get("git_commit")
    if commit is None or commit.endswith("-dirty"):
        yield "The card names no commit that others can check out: the sources were changed."
