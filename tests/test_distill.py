import numpy as np
import pytest
from conftest import tiny_config, tiny_rows

from detente import Classifier, ConfigError, DataError, Statement
from detente.rows import write_jsonl
from train.config import Corpus
from train.corpora import load_corpus
from train.corpora.series import FILES, read_series
from train.distill import distil, label, write_soft_labels
from train.tone_metric import probabilities_of

pytestmark = pytest.mark.filterwarnings("ignore::detente.errors.OtherFileWarning")

ROWS = [
    {"id": f"{name}:{i}", "text": f"We {verb} Kenya and {i}.", "target": "KEN", "doc_id": f"d{i}"}
    for name, verb in zip(FILES, ("thank", "reject", "see"), strict=True)
    for i in range(4)
]


@pytest.fixture
def root(tmp_path):
    for name in FILES:
        rows = [row for row in ROWS if row["id"].startswith(f"{name}:")]
        write_jsonl(tmp_path / "corpora" / "series" / name, rows)
    return tmp_path / "corpora"


@pytest.fixture
def soft(root, tmp_path, tiny_model):
    statements = read_series(root)[:-1]
    path = tmp_path / "soft.parquet"
    write_soft_labels(path, statements, label(statements, [tiny_model], scratch=tmp_path / "s"))
    return path


def test_labels_are_the_mean_of_the_teachers_and_a_second_start_continues(
    root, tmp_path, tiny_model, monkeypatch
):
    statements = read_series(root)
    expected = probabilities_of(Classifier.load(str(tiny_model)).predict_batch(statements))
    found = label(statements, [tiny_model, tiny_model], scratch=tmp_path / "s")
    assert found == pytest.approx(expected, abs=0.03)  # the teacher may compute in bf16
    monkeypatch.setattr(Classifier, "predict_batch", None)
    assert (label(statements, [tiny_model, tiny_model], scratch=tmp_path / "s") == found).all()


def test_soft_labels_come_back_with_their_statements(root, soft):
    corpus = load_corpus(Corpus(name="series", path=soft), root)
    assert [s.id for s in corpus.splits["train"]] == [row["id"] for row in ROWS[:-1]]
    assert dict(corpus.dropped) == {"kept out of distillation": 1}
    for s in corpus.splits["train"]:
        p = s.extra["soft_label"]
        assert sum(p) == pytest.approx(1, abs=2e-3)
        assert s.label == ("critical", "neutral", "conciliatory")[int(np.argmax(p))]
    assert b"Kenya" not in soft.read_bytes()  # the table holds no text


def test_soft_labels_of_another_text_are_not_used(root, soft):
    changed = [row | {"text": row["text"] + " Indeed."} for row in ROWS if FILES[0] in row["id"]]
    write_jsonl(root / "series" / FILES[0], changed)
    corpus = load_corpus(Corpus(name="series", path=soft), root)
    assert corpus.dropped["the text is not the one that was labelled"] == 4
    for name in FILES[1:]:
        write_jsonl(root / "series" / name, changed)
    with pytest.raises(DataError, match="no statement of the series has a soft label"):
        load_corpus(Corpus(name="series", path=soft), root)


def test_a_table_that_is_none_is_refused(root, tmp_path):
    path = tmp_path / "soft.jsonl"
    with pytest.raises(DataError, match="no soft labels yet"):
        load_corpus(Corpus(name="series", path=path), root)
    good = {"id": "a", "text_sha1": "b", "p_critical": 0.2, "p_neutral": 0.3}
    for bad in ({}, {"p_conciliatory": 0.9}, {"p_conciliatory": "much"}):
        write_jsonl(path, [good | {"p_conciliatory": 0.5}, good | bad])
        with pytest.raises(DataError, match="row 2: not a row of soft labels"):
            load_corpus(Corpus(name="series", path=path), root)


def test_the_chain_keeps_out_what_is_asked_later(root, tmp_path, tiny_base, tiny_table, capsys):
    asked = next(row for row in tiny_rows() if row["split"] == "test")
    leak = {"id": "leak", "text": asked["text"], "target": "PER", "doc_id": "leak"}
    write_jsonl(root / "series" / FILES[0], [*ROWS[:4], leak])
    table = tmp_path / "soft.parquet"
    short = ("fit.epochs=1", f"data.root={root}", "evaluate.baselines=[]")
    teacher = tiny_config(tiny_base, tiny_table, tmp_path / "runs" / "teacher", *short)
    corpora = f"data.corpora=[{{name: file, path: {tiny_table}}}, {{name: series, path: {table}}}]"
    student = tiny_config(tiny_base, tiny_table, tmp_path / "runs" / "student", *short, corpora)

    folder = distil(teacher, student, seeds=2)
    said = capsys.readouterr().out
    learned = sum(row["split"] == "train" for row in tiny_rows())
    assert f"teacher: 2 trainings of 0 minutes each, about 0 minutes on {learned} rows" in said
    assert f"student: about 0 minutes on {learned + len(ROWS)} rows" in said
    assert said.index("student: about") < said.index("run 'quick'")  # before anything is trained
    assert sorted(p.name for p in (tmp_path / "runs").iterdir() if (p / "model").is_dir()) == [
        "student", "teacher", "teacher-8",
    ]  # fmt: skip
    seen = load_corpus(Corpus(name="series", path=table), root).splits["train"]
    assert "leak" not in {s.id for s in seen} and len(seen) == len(ROWS)
    assert (folder / "metrics.json").is_file()
    before = table.stat().st_mtime_ns
    assert distil(teacher, student, seeds=2) == folder and table.stat().st_mtime_ns == before
    assert "minutes" not in capsys.readouterr().out  # nothing is left to train
    with pytest.raises(ConfigError, match="reads no soft labels"):
        distil(student, teacher)


def test_a_statement_without_a_document_is_its_own(tmp_path, root, soft):
    lonely = [{key: row[key] for key in ("id", "text", "target")} for row in ROWS[:4]]
    write_jsonl(root / "series" / FILES[0], lonely)
    corpus = load_corpus(Corpus(name="series", path=soft), root)
    clusters = {s.extra["cluster"] for s in corpus.splits["train"]}
    assert isinstance(corpus.splits["train"][0], Statement) and lonely[0]["text"] in clusters
