import re

import pytest
from conftest import ROOT

from detente import DataError
from scripts.bench_training import main, training_flops
from train.config import load_config


@pytest.mark.filterwarnings("ignore::detente.errors.TruncationWarning")
def test_both_sides_train_and_the_table_compares_them(tiny_base, capsys):
    main(rows=8, repeats=1, base=str(tiny_base), batch_size=4)
    said = capsys.readouterr().out
    speeds = {
        name: float(speed)
        for name, speed in re.findall(r"^\| (ours|plain Trainer[^|]*) \| (\d+) \|", said, re.M)
    }
    assert set(speeds) == {"ours", "plain Trainer, padded to 128"}
    ratio = float(re.search(r"Ours is ([\d.]+) times as fast", said)[1])
    ours, plain = speeds.values()
    assert ratio == pytest.approx(ours / plain, rel=0.1)


def test_operations_are_counted_as_documented(tiny_base):
    config = load_config(ROOT / "configs" / "quick.yaml", [f"base.name={tiny_base}"])
    # Two layers of 32 units, inner width 64: 4 h² + 2 h i = 8192 parameters each.
    matrices, attention = 2 * 5 * 2 * 8192, 4 * 5 * 5 * 32 * 2
    assert training_flops(config, [5]) == 3 * (matrices + attention)
    assert training_flops(config, [5, 5]) == 2 * training_flops(config, [5])


def test_more_rows_than_there_are_are_refused(tiny_base):
    with pytest.raises(DataError, match="not so many training sentences"):
        main(rows=10**6, base=str(tiny_base))
