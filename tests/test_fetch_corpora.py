"""The corpora from a server on this machine: every sentence and file here is invented."""

import csv
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer

from detente import DataError, InputError
from detente.labels import LABELS
from detente.rows import write_jsonl
from scripts import fetch_corpora
from scripts.fetch_corpora import PublicCorpus, PublicFile
from train.config import Corpus
from train.corpora import load_corpus

COMMIT = "0123456789" * 4
BODY = b"".join(b"%d\tThe invented Republic thanked its neighbour.\n" % i for i in range(9000))


class Server(ThreadingHTTPServer):
    """Serves ``files`` by path; ``cuts`` is after how many bytes the next answers break off."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"/owner/name/{COMMIT}/data/a%20b.tsv": BODY}
        self.requests: list[tuple[str, str | None]] = []
        self.statuses: list[int] = []
        self.cuts: list[int] = []
        self.ranges = True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        body = self.server.files.get(self.path)
        if self.server.statuses or body is None:
            self.send_error(self.server.statuses.pop(0) if self.server.statuses else 404)
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and self.server.ranges else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else len(body)
        self.wfile.write(body[start : start + cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch_corpora, "BACKOFF_S", 0)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def invent(monkeypatch, *, pinned=True, licensed=True, body=BODY):
    """Makes an invented corpus the only one."""
    file = PublicFile(
        "a.tsv", COMMIT, "data/a b.tsv", hashlib.sha256(body).hexdigest() if pinned else None
    )
    corpus = PublicCorpus("owner/name", "invented", licensed, "Nobody 2026", (file,))
    monkeypatch.setattr(fetch_corpora, "CORPORA", {"toy": corpus})


def fetch(folder, server_url="", *names, accept_unlicensed=False):
    """Runs the command; returns its exit status."""
    try:
        fetch_corpora.main(folder, list(names), accept_unlicensed, server_url)
    except typer.Exit as error:
        return error.exit_code
    return 0


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_fetched_once(tmp_path, monkeypatch, server, capsys):
    invent(monkeypatch)
    assert fetch(tmp_path, server.url, "toy") == 0
    assert files_in(tmp_path / "toy") == {"a.tsv": BODY}
    out = capsys.readouterr().out
    assert "licence: invented" in out and "cite: Nobody 2026" in out
    assert re.search(r"^toy +fetched +1 of 1 files fetched, sha256 verified$", out, re.M)
    assert fetch(tmp_path, server.url, "toy") == 0
    assert len(server.requests) == 1
    assert re.search(r"^toy +there +sha256 verified$", capsys.readouterr().out, re.M)


def test_a_damaged_file_is_replaced(tmp_path, monkeypatch, server):
    invent(monkeypatch)
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "a.tsv").write_bytes(BODY[:-1])
    assert fetch(tmp_path, server.url) == 0
    assert files_in(tmp_path) == {"a.tsv": BODY}


def test_a_cut_connection_is_resumed(tmp_path, monkeypatch, server):
    invent(monkeypatch)
    server.cuts = [70_000, 70_000]
    assert fetch(tmp_path, server.url) == 0
    assert files_in(tmp_path) == {"a.tsv": BODY}
    starts = [int(range_[6:-1]) for _, range_ in server.requests[1:]]
    assert server.requests[0][1] is None
    assert len(starts) == 2 and 0 < starts[0] < starts[1] < len(BODY)


def test_the_next_run_resumes_what_the_last_one_kept(tmp_path, monkeypatch, server, capsys):
    invent(monkeypatch)
    server.cuts = [70_000] * (fetch_corpora.RETRIES + 1)
    assert fetch(tmp_path, server.url) == 1
    assert "the download broke off" in capsys.readouterr().err
    (kept,) = files_in(tmp_path)
    assert kept.endswith(".part")
    assert fetch(tmp_path, server.url) == 0
    assert server.requests[-1][1] is not None
    assert files_in(tmp_path) == {"a.tsv": BODY}


@pytest.mark.parametrize(
    "kept", [BODY[:5000], b"x" * 5000, BODY, BODY + b"x"], ids=["part", "wrong", "whole", "longer"]
)
@pytest.mark.parametrize("ranges", [True, False])
def test_whatever_was_kept_the_file_comes_out_right(tmp_path, monkeypatch, server, kept, ranges):
    invent(monkeypatch)
    server.ranges = ranges
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / f".a.tsv.{COMMIT[:12]}.part").write_bytes(kept)
    assert fetch(tmp_path, server.url) == 0
    assert files_in(tmp_path) == {"a.tsv": BODY}


def test_a_wrong_checksum_is_refused_and_nothing_is_left(tmp_path, monkeypatch, server, capsys):
    invent(monkeypatch, body=b"another text")
    assert fetch(tmp_path, server.url) == 1
    assert files_in(tmp_path) == {}
    printed = capsys.readouterr()
    assert "the file is not the pinned one" in printed.err
    assert hashlib.sha256(BODY).hexdigest()[:12] in printed.err
    assert re.search(r"^toy +failed", printed.out, re.M)


def test_what_is_not_pinned_says_so(tmp_path, monkeypatch, server, capsys):
    invent(monkeypatch, pinned=False)
    for _ in range(2):
        assert fetch(tmp_path, server.url) == 0
        out = capsys.readouterr().out
        assert "is not pinned" in out and hashlib.sha256(BODY).hexdigest() in out
    assert len(server.requests) == 1


def test_a_corpus_without_a_licence_is_refused(tmp_path, monkeypatch, server, capsys):
    invent(monkeypatch, licensed=False)
    assert fetch(tmp_path, server.url, "toy") == 1
    assert re.search(r"^toy +refused.*--accept-unlicensed$", capsys.readouterr().out, re.M)
    assert fetch(tmp_path, server.url) == 0, "nobody asked for it by name"
    assert server.requests == [] and files_in(tmp_path) == {}
    assert fetch(tmp_path, server.url, "toy", accept_unlicensed=True) == 0
    assert files_in(tmp_path) == {"a.tsv": BODY}


def test_a_missing_file_is_a_clear_error(tmp_path, monkeypatch, server, capsys):
    invent(monkeypatch)
    server.files = {}
    assert fetch(tmp_path, server.url) == 1
    assert f"{COMMIT}/data/a%20b.tsv: the server does not give the file; got 'HTTP 404" in (
        capsys.readouterr().err
    )
    assert len(server.requests) == 1


def test_a_passing_server_error_is_repeated(tmp_path, monkeypatch, server, capsys):
    invent(monkeypatch)
    server.statuses = [503, 502]
    assert fetch(tmp_path, server.url) == 0
    server.statuses = [500] * 20
    assert fetch(tmp_path / "other", server.url) == 1
    assert "HTTP 500" in capsys.readouterr().err


def test_no_server_is_a_clear_error(tmp_path, monkeypatch, server, capsys):
    invent(monkeypatch)
    url = server.url
    server.shutdown()
    server.server_close()
    assert fetch(tmp_path, url) == 1
    error = capsys.readouterr().err
    assert "the server cannot be reached" in error and "run the same command again" in error
    assert files_in(tmp_path) == {}


def test_an_unknown_corpus_is_named(tmp_path):
    with pytest.raises(InputError, match="unknown corpus; got 'plw'; expected one of plv"):
        fetch(tmp_path, "", "plw")


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path, monkeypatch, server, capsys):
    invent(monkeypatch)
    (tmp_path / "toy").write_text("in the way")
    assert fetch(tmp_path, server.url) == 1
    assert "toy" in capsys.readouterr().err


def test_the_declared_corpora_are_well_formed():
    assert set(fetch_corpora.CORPORA) >= {"plv", "dse2qa", "newsmtsc", "rusentne", "official"}
    for name, corpus in fetch_corpora.CORPORA.items():
        assert corpus.licence and corpus.citation
        assert bool(corpus.files) == (corpus.repository is not None), name
        for file in corpus.files:
            assert re.fullmatch("[0-9a-f]{40}", file.commit)
            assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
    assert {name for name, c in fetch_corpora.CORPORA.items() if not c.licensed} == {
        "plv",
        "dse2qa",
        "multicoped",
    }


SENTENCES = [f"The invented state number {i} answered us." for i in range(6)]


@pytest.fixture
def annotations(tmp_path, monkeypatch):
    """Six annotated sentences, of which the last two are tweets."""
    path = tmp_path / "official.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            "id sha1 label confidence date speaker source target doc_id".split(),
        )
        for i, text in enumerate(SENTENCES):
            corpus = "trump_tweets" if i >= 4 else "ungdc"
            sha1 = hashlib.sha1(text.encode()).hexdigest()
            label, confidence = LABELS[i % 3], (1.0, 0.5, 0.0)[i % 3]
            speaker = "" if i == 1 else "A speaker, of note"
            writer.writerow(
                [f"{corpus}:d:{i}", sha1, label, confidence, "2011-11-25", speaker, "NOR", "PER"]
                + [f"d{i}"]
            )
    monkeypatch.setattr(fetch_corpora, "ANNOTATIONS", path)
    return path


def write_series(folder, texts):
    rows = [{"id": f"s:{i}", "text": text, "target": "PER"} for i, text in enumerate(texts)]
    write_jsonl(folder / "series" / "ungdc.jsonl", rows)


def test_official_is_rebuilt_from_series(tmp_path, annotations, capsys):
    folder = tmp_path / "corpora"
    write_series(folder, ["Another sentence.", *SENTENCES[:3]])
    assert fetch(folder, "", "official") == 0
    assert re.search(
        r"^official +rebuilt +3 of 6 rows, sha1 verified; not rebuilt: 2 tweets, 1 not in series$",
        capsys.readouterr().out,
        re.M,
    )
    path = folder / "official" / "annotated.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["text"] for row in rows] == SENTENCES[:3]
    assert rows[0] == {
        "id": "ungdc:d:0", "label": LABELS[0], "confidence": 1.0, "date": "2011-11-25",
        "speaker": "A speaker, of note", "source": "NOR", "target": "PER", "doc_id": "d0",
        "text": SENTENCES[0],
    }  # fmt: skip
    assert "speaker" not in rows[1]

    corpus = load_corpus(Corpus(name="official"), folder)
    read = [s for split in corpus.splits.values() for s in split]
    assert {(s.text, s.label) for s in read} == {(row["text"], row["label"]) for row in rows}

    before = path.stat().st_mtime_ns
    assert fetch(folder, "", "official") == 0
    assert path.stat().st_mtime_ns == before
    assert re.search(r"^official +there", capsys.readouterr().out, re.M)


def test_a_fuller_official_file_is_kept(tmp_path, annotations):
    folder = tmp_path / "corpora"
    write_series(folder, SENTENCES[:4])
    assert fetch(folder, "", "official") == 0
    before = files_in(folder / "official")
    write_series(folder, SENTENCES[:2])
    assert fetch(folder, "", "official") == 0
    assert files_in(folder / "official") == before


def test_a_changed_label_or_text_is_put_right(tmp_path, annotations):
    folder = tmp_path / "corpora"
    write_series(folder, SENTENCES[:4])
    assert fetch(folder, "", "official") == 0
    path = folder / "official" / "annotated.jsonl"
    right = path.read_text("utf-8")
    for old, new in (('"neutral"', '"critical"'), ("number 2", "number 7")):
        path.write_text(right.replace(old, new), "utf-8")
        assert path.read_text("utf-8") != right
        assert fetch(folder, "", "official") == 0
        assert path.read_text("utf-8") == right


def test_official_without_series_writes_nothing(tmp_path, annotations, capsys):
    folder = tmp_path / "corpora"
    assert fetch(folder, "", "official") == 1
    assert "kfogel/presidential-speeches@a4c8b38" in capsys.readouterr().err
    assert not folder.exists()
    write_series(folder, ["A sentence that nobody annotated."])
    assert fetch(folder, "", "official") == 1
    assert "no sentence in series is one of the annotated ones" in capsys.readouterr().err
    assert not (folder / "official").exists()


def test_a_series_without_text_is_named(tmp_path, annotations):
    write_jsonl(tmp_path / "series" / "a.jsonl", [{"id": "s:0", "text": None}])
    with pytest.raises(DataError, match=r"a\.jsonl, row 1: the row has no text"):
        fetch_corpora.rebuild_official(tmp_path, annotations)


def test_the_annotations_hold_labels_and_no_text():
    with Path(fetch_corpora.ANNOTATIONS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert len(rows) == len({row["id"] for row in rows}) == 6050
    assert list(rows[0]) == ("id sha1 label confidence date speaker source target doc_id".split())
    assert all(re.fullmatch("[0-9a-f]{40}", row["sha1"]) for row in rows)
    assert {row["label"] for row in rows} == set(LABELS)
    assert {float(row["confidence"]) for row in rows} == {0.0, 0.5, 1.0}
    assert max(len(cell) for row in rows for cell in row.values()) < 120
