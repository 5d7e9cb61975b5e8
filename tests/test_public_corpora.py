"""Adapters of public corpora: every sentence here is invented, in the format of the corpus."""

import csv
import os
import warnings
from pathlib import Path

import pytest

from detente import ConfigError, DataError
from detente.errors import OtherFileWarning
from detente.labels import LABELS
from train.config import Corpus, HoldOut
from train.corpora import load_corpus
from train.corpora.__main__ import NAMES, meaning_table, rows_table
from train.splits import SPLITS

ROOT = Path(__file__).resolve().parents[1]
NEW = ("plv", "dse2qa", "multicoped", "umuc", "rusentne")
_FOLDER = os.environ.get("DETENTE_CORPORA")
real = pytest.mark.skipif(not _FOLDER, reason="DETENTE_CORPORA names no folder")
# Files of ours are not the files that the figures were made on.
pytestmark = pytest.mark.filterwarnings("ignore::detente.errors.OtherFileWarning")


def plv_file(*rows):
    head = "\tsentence_id\tsentence\tmarked_sentence\tsource\ttarget\tgold_penta\tgold_root"
    return "\r\n".join([head, *("\t".join(["", *row]) for row in rows), ""])


def plv_row(number, gold="1", root="SUPPORT"):
    text = f'Norway said "yes to Chile {number} times.'
    marked = text.replace("Norway", "<s>Norway</s>").replace("Chile", "<t>Chile</t>")
    return [str(number), text, marked, "Norway ", "Chile", gold, root]


def dse_file(*rows):
    return "".join("\t".join(row) + "\n" for row in rows)


def dse_row(label="3", number=1):
    text = f"[Norway] had words for [the United State]s over {number} fish."
    return [text, "Norway", "the United State", label]


def umuc_file(*rows):
    columns = list(umuc_row())
    lines = [columns, *([row[c] for c in columns] for row in rows)]
    return "".join(",".join(f'"{c}"' for c in line) + "\n" for line in lines)


def umuc_row(text="We met.", debate="7165", state="France", **cells):
    row = {
        "": "1", "filename": f"UNSC_2014_SPV.{debate}_spch004_preproc_{state}.txt",
        "fileid": f"UNSC_2014_SPV.{debate}_spch004", "speech_sentence_id": "0", "text": text,
        "A0_Negative_Evaluation": "_", "A4_Country_Name": "_", "A4_Country_Name_2": "_",
        "B1_ChallengeType": "_", "B3_Country_Name": "_", "B3_Country_Name_2": "_",
    }  # fmt: skip
    return row | cells


def rusentne_file(*rows):
    head = "sentence\tentity\tentity_tag\tentity_pos_start_rel\tentity_pos_end_rel\tlabel"
    return "\n".join([head, *("\t".join(row) for row in rows), ""])


def rusentne_row(label="-1", number=1):
    text = f'"Посол ""Утро"" {number} раз упрекнул Чили."'
    return [text, "Чили", "COUNTRY", "0", "4", label]


TOKENS = """\
Norway B-S
's I-S
envoy I-S
thanked O
Chile B-T
and O
Peru B-T
. O

Japan B-R
met O
Ghana B-R
. O

Kenya B-S
and O
Egypt B-S
left O
the B-T
pact I-T
( I-T
U.S. I-T
) I-T
. O
"""
CLASSES = """\
Norway’s envoy thanked Chile and Peru.\t1
Japan met Ghana.\t1
Kenya and Egypt left the “pact (U.S)”.\t3
Italy spoke.\t0
Nobody marked this one.\t4
"""


def write(root, corpus, **files):
    """Writes the files of a corpus, named without their ending, and returns the root."""
    names = {
        "PLV_train": "tsv", "train": "txt", "valid": "txt", "cameo_class_train": "tsv",
        "cameo_ner_train": "txt", "umuc_main_conflicts_sents": "csv", "train_data": "csv",
    }  # fmt: skip
    (root / corpus).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / corpus / f"{name}.{names[name]}").write_text(text, "utf-8", newline="")
    return root


def load(name, root):
    corpus = load_corpus(Corpus(name=name), root)
    allowed = {labels[0] for labels in corpus.info.contrast}
    assert {s.label for s in everything(corpus)} <= allowed
    ids = [s.id for s in everything(corpus)]
    assert len(set(ids)) == len(ids)
    return corpus


def everything(corpus):
    return [s for split in SPLITS for s in corpus.splits[split]]


def test_plv_reads_cooperation_and_conflict_of_a_marked_pair(tmp_path):
    golds = [("1", "AGREE"), ("2", "AID"), ("3", "ACCUSE"), ("4", "ASSAULT")]
    rows = [plv_row(i, *golds[i % 4]) for i in range(40)]
    text = "Somebody struck Chile."
    stand_in = ["41", text, "Somebody struck <t>Chile</t>.", "An actor", "Chile", "4", "ASSAULT"]
    corpus = load("plv", write(tmp_path, "plv", PLV_train=plv_file(*rows, stand_in)))
    by_text = {s.text: s for s in everything(corpus)}
    assert len(by_text) == 41 and not any("<" in text for text in by_text)
    first = by_text['Norway said "yes to Chile 2 times.']
    assert (first.source, first.target, first.label) == ("Norway", "Chile", "critical")
    assert (first.extra["gold_penta"], first.extra["gold_root"]) == ("3", "ACCUSE")
    assert by_text[text].source is None
    assert corpus.info.contrast == (("critical",), ("conciliatory",))


@pytest.mark.parametrize(
    ("label", "tone", "source", "target"),
    [
        ("0", "neutral", "Norway", "the United States"),
        ("1", "conciliatory", "Norway", "the United States"),
        ("2", "conciliatory", "the United States", "Norway"),
        ("3", "critical", "Norway", "the United States"),
        ("4", "critical", "the United States", "Norway"),
    ],
)
def test_dse2qa_follows_the_direction(tmp_path, label, tone, source, target):
    rows = dse_file(dse_row(label))
    corpus = load("dse2qa", write(tmp_path, "dse2qa", train=dse_file(), valid=rows))
    (s,) = corpus.splits["test"]
    assert (s.label, s.source, s.target) == (tone, source, target)
    assert s.text == "Norway had words for the United States over 1 fish."
    assert s.extra["states"] is True


def test_dse2qa_leaves_out_what_is_no_question_or_has_two_answers(tmp_path):
    rows = [
        dse_row("3", 1), dse_row("3", 1), dse_row("0", 2), dse_row("4", 2),
        ["The party[’]s rule vexed [Smith’]s.", "’", "Smith’", "0"],
        ['"A ""bold"" [Bo Jones’]s thanked [Chile]."', "Bo Jones’", "Chile", "1"],
    ]  # fmt: skip
    corpus = load("dse2qa", write(tmp_path, "dse2qa", train=dse_file(), valid=dse_file(*rows)))
    assert corpus.dropped == {
        "the same row again": 1, "labelled in two ways": 2, "an entity is a punctuation mark": 1,
    }  # fmt: skip
    assert [(s.text, s.source, s.target, s.extra["states"]) for s in corpus.splits["test"]] == [
        (
            "Norway had words for the United States over 1 fish.",
            "Norway", "the United States", True,
        ),
        ('A "bold" Bo Jones’s thanked Chile.', "Bo Jones", "Chile", False),
    ]  # fmt: skip


def test_dse2qa_keeps_the_authors_test_and_takes_a_tenth_for_validation(tmp_path):
    train = dse_file(*(dse_row("3", i) for i in range(100)))
    valid = dse_file(*(dse_row("1", i) for i in range(100, 110)))
    corpus = load("dse2qa", write(tmp_path, "dse2qa", train=train, valid=valid))
    sizes = [len(corpus.splits[split]) for split in SPLITS]
    assert sum(sizes[:2]) == 100 and 0 < sizes[1] < 30 and sizes[2] == 10


def test_multicoped_finds_whom_a_sentence_is_about(tmp_path):
    files = {"cameo_class_train": CLASSES, "cameo_ner_train": TOKENS}
    corpus = load("multicoped", write(tmp_path, "multicoped", **files))
    assert corpus.dropped == {
        "class 0, statement or appeal: no clean neutral": 1,
        "not in the token file": 1,
        "no target is marked": 1,
    }
    found = sorted((s.id, s.source, s.target, s.label) for s in everything(corpus))
    assert found == [
        ("multicoped:1:0", "Norway’s envoy", "Chile", "conciliatory"),
        ("multicoped:1:1", "Norway’s envoy", "Peru", "conciliatory"),
        ("multicoped:3:0", None, "the “pact (U.S)", "critical"),
    ]


def test_umuc_is_critical_toward_the_state_annotated(tmp_path):
    rows = [
        umuc_row("Shame!", A0_Negative_Evaluation="Direct_NegEval",
                 A4_Country_Name="russian_federation", A4_Country_Name_2="ukraine"),
        umuc_row("That is not so.", state="Ukraine", B1_ChallengeType="Challenge",
                 B3_Country_Name="united_states_of_america"),
    ]  # fmt: skip
    root = write(tmp_path, "umuc", umuc_main_conflicts_sents=umuc_file(*rows))
    corpus = load("umuc", root)
    assert [(s.source, s.target, s.label) for s in everything(corpus)] == [
        ("FRA", "RUS", "critical"), ("FRA", "UKR", "critical"), ("UKR", "USA", "critical"),
    ]  # fmt: skip
    assert not corpus.dropped


def test_umuc_is_not_critical_toward_speakers_that_a_sentence_without_conflict_names(tmp_path):
    rows = [
        umuc_row("France thanks Russia,\nUkraine and Kenya.", speech_sentence_id="1"),
        umuc_row("Kenya was named.", state="Russian_Federation"),
        umuc_row("Ukraine speaks.", state="Ukraine"),
    ]
    root = write(tmp_path, "umuc", umuc_main_conflicts_sents=umuc_file(*rows))
    corpus = load("umuc", root)
    assert [(s.text, s.source, s.target, s.label) for s in everything(corpus)] == [
        ("France thanks Russia, Ukraine and Kenya.", "FRA", "RUS", "neutral"),
        ("France thanks Russia, Ukraine and Kenya.", "FRA", "UKR", "neutral"),
    ]
    assert corpus.info.contrast == (("critical",), ("neutral", "conciliatory"))
    assert corpus.dropped == {"no conflict, and no other state of the debate is named": 2}


def test_umuc_holds_out_a_debate_and_splits_the_rest_by_speech(tmp_path):
    rows = [
        umuc_row(
            f"Shame on speech {speech} of {debate}!", debate,
            fileid=f"UNSC_2014_SPV.{debate}_spch{speech:03}",
            A0_Negative_Evaluation="Direct_NegEval", A4_Country_Name="ukraine",
        )
        for debate in ("7138", "7165", "7658") for speech in range(30)
    ]  # fmt: skip
    root = write(tmp_path, "umuc", umuc_main_conflicts_sents=umuc_file(*rows))
    spec = Corpus(name="umuc", hold_out=HoldOut(debate="SPV.7165"))
    corpus = load_corpus(spec, root)
    assert corpus.info.name == "umuc-debate-SPV.7165"
    assert {s.extra["debate"] for s in corpus.splits["test"]} == {"SPV.7165"}
    assert [len(corpus.splits[split]) > 0 for split in SPLITS] == [True] * 3
    assert len(corpus.splits["test"]) == 30 and len(everything(corpus)) == 90
    spec = Corpus(name="umuc", hold_out=HoldOut(debate="SPV.1"))
    with pytest.raises(ConfigError, match="no row is held out.*one of SPV.7138, SPV.7165"):
        load_corpus(spec, root)


def test_umuc_counts_the_rows_without_a_target(tmp_path):
    rows = [
        umuc_row("\n\n"),
        umuc_row("Some here lie.", A0_Negative_Evaluation="Indirect_NegEval",
                 A4_Country_Name="-NONE-"),
        umuc_row("It was two.", B1_ChallengeType="Correction"),
    ]  # fmt: skip
    root = write(tmp_path, "umuc", umuc_main_conflicts_sents=umuc_file(*rows))
    corpus = load("umuc", root)
    assert everything(corpus) == []
    assert corpus.dropped == {
        "no sentence": 1,
        "the target is no country (-NONE-)": 1,
        "conflict without a target": 1,
    }


def test_umuc_never_learns_from_a_debate_that_it_does_not_know(tmp_path):
    cells = {"A0_Negative_Evaluation": "Direct_NegEval", "A4_Country_Name": "ukraine"}
    debates = {"7165": "train", "7658": "train", "7138": "validation", "7154": "test", "1": "test"}
    rows = [umuc_row("Shame!", debate, **cells) for debate in debates]
    root = write(tmp_path, "umuc", umuc_main_conflicts_sents=umuc_file(*rows))
    corpus = load("umuc", root)
    found = {s.extra["cluster"]: split for split in SPLITS for s in corpus.splits[split]}
    assert found == {f"SPV.{debate}": split for debate, split in debates.items()}


def test_rusentne_is_read_with_quotation_marks(tmp_path):
    rows = [rusentne_row(label, i) for i, label in enumerate(["-1", "0", "1"] * 10)]
    corpus = load("rusentne", write(tmp_path, "rusentne", train_data=rusentne_file(*rows)))
    by_id = {s.id: s for s in everything(corpus)}
    assert [by_id[f"rusentne:{i}"].label for i in (1, 2, 3)] == list(LABELS)
    assert by_id["rusentne:1"].text == 'Посол "Утро" 0 раз упрекнул Чили.'
    assert by_id["rusentne:1"].target == "Чили" and corpus.info.language == "ru"
    assert by_id["rusentne:1"].extra["entity_tag"] == "COUNTRY"


BAD = {
    "plv: unknown label": (
        "plv", {"PLV_train": plv_file(plv_row(1), plv_row(2, "0"))},
        r"PLV_train\.tsv, row 2: unknown label; got '0'; expected one of 1, 2, 3, 4",
    ),
    "plv: missing column": (
        "plv", {"PLV_train": plv_file(plv_row(1)).replace("gold_penta", "penta_L1")},
        r"PLV_train\.tsv, row 1: the column 'gold_penta' is missing",
    ),
    "plv: blank target": (
        "plv", {"PLV_train": plv_file([*plv_row(1)[:4], " ", "1", "AID"])},
        r"PLV_train\.tsv, row 1: target is empty",
    ),
    "dse2qa: unknown label": (
        "dse2qa", {"train": dse_file(dse_row("0"), dse_row("5")), "valid": ""},
        r"train\.txt, row 2: unknown label; got '5'; expected one of 0, 1, 2, 3, 4",
    ),
    "dse2qa: missing column": (
        "dse2qa", {"train": dse_file(dse_row()), "valid": dse_file(dse_row()[:3])},
        r"valid\.txt, row 1: the row has more or fewer cells.*expected 4 cells",
    ),
    "dse2qa: other brackets": (
        "dse2qa", {"train": dse_file(["[Norway] and Chile met.", "Norway", "Chile", "0"]),
                   "valid": ""},
        r"train\.txt, row 1: the brackets do not hold the two entities; got \['Norway'\]",
    ),
    "multicoped: unknown label": (
        "multicoped", {"cameo_class_train": CLASSES + "Oslo fell.\t7\n", "cameo_ner_train": TOKENS},
        r"cameo_class_train\.tsv, row 6: unknown label; got '7'",
    ),
    "multicoped: missing column": (
        "multicoped", {"cameo_class_train": "Oslo fell.\n", "cameo_ner_train": TOKENS},
        r"cameo_class_train\.tsv, row 1: the row has more or fewer cells",
    ),
    "multicoped: unknown tag": (
        "multicoped", {"cameo_class_train": CLASSES, "cameo_ner_train": TOKENS + "fell B-X\n"},
        r"cameo_ner_train\.txt, row 25: not a token and its tag; got 'fell B-X'",
    ),
    "umuc: unknown label": (
        "umuc", {"umuc_main_conflicts_sents":
                 umuc_file(umuc_row(), umuc_row(A0_Negative_Evaluation="PosEval"))},
        r"umuc_main_conflicts_sents\.csv, row 2: unknown label; got 'PosEval'",
    ),
    "umuc: missing column": (
        "umuc", {"umuc_main_conflicts_sents":
                 umuc_file(umuc_row()).replace("B1_ChallengeType", "B1")},
        r"umuc_main_conflicts_sents\.csv, row 1: the column 'B1_ChallengeType' is missing",
    ),
    "umuc: another file name": (
        "umuc", {"umuc_main_conflicts_sents": umuc_file(umuc_row(filename="speech.txt"))},
        r"row 1: the file name tells neither debate nor speaker; got 'speech\.txt'",
    ),
    "rusentne: unknown label": (
        "rusentne", {"train_data": rusentne_file(rusentne_row(), rusentne_row("2"))},
        r"train_data\.csv, row 2: unknown label; got '2'; expected one of -1, 0, 1",
    ),
    "rusentne: missing column": (
        "rusentne", {"train_data": rusentne_file(rusentne_row()).replace("\tlabel", "\tl")},
        r"train_data\.csv, row 1: the column 'label' is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_row_that_cannot_be_read_is_named_with_its_file(tmp_path, case):
    name, files, message = BAD[case]
    with pytest.raises(DataError, match=message):
        load_corpus(Corpus(name=name), write(tmp_path, name, **files))


@pytest.mark.parametrize("name", NEW)
def test_a_missing_file_names_the_script_that_fetches_it(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}.*no such corpus file.*scripts\.fetch_corpora"):
        load_corpus(Corpus(name=name), tmp_path)


def test_a_file_with_another_checksum_is_read_with_a_warning(tmp_path):
    root = write(tmp_path, "rusentne", train_data=rusentne_file(rusentne_row()))
    with pytest.warns(OtherFileWarning, match=r"train_data\.csv: not the file .*expected 75c443ab"):
        corpus = load_corpus(Corpus(name="rusentne"), root)
    assert len(everything(corpus)) == 1


def test_tables_count_rows_by_label_and_split(tmp_path):
    rows = [umuc_row("\n\n")] * 1200 + [
        umuc_row("Shame!", A0_Negative_Evaluation="Direct_NegEval", A4_Country_Name="ukraine"),
        umuc_row("Shame!", "7154", A0_Negative_Evaluation="Direct_NegEval",
                 A4_Country_Name="ukraine"),
        umuc_row("Chile listens to France.", "7154", "Chile"),
        umuc_row("France listens.", "7154"),
    ]  # fmt: skip
    root = write(tmp_path, "umuc", umuc_main_conflicts_sents=umuc_file(*rows))
    corpora = [load_corpus(Corpus(name="umuc"), root)]
    line = rows_table(corpora).splitlines()[2]
    assert line.startswith("| umuc | CC BY-SA (share-alike) | Zaczynska")
    assert "| 0 / 0 / 0 | 0 / 0 / 0 | 1 / 1 / 0 | 1 | no sentence: 1,200; no conflict, and" in line
    assert "| umuc | en |" in meaning_table(corpora)
    assert "| critical / neutral or conciliatory |" in meaning_table(corpora)


@pytest.fixture(scope="module")
def real_corpora():
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherFileWarning)
        return [load_corpus(Corpus(name=name), Path(_FOLDER)) for name in NAMES]


@real
def test_rows_of_our_copy_are_kept_or_counted(real_corpora):
    by_name = {corpus.info.name: corpus for corpus in real_corpora}
    for name in NEW:
        corpus = by_name[name]
        statements = everything(corpus)
        assert {s.label for s in statements} == {labels[0] for labels in corpus.info.contrast}
        assert all(s.extra["cluster"] for s in statements)
        assert all(corpus.splits[split] for split in SPLITS)
        ids = [s.id for s in statements]
        assert len(set(ids)) == len(ids)
    root = Path(_FOLDER)
    assert not any(mark in s.text for s in everything(by_name["plv"]) for mark in ("<", ">"))
    assert not any(mark in s.text for s in everything(by_name["dse2qa"]) for mark in "[]")
    lines = sum(
        len((root / "dse2qa" / file).read_text("utf-8").splitlines())
        for file in ("train.txt", "valid.txt")
    )
    dse = by_name["dse2qa"]
    assert len(everything(dse)) + sum(dse.dropped.values()) == lines
    with (root / "umuc" / "umuc_main_conflicts_sents.csv").open(encoding="utf-8") as file:
        rows = sum(1 for _ in csv.DictReader(file))
    umuc = by_name["umuc"]
    sentences = {s.id.rpartition(":")[0] for s in everything(umuc)}
    assert len(sentences) + sum(umuc.dropped.values()) == rows


@real
def test_the_page_shows_what_the_adapters_count(real_corpora):
    page = (ROOT / "docs" / "corpora.md").read_text("utf-8")
    for line in f"{rows_table(real_corpora)}\n{meaning_table(real_corpora)}".splitlines():
        assert line in page.splitlines()
