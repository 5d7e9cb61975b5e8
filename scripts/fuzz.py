"""python -m scripts.fuzz: inputs that atheris finds, for what reads other people's bytes.

Each target of scripts/fuzz_targets.py gets a quarter of --runs inputs in a process of its own,
which libFuzzer ends if one input takes longer than --seconds or memory exceeds --memory. Prints how
many inputs each got and what memory it held after a tenth of them and at the end; status 1 if
one of them was neither read nor refused by an error of ours. That input is then in --crashes.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

NAMES: Final = ("gazetteer", "jsonl", "csv", "config")


def main(
    targets: Annotated[list[str] | None, typer.Argument(help=", ".join(NAMES))] = None,
    runs: Annotated[int, typer.Option(min=100, help="Inputs, over all targets.")] = 100_000,
    seconds: Annotated[int, typer.Option(min=1, help="The longest that one may take.")] = 10,
    memory: Annotated[int, typer.Option(min=256, help="The most memory, in MiB.")] = 1024,
    seed: Annotated[int, typer.Option(min=1, help="Of the inputs.")] = 1,
    crashes: Annotated[Path, typer.Option(help="Where an input goes that does harm.")] = Path("."),
) -> None:
    """Fuzz the targets and print how many inputs each got."""
    chosen = targets or list(NAMES)
    each, total, harmed = runs // len(chosen), 0, False
    for name in chosen:
        with tempfile.TemporaryDirectory() as scratch:
            told = Path(scratch) / "told.json"
            options = [
                f"-runs={each}", f"-timeout={seconds}", f"-rss_limit_mb={memory}",
                f"-seed={seed}", f"-artifact_prefix={crashes}/{name}-", "-max_len=1024",
                "-print_final_stats=0", "-verbosity=0",
            ]  # fmt: skip
            code = "from scripts.fuzz import fuzz; fuzz()"
            child = [sys.executable, "-W", "ignore", "-c", code, name, str(told), str(each)]
            done = subprocess.run([*child, scratch, *options], capture_output=True, text=True)
            found = json.loads(told.read_text()) if told.exists() else {}
        if done.returncode:
            print(done.stderr[-4000:])
        harmed |= done.returncode != 0 or found.get("inputs") != each
        total += found.get("inputs", 0)
        print(
            f"{name}: {found.get('inputs', 0):,} inputs, {found.get('early', 0)} MiB after a tenth "
            f"of them, {found.get('late', 0)} MiB at the end, status {done.returncode}",
            flush=True,
        )
    print(f"{total:,} inputs in all, {'HARM DONE' if harmed else 'none that did harm'}")
    if harmed:
        raise SystemExit(1)


def fuzz() -> None:
    """Fuzzes one target: a name, a file for the figures, inputs, a folder, libFuzzer's options."""
    import atheris

    name, told, inputs, scratch, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["detente", "train.config", "ruamel"]):
        from scripts.fuzz_targets import SEEDS, TARGETS
    corpus = Path(scratch) / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[name]):
        (corpus / str(number)).write_bytes(seed)
    figures = {"inputs": 0}

    def one(data: bytes) -> None:
        TARGETS[name](data)
        figures["inputs"] += 1
        if figures["inputs"] in (int(inputs) // 10, int(inputs)):
            kind = "early" if "early" not in figures else "late"
            figures[kind] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            # libFuzzer ends the process: there is no later.
            Path(told).write_text(json.dumps(figures), "utf-8")

    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    typer.run(main)
