"""python -m scripts.prove_faults: what a training survives, put to the test on this machine.

Each proof trains a tiny model in processes of their own, a model with dropout, mentions, targets
drawn anew and a target-blind twin, and compares what it ends with, byte by byte, with an
undisturbed run: the weights of both and every prediction. By default all of them run:

- kills: SIGKILL at --kills random moments between the first update and the end, then --resume
- term: SIGTERM, which saves a checkpoint and stops with status 143, then --resume
- disk: a disk that is full at a checkpoint (a small tmpfs, for which Linux wants root), then room
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated, Final

import torch
import typer
from transformers import logging

from detente.hub import read_json
from detente.rows import write_jsonl
from scripts.tiny_base import tiny_rows, write_tiny_base
from train.checkpoints import last_whole
from train.config import load_config
from train.fit import show_progress
from train.run import train

ROOT: Final = Path(__file__).resolve().parents[1]
PROOFS: Final = ("kills", "term", "disk")
COMPARED: Final = ("model/model.safetensors", "twin/model.safetensors", "predictions.jsonl")
SETTINGS: Final = (
    "base.max_tokens=64",
    "fit.epochs=30",
    "fit.patience=8",
    "fit.dropout=0.2",
    "fit.precision=fp32",
    "fit.batch_size=4",
    "fit.learning_rate=3e-3",
    "fit.mention_layer=1",
    "data.absent_targets=0.2",
    "evaluate.bootstrap=100",
    "evaluate.baselines=[target_blind]",
)


def main(
    proofs: Annotated[list[str] | None, typer.Argument(help=", ".join(PROOFS))] = None,
    kills: Annotated[int, typer.Option(min=1, help="How often a run is killed.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Run the proofs and print what they showed."""
    with tempfile.TemporaryDirectory(prefix="prove-") as scratch:
        folder = Path(scratch)
        write_tiny_base(folder / "base")
        write_jsonl(folder / "rows.jsonl", tiny_rows(2))
        whole = folder / "whole"
        started = time.monotonic()
        finish(begin(folder, whole))
        seconds = time.monotonic() - started
        print(f"undisturbed: {seconds:.1f} s, {updates(whole)} updates", flush=True)
        held = True
        for proof in proofs or PROOFS:
            print(f"{proof}:", flush=True)
            if proof == "kills":
                held &= prove_kills(folder, whole, kills, seconds, random.Random(seed))
            elif proof == "term":
                held &= prove_term(folder, whole)
            else:
                held &= prove_disk(folder, whole)
    if not held:
        raise SystemExit(1)


def prove_kills(
    folder: Path, whole: Path, kills: int, seconds: float, moments: random.Random
) -> bool:
    """Kills a run at random moments, each time another one, and lets it go on."""
    equal = landed = 0
    while landed < kills:
        run = folder / f"killed-{landed}"
        process = begin(folder, run)
        process.join(moments.uniform(0, seconds))
        if process.is_alive():
            process.kill()
            landed += 1
            process.join()
            what = reached(run)
            if not run.exists():
                finish(begin(folder, run))
            same = same_bytes(run, whole)
            equal += same
            print(f"  {landed}: killed {what}; the same bytes: {same}", flush=True)
        shutil.rmtree(run)
    print(f"  {equal} of {kills} equal")
    return equal == kills


def prove_term(folder: Path, whole: Path) -> bool:
    """Asks the command to stop, within an epoch, and starts it again."""
    run = folder / "asked"
    process = subprocess.Popen(
        command(folder, run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: any(run.with_name("asked.partial").glob("checkpoints/checkpoint-*")))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    print(f"  status {process.returncode}: {said.strip().splitlines()[-1]}")
    subprocess.run(command(folder, run), check=True, capture_output=True)
    same = same_bytes(run, whole)
    print(f"  the same bytes: {same}", flush=True)
    return same and process.returncode == 128 + signal.SIGTERM


def prove_disk(folder: Path, whole: Path) -> bool:
    """Fills a small tmpfs with checkpoints, makes it larger, and goes on."""
    process = begin(folder, folder / "measured")
    partial = folder / "measured.partial"
    wait_for(lambda: any(partial.glob("checkpoints/checkpoint-*/whole")))
    process.kill()
    process.join()
    checkpoint = last_whole(partial / "checkpoints")
    assert checkpoint is not None
    size = sum(path.stat().st_size for path in checkpoint.rglob("*"))
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={int(2.6 * size)}", "tmpfs", str(disk)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        print("  skipped: a tmpfs cannot be mounted here")
        return True
    try:
        run = disk / "run"
        stopped = subprocess.run(command(folder, run), capture_output=True, text=True)
        print(f"  status {stopped.returncode}: {stopped.stderr.strip().splitlines()[-1]}")
        kept = sorted(path.name for path in disk.glob("run.partial/checkpoints/checkpoint-*"))
        last = last_whole(disk / "run.partial" / "checkpoints")
        print(f"  kept: {', '.join(kept)}; to go on from: {last and last.name}")
        subprocess.run(["mount", "-o", f"remount,size={100 * size}", str(disk)], check=True)
        subprocess.run(command(folder, run), check=True, capture_output=True)
        same = same_bytes(run, whole)
        print(f"  the same bytes once there was room: {same}", flush=True)
        return same and stopped.returncode == 2 and last is not None
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def settings(folder: Path, run: Path) -> list[str]:
    """Returns what is set in place of configs/quick.yaml."""
    corpora = f"data.corpora=[{{name: file, path: {folder / 'rows.jsonl'}}}]"
    return [f"run.dir={run}", f"base.name={folder / 'base'}", corpora, *SETTINGS]


def command(folder: Path, run: Path) -> list[str]:
    """Returns the command as a user would give it."""
    quick = str(ROOT / "configs" / "quick.yaml")
    train = ["-m", "train", quick, *settings(folder, run), "--resume"]
    # As many threads as in go_on: sums would come in another order with more of them.
    return ["env", "OMP_NUM_THREADS=1", sys.executable, *train]


def begin(folder: Path, run: Path) -> BaseProcess:
    """Starts the same in a process, forked from one that has imported all; waits for its start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train.run"])
    process = context.Process(target=go_on, args=(folder, run))
    process.start()
    partial = run.with_name(f"{run.name}.partial")
    wait_for(lambda: (partial / "environment.json").exists() or not process.is_alive())
    return process


def go_on(folder: Path, run: Path) -> None:
    """Trains, or goes on, as ``python -m train … --resume`` does."""
    torch.set_num_threads(1)
    show_progress(False)
    logging.set_verbosity_error()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        config = load_config(ROOT / "configs" / "quick.yaml", settings(folder, run))
        train(config, resume=True)


def finish(process: BaseProcess) -> None:
    """Waits for a run that nobody disturbs."""
    process.join()
    if process.exitcode:
        raise SystemExit(f"prove_faults: a run ended with status {process.exitcode}")


def reached(run: Path) -> str:
    """Returns in words where a killed run was."""
    if run.exists():
        return "when all was done but clearing up"
    partial = run.with_name(f"{run.name}.partial")
    for part in ("twin-checkpoints", "checkpoints"):
        if (partial / part / "fitted.json").exists():
            return f"after {part.removesuffix('-checkpoints')} was trained"
        if found := [path.name for path in partial.glob(f"{part}/checkpoint-*")]:
            return f"with {part} {', '.join(sorted(found))}"
    return "before the first checkpoint"


def same_bytes(run: Path, whole: Path) -> bool:
    """Returns whether two runs ended with the same weights and predictions."""
    return all((run / name).read_bytes() == (whole / name).read_bytes() for name in COMPARED)


def updates(run: Path) -> int:
    """Returns how many updates a run took."""
    return int(read_json(run / "metrics.json")["training"]["updates"])


def wait_for(what: Callable[[], object]) -> None:
    """Looks again and again until there is what is waited for."""
    while not what():
        time.sleep(0.01)


if __name__ == "__main__":
    typer.run(main)
