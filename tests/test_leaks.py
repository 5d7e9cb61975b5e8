import json

from hypothesis import given, settings
from hypothesis import strategies as st

from detente import Statement
from train.leaks import keep_out, remove_leaks
from train.near_duplicates import THRESHOLD, likeness
from train.splits import SPLITS, normalised

LONG = "Our government is deeply worried by the shelling of the hospital on the northern bank."
REWRITE = "Our government is worried by the shelling of the hospital on the northern bank!"
OTHER = "The delegation from the south will sign the fisheries accord in autumn."


def statement(text, cluster="c", number=None, **fields):
    return Statement(
        text, "FRA", label="neutral", id=number, extra={"cluster": cluster}, **fields
    )  # fmt: skip


def splits(train=(), validation=(), test=()):
    return {"train": list(train), "validation": list(validation), "test": list(test)}


texts = st.tuples(st.sampled_from([LONG, REWRITE, OTHER]), st.integers(0, 6)).map(
    lambda pair: pair[0] if pair[1] else pair[0].upper()
) | st.integers(0, 9).map("Sentence {}.".format)
corpora = st.dictionaries(
    st.sampled_from("ab"),
    st.fixed_dictionaries(
        {
            split: st.lists(
                st.builds(statement, texts, st.sampled_from("xyz"), st.integers(0, 99).map(str)),
                max_size=6,
            )
            for split in SPLITS
        }
    ),
    min_size=1,
)


def in_split(corpora, split):
    return {normalised(s.text) for splits in corpora.values() for s in splits[split]}


def repeats(key, others):
    return key in others or any(likeness(key, other) >= THRESHOLD for other in others)


@settings(max_examples=40)
@given(corpora)
def test_no_sentence_nearly_stands_in_two_splits_and_no_other_row_is_removed(corpora):
    clean, report = remove_leaks(corpora)
    train, validation, test = (in_split(clean, split) for split in SPLITS)
    assert not any(repeats(key, test) for key in validation)
    assert not any(repeats(key, validation | test) for key in train)
    assert test == in_split(corpora, "test")
    later = {"validation": test, "train": validation | test}
    for name in corpora:
        for split, others in later.items():
            expected = [s for s in corpora[name][split] if not repeats(normalised(s.text), others)]
            assert clean[name][split] == expected
    rows = [s for splits in corpora.values() for split in SPLITS for s in splits[split]]
    left = [s for splits in clean.values() for split in SPLITS for s in splits[split]]
    assert sum(sum(n.values()) for n in report.removed.values()) == len(rows) - len(left)
    assert report.checked == len(rows)


@settings(max_examples=40)
@given(corpora)
def test_removal_is_done_once_and_knows_no_order(corpora):
    clean, report = remove_leaks(corpora)
    again, second = remove_leaks(clean)
    assert again == clean and not second.examples
    backwards = {
        name: {split: rows[::-1] for split, rows in splits.items()}
        for name, splits in reversed(corpora.items())
    }
    turned, same = remove_leaks(backwards)
    for name, splits in clean.items():
        assert {split: rows[::-1] for split, rows in turned[name].items()} == splits
    assert same == report


def test_leaks_are_removed_from_the_earlier_split_across_corpora():
    a = splits(
        train=[statement("Shared."), statement(OTHER), statement(REWRITE, number="r")],
        validation=[statement("Both!")],
    )
    b = splits(test=[statement("shared"), statement("BOTH"), statement(LONG, number="t")])
    clean, report = remove_leaks({"a": a, "b": b})
    assert [s.text for s in clean["a"]["train"]] == [OTHER]
    assert clean["a"]["validation"] == [] and len(clean["b"]["test"]) == 3
    assert report.removed == {"a": {"equal": 2, "near": 1}, "b": {"equal": 0, "near": 0}}
    assert report.checked == 7
    assert "3 of 7 rows" in str(report) and "(a 2 equal and 1 near)" in str(report)


def test_a_row_stays_that_nearly_equals_only_a_removed_one():
    words = [f"word{i}" for i in range(44)]
    first, second, third = (" ".join(words[i : i + 34]) for i in (0, 5, 10))
    corpus = splits([statement(third)], [statement(second)], [statement(first)])
    clean, _ = remove_leaks({"a": corpus})
    assert clean["a"]["validation"] == [] and clean["a"]["train"] == corpus["train"]


def test_the_report_names_rows_and_never_quotes_them():
    many = [statement(f"{LONG} {i}", number=f"id{i}") for i in range(30)]
    equal = [statement(LONG, number="same")]
    _, report = remove_leaks({"a": splits(many + equal, test=[statement(LONG.lower())])})
    stored = json.dumps(report.summary())
    assert report.removed["a"] == {"equal": 1, "near": 30}
    assert len(report.examples) == 20 and "hospital" not in stored + str(report)
    kinds = [example["likeness"] for example in report.summary()["examples"]]
    assert kinds == sorted(kinds) and kinds[0] < 1
    assert report.summary()["examples"][0]["repeats"] == "a/test/(no id)"
    assert {example["removed"] for example in report.summary()["examples"]} <= {
        f"a/train/id{i}" for i in range(30)
    }


def test_repeats_within_training_are_counted_and_stay():
    a = splits([statement(LONG, "1"), statement(REWRITE, "2"), statement(OTHER, "3")])
    contrast = splits([statement(LONG, "1"), statement(REWRITE, "1")])
    clean, report = remove_leaks({"a": a, "b": contrast})
    assert report.near_in_training == {"a": 2, "b": 0}
    assert clean == {"a": a, "b": contrast}
    assert "a 2" in str(report)


def test_documents_that_are_held_out_are_kept_out_of_distillation():
    series = [
        statement("Held out.", doc_id="h"),
        statement("Also in the transcript.", doc_id="h"),
        statement("also in the transcript!", doc_id="other transcript"),
        statement("Only in the transcript.", doc_id="other transcript"),
        statement(REWRITE, doc_id="quotes"),
        statement("Free as a bird.", doc_id="quotes"),
        statement("In the news.", doc_id="n"),
        statement("Without a document."),
    ]
    held_out = [
        statement("Held out.", doc_id="h"),
        statement(LONG, doc_id="h"),
        statement("In the news.", doc_id="of another corpus"),
    ]
    rows, report = keep_out(series, {"h"}, held_out)
    assert rows == [series[5], series[7]]
    assert report.removed == {"document": 2, "linked document": 2, "equal": 1, "near": 1}
    assert (report.checked, report.documents) == (8, 2)
    assert "6 of 8 unlabelled rows" in str(report)


def test_a_document_is_also_linked_by_a_sentence_that_only_the_labelled_rows_have():
    series = [statement("One.", doc_id="x"), statement("Two.", doc_id="x")]
    rows, report = keep_out(series, {"h"}, [statement("ONE", doc_id="h")])
    assert rows == [] and report.removed["linked document"] == 2


def test_nothing_held_out_keeps_all():
    series = [statement(LONG, doc_id="x"), statement(REWRITE)]
    assert keep_out(series, set(), [])[0] == series
    assert keep_out([], {"h"}, [statement(LONG)])[0] == []
