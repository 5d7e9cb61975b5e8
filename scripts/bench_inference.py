"""python -m scripts.bench_inference MODEL --sentences FILE: how fast a model answers.

On the same sentences and the same checkpoint, in one run: transformers.pipeline called one by
one and at its best batch size, CrossEncoder of sentence-transformers where that is installed,
our torch runtime, ONNX fp32 and int8, and a smaller model (--fast FOLDER, a run's model too).

The sides take turns in five rounds, each on its own fifth of the sentences, after one that warms
up and does not count; the table shows medians of rounds. Latency is that of one sentence after
another in a warm process. Cold start is the time of a whole process from ``python -c`` to its
first answer. Peak memory is that of a process that loads a side and answers the sentences of a
round. Ratios are to the pipeline at its best batch size, and to the pipeline one by one.

Cold start and peak memory use files in a cache that earlier rounds have filled: what is measured
is the program, not the disk.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeVar

import matplotlib

matplotlib.use("Agg")
import numpy as np
import onnxruntime
import torch
import typer
from matplotlib import pyplot as plt
from tqdm import tqdm

from detente.batching import plan_batches
from detente.classifier import Classifier
from detente.encoding import Target, as_target, pair_text
from detente.errors import DataError, DetenteError
from detente.hub import SETTINGS, locate, write_manifest
from detente.labels import LABEL_TO_ID, LABELS
from detente.rows import read_statements, whole_file, write_json, write_jsonl
from detente.runtimes.onnx_runtime import NOT_FUSED, OnnxRuntime
from detente.statement import Statement
from detente.states import mentions
from scripts.bench_training import forward_flops, matrix_rate
from train.export import export_int8
from train.fit import show_progress
from train.gates import FP32, INT8
from train.tone_metric import tone_metrics

ONE_BY_ONE, BATCHED, CROSS = "pipeline, one by one", "pipeline, batches", "CrossEncoder"
TORCH, ONNX, INT8_SIDE, FAST = "detente, torch", "detente, fp32", "detente, int8", "detente, fast"
SIDES = (ONE_BY_ONE, BATCHED, CROSS, TORCH, ONNX, INT8_SIDE, FAST)
PLAIN = (ONE_BY_ONE, BATCHED)
BATCH_SIZES = (8, 16, 32, 64)
OPERATIONS = {
    "matrix products": ("MatMulIntegerToFloat", "MatMul", "Gemm", "FusedGemm"),
    "attention": ("MultiHeadAttention", "Softmax", "FusedMatMul", "Transpose"),
    "rounding to integers": ("Abs", "ReduceMax", "Max", "Mul", "QuantizeLinear", "Expand"),
    "GELU": ("BiasGelu", "Gelu"),
    "layer norm and sums": ("LayerNormalization", "Add"),
}

PEAK = """
import resource, sys
# On Linux a program inherits the maximum of the one that starts it, except in this place.
if sys.platform == "linux":
    with open("/proc/self/status") as file:
        print(1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

Result = TypeVar("Result")
Answer = Callable[[Sequence[Statement]], list[str]]


@dataclass(slots=True)
class Measured:
    """What was measured of one side; a round's figure each, in seconds or bytes."""

    sentences: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def pipeline_input(row: Statement) -> dict[str, str]:
    """Returns the pair that plain transformers reads."""
    ((text, target, source),) = triples([row])
    return {"text": text, "text_pair": pair_text(target, source)}


def load(side: str, folder: Path, batch_size: int) -> Answer:
    """Loads a side.

    Args:
        side: One of :data:`SIDES`.
        folder: The folder of the checkpoint; for the int8 sides, of the export.
        batch_size: Of the pipeline in batches.

    Returns:
        What turns statements into labels.
    """
    if side in PLAIN:
        from transformers import pipeline

        device = 0 if torch.cuda.is_available() else -1
        classify = pipeline("text-classification", model=str(folder), device=device)
        if side == ONE_BY_ONE:
            return lambda rows: [classify(pipeline_input(row))["label"] for row in rows]
        return lambda rows: [
            found["label"]
            for found in classify([pipeline_input(row) for row in rows], batch_size=batch_size)
        ]
    if side == CROSS:
        from sentence_transformers import CrossEncoder

        encoder = CrossEncoder(str(folder))

        def cross(rows: Sequence[Statement]) -> list[str]:
            pairs = [tuple(pipeline_input(row).values()) for row in rows]
            scores = encoder.predict(pairs, batch_size=batch_size, show_progress_bar=False)
            return [LABELS[i] for i in scores.argmax(axis=1)]

        return cross
    classifier = Classifier.load(folder, runtime="torch" if side == TORCH else "onnx")

    def ours(rows: Sequence[Statement]) -> list[str]:
        if len(rows) == 1:
            return [classifier.predict(rows[0].text, rows[0].target, source=rows[0].source).label]
        return [prediction.label for prediction in classifier.predict_batch(rows)]

    return ours


def loading(side: str, folder: Path) -> str:
    """Returns the lines of a program that load a side, and nothing that it does not need."""
    if side in PLAIN:
        return (
            "from transformers import pipeline\n"
            f"classify = pipeline('text-classification', model={str(folder)!r})\n"
        )
    if side == CROSS:
        return (
            "from sentence_transformers import CrossEncoder\n"
            f"encoder = CrossEncoder({str(folder)!r})\n"
        )
    runtime = "torch" if side == TORCH else "onnx"
    return (
        "import detente\n"
        f"classifier = detente.Classifier.load({str(folder)!r}, runtime={runtime!r})\n"
    )


def first_answer(side: str, folder: Path, row: Statement) -> str:
    """Returns the program that answers one sentence and ends."""
    pair = pipeline_input(row)
    if side in PLAIN:
        answer = f"print(classify({pair!r}))"
    elif side == CROSS:
        answer = f"print(encoder.predict([{tuple(pair.values())!r}]))"
    else:
        answer = f"print(classifier.predict({row.text!r}, {row.target!r}, source={row.source!r}))"
    return loading(side, folder) + answer


def every_answer(side: str, folder: Path, rows: Path, batch_size: int) -> str:
    """Returns the program that answers all rows and prints the most memory it held, in bytes.

    Args:
        side: One of :data:`SIDES`.
        folder: As for :func:`load`.
        rows: A file that :func:`write_inputs` made.
        batch_size: Of the pipeline in batches.
    """
    if side == ONE_BY_ONE:
        answer = "for row in rows: classify(row['pair'])"
    elif side == BATCHED:
        answer = f"classify([row['pair'] for row in rows], batch_size={batch_size})"
    elif side == CROSS:
        pairs = "[tuple(row['pair'].values()) for row in rows]"
        answer = f"encoder.predict({pairs}, batch_size={batch_size}, show_progress_bar=False)"
    else:
        answer = "classifier.predict_batch([detente.Statement(*row['row']) for row in rows])"
    reading = f"rows = [json.loads(line) for line in open({str(rows)!r}, encoding='utf-8')]\n"
    return f"import json\n{loading(side, folder)}{reading}{answer}\n{PEAK}"


def write_inputs(path: Path, rows: Sequence[Statement]) -> None:
    """Writes what the programs read: the pair of plain transformers, and ours."""
    write_jsonl(
        path,
        ({"pair": pipeline_input(r), "row": [r.text, r.target, r.source]} for r in rows),
    )


def process(program: str) -> tuple[float, str]:
    """Runs a program.

    Returns:
        Its seconds, and the last line that it printed.

    Raises:
        DataError: It failed.
    """
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise DataError(f"the program failed: {done.stderr[-500:]}")
    return seconds, (done.stdout.splitlines() or [""])[-1]


def export(source: Path, target: Path) -> Path:
    """Makes the int8 export of a run's model; a folder that has one already is taken as it is."""
    folder = locate(source)
    if folder.onnx_file == INT8:
        return source
    for name in ("config.json", "tokenizer.json"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((source / name).read_bytes())
    (target / INT8).parent.mkdir()
    export_int8(source / FP32, target / INT8)
    write_json(target / SETTINGS, folder.settings | {"onnx_file": INT8})
    write_manifest(target)
    return target


def profile(folder: Path, rows: Sequence[Statement]) -> dict[str, float]:
    """Returns the seconds that int8 spends on each kind of work, on one thread.

    Finding states is what ``read`` does beside the rest; the other kinds are ``predict_batch``.

    Args:
        folder: An int8 export.
        rows: What to read.
    """
    classifier = Classifier.load(folder)
    path = folder / INT8
    classifier.runtime = OnnxRuntime(path, threads=1)
    spent: Counter[str] = Counter()

    def timed(name: str, work: Callable[[], Result]) -> Result:
        begin = time.perf_counter()
        result = work()
        spent[name] = time.perf_counter() - begin
        return result

    classifier.predict_batch(rows[:8])
    timed("whole", lambda: classifier.predict_batch(rows))
    encoded = timed("tokenising", lambda: classifier.encoder.encode(triples(rows)))
    plan = plan_batches([len(pair) for pair in encoded], classifier.runtime.batch_tokens)
    batches = timed(
        "filling batches",
        lambda: [classifier.encoder.collate([encoded[i] for i in batch]) for batch in plan],
    )
    timed("model", lambda: [classifier.runtime.logits(batch) for batch in batches])
    rest = spent.pop("whole") - sum(spent.values())
    # The shares of a run that is watched, of the time of one that is not.
    watched = operations(path, batches)
    model = spent.pop("model")
    for kind, seconds in watched.items():
        spent[kind] = model * seconds / sum(watched.values())
    spent["the rest: checking statements, making results"] = max(rest, 0.0)
    timed("finding states", lambda: [mentions(row.text) for row in rows])
    return dict(spent)


def operations(path: Path, batches: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the seconds of each kind of operation of an ONNX file, as its runtime counts them."""
    with tempfile.TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, disabled_optimizers=NOT_FUSED)
        names = [node.name for node in session.get_inputs()]
        for batch in batches:
            session.run(None, {name: batch[name] for name in names})
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    kinds = {operation: kind for kind, names in OPERATIONS.items() for operation in names}
    spent: Counter[str] = Counter()
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            spent[kinds.get(event["args"]["op_name"], "other operations")] += event["dur"] / 1e6
    return dict(spent)


def triples(rows: Sequence[Statement]) -> list[tuple[str, Target, Target | None]]:
    """Returns the sentences with their targets and sources, as the encoder takes them."""
    return [
        (row.text, as_target(row.target), as_target(row.source, "source") if row.source else None)
        for row in rows
    ]


def best_batch_size(folder: Path, rows: Sequence[Statement]) -> int:
    """Returns the batch size at which the pipeline answers these sentences fastest."""
    seconds = {}
    for size in BATCH_SIZES:
        answer = load(BATCHED, folder, size)
        answer(rows[:size])
        begin = time.perf_counter()
        answer(rows)
        seconds[size] = time.perf_counter() - begin
    return min(seconds, key=lambda size: seconds[size])


def table(figures: Mapping[str, Any]) -> str:
    """Returns the figures of all sides as Markdown."""
    lines = [
        "| | sentences/s | × batches | × one by one | p50, ms | p99, ms | cold start, s | peak, MB "
        "| macro-F1 |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for side, f in figures["sides"].items():
        f1 = f"{100 * f['macro_f1']:.1f}" if f["macro_f1"] is not None else ""
        lines.append(
            f"| {side} | {f['rate']:.0f} | {f['to_batches']:.2f} | {f['to_one_by_one']:.2f} "
            f"| {f['p50_ms']:.1f} | {f['p99_ms']:.1f} | {f['cold_s']:.2f} "
            f"| {f['peak_bytes'] / 1e6:.0f} | {f1} |"
        )
    return "\n".join(lines)


def picture(figures: Mapping[str, Any], path: Path) -> None:
    """Draws the rates, with the range of their rounds, and cold starts."""
    names = list(figures["sides"])[::-1]
    sides = [figures["sides"][name] for name in names]
    shown, (left, right) = plt.subplots(1, 2, figsize=(9, 0.45 * len(names) + 1.2), sharey=True)
    rates = np.array([side["rate"] for side in sides])
    spread = np.abs(np.array([side["rate_range"] for side in sides]).T - rates)
    colours = ["tab:blue" if name.startswith("detente") else "0.6" for name in names]
    left.barh(names, rates, xerr=spread, color=colours)
    left.set_xlabel("sentences a second")
    right.barh(names, [side["cold_s"] for side in sides], color=colours)
    right.set_xlabel("cold start to first answer, seconds")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    shown.tight_layout()
    with whole_file(path, binary=True) as file:
        shown.savefig(file, format="png", dpi=150)
    plt.close(shown)


def main(
    model: Annotated[Path, typer.Argument(help="A run's model: checkpoint and ONNX fp32.")],
    sentences: Annotated[list[Path], typer.Option(help="Statements; several files are joined.")],
    fast: Annotated[Path | None, typer.Option(help="A smaller model, to be exported too.")] = None,
    limit: Annotated[int, typer.Option(min=2, help="Sentences, evenly from the files.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 5,
    singles: Annotated[int, typer.Option(min=1, help="Sentences for latency, a round.")] = 200,
    out: Annotated[Path, typer.Option(help="Folder for the JSON and the picture.")] = Path(
        "runs/bench_inference"
    ),
) -> None:
    """Measure how fast a model answers, beside plain transformers."""
    show_progress(False)
    every = list(chain.from_iterable(read_statements(path) for path in sentences))
    # Evenly over all files, and each sentence with its target once: repeats would be free for us.
    distinct = list({(s.text, s.target, s.source): s for s in every}.values())
    if len(distinct) < limit:
        raise DataError("not so many sentences", got=limit, expected=f"up to {len(distinct)}")
    rows = [distinct[i] for i in np.linspace(0, len(distinct) - 1, limit).round().astype(int)]
    with tempfile.TemporaryDirectory() as scratch:
        int8 = export(model, Path(scratch) / "int8")
        folders = dict.fromkeys((ONE_BY_ONE, BATCHED, TORCH, ONNX), model) | {INT8_SIDE: int8}
        if importlib.util.find_spec("sentence_transformers"):
            folders[CROSS] = model
        if fast:
            folders[FAST] = export(fast, Path(scratch) / "fast")
        folders = {side: folders[side] for side in SIDES if side in folders}
        batch_size = best_batch_size(model, rows[:: max(limit // 500, 1)])
        inputs = Path(scratch) / "rows.jsonl"
        write_inputs(inputs, rows[::rounds])
        measured = measure(folders, rows, batch_size, rounds, singles, inputs)
        answered = [row for turn in range(rounds) for row in rows[turn::rounds]]
        figures = summary(measured, answered, batch_size)
        figures["int8_profile_seconds"] = profile(int8, rows)
        if torch.cuda.is_available():
            figures["gpu"] = on_gpu(model, rows, figures["sides"][TORCH]["rate"])
    write_json(out / "bench_inference.json", figures)
    picture(figures, out / "bench_inference.png")
    print(f"{figures['machine']}; {limit} sentences; the pipeline's best batch: {batch_size}\n")
    print(table(figures))
    print("\nint8 on one thread, share of the time:\n")
    seconds = figures["int8_profile_seconds"]
    for kind, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"- {kind}: {100 * spent / sum(seconds.values()):.1f} %")
    if "gpu" in figures:
        print(f"\nGPU: {figures['gpu']}")


def measure(
    folders: Mapping[str, Path],
    rows: Sequence[Statement],
    batch_size: int,
    rounds: int,
    singles: int,
    inputs: Path,
) -> dict[str, Measured]:
    """Lets the sides take turns; a first round on a tenth of the first part warms up."""
    answers = {side: load(side, folder, batch_size) for side, folder in folders.items()}
    measured = {side: Measured() for side in folders}
    parts = [rows[turn::rounds] for turn in range(rounds)]
    for turn, part in enumerate(tqdm([parts[0][: max(len(parts[0]) // 10, 1)], *parts])):
        for side, folder in folders.items():
            into = measured[side] if turn else Measured()
            begin = time.perf_counter()
            into.labels += answers[side](part)
            into.seconds.append(time.perf_counter() - begin)
            into.sentences.append(len(part))
            for row in part[:: max(len(part) // singles, 1)][:singles]:
                begin = time.perf_counter()
                answers[side]([row])
                into.latencies.append(time.perf_counter() - begin)
            into.cold.append(process(first_answer(side, folder, part[0]))[0])
    for side, folder in tqdm(folders.items(), desc="memory"):
        _, peak = process(every_answer(side, folder, inputs, batch_size))
        measured[side].peak.append(int(peak))
    return measured


def summary(
    measured: Mapping[str, Measured], rows: Sequence[Statement], batch_size: int
) -> dict[str, Any]:
    """Returns medians, ranges and ratios for the JSON; ``rows`` are in the order of answers."""
    gold = np.array([LABEL_TO_ID[row.label] if row.label else -1 for row in rows])
    sides = {}
    for side, found in measured.items():
        p50, p99 = np.percentile(found.latencies, [50, 99])
        rates = [n / spent for n, spent in zip(found.sentences, found.seconds, strict=True)]
        # Ratios within a round: what slows the machine down slows both sides.
        to = {
            name: statistics.median(
                theirs / ours
                for theirs, ours in zip(measured[other].seconds, found.seconds, strict=True)
            )
            for name, other in (("to_batches", BATCHED), ("to_one_by_one", ONE_BY_ONE))
        }
        predicted = np.eye(len(LABELS))[[LABEL_TO_ID[label] for label in found.labels]]
        known = gold >= 0
        sides[side] = to | {
            "rate": statistics.median(rates),
            "rate_range": [min(rates), max(rates)],
            "p50_ms": 1000 * p50,
            "p99_ms": 1000 * p99,
            "cold_s": statistics.median(found.cold),
            "peak_bytes": max(found.peak),
            "macro_f1": tone_metrics(predicted[known], gold[known])["macro_f1"]
            if known.any()
            else None,
            "rounds": {k: v for k, v in asdict(found).items() if k in ("seconds", "cold")},
        }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "processor"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "machine": f"{platform.machine()}, {cores} cores, {device}, torch {torch.__version__}",
        "sentences": len(rows),
        "pipeline_batch_size": batch_size,
        "sides": sides,
    }


def on_gpu(model: Path, rows: Sequence[Statement], rate: float) -> dict[str, float]:
    """Returns the torch side's rate, and its share of the card's rate of matrix products."""
    encoder = Classifier.load(model).encoder
    lengths = [len(pair) for pair in encoder.encode(triples(rows))]
    most = matrix_rate()
    achieved = forward_flops(model, lengths) / len(rows) * rate
    return {"sentences_a_second": rate, "matrix_flops": most, "share": achieved / most}


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"bench_inference: {error}") from None
