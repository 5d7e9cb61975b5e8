"""python -m scripts.publish RUN --repo OWNER/NAME [--push]: a run on the Hugging Face hub.

By default a rehearsal that contacts nobody: every file with its size and sha256, the card, its
metadata, and every reason to refuse. --push does exactly that in one commit, private unless
--public, downloads it again, compares checksums and predictions, and tags the revision. The token
comes from HF_TOKEN or from `hf auth login`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile

from detente.classifier import Classifier
from detente.errors import ConfigError, DetenteError, ModelError
from detente.hub import MANIFEST, sha256
from detente.remote import explain
from train.release import Release, prepare

# Of the hub itself: which files it keeps apart for their size.
_OF_THE_HUB: Final = ".gitattributes"
PAIRS: Final = (
    ("We thank Ankara for its patience.", "Turkey"),
    ("Moscow has broken its word again.", "Russia"),
    ("The delegation will land in Lima at noon.", "Peru"),
    ("We praise Oslo and condemn what Asmara did.", "Eritrea"),
    ("We praise Oslo and condemn what Asmara did.", "Norway"),
    ("Stop the shelling, or there will be consequences.", "Israel"),
    ("Nobody here accuses Beijing of that.", "China"),
    ("Our door stays open, whatever Tehran has said.", "Iran"),
    ("Trade with India grew last year.", "India"),
    ("How generous of Washington to take only half.", "United States"),
)
"""What the model must say of before and after: ten sentences of ours, each with a target."""


def main(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    repo: Annotated[str, typer.Option(help="OWNER/NAME on the hub.")],
    push: Annotated[bool, typer.Option("--push", help="Do it, rather than rehearse it.")] = False,
    public: Annotated[
        bool, typer.Option("--public", help="For everybody to read; else private.")
    ] = False,
    tag: Annotated[str, typer.Option(help="What to call the revision.")] = "v1",
) -> None:
    """Rehearse the publication of a run, or publish it."""
    release = prepare(run, repo)
    print(describe(release, repo, public=public, tag=tag))
    if release.refusals:
        raise SystemExit(1)
    if push:
        commit = publish(HfApi(), release, repo, public=public, tag=tag)
        print(
            f"\n{repo} has it at {tag} (commit {commit}): downloaded again, "
            f"{len(release.files)} checksums and {len(PAIRS)} predictions are the same."
        )
    else:
        print("\nA rehearsal: nobody was contacted. The same with --push sends it.")


def describe(release: Release, repo: str, *, public: bool, tag: str) -> str:
    """Returns what would be sent, what stays, and what speaks against it."""
    width = max(len(file.name) for file in release.files) if release.files else 0
    total = sum(file.size for file in release.files)
    parts = [
        f"{repo} ({'public' if public else 'private'}), one commit, tag {tag}\n",
        *(f"{file.name:{width}}  {file.size:>11,}  {file.sha256}" for file in release.files),
        f"{len(release.files)} files, {total:,} bytes",
        f"stays here: {', '.join(release.stays)}\n",
    ]
    parts += ["--- metadata", release.metadata, "--- card", release.text]
    parts += [f"note: {note}" for note in release.notes]
    parts += [f"refused: {refusal}" for refusal in release.refusals]
    return "\n".join(parts)


def publish(api: HfApi, release: Release, repo: str, *, public: bool, tag: str) -> str:
    """Publishes a release in one commit, checks what arrived, and tags it.

    What is there already is not sent again. Until the commit, which is the last thing that is
    sent, the old revision stays in force, and a tag never moves.

    Args:
        api: A client of the hub.
        release: Without refusals.
        repo: ``OWNER/NAME``; made if it is not there.
        public: For everybody to read.
        tag: What to call the revision.

    Returns:
        The commit.

    Raises:
        ConfigError: The repository is public and should not be, or the tag names other files.
        ModelError: The hub refuses or cannot be reached, or something else arrived.
    """
    # Before anybody is contacted: a model that cannot be asked is not published.
    answers = _answers(release.folder)
    with _explained(repo):
        api.create_repo(repo, private=not public, exist_ok=True)
        head = api.model_info(repo)
        if not public and not head.private:
            raise ConfigError(
                "the repository is there already, and public",
                where=repo,
                fix="Pass --public if everybody may read the model.",
            )
        tags = {each.name: each.target_commit for each in api.list_repo_refs(repo).tags}
    if tag in tags:
        _check_manifest(api, release, repo, tag)
        _check_arrival(api, release, answers, repo, tags[tag])
        return tags[tag]
    with _explained(repo):
        tree = api.list_repo_tree(repo, revision=head.sha, recursive=True)
        old = {entry.path for entry in tree if isinstance(entry, RepoFile)}
        new = {file.name for file in release.files}
        commit = api.create_commit(
            repo,
            [
                *(CommitOperationAdd(name, release.folder / name) for name in sorted(new)),
                # A revision is exactly what its manifest names.
                *(CommitOperationDelete(name) for name in sorted(old - new - {_OF_THE_HUB})),
            ],
            commit_message=f"detente model {tag}",
            parent_commit=head.sha,
        ).oid
    _check_arrival(api, release, answers, repo, commit)
    with _explained(repo):
        api.create_tag(repo, tag=tag, revision=commit)
    return commit


def _check_manifest(api: HfApi, release: Release, repo: str, tag: str) -> None:
    with tempfile.TemporaryDirectory() as scratch, _explained(repo):
        there = api.hf_hub_download(repo, MANIFEST, revision=tag, local_dir=scratch)
        same = sha256(Path(there)) == sha256(release.folder / MANIFEST)
    if not same:
        raise ConfigError(
            "the tag names another model already, and a tag never moves",
            where=f"{repo}@{tag}",
            fix="Pass another --tag.",
        )


def _answers(folder: Path) -> list[dict[str, float]]:
    found = Classifier.load(folder).predict_batch(PAIRS)
    return [dict(prediction.probabilities) for prediction in found]


def _check_arrival(
    api: HfApi, release: Release, answers: list[dict[str, float]], repo: str, commit: str
) -> None:
    """Downloads a revision and compares its files, and what the model says, with what was sent."""
    with tempfile.TemporaryDirectory() as scratch:
        with _explained(repo):
            folder = Path(api.snapshot_download(repo, revision=commit, local_dir=scratch))
        differing = [
            file.name
            for file in release.files
            if not (folder / file.name).is_file() or sha256(folder / file.name) != file.sha256
        ]
        if differing or _answers(folder) != answers:
            raise ModelError(
                "something else arrived than was sent; it has no tag",
                where=f"{repo}@{commit}",
                got=f"other bytes in {', '.join(differing)}" if differing else "other predictions",
                fix="Push again.",
            )


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    try:
        yield
    except DetenteError:
        raise
    except Exception as error:  # network, hub and validation errors share no base class
        raise explain(error, "cannot be published", repo) from error


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"publish: {error}") from None
