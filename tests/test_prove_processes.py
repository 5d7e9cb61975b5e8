from collections import Counter

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from conftest import ROOT

from detente import DataError, Statement
from scripts.prove_processes import figures_of, main, sample, table_of


@pytest.mark.parametrize(
    ("name", "processes"), [("cpu", 1), ("two_cpu", 2), ("gpu", 1), ("multi_gpu", -1)]
)
def test_accelerate_reads_each_configuration(name, processes):
    path = ROOT / "configs" / "accelerate" / f"{name}.yaml"
    # Of several GPUs the command has to say how many.
    assert load_config_from_file(str(path)).num_processes == processes


def test_the_sample_has_every_split_and_labelled_rows():
    rows = sample(200)
    splits = Counter(row["split"] for row in rows)
    assert set(splits) == {"train", "validation", "test"} and splits.most_common(1)[0][0] == "train"
    assert 190 <= len(rows) <= 200
    assert all(Statement.from_row(row).label for row in rows)
    with pytest.raises(DataError, match="not so many sentences"):
        sample(10**6)


def test_figures_stand_side_by_side(tiny_run):
    figures = figures_of(tiny_run)
    assert figures["updates"] > 0
    lines = table_of(figures, figures | {"macro_f1": 0.5}).splitlines()
    assert f"| macro_f1 | {figures['macro_f1']:.4f} | 0.5000 |" in lines


def test_an_odd_batch_is_refused():
    with pytest.raises(DataError, match="cannot be halved"):
        main(batch_size=5)
