"""Ray in processes of its own, as `make test-ray` runs it; skipped where ray is not installed."""

import importlib.util
import subprocess
import sys

import pytest

from detente import MissingExtraError
from detente.ray_engine import RayEngine
from detente.scoring import score
from scripts.prove_scoring import score_command, tiny_model, write_table

HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.mark.skipif(HAS_RAY, reason="ray is installed")
def test_without_ray_its_extra_is_named(tmp_path):
    model = tiny_model(tmp_path / "model")
    table = write_table(tmp_path / "in.parquet", 3)
    with pytest.raises(MissingExtraError, match=r"pip install 'detente\[ray\]'"):
        score([table], tmp_path / "out.csv", model=str(model), engine=RayEngine())


@pytest.mark.skipif(not HAS_RAY, reason="the extra ray is not installed")
def test_two_workers_write_what_one_process_writes(tmp_path):
    model = tiny_model(tmp_path / "model")
    table = write_table(tmp_path / "in.parquet", 1200)
    alone, shared = tmp_path / "alone" / "out.csv", tmp_path / "shared" / "out.csv"
    subprocess.run(score_command(table, alone, model, 100), check=True)
    command = score_command(table, shared, model, 100)
    done = subprocess.run(
        [*command, "--engine", "ray", "--workers", "2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for ending in ("", ".rejects.jsonl", ".manifest.json"):
        ours, theirs = (path.with_name(f"out.csv{ending}") for path in (shared, alone))
        assert ours.read_bytes() == theirs.read_bytes()
    # An error that a worker raises is as readable as one of this process.
    command = [*score_command(table, tmp_path / "b.csv", model, 100), "--on-error", "stop"]
    done = subprocess.run([*command, "--engine", "ray"], capture_output=True, text=True)
    assert done.returncode == 2 and "row 1: text is empty" in done.stderr
    assert "Traceback" not in done.stderr and sys.executable not in done.stderr
