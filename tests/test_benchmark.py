import csv
import json
import random
from string import ascii_lowercase

import numpy as np
import pytest

from detente import ConfigError
from detente.labels import LABELS
from detente.rows import write_jsonl
from scripts.benchmark import EXPERIMENTS, Experiment, main
from train.data import load_data

pytestmark = pytest.mark.filterwarnings("ignore::detente.errors.OtherFileWarning")

SAID = {"conciliatory": [0.1, 0.1, 0.8], "critical": [0.8, 0.1, 0.1]}
OTHER = {"conciliatory": "critical", "critical": "conciliatory"}


@pytest.fixture
def root(tmp_path):
    """A folder with a PLV of 60 rows, all of them invented."""
    path = tmp_path / "corpora" / "plv" / "PLV_train.tsv"
    path.parent.mkdir(parents=True)
    draws = random.Random(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(["marked_sentence", "source", "target", "gold_penta", "gold_root"])
        for i in range(60):
            verb = "thanked" if i % 2 else "rebuked"
            # Nonsense, or the sentences would repeat each other.
            goods = " ".join("".join(draws.choices(ascii_lowercase, k=6)) for _ in range(8))
            marked = f"<s>Norway</s> {verb} <t>Chile</t> over {goods}."
            table.writerow([marked, "Norway", "Chile", 1 if i % 2 else 3, "X"])
    return path.parents[1]


def finish(experiment: Experiment, root, work, wrong):
    """Writes the predictions of runs; of each seed, in which rows of a fold they are wrong."""
    for seed, every in enumerate(wrong):
        for _, config in experiment.runs(root, work, seed):
            rows = []
            for i, s in enumerate(load_data(config).all("test")):
                label = s.label if (i + 1) % every else OTHER[s.label]
                rows.append({f"p_{n}": p for n, p in zip(LABELS, SAID[label], strict=True)})
            write_jsonl(config.run.dir / "predictions.jsonl", rows)


def test_folds_are_pooled_and_seeds_averaged(root, tmp_path, capsys):
    work, page = tmp_path / "work", tmp_path / "page.md"
    folds = [e for e in EXPERIMENTS if e.corpus == "plv" and e.by == "fold"]
    assert len(folds) == 2
    for experiment in folds:
        finish(experiment, root, work, wrong=(10**6, 4))
    main(root, work, seeds=2, only=["plv"], page=page)
    said = capsys.readouterr().out
    assert "left out: official, newsmtsc, dse2qa, multicoped, umuc" in said
    lines = {}
    for line in page.read_text().splitlines()[-30:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7:
            lines[cells[0], cells[1]] = cells[2:]
    rows, mean, _, deviation, command = lines["plv, other folds", "MiniLM (2 seeds)"]
    assert rows == "60" and command.startswith("`python -m train configs/plv.yaml")
    # One seed is always right, the other in all but every fourth row of a fold.
    found = json.loads(next(work.glob("trained-plv-plv-minilm-*-2.json")).read_text())[0]
    first, second = 1.0, 2 * found["macro_f1"] - 1.0
    assert 0.7 < second < 0.9
    assert float(mean) == pytest.approx(100 * (first + second) / 2, abs=0.06)
    assert float(deviation) == pytest.approx(100 * np.std([first, second], ddof=1), abs=0.06)
    assert ("plv, other folds", "tfidf") in lines and ("plv", "bundled model") in lines

    # Nothing is measured again, and what was not asked for stays.
    main(root, work, seeds=2, only=["plv"], trained=False, page=page)
    assert "measured" not in capsys.readouterr().out
    assert "plv, other folds" in page.read_text()


def test_every_training_has_a_valid_configuration_and_a_folder_of_its_own(tmp_path):
    folders = []
    for experiment in EXPERIMENTS:
        if experiment.by != "debate":  # which debates there are, the corpus says
            runs = list(experiment.runs(tmp_path, tmp_path / "work", 0))
            folders += [config.run.dir for _, config in runs]
            for held_out, config in runs:
                tested, *beside = config.data.corpora
                assert tested.test and not any(corpus.test for corpus in beside)
                assert tested.train != experiment.unseen
                assert str(tested.hold_out or "") == held_out
                # A corpus of which a part is held out has another name, and some are not there.
                assert config.evaluate.representative is None
    assert len(set(folders)) == len(folders)


def test_an_unknown_corpus_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"--only: no such corpus; got \['pvl'\]"):
        main(tmp_path, tmp_path, only=["pvl"])
