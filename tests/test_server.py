import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from detente import InputError, Prediction
from detente.server import JsonLines, Settings, listen, make_app, make_server, read_token
from detente.wire import Limits

ONE = {"text": "We thank Peru.", "target": "Peru"}


class SlowRuntime:
    name = "fake"
    batch_tokens = 1


class FakeModel:
    """Answers by the first letter, and computes nothing while its gate is closed."""

    name = "fake"
    runtime = SlowRuntime()

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.rounds = []

    def predict_batch(self, statements):
        self.rounds.append([each.text for each in statements])
        self.begun.set()
        assert self.gate.wait(20)
        if any(each.text.startswith("poison") for each in statements):
            raise InputError("the pair cannot be computed")
        if any(each.text.startswith("bug") for each in statements):
            raise RuntimeError("secret words in a message")
        cut = [9 if each.text.startswith("long") else 0 for each in statements]
        share = {"critical": 0.25, "neutral": 0.125, "conciliatory": 0.625}
        return [
            Prediction("conciliatory", share, each.target, each.text, each.source, None, tokens)
            for each, tokens in zip(statements, cut, strict=True)
        ]


class Client:
    def __init__(self, port, model, server):
        self.port, self.model, self.server = port, model, server

    def ask(self, path, body=None, headers=(), method=None):
        """Returns status, headers and the JSON of the answer, or its text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {"Content-Type": "application/json", **dict(headers)}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request(method or ("POST" if body is not None else "GET"), path, body, sent)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = "json" in answer.headers["content-type"]
        return answer.status, answer.headers, json.loads(content) if is_json else content.decode()

    def waiting(self):
        return self.ask("/ready")[2]["waiting"]

    def send(self, body, length=None):
        """Sends a request, or its beginning, over a connection that is returned."""
        body = json.dumps(body).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {length or len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        return connection


def until(happened):
    give_up = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@contextmanager
def running(model=None, **settings):
    model, settings = model or FakeModel(), Settings(**{"linger": 0.0, **settings})
    listening = listen("127.0.0.1", 0)
    server = make_server(make_app(model, settings), settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    until(lambda: server.started)
    try:
        yield Client(listening.getsockname()[1], model, server)
    finally:
        model.gate.set()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def client():
    with running() as found:
        yield found


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as found:
        yield found


def test_one_and_many_statements(client):
    status, _, found = client.ask("/predict", ONE | {"source": "Kenya"})
    assert status == 200
    assert (found["model"], found["label"], found["score"]) == ("fake", "conciliatory", 0.375)
    assert (found["target"], found["source"]) == ("Peru", "Kenya")
    texts = [f"We met {i}." for i in range(200)]
    many = {"statements": [{"text": text, "target": "Peru"} for text in texts]}
    status, _, found = client.ask("/predict", many)
    assert status == 200 and [row["text"] for row in found["predictions"]] == texts


def test_clients_of_text_embeddings_inference(client):
    labels = [
        {"label": "conciliatory", "score": 0.625},
        {"label": "critical", "score": 0.25},
        {"label": "neutral", "score": 0.125},
    ]
    pair = ["We thank Peru.", "Kenya -> Peru"]
    extra = {"raw_scores": False, "truncate": True, "truncation_direction": "Right"}
    assert client.ask("/predict", {"inputs": pair} | extra)[2] == labels
    assert client.ask("/predict", {"inputs": [pair]})[2] == [labels]
    assert client.ask("/predict", {"inputs": [pair, pair]})[2] == [labels, labels]
    status, _, told = client.ask("/predict", {"inputs": [["long", "Peru"]], "truncate": False})
    assert status == 422 and "longer than the model reads" in told["error"]
    assert client.ask("/predict", {"inputs": [["long", "Peru"]]})[0] == 200


def test_a_document(client):
    text = "Peru was generous. Nothing else. Chile and Peru refused."
    status, _, found = client.ask("/read", {"text": text, "source": "CHL"})
    spans = [(row["target"], text[row["start"] : row["end"]]) for row in found["predictions"]]
    assert spans == [("PER", "Peru was generous."), ("PER", "Chile and Peru refused.")]
    assert client.ask("/read", {"text": "Nobody."})[2]["predictions"] == []


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b"\xff", 400, "not JSON"),
        (b"[]", 400, "not a JSON object"),
        ({"text": "x"}, 422, "target is missing"),
        ({"text": " ", "target": "Peru"}, 422, "text is empty"),
        ({"text": "\ud800", "target": "Peru"}, 422, "lone surrogate"),
        (ONE | {"sorce": "Kenya"}, 422, "there is no key 'sorce'"),
        ({"statements": [ONE, {"text": "x"}]}, 422, "statements[1]: target is missing"),
        ({"inputs": "a text alone"}, 422, "not a pair"),
        ({"inputs": ["a", "b", "c"]}, 422, "not a pair"),
        ({"inputs": [["a", "Peru"], ["b"]]}, 422, "inputs[1]: not a pair"),
        ({"inputs": ["a", "Peru"], "raw_scores": True}, 422, "raw_scores: not offered"),
        ({"inputs": ["a", "Peru"], "truncate": 0}, 422, "truncate: not offered"),
        ({"text": "x" * 5001, "target": "Peru"}, 422, "at most 5000 characters"),
        ({"text": "x", "target": "y" * 201}, 422, "at most 200 characters"),
        ({"statements": [ONE] * 257}, 422, "at most 256 in a request"),
        (b" " * ((1 << 20) + 1), 413, "at most 1048576 bytes"),
    ],
)
def test_errors_say_what_where_and_what_was_expected(client, body, status, says):
    found, headers, told = client.ask("/predict", body)
    assert found == told["status"] == status and says in told["detail"]
    assert headers["content-type"] == "application/problem+json"


def test_a_document_over_a_limit(client):
    assert client.ask("/read", {"text": "x" * 100_001})[2]["status"] == 422
    found = client.ask("/read", {"text": "Peru is there. " * 300})[2]
    assert found["status"] == 422 and "at most 256" in found["detail"]
    found = client.ask("/read", {"text": "Peru " + "x " * 3000})[2]
    assert found["status"] == 422 and "5000 characters" in found["detail"]


def test_other_routes_and_types(client):
    assert client.ask("/health")[2]["status"] == "ok"
    assert client.ask("/ready")[:1] == (200,)
    assert client.ask("/nowhere")[2]["status"] == 404
    assert client.ask("/predict")[2]["status"] == 405
    form = {"Content-Type": "text/plain"}
    assert client.ask("/predict", ONE, form)[2]["status"] == 415
    assert client.ask("/openapi.json")[2]["openapi"] == "3.1.0"
    assert "POST /predict" in client.ask("/docs")[2]


def test_a_body_in_chunks_is_measured_too(client):
    def chunks(count):
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        chunk = json.dumps(ONE).encode() if count == 1 else b" " * (1 << 16)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/predict", iter([chunk] * count), headers, encode_chunked=True)
        return connection.getresponse().status

    assert chunks(1) == 200
    assert chunks(17) == 413


def test_what_comes_while_the_model_is_busy_is_computed_together(pool):
    with running() as client:
        client.model.gate.clear()
        first = pool.submit(client.ask, "/predict", ONE)
        assert client.model.begun.wait(20)
        others = [
            pool.submit(client.ask, "/predict", {"text": f"We met {i}.", "target": "Peru"})
            for i in range(5)
        ]
        until(lambda: client.waiting() == 6)
        client.model.gate.set()
        assert [each.result()[0] for each in [first, *others]] == [200] * 6
        assert [len(texts) for texts in client.model.rounds] == [1, 5]
        assert client.waiting() == 0


def test_every_thread_computes_and_an_idle_one_waits_for_more(pool):
    with running(threads=2, linger=0.01) as client:
        client.model.gate.clear()
        first = pool.submit(client.ask, "/predict", ONE)
        assert client.model.begun.wait(20)
        second = pool.submit(client.ask, "/predict", ONE)
        until(lambda: len(client.model.rounds) == 2)
        client.model.gate.set()
        assert first.result()[0] == second.result()[0] == 200
        many = {"statements": [{"text": f"{i}", "target": "Peru"} for i in range(7)]}
        rows = client.ask("/predict", many)[2]["predictions"]
        assert [row["text"] for row in rows] == list("0123456")


def test_a_document_takes_the_room_of_all_that_it_names(pool):
    with running(waiting=3, limits=Limits(statements=3)) as client:
        client.model.gate.clear()
        held = pool.submit(client.ask, "/predict", ONE)
        assert client.model.begun.wait(20)
        assert client.ask("/read", {"text": "Peru, Chile and Kenya."})[0] == 503
        assert client.waiting() == 1
        client.model.gate.set()
        assert held.result()[0] == 200
        assert len(client.ask("/read", {"text": "Peru, Chile and Kenya."})[2]["predictions"]) == 3


def test_many_statements_do_not_hold_up_one(pool):
    with running(together=4) as client:
        client.model.gate.clear()
        first = pool.submit(client.ask, "/predict", {"text": "first", "target": "Peru"})
        assert client.model.begun.wait(20)
        many = {"statements": [{"text": f"{i}", "target": "Peru"} for i in range(10)]}
        long = pool.submit(client.ask, "/predict", many)
        until(lambda: client.waiting() == 11)
        short = pool.submit(client.ask, "/predict", {"text": "short", "target": "Peru"})
        until(lambda: client.waiting() == 12)
        client.model.gate.set()
        assert first.result()[0] == short.result()[0] == 200
        rows = long.result()[2]["predictions"]
        assert [row["text"] for row in rows] == [str(i) for i in range(10)]
        assert client.model.rounds == [
            ["first"],
            ["0", "1", "2", "3"],
            ["short", "4", "5", "6"],
            ["7", "8", "9"],
        ]


def test_a_full_queue_refuses_and_answers_what_it_has(pool):
    with running(waiting=3, limits=Limits(statements=3)) as client:
        client.model.gate.clear()
        held = [pool.submit(client.ask, "/predict", ONE) for _ in range(3)]
        until(lambda: client.waiting() == 3)
        status, headers, told = client.ask("/predict", ONE)
        assert status == 503 and int(headers["retry-after"]) >= 1
        assert "the queue is full" in told["detail"] and "at most 3" in told["expected"]
        # A header is enough: the body that it announces never comes.
        with client.send({}, length=100) as connection:
            assert connection.recv(99).startswith(b"HTTP/1.1 503")
        assert client.ask("/health")[0] == 200
        client.model.gate.set()
        assert [each.result()[0] for each in held] == [200] * 3
        assert client.ask("/predict", {"statements": [ONE] * 3})[0] == 200


def test_bodies_at_a_time_are_bounded():
    with running(limits=Limits(body_bytes=1000), held_bytes=1500) as client:
        with client.send({}, length=900):
            until(lambda: client.ask("/predict", b" " * 900)[0] == 503)
            assert client.ask("/predict", ONE)[0] == 200
        until(lambda: client.ask("/predict", b" " * 900)[0] == 400)


def test_a_request_that_fails_fails_alone(pool):
    with running() as client:
        client.model.gate.clear()
        first = pool.submit(client.ask, "/predict", ONE)
        assert client.model.begun.wait(20)
        texts = ["fine", "poison", "also fine"]
        others = [
            pool.submit(client.ask, "/predict", {"text": text, "target": "Peru"}) for text in texts
        ]
        until(lambda: client.waiting() == 4)
        client.model.gate.set()
        assert first.result()[0] == 200
        assert [each.result()[0] for each in others] == [200, 422, 200]


def test_too_late_is_said_and_what_waits_is_not_computed(pool):
    with running(timeout=0.3) as client:
        client.model.gate.clear()
        first = pool.submit(client.ask, "/predict", ONE)
        assert client.model.begun.wait(20)
        status, _, told = client.ask("/predict", {"text": "never", "target": "Peru"})
        assert status == 504 and "at most 0.3 seconds" in told["detail"]
        assert first.result()[0] == 504
        client.model.gate.set()
        assert client.ask("/predict", ONE)[0] == 200
        assert ["never"] not in client.model.rounds
        with client.send({}, length=100) as connection:
            assert connection.recv(99).startswith(b"HTTP/1.1 408")


def test_a_client_that_goes_away_is_not_computed(pool):
    with running() as client:
        client.model.gate.clear()
        first = pool.submit(client.ask, "/predict", ONE)
        assert client.model.begun.wait(20)
        connection = client.send({"text": "gone", "target": "Peru"})
        until(lambda: client.waiting() == 2)
        connection.close()
        until(lambda: client.waiting() == 1)
        client.model.gate.set()
        assert first.result()[0] == 200
        assert client.ask("/predict", ONE)[0] == 200
        assert client.model.rounds == [[ONE["text"]]] * 2
        assert 'route="/predict",status="499"} 1.0' in client.ask("/metrics")[2]


def test_a_stop_answers_what_is_in_flight(pool):
    with running() as client:
        client.model.gate.clear()
        held = [pool.submit(client.ask, "/predict", ONE) for _ in range(3)]
        until(lambda: client.waiting() == 3)
        client.server.should_exit = True

        def closed():
            try:
                socket.create_connection(("127.0.0.1", client.port), timeout=20).close()
            except ConnectionRefusedError:
                return True
            return False

        until(closed)
        client.model.gate.set()
        assert [each.result()[0] for each in held] == [200] * 3


def test_a_token_is_asked_for():
    with running(token="a secret") as client:
        for sent in ({}, {"Authorization": "Bearer another"}, {"Authorization": "Bearer \xe9"}):
            status, headers, _ = client.ask("/predict", ONE, sent)
            assert status == 401 and headers["www-authenticate"] == "Bearer"
            assert client.ask("/metrics", headers=sent)[0] == 401
        right = {"Authorization": "Bearer a secret"}
        assert client.ask("/predict", ONE, right)[0] == 200
        assert client.ask("/metrics", headers=right)[0] == 200
        assert client.ask("/health")[0] == client.ask("/ready")[0] == 200


def test_a_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "token"
    path.write_text("from a file\n")
    monkeypatch.setenv("DETENTE_TOKEN", "from outside")
    assert (read_token(path), read_token(None)) == ("from a file", "from outside")
    with pytest.raises(InputError, match="gone: cannot be read"):
        read_token(tmp_path / "gone")
    with pytest.raises(InputError, match="the token is empty"):
        Settings(token=" ")


def test_pages_from_elsewhere_only_where_allowed(client):
    page = {"Origin": "https://example.org"}
    assert "access-control-allow-origin" not in client.ask("/predict", ONE, page)[1]
    with running(cors_origins=("https://example.org",)) as other:
        headers = other.ask("/predict", ONE, page)[1]
        assert headers["access-control-allow-origin"] == "https://example.org"
        asks = page | {"Access-Control-Request-Method": "POST"}
        assert other.ask("/predict", headers=asks, method="OPTIONS")[0] == 200


def test_metrics(pool):
    with running() as client:
        client.ask("/predict", {"statements": [ONE] * 3})
        client.ask("/predict", b"{")
        client.ask("/no/such/path")
        text = client.ask("/metrics")[2]
    for line in (
        'detente_requests_total{route="/predict",status="200"} 1.0',
        'detente_requests_total{route="/predict",status="400"} 1.0',
        'detente_requests_total{route="other",status="404"} 1.0',
        'detente_request_seconds_count{route="/predict"} 2.0',
        "detente_sentences_total 3.0",
        'detente_round_sentences_bucket{le="4.0"} 1.0',
        "detente_waiting_sentences 0.0",
    ):
        assert line in text


@pytest.mark.parametrize("log_texts", [False, True])
def test_logs_are_json_and_hold_texts_only_if_asked(caplog, log_texts):
    caplog.set_level(logging.INFO, "detente.server")
    with running(log_texts=log_texts) as client:
        assert client.ask("/predict", {"text": "We thank Peru.", "target": "Peru"})[0] == 200
        assert client.ask("/read", {"text": "Peru was there."})[0] == 200
        assert client.ask("/predict", {"text": "bug", "target": "Peru"})[0] == 500
    lines = [JsonLines().format(record) for record in caplog.records]
    told = [json.loads(line) for line in lines]
    requests = [each for each in told if each["event"] == "request"]
    assert [each["status"] for each in requests] == [200, 200, 500]
    assert requests[0]["route"] == "/predict" and requests[0]["sentences"] == 1
    failed = next(each for each in told if each["event"] == "failed")
    assert failed["exception"] == "RuntimeError" and "predict_batch" in failed["places"][-1]
    assert "secret words" not in "".join(lines)
    assert ("thank Peru" in "".join(lines)) == log_texts
    assert ("Peru was there" in "".join(lines)) == log_texts


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"waiting": 100}, "statements of a request"),
        ({"held_bytes": 1000}, "bytes of a body"),
        ({"timeout": 0}, "timeout is not positive"),
        ({"limits": Limits(statements=0)}, "statements is not positive"),
    ],
)
def test_settings_that_do_not_go_together(settings, says):
    with pytest.raises(InputError, match=says):
        Settings(**settings)


def test_an_address_that_is_taken():
    with listen("127.0.0.1", 0) as taken, pytest.raises(InputError, match="cannot listen"):
        listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_the_command_serves_until_it_is_told_to_stop():
    command = [sys.executable, "-m", "detente.cli", "serve", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    told = json.loads(process.stderr.readline())
    assert told["event"] == "listening" and told["host"] == "127.0.0.1"
    client = Client(told["port"], None, None)
    body = {"text": "We thank Ankara for its patience.", "target": "Turkey"}
    assert client.ask("/predict", body)[2]["label"] == "conciliatory"
    process.send_signal(signal.SIGTERM)
    log = [json.loads(line) for line in process.stderr]
    assert process.wait(20) in (0, -signal.SIGTERM)
    assert log[-1]["event"] == "stopped"
