"""What the figures of a run depend on beside its configuration, its data and its seed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

import torch
from accelerate import PartialState

import detente
from detente.errors import EnvironmentWarning
from train.fit import computes_in_bf16

_PACKAGES: Final = (
    "accelerate", "datasets", "evaluate", "numpy", "onnxruntime", "safetensors", "scikit-learn",
    "scipy", "tokenizers", "torch", "transformers",
)  # fmt: skip
# A commit changes with every word of the documentation.
_COMPARED: Final = (
    "python", "platform", "device", "threads", "instructions", "precision", "packages",
)  # fmt: skip


def environment_of(precision: Literal["auto", "fp32", "bf16"]) -> dict[str, Any]:
    """Returns versions, device, threads and kind of numbers, and the commit of this clone.

    The same configuration, data and seed give the same figures where all of these are the same.

    Args:
        precision: As the configuration has it.
    """
    return {
        "detente": detente.__version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "device": device(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        # Which kernels torch chooses: sums come in another order with others.
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision": "bf16" if computes_in_bf16(precision) else "fp32",
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def warn_of_changes(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Warns where a run goes on under other conditions than it was started under."""
    if changed := [name for name in _COMPARED if before.get(name) != now[name]]:
        warnings.warn(
            EnvironmentWarning(
                f"{where}: the run was started with another {', '.join(changed)}, and may not end "
                "with the weights that it would have had there. Both are recorded."
            ),
            stacklevel=2,
        )


def device() -> str:
    """Returns what is trained on, in words."""
    if torch.cuda.is_available():
        return f"{PartialState().num_processes} x {torch.cuda.get_device_name()}"
    processes = PartialState().num_processes
    each = f"{processes} processes of " if processes > 1 else ""
    return f"CPU, {each}{torch.get_num_threads()} threads"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # such as onnxruntime under the name of a GPU build
        return None


def _git_commit() -> str | None:
    """Returns the commit of this clone, with a mark if it has changes, or ``None`` outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
