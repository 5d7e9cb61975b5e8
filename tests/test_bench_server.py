import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_server import FakeModel, running

from detente.rows import write_jsonl
from detente.wire import Limits
from scripts.bench_server import (
    MANY,
    OURS,
    PLAIN,
    bars,
    failed,
    figures,
    line,
    picture,
    read_sentences,
)
from scripts.http_load import Load, closed_loop, open_loop, request

ASKED = [request("/predict", {"text": f"We met {i}.", "target": "Peru"}) for i in range(50)]


def test_clients_ask_until_the_time_is_over():
    with running() as client:
        load = closed_loop(client.port, ASKED, clients=4, seconds=0.2, warm_up=0.05)
    assert set(load.statuses) == {200} and len(load.statuses) == len(load.latencies)
    assert load.seconds >= 0.2 and min(load.latencies) > 0
    texts = [text for texts in client.model.rounds for text in texts]
    assert len(texts) > 50 and sorted(texts[:50]) == sorted({f"We met {i}." for i in range(50)})


def test_a_rate_is_kept_and_what_is_refused_is_counted():
    model = FakeModel()
    model.gate.clear()
    with ThreadPoolExecutor(1) as pool, running(model, waiting=2, limits=Limits(statements=2)) as c:
        loading = pool.submit(open_loop, c.port, ASKED, rate=200, seconds=0.3)
        # Two wait for the model, whatever the rate; all others are turned away.
        while '503"} ' not in c.ask("/metrics")[2]:
            pass
        model.gate.set()
        load = loading.result()
    found = figures(load)
    assert found["statuses"]["503"] > 0 and found["statuses"]["200"] >= 2
    assert found["requests"] == len(load.late) == len(load.latencies)
    assert 30 < found["requests"] < 100


def test_a_server_that_is_gone_is_a_failure():
    with running() as client:
        pass
    load = open_loop(client.port, ASKED, rate=100, seconds=0.1)
    assert load.statuses and set(load.statuses) == {0}
    assert failed(figures(load)) == len(load.statuses)


def test_bars_table_and_picture(tmp_path):
    def row(server, name, rate, latencies, statuses, late=()):
        load = Load(seconds=len(statuses) / rate, statuses=statuses, latencies=latencies)
        load.late = list(late)
        return {"server": server, "load": name, "cores": 1.5, "peak_bytes": 2e8} | figures(load)

    rows = [
        row(OURS, f"{MANY} clients", 300, [0.1] * 98 + [0.4] * 2, [200] * 100),
        row(PLAIN, f"{MANY} clients", 100, [0.6] * 100, [200] * 100),
        row(OURS, "overload, 4 x", 900, [1.0, 1.05, 1.02], [200, 503, 503], [0, 1.0, 1.0]),
    ]
    found = bars(rows)
    assert found["p99 / p50"] == pytest.approx(4)
    assert found["times the plain app"] == pytest.approx(3)
    assert found["overload: refused, slowest, ms"] == pytest.approx(50)
    assert found["reached"] is True
    assert f"| {OURS} | 64 clients | 300 | 1.50 | 100.0 | 400.0 |" in line(rows[0], 200)
    for worse in ({"200": 99, "0": 1}, {"200": 99, "503": 1}):
        assert bars([rows[0] | {"statuses": worse}, *rows[1:]])["reached"] is False
    json.dumps(found)
    picture(rows, tmp_path / "load.png")
    assert (tmp_path / "load.png").stat().st_size > 1000


def test_no_text_is_asked_twice(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"text": f"We met {i % 3}.", "target": t} for i in range(6) for t in "AB"])
    assert sorted(row.text for row in read_sentences([path])) == [f"We met {i}." for i in range(3)]
