"""python -m scripts.bench_server MODEL: `detente serve` under load, beside a plain FastAPI app.

Two servers on loopback, loaded in turn from a third process: ours with the bundled model (or
--ours), and scripts.plain_server, one endpoint around ``transformers.pipeline``, with the
checkpoint in MODEL. Each request is one sentence with its target; no sentence is asked twice
before all have been asked once, so that nothing is gained by computing equal ones together.

In the closed loop so many clients ask, each again as soon as it has its answer; in the open loop
requests come at random times at a share of what the server answered with 64 clients, and latency
counts from the time when a request was due. Last, ours alone gets four times what it can answer.

One core's limit is what ``predict_batch`` computes on one core, without HTTP, in the same run.
The plain app is run as it is written; both have the same HTTP parser and event loop.
"""

from __future__ import annotations

import os
import platform
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Final

import matplotlib

matplotlib.use("Agg")
import numpy as np
import typer
from matplotlib import pyplot as plt

from detente import hub
from detente.classifier import Classifier
from detente.errors import DetenteError
from detente.rows import read_statements, whole_file, write_json
from detente.statement import Statement
from scripts.bench_inference import pipeline_input
from scripts.http_load import Load, closed_loop, open_loop, request
from scripts.server_process import ServerProcess, started

OURS, PLAIN = "detente serve", "plain FastAPI"
CLIENTS: Final = (1, 4, 16, 64, 256)
MANY: Final = 64
"""The clients of the long measurement, by which the loads of the open loop are set."""

SHARES: Final = (0.5, 0.8)
OVERLOAD: Final = 4


@dataclass(slots=True)
class Bench:
    """The loads of one run, one after the other.

    Attributes:
        pool: The process that they come from.
        requests: What to send, by the name of the server.
        rows: What has been measured.
    """

    pool: ProcessPoolExecutor
    requests: Mapping[str, Sequence[bytes]]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def closed(self, server: ServerProcess, clients: int, seconds: float, warm_up: float) -> float:
        """Measures a number of clients; returns the answers a second."""
        load = partial(
            closed_loop, server.port, self.requests[server.name], clients, seconds, warm_up
        )
        return self._measure(server, f"{clients} clients", load)

    def opened(self, server: ServerProcess, name: str, rate: float, seconds: float) -> float:
        """Measures a rate of requests; returns the answers a second."""
        load = partial(open_loop, server.port, self.requests[server.name], rate, seconds)
        return self._measure(server, name, load)

    def _measure(self, server: ServerProcess, name: str, load: Callable[[], Load]) -> float:
        server.peak = 0
        over = threading.Event()
        watching = threading.Thread(target=server.watch, args=(over,))
        watching.start()
        before, begin = server.processor(), time.perf_counter()
        try:
            found = self.pool.submit(load).result()
        finally:
            over.set()
            watching.join()
        cores = (server.processor() - before) / (time.perf_counter() - begin)
        row = {"server": server.name, "load": name, "cores": cores, "peak_bytes": server.peak}
        row |= figures(found)
        self.rows.append(row)
        print(line(row), flush=True)
        return float(row["rate"])


def figures(load: Load) -> dict[str, Any]:
    """Returns what a load found, in numbers: the rate of answers with 200, latencies in ms.

    Of what was refused it is the time from sending, so that it is the server's alone.
    """
    statuses = np.array(load.statuses, dtype=int)
    latencies = 1000 * np.array(load.latencies)
    late = 1000 * np.array(load.late) if load.late else np.zeros(len(latencies))
    found: dict[str, Any] = {
        "requests": len(statuses),
        "seconds": load.seconds,
        "statuses": {str(k): n for k, n in sorted(Counter(load.statuses).items())},
        "rate": float((statuses == 200).sum() / load.seconds),
        "client_cores": load.processor / load.seconds,
    }
    for name, of in (
        ("answered", latencies[statuses == 200]),
        ("refused", (latencies - late)[statuses == 503]),
        ("late", late),
    ):
        p50, p99, p999 = np.percentile(of, [50, 99, 99.9]) if len(of) else [None] * 3
        found[name] = {"p50": p50, "p99": p99, "p99.9": p999, "most": of.max(initial=0.0)}
    return found


HEADER: Final = (
    "| server | load | answers/s | × one core's limit | p50, ms | p99 | p99.9 | refused, p99, ms "
    "| failed | its cores | peak, MB |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def line(row: Mapping[str, Any], limit: float | None = None) -> str:
    """Returns a measurement as a line of Markdown.

    Args:
        row: What :class:`Bench` noted.
        limit: Sentences a second that one core computes without HTTP.
    """
    answered = {name: np.nan if ms is None else ms for name, ms in row["answered"].items()}
    refused = f"{row['refused']['p99']:.1f}" if "503" in row["statuses"] else ""
    share = f"{row['rate'] / limit:.2f}" if limit else ""
    return (
        f"| {row['server']} | {row['load']} | {row['rate']:.0f} | {share} | {answered['p50']:.1f} "
        f"| {answered['p99']:.1f} | {answered['p99.9']:.1f} | {refused} | {failed(row)} "
        f"| {row['cores']:.2f} | {row['peak_bytes'] / 1e6:.0f} |"
    )


def failed(row: Mapping[str, Any]) -> int:
    """Returns the requests that were neither answered nor refused."""
    return sum(n for status, n in row["statuses"].items() if status not in ("200", "503"))


def bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what the measurement has to show, as numbers and whether they are reached."""
    found = {(row["server"], row["load"]): row for row in rows}
    ours, plain = (found[name, f"{MANY} clients"] for name in (OURS, PLAIN))
    overload = next(row for row in rows if row["load"].startswith("overload"))
    told: dict[str, Any] = {
        "not answered, 64 clients": sum(ours["statuses"].values()) - ours["statuses"]["200"],
        "p99 / p50": ours["answered"]["p99"] / ours["answered"]["p50"],
        "times the plain app": ours["rate"] / plain["rate"],
        "overload: failed": failed(overload),
        "overload: refused": overload["statuses"].get("503", 0),
        "overload: refused, p99, ms": overload["refused"]["p99"],
        "overload: refused, slowest, ms": overload["refused"]["most"],
        "overload: peak, MB": overload["peak_bytes"] / 1e6,
        "peak before, MB": ours["peak_bytes"] / 1e6,
    }
    told["reached"] = bool(
        told["not answered, 64 clients"] == 0
        and told["p99 / p50"] <= 6
        and told["times the plain app"] >= 2.5
        and told["overload: failed"] == 0
        and told["overload: refused, slowest, ms"] <= 100
    )
    return told


def picture(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws answers a second and latency by the number of clients."""
    shown, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for name, colour in ((OURS, "tab:blue"), (PLAIN, "0.5")):
        of = [r for r in rows if r["server"] == name and r["load"].endswith("clients")]
        clients = [int(row["load"].split()[0]) for row in of]
        left.plot(clients, [row["rate"] for row in of], "o-", color=colour, label=name)
        for figure, style in (("p50", "o-"), ("p99", "o--")):
            latency = [row["answered"][figure] for row in of]
            right.plot(clients, latency, style, color=colour, label=f"{name}, {figure}")
    left.set_ylabel("answers a second")
    left.set_ylim(bottom=0)
    right.set_ylabel("milliseconds")
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("clients")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    shown.tight_layout()
    with whole_file(path, binary=True) as file:
        shown.savefig(file, format="png", dpi=150)
    plt.close(shown)


def one_core(model: str, rows: Sequence[Statement]) -> float:
    """Returns the sentences a second that one thread computes, in batches and without HTTP."""
    classifier = Classifier.load(model, threads=1)
    classifier.predict_batch(rows[:64])
    begin = time.perf_counter()
    classifier.predict_batch(rows)
    return len(rows) / (time.perf_counter() - begin)


def read_sentences(paths: Sequence[Path]) -> list[Statement]:
    """Returns the statements of files, each text once, shuffled by a fixed seed."""
    distinct = {row.text: row for path in paths for row in read_statements(path)}
    rows = list(distinct.values())
    random.Random(0).shuffle(rows)
    return rows


def main(
    model: Annotated[Path, typer.Argument(help="A checkpoint for plain transformers.")],
    sentences: Annotated[
        list[Path] | None, typer.Option(help="Statements. [default: data/statements.jsonl]")
    ] = None,
    ours: Annotated[str, typer.Option(help="The model of detente serve.")] = hub.DEFAULT,
    seconds: Annotated[float, typer.Option(min=1, help="Of each load.")] = 15,
    long: Annotated[float, typer.Option(min=1, help="Of 64 clients, and of the overload.")] = 60,
    clients: Annotated[list[int] | None, typer.Option(help="[default: 1 4 16 64 256]")] = None,
    port: Annotated[int, typer.Option(help="This and the next one have to be free.")] = 8910,
    out: Annotated[Path, typer.Option(help="Folder for the JSON and the picture.")] = Path(
        "runs/bench_server"
    ),
) -> None:
    """Measure detente serve under load, beside a plain FastAPI app."""
    rows = read_sentences(sentences or [Path("data/statements.jsonl")])
    limit = one_core(ours, rows[:500])
    requests = {
        OURS: [request("/predict", {"text": row.text, "target": row.target}) for row in rows],
        PLAIN: [request("/predict", pipeline_input(replace(row, source=None))) for row in rows],
    }
    counts = sorted({*(clients or CLIENTS), MANY})
    serve = ("detente.cli", "serve", "--model", ours, "--port", str(port))
    plain = ("scripts.plain_server", str(model), str(port + 1))
    print(f"one core computes {limit:.0f} sentences a second\n\n{HEADER}", flush=True)
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        started(OURS, serve, port) as we,
        started(PLAIN, plain, port + 1) as they,
    ):
        bench = Bench(pool, requests)
        rates = {}
        for count in counts:
            for server in (we, they):
                span = long if count == MANY else seconds
                rate = bench.closed(server, count, span, warm_up=min(3, span))
                if count == MANY:
                    rates[server.name] = rate
        for share in SHARES:
            for server in (we, they):
                rate = share * rates[server.name]
                bench.opened(server, f"open, {100 * share:.0f} % ({rate:.0f}/s)", rate, seconds)
        rate = OVERLOAD * rates[OURS]
        bench.opened(we, f"overload, {OVERLOAD} × ({rate:.0f}/s)", rate, long)
        # Afterwards it answers as before.
        bench.closed(we, 1, min(seconds, 5), warm_up=0)
    told = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "one_core_limit": limit,
        "sentences": len(rows),
        "rows": bench.rows,
        "bars": bars(bench.rows[:-1]),
    }
    write_json(out / "bench_server.json", told)
    picture(bench.rows[:-1], out / "bench_server.png")
    print(f"\n{told['machine']}; one core computes {limit:.0f} sentences a second\n\n{HEADER}")
    for row in bench.rows:
        print(line(row, limit))
    print()
    for name, value in told["bars"].items():
        print(f"- {name}: {value if isinstance(value, bool) else format(value, '.4g')}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"bench_server: {error}") from None
