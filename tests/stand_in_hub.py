"""A hub on this machine: the endpoints that the real client uses, over a real connection.

It keeps repositories in memory as the hub does: commits of whole trees, branches, tags, and large
files by their sha256 apart from them. What goes wrong is told to it beforehand.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "StandInForARealToken" * 2
LARGE = (".safetensors", ".onnx")


@dataclass
class Repository:
    name: str
    private: bool
    commits: dict = field(default_factory=dict)  # commit -> {path: bytes}
    refs: dict = field(default_factory=dict)  # branch or tag -> commit
    tags: set = field(default_factory=set)

    def commit(self, files: dict) -> str:
        sha = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[sha] = files
        self.refs["main"] = sha
        return sha

    def at(self, revision: str) -> tuple[str, dict] | None:
        sha = self.refs.get(revision, revision)
        return (sha, self.commits[sha]) if sha in self.commits else None


@dataclass
class Fault:
    """What happens to requests whose ``METHOD path`` matches, as often as it says."""

    pattern: str
    status: int = 0  # answer with it, or ...
    cut: bool = False  # ... close the connection in the middle of the body, or ...
    corrupt: bool = False  # ... change a byte of the answer
    times: int = 1_000_000
    said: str = "refused by the stand-in"


class StandInHub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fault_of(self, request: str) -> Fault:
        for fault in self.faults:
            if fault.times and re.search(fault.pattern, request):
                fault.times -= 1
                return fault
        return Fault("")

    def hold(self, name: str, folder: Path, tag: str):
        """Puts a folder there, as if it had been pushed."""
        repo = self.repositories.setdefault(name, Repository(name, private=True))
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        repo.refs[tag] = repo.commit(files)
        repo.tags.add(tag)

    def sent(self) -> list[str]:
        """Returns the requests that brought content: large files and commits."""
        return [r for r in self.requests if r.startswith("PUT") or "/commit/" in r]


@contextmanager
def running():
    hub = StandInHub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def oid(name: str, content: bytes) -> str:
    """Returns by what the hub compares a file: sha256 of large ones, the blob of git of others."""
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    ROUTES = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)", "info"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/revision/(?P<revision>[^/]+)", "info"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/refs", "list_refs"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)", "tree"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/lfs/(?P<sha>[0-9a-f]{64})", "store"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", "commit"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/tag/(?P<revision>[^/]+)", "tag"),
        ("HEAD", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
        ("GET", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    )

    def log_message(self, *_):
        pass

    def do(self):
        url = urlsplit(self.path)
        request = f"{self.command} {url.path}"
        self.query = parse_qs(url.query)
        with self.server.lock:
            self.server.requests.append(request)
            self.fault = self.server.fault_of(request)
        length = int(self.headers.get("Content-Length") or 0)
        if self.fault.cut and self.command == "PUT":
            self.rfile.read(length // 2)
            self.close_connection = True
            self.connection.close()
            return
        self.body = self.rfile.read(length) if length else self.chunked()
        if self.fault.status:
            return self.refuse(self.fault.status, self.fault.said)
        for method, pattern, name in self.ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, url.path)):
                named = {key: unquote(value) for key, value in match.groupdict().items()}
                return self.route(name, named)
        self.refuse(404, f"no such endpoint: {request}")

    do_GET = do_HEAD = do_POST = do_PUT = do

    def route(self, name, named):
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.command == "POST" and not known:
            return self.refuse(401, "Invalid username or password.")
        if "repo" in named:
            repo = self.server.repositories.get(named.pop("repo"))
            if repo is None or (repo.private and not known):
                return self.refuse(404 if known else 401, "Repository not found", "RepoNotFound")
            if "revision" in named:
                found = repo.at(named["revision"])
                if found is None:
                    return self.refuse(404, "Invalid rev id", "RevisionNotFound")
            named["repo"] = repo
        with self.server.lock:
            answer = getattr(self, name)(**named)
        if answer is not None:
            self.answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def create(self):
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        there = name in self.server.repositories
        if not there:
            # Clients before 1.0 say `private`.
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            made = Repository(name, private)
            made.commit({".gitattributes": b"*.onnx filter=lfs\n*.safetensors filter=lfs\n"})
            self.server.repositories[name] = made
        content = json.dumps({"url": f"{self.server.url}/{name}"}).encode()
        self.answer(409 if there else 200, content, {"Content-Type": "application/json"})

    def validate(self):
        content = json.loads(self.body)["content"]
        if not content.startswith("---\n") or "license:" not in content:
            self.refuse(400, "the card has no licence")
            return None
        return {"errors": [], "warnings": []}

    def info(self, repo, revision="main"):
        sha, files = repo.at(revision)
        siblings = [{"rfilename": path} for path in files]
        return {"id": repo.name, "sha": sha, "private": repo.private, "siblings": siblings}

    def list_refs(self, repo):
        def named(names, kind):
            return [
                {"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": repo.refs[n]} for n in names
            ]

        return {
            "branches": named(["main"], "heads"),
            "tags": named(sorted(repo.tags), "tags"),
            "converts": [],
        }

    def tree(self, repo, revision):
        entries = []
        for path, content in sorted(repo.at(revision)[1].items()):
            entry = {"type": "file", "path": path, "size": len(content), "oid": oid(path, content)}
            if path.endswith(LARGE):
                entry["lfs"] = {"size": len(content), "oid": entry["oid"], "pointerSize": 134}
            entries.append(entry)
        return entries

    def preupload(self, repo, revision):
        there = repo.at(revision)[1]
        return {
            "files": [
                {
                    "path": (path := asked["path"]),
                    "uploadMode": "lfs" if path.endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                    "oid": oid(path, there[path]) if path in there else None,
                }
                for asked in json.loads(self.body)["files"]
            ]
        }

    def batch(self, repo):
        objects = json.loads(self.body)["objects"]
        for each in objects:
            if each["oid"] not in self.server.objects:
                href = f"{self.server.url}/lfs/{each['oid']}"
                each["actions"] = {"upload": {"href": href}}
        return {"transfer": "basic", "objects": objects}

    def store(self, sha):
        if hashlib.sha256(self.body).hexdigest() != sha:
            self.refuse(400, "other content than was announced")
            return None
        self.server.objects[sha] = self.body
        return {}

    def commit(self, repo, revision):
        sha, files = repo.at(revision)
        files = dict(files)
        for line in self.body.splitlines():
            step = json.loads(line)
            key, value = step["key"], step["value"]
            if key == "header" and value.get("parentCommit", sha) != sha:
                self.refuse(412, "A commit has happened since.")
                return None
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        sha = repo.commit(files)
        return {"commitUrl": f"{self.server.url}/{repo.name}/commit/{sha}", "commitOid": sha}

    def tag(self, repo, revision):
        name = json.loads(self.body)["tag"]
        if name in repo.refs:
            self.refuse(409, "Tag reference exists already")
            return None
        repo.refs[name] = repo.at(revision)[0]
        repo.tags.add(name)
        return {}

    def resolve(self, repo, revision, path):
        sha, files = repo.at(revision)
        if path not in files:
            self.refuse(404, "Entry not found", "EntryNotFound")
            return
        content = files[path]
        headers = {"ETag": f'"{oid(path, content)}"', "X-Repo-Commit": sha}
        if self.fault.corrupt and self.command == "GET":
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start:
            content = content[int(start[1]) :]
        self.answer(206 if start else 200, content, headers)

    def refuse(self, status, said, code=None):
        headers = {"Content-Type": "application/json", "X-Error-Message": said}
        self.answer(
            status,
            json.dumps({"error": said}).encode(),
            headers | ({"X-Error-Code": code} if code else {}),
        )

    def answer(self, status, content, headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault.cut and self.command == "GET":
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.wfile.write(content)

    def chunked(self):
        """Returns a body that came in chunks, as a client sends a file of unknown length."""
        parts = []
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        return b"".join(parts)
