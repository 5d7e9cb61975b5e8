"""What lies on the Hugging Face hub: fetched into its cache, and its errors in our words."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from detente.errors import ModelError

_ANSWERS: Final = {
    401: (
        "the hub does not know who asks, or has no such repository",
        "Check the name; for a private one log in with `hf auth login`, or set HF_TOKEN.",
    ),
    403: (
        "the hub does not allow it",
        "Ask the owner for access, or log in with a token that has the right.",
    ),
    404: (
        "the hub has no such repository",
        "Check the name; a private one is shown only to who may read it.",
    ),
    409: ("something there is in the way", None),
    412: ("the repository changed meanwhile", "Try again."),
    429: ("the hub has had too many requests", "Wait some minutes, then try again."),
}


def fetch(model: str, revision: str | None, names: Iterable[str], *, again: bool = False) -> Path:
    """Fetches files of a repository into the hub's cache.

    What the cache has is not fetched again; without network, it is all there is.

    Args:
        model: The hub id.
        revision: A branch, tag or commit; without it, the branch ``main``.
        names: The files. Those that the repository has not are passed over.
        again: Fetch them although they are there, as where they are damaged.

    Returns:
        The folder in the cache, which is named like the commit.

    Raises:
        ModelError: They cannot be fetched and are not in the cache.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            model,
            revision=revision,
            allow_patterns=[glob.escape(name) for name in names],
            force_download=again,
        )
    except Exception as error:  # network, hub and validation errors share no base class
        raise explain(
            error,
            "cannot be fetched from the hub, and is not in its cache",
            f"{model}@{revision or 'main'}",
        ) from error
    return Path(folder)


def explain(error: Exception, what: str, where: str) -> ModelError:
    """Says in our words why the hub, or the way to it, failed.

    Nothing of the request is repeated: its headers hold the token.

    Args:
        error: What huggingface_hub raised.
        what: What could not be done, as a clause.
        where: The repository or revision.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    chain = list(_chain(error))
    kinds = {kind for each in chain for kind in type(each).__mro__}
    answered = next((e for e in chain if getattr(e, "response", None) is not None), None)
    got: str | None = None
    why: str
    fix: str | None
    if OfflineModeIsEnabled in kinds:
        why = "HF_HUB_OFFLINE forbids the network"
        fix = "Unset it, or load a local folder."
    elif answered is not None:
        status = answered.response.status_code
        got = f"HTTP {status}{_said(answered)}"
        why, fix = _ANSWERS.get(status, ("the hub failed", "Try again later."))
        if isinstance(answered, RevisionNotFoundError):
            why, fix = "the repository has no such revision", "Check its tags and branches."
        elif isinstance(answered, EntryNotFoundError):
            why, fix = "the repository lacks a file", "Take a revision that is whole."
    elif HFValidationError in kinds:
        why, fix = str(error), "A hub id is owner/name; for a folder, check its path."
    elif _is_of_the_network(kinds):
        why = "no network: the hub cannot be reached"
        fix = "Check the connection and HF_ENDPOINT, or load a local folder."
    else:
        why, fix = f"{type(error).__name__}: {re.sub(r'hf_[A-Za-z0-9]+', 'hf_…', str(error))}", None
    return ModelError(f"{what}: {why}", where=where, got=got, fix=fix)


def _chain(error: Any) -> Iterator[Any]:  # noqa: ANN401  (an exception, of any library)
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_the_network(kinds: Iterable[type]) -> bool:
    # By name: the hub's client spoke through requests once, through httpx later.
    names = {kind.__name__ for kind in kinds}
    return not names.isdisjoint({"TransportError", "ConnectionError", "LocalEntryNotFoundError"})


def _said(error: Any) -> str:  # noqa: ANN401  (of either client library)
    """Returns what the hub said besides its status, on one line and without the token."""
    said = " ".join(str(getattr(error, "server_message", None) or "").split())
    token = error.response.request.headers.get("authorization", "").removeprefix("Bearer ")
    return f", {said.replace(token, '…') if token else said}" if said else ""
