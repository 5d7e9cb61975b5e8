"""python -m scripts.bundle_model RUN STATEMENTS...: make a run's model the bundled default.

Quantises the run's ONNX export to int8, compares it with the checkpoint on the labelled
STATEMENTS (files of at least 5,000 rows together), refuses it if the gates do not hold, and
writes what the ONNX runtime needs to src/detente/default_model, or to another folder (--out). The
card of the bundled model, with the figures it is rendered from, goes to model_cards/default, too.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from detente.classifier import Classifier
from detente.errors import DetenteError, ModelError
from detente.hub import LEARNED, SETTINGS, read_json, write_manifest
from detente.rows import read_statements, write_json
from detente.runtimes.torch_runtime import TorchRuntime
from train.card import CARD, METRICS, TEMPLATE, render_card, write_card
from train.export import compare, export_int8
from train.gates import FP32, INT8

BUNDLED = Path(__file__).resolve().parents[1] / "src" / "detente" / "default_model"
RUNTIME_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", LEARNED, SETTINGS)


def main(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    statements: Annotated[list[Path], typer.Argument(help="Labelled statements to compare on.")],
    out: Annotated[Path, typer.Option(help="The folder to make, in place of one there.")] = BUNDLED,
) -> None:
    """Quantise, gate and bundle the model of a run."""
    source = run / "model"
    settings = read_json(source / SETTINGS)
    closed = [name for name, corpus in settings["data"].items() if not corpus["shippable"]]
    if closed:
        raise ModelError(f"the weights learned from {', '.join(closed)}, which may not be shipped")
    rows = [row for path in statements for row in read_statements(path, labelled=True)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        (folder / INT8).parent.mkdir(parents=True)
        for name in RUNTIME_FILES:
            shutil.copy(source / name, folder / name)
        export_int8(source / FP32, folder / INT8)
        write_json(folder / SETTINGS, settings | {"onnx_file": INT8})
        write_manifest(folder)
        export = Classifier.load(folder)
        # fp32 on any machine: what Classifier.load() takes on a GPU may be bf16.
        checkpoint = Classifier(export.encoder, TorchRuntime(source), "checkpoint")
        comparison = compare(checkpoint, export, rows)
        if failures := comparison.failures():
            raise ModelError("the int8 export fails its gate: " + "; ".join(failures))
        onnx = settings["onnx"] | {"int8_against_checkpoint": comparison.to_dict()}
        write_json(folder / SETTINGS, settings | {"onnx_file": INT8, "onnx": onnx})
        metrics = read_json(run / METRICS) | {"onnx": onnx}
        (folder / CARD).write_text(render_card(metrics), "utf-8")
        write_manifest(folder)
        # Beside the old one first, so that a stop leaves one of the two whole.
        fresh = shutil.copytree(folder, out.with_name(f"{out.name}.new"))
        shutil.rmtree(out, ignore_errors=True)
        fresh.rename(out)
    if out == BUNDLED:
        write_card(TEMPLATE.parent / "default", metrics)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.1f} MB\n{comparison}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except DetenteError as error:
        raise SystemExit(f"bundle_model: {error}") from None
