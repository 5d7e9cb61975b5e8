"""python -m scripts.prove_scoring: what detente score promises, put to the test on this machine.

Each proof runs the command as a user would, in processes of its own, with a tiny untrained model
that it makes first, and prints what it measured. By default all of them run:

- kills: SIGKILL at random moments, started again each time; the bytes of an undisturbed run
- memory: peak memory and time for --rows rows of Parquet against a tenth of them
- disk: a disk that fills up (a small tmpfs, for which Linux wants root), then room is made
- ray: two workers, and a worker killed in the middle (skipped where ray is not installed)
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import pyarrow as pa
import typer
from onnx import TensorProto, helper, numpy_helper
from pyarrow import parquet
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from detente.encoding import TEMPLATE
from detente.hub import SETTINGS, write_manifest
from detente.labels import LABELS
from detente.rows import write_json
from detente.states import all_states

PROOFS = ("kills", "memory", "disk", "ray")
VERBS = ("thank", "condemn", "mention", "praise", "reject", "see", "trust", "deplore", "visit")


def main(
    proofs: Annotated[list[str] | None, typer.Argument(help=", ".join(PROOFS))] = None,
    rows: Annotated[int, typer.Option(help="Rows of the larger table.")] = 2_000_000,
    kill_rows: Annotated[int, typer.Option(help="Rows of the table that is killed at.")] = 100_000,
    kills: Annotated[int, typer.Option(help="How often it is killed.")] = 20,
    shard_rows: Annotated[int, typer.Option(help="Rows in a shard, but for memory.")] = 2_000,
    seed: int = 0,
) -> None:
    """Run the proofs and print what they measured."""
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="prove-") as scratch:
        folder = Path(scratch)
        model = tiny_model(folder / "model")
        for proof in proofs or PROOFS:
            print(f"{proof}:", flush=True)
            room = folder / proof
            room.mkdir()
            if proof == "kills":
                prove_kills(room, model, kill_rows, kills, shard_rows, moments)
            elif proof == "memory":
                prove_memory(room, model, rows)
            elif proof == "disk":
                prove_disk(room, model, kill_rows, shard_rows)
            elif importlib.util.find_spec("ray") is None:
                print("  skipped: ray is not installed")
            else:
                prove_ray(room, model, kill_rows, shard_rows)


def prove_kills(
    folder: Path, model: Path, rows: int, kills: int, shard_rows: int, moments: random.Random
) -> None:
    """Kills the command ``kills`` times for each kind of output, and compares the bytes.

    A run that ends before it is killed is compared, and another one begun.
    """
    table = write_table(folder / "in.parquet", rows)
    for name in ("out.csv", "out.jsonl", "out.parquet", "parts"):
        undisturbed, killed = folder / "whole" / name, folder / "killed" / name
        command = score_command(table, undisturbed / name, model, shard_rows)
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        whole = time.monotonic() - started
        command = score_command(table, killed / name, model, shard_rows)
        landed = compared = 0
        while landed < kills or compared == 0:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            try:
                process.wait(moments.uniform(0, 0.7 * whole) if landed < kills else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                landed += 1
                continue
            if process.returncode or tree(undisturbed) != tree(killed):
                raise SystemExit(f"prove_scoring: {name} differs after {landed} kills")
            compared += 1
            if landed < kills:
                shutil.rmtree(killed)
        print(
            f"  {name}: {rows:,} rows, {landed} kills while it ran; {compared} outputs, each with "
            "the bytes of an undisturbed one",
            flush=True,
        )


def prove_memory(folder: Path, model: Path, rows: int) -> None:
    """Compares a table with one of a tenth of its rows."""
    figures = []
    for size in (rows // 10, rows):
        table = write_table(folder / f"{size}.parquet", size)
        seconds, peak = measure(score_command(table, folder / f"{size}.out.parquet", model, 10_000))
        figures.append((seconds, peak))
        print(f"  {size:,} rows: {seconds:.1f} s, peak {peak / 2**20:.0f} MiB", flush=True)
    (short, small), (long, large) = figures
    print(f"  peak ratio {large / small:.3f}, time ratio {long / short:.2f} for 10 times the rows")


def prove_disk(folder: Path, model: Path, rows: int, shard_rows: int) -> None:
    """Fills a small tmpfs, makes it larger, and goes on."""
    table = write_table(folder / "in.parquet", rows)
    whole = folder / "whole" / "out.csv"
    subprocess.run(
        score_command(table, whole, model, shard_rows), check=True, stdout=subprocess.DEVNULL
    )
    size = whole.stat().st_size
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "tmpfs", str(disk)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        print("  skipped: a tmpfs cannot be mounted here")
        return
    try:
        out = disk / "out.csv"
        command = score_command(table, out, model, shard_rows)
        stopped = subprocess.run(command, capture_output=True, text=True)
        kept = len(list((disk / "out.csv.partial" / "parts").glob("part-*")))
        print(f"  status {stopped.returncode}, {kept} shards kept: {stopped.stderr.strip()}")
        larger = f"remount,size={4 * size + 2**20}"
        subprocess.run(["mount", "-o", larger, str(disk)], check=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"  same bytes once there was room: {out.read_bytes() == whole.read_bytes()}")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def prove_ray(folder: Path, model: Path, rows: int, shard_rows: int) -> None:
    """Compares two workers with one process, undisturbed and with a worker killed."""
    table = write_table(folder / "in.parquet", rows)
    alone = score_command(table, folder / "alone" / "out.csv", model, shard_rows)
    subprocess.run(alone, check=True, stdout=subprocess.DEVNULL)
    for kill in (False, True):
        out = folder / f"kill-{kill}" / "out.csv"
        command = score_command(table, out, model, shard_rows)
        process = subprocess.Popen(
            [*command, "--engine", "ray", "--workers", "2"], stdout=subprocess.DEVNULL
        )
        while kill and process.poll() is None:
            time.sleep(0.05)
            log = out.parent / "out.csv.partial" / "log.jsonl"
            workers = ray_workers(process.pid)
            if workers and log.exists() and log.read_bytes().count(b"\n") > 3:
                os.kill(workers[0], signal.SIGKILL)
                print(f"  a worker of {len(workers)} killed after {log.read_bytes().count(b'{')}")
                break
        if process.wait():
            raise SystemExit("prove_scoring: the command failed")
        same = tree(out.parent) == tree(folder / "alone")
        print(f"  two workers, one killed: {kill}, same bytes as one process: {same}", flush=True)


def ray_workers(ancestor: int) -> list[int]:
    """Returns the processes below ``ancestor`` that are our Ray actors."""
    import psutil

    found = psutil.Process(ancestor).children(recursive=True)
    return [child.pid for child in found if "_Worker" in " ".join(child.cmdline())]


def score_command(table: Path, out: Path, model: Path, shard_rows: int) -> list[str]:
    """Returns the command that scores ``table``; a name without a suffix is a folder of CSV."""
    options = ["--model", str(model), "--shard-rows", str(shard_rows)]
    if not out.suffix:
        options += ["--format", "csv"]
    return [sys.executable, "-m", "detente.cli", "score", str(table), str(out), *options]


def measure(command: Sequence[str]) -> tuple[float, int]:
    """Runs a command; returns its seconds and the most memory it held, in bytes."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("prove_scoring: the command failed")
    return time.monotonic() - started, usage.ru_maxrss * 1024


def tree(folder: Path) -> dict[Path, bytes]:
    """Returns every file below a folder, by its relative name."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def write_table(path: Path, rows: int, chunk: int = 100_000) -> Path:
    """Writes a table of made-up statements, no two alike, every thousandth of them blank."""
    names = [state.name for state in all_states()]
    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("target", pa.string())])
    with parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, chunk):
            numbers = range(first, min(first + chunk, rows))
            targets = [names[i % len(names)] for i in numbers]
            texts = [
                f"We {VERBS[i % len(VERBS)]} {target} for the {i}th time." if i % 1000 else " "
                for i, target in zip(numbers, targets, strict=True)
            ]
            writer.write_table(pa.table([pa.array(numbers), texts, targets], schema=schema))
    return path


def tiny_model(folder: Path, width: int = 8) -> Path:
    """Writes a model folder: the mean of random word vectors, and a linear layer."""
    (folder / "onnx").mkdir(parents=True)
    words = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *VERBS, *string.digits, "We", "for"])
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    random_numbers = np.random.default_rng(0)
    weights = {
        "vectors": random_numbers.normal(size=(len(words), width)).astype(np.float32),
        "matrix": random_numbers.normal(size=(width, len(LABELS))).astype(np.float32),
        "axes": np.array([1], dtype=np.int64),
        "last": np.array([2], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["embedded", "wide"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "axes"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "axes"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "matrix"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", len(LABELS)])]
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        outputs,
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "onnx" / "model.onnx"))
    write_json(folder / "config.json", {"id2label": dict(enumerate(LABELS)), "pad_token_id": 0})
    settings = {"template": TEMPLATE, "max_tokens": 64, "onnx_file": "onnx/model.onnx"}
    write_json(folder / SETTINGS, settings)
    write_manifest(folder)
    return folder


if __name__ == "__main__":
    typer.run(main)
