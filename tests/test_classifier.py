import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import pipeline

from detente import (
    LABELS,
    Classifier,
    InputError,
    LanguageWarning,
    ModelError,
    Statement,
    TruncationWarning,
)
from detente.classifier import softmax
from detente.runtimes.torch_runtime import TorchRuntime

SENTENCES = [
    "We thank France today.",
    "We condemn Kenya today, and Kenya knows why.",
    "We mention Peru.",
    "Zebra: “1999” — we reject Japan, we praise Italy, and so on and on!",
]


@pytest.fixture(scope="module")
def classifier(tiny_model):
    return Classifier.load(tiny_model)


def probabilities(prediction):
    return np.array(list(prediction.probabilities.values()))


def test_a_prediction_holds_together(classifier):
    found = classifier.predict("We thank France today.", "Paris", source="KEN")
    assert found.label == max(found.probabilities, key=found.probabilities.get)
    assert tuple(found.probabilities) == LABELS
    assert sum(found.probabilities.values()) == pytest.approx(1)
    p = found.probabilities
    assert found.score == p["conciliatory"] - p["critical"]
    assert found.target.code == "FRA"
    assert found.source.code == "KEN" and found.span is None and found.tokens_cut == 0
    assert found.to_row()["source"] == "KEN"


def test_an_unknown_target_is_kept_as_free_text(classifier):
    assert classifier.predict("We thank Freedonia.", "Freedonia").target == "Freedonia"


@pytest.mark.parametrize("source", [None, "KEN"])
def test_plain_transformers_gives_the_same(classifier, tiny_model, source):
    plain = pipeline("text-classification", model=str(tiny_model), top_k=None)
    pair = "France" if source is None else "Kenya -> France"
    for sentence in SENTENCES:
        ours = classifier.predict(sentence, "FRA", source=source)
        theirs = {r["label"]: r["score"] for r in plain({"text": sentence, "text_pair": pair})}
        assert max(theirs, key=theirs.get) == ours.label
        for label in LABELS:
            assert theirs[label] == pytest.approx(ours.probabilities[label], abs=1e-4)


def test_the_two_runtimes_agree(classifier, tiny_model):
    torch = Classifier.load(tiny_model, runtime="torch")
    assert (classifier.runtime.name, torch.runtime.name) == ("onnx", "torch")
    batch = classifier.encoder.collate(
        classifier.encoder.encode([(s, "Japan", None) for s in SENTENCES])
    )
    difference = np.abs(classifier.runtime.logits(batch) - torch.runtime.logits(batch))
    assert difference.max() < 1e-3


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)
@given(
    order=st.lists(st.integers(0, len(SENTENCES) - 1), min_size=1, max_size=12),
    batch_size=st.integers(1, 7),
)
def test_order_padding_and_repeats_do_not_matter(classifier, order, batch_size):
    alone = [classifier.predict(s, "Peru") for s in SENTENCES]
    together = classifier.predict_batch(
        [(SENTENCES[i], "Peru") for i in order], batch_size=batch_size
    )
    assert [p.sentence for p in together] == [SENTENCES[i] for i in order]
    for i, prediction in zip(order, together, strict=True):
        np.testing.assert_allclose(probabilities(prediction), probabilities(alone[i]), atol=1e-5)


def test_statements_and_pairs_are_taken_alike(classifier):
    pair, statement = classifier.predict_batch(
        [(SENTENCES[0], "FRA"), Statement(SENTENCES[0], "France")]
    )
    assert pair == statement
    (sourced,) = classifier.predict_batch([Statement(SENTENCES[0], "FRA", source="KEN")])
    assert sourced.source.code == "KEN"
    assert classifier.predict_batch([]) == []


def test_predict_iter_is_lazy_and_in_order(classifier):
    def endless():
        i = 0
        while True:
            yield (f"We mention Peru {i}.", "PER")
            i += 1

    found = classifier.predict_iter(endless())
    assert [next(found).sentence for _ in range(3)] == [f"We mention Peru {i}." for i in range(3)]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (("", "FRA"), "statement 1: text is empty"),
        (("Yes.", " "), "statement 1: target is empty"),
        (("a\0", "FRA"), "statement 1: text holds a NUL"),
        ("no pair", "statement 1: not a statement"),
        ({"text": "a", "target": "b"}, "statement 1: not a statement"),
        (("a", "b", "c"), "statement 1: not a statement"),
        (None, "statement 1: not a statement"),
    ],
)
def test_a_bad_statement_is_named_by_its_position(classifier, statement, says):
    with pytest.raises(InputError, match=says):
        classifier.predict_batch([("Fine.", "FRA"), statement])


def test_predict_iter_keeps_two_windows_at_most(classifier, monkeypatch):
    monkeypatch.setattr("detente.classifier.WINDOW", 4)
    taken = []
    statements = ((f"We mention Peru {taken.append(i) or i}.", "PER") for i in range(100))
    found = classifier.predict_iter(statements)
    for yielded in range(20):
        assert next(found).sentence == f"We mention Peru {yielded}."
        # The window that is yielded from and the next one.
        assert len(taken) <= 4 * (yielded // 4 + 2)


def test_windows_change_nothing(classifier, monkeypatch):
    rows = [(SENTENCES[i % 4], ("Peru", "Chile", "Japan")[i % 3]) for i in range(30)]
    together = classifier.predict_batch(rows)
    monkeypatch.setattr("detente.classifier.WINDOW", 7)
    for found in (list(classifier.predict_iter(rows)), classifier.predict_batch(rows)):
        for one, other in zip(found, together, strict=True):
            assert (one.sentence, one.target) == (other.sentence, other.target)
            np.testing.assert_allclose(probabilities(one), probabilities(other), atol=1e-5)


def test_equal_statements_are_computed_once(classifier):
    computed = []

    class Counting:
        name, batch_tokens, batches_at_a_time = "counting", 1024, 1

        def logits(self, batch):
            computed.append(len(batch["input_ids"]))
            return classifier.runtime.logits(batch)

    counted = Classifier(classifier.encoder, Counting(), "counting")
    rows = [(SENTENCES[i % 2], "Peru") for i in range(50)]
    assert len(counted.predict_batch(rows)) == len(list(counted.predict_iter(rows))) == 50
    assert sum(computed) == 2 + 2


def test_predict_iter_yields_what_comes_before_a_bad_window(classifier, monkeypatch):
    monkeypatch.setattr("detente.classifier.WINDOW", 2)
    found = classifier.predict_iter([("We mention Peru.", "PER")] * 2 + [("", "PER")])
    assert [next(found).label, next(found).label]
    with pytest.raises(InputError, match="statement 2: text is empty"):
        next(found)


def test_bf16_is_close_to_fp32(classifier, tiny_model):
    batch = classifier.encoder.collate(
        classifier.encoder.encode([(s, "Japan", None) for s in SENTENCES])
    )
    exact, rounded = (TorchRuntime(tiny_model, "cpu", bf16=b).logits(batch) for b in (None, True))
    np.testing.assert_allclose(exact, classifier.runtime.logits(batch), atol=1e-3)
    assert 0 < np.abs(softmax(exact) - softmax(rounded)).max() < 0.05


def test_predict_iter_names_positions_in_the_whole_stream(classifier):
    rows = [("We mention Peru.", "PER")] * 2060 + [("", "PER")]
    with pytest.raises(InputError, match="statement 2060: text is empty"):
        list(classifier.predict_iter(rows))


def test_a_long_sentence_says_what_was_cut(classifier):
    with pytest.warns(TruncationWarning):
        found = classifier.predict("zebra " * 40 + "Japan", "Japan")
    assert found.tokens_cut > 0


RUSSIAN = "Мы благодарим Перу."
CHINESE = "我们感谢秘鲁。"


@pytest.mark.parametrize(
    "ask",
    [
        lambda c, text: c.predict(text, "PER"),
        lambda c, text: c.predict_batch([("We thank Peru.", "PER"), (text, "PER")]),
        lambda c, text: list(c.predict_iter([(text, "PER")])),
        lambda c, text: c.read(text),
    ],
)
def test_text_in_letters_that_the_model_has_not_learned_is_warned_of(classifier, ask):
    english = Classifier(classifier.encoder, classifier.runtime, "english", ["en"])
    for text, code in ((RUSSIAN, "ru"), (CHINESE, "zh")):
        with pytest.warns(LanguageWarning, match=rf"\({code}\) than the model 'english' learned"):
            ask(english, text)
    ours = Classifier(classifier.encoder, classifier.runtime, "ours", ["en", "ru", "zh"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(ours, RUSSIAN)
        ask(ours, CHINESE)
        # A model of a table that names no language has not said what it cannot read.
        ask(classifier, RUSSIAN)
        ask(english, "Perú, once more: we thank Peru “warmly”.")


def test_the_bundled_model_learned_english():
    assert Classifier.load().languages == {"en"}


def test_reading_a_document(classifier):
    document = "  We thank France and Kenya. Nothing here!\n\nKenya’s café — we reject Japan.  "
    found = classifier.read(document, source="Kenya")
    assert [(str(p.target), p.sentence) for p in found] == [
        ("France", "We thank France and Kenya."),
        ("Japan", "Kenya’s café — we reject Japan."),
    ]
    for prediction in found:
        start, end = prediction.span
        assert document[start:end] == prediction.sentence
        assert prediction.source.code == "KEN"
        assert prediction.to_row()["start"] == start
    assert [str(p.target) for p in classifier.read(document)] == [
        "France", "Kenya", "Kenya", "Japan",
    ]  # fmt: skip
    assert classifier.read("Nobody is named.") == []


@pytest.mark.parametrize("document", ["", " \n", "a\0b"])
def test_unreadable_documents_are_refused(classifier, document):
    with pytest.raises(InputError, match="document"):
        classifier.read(document)


def test_wrong_arguments(classifier, tiny_model):
    with pytest.raises(InputError, match="batch_size is not positive; got 0"):
        classifier.predict_batch([("a", "b")], batch_size=0)
    with pytest.raises(InputError, match="unknown runtime; got 'tpu'"):
        Classifier.load(tiny_model, runtime="tpu")
    with pytest.raises(ModelError, match="no such model; got 'nowhere'"):
        Classifier.load("nowhere")
    with pytest.raises(ModelError, match="a revision goes with a hub id"):
        Classifier.load(tiny_model, revision="v1")


def test_softmax_is_stable():
    found = softmax(np.array([[1000.0, 0, -1000], [0, 0, 0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3] * 3], atol=1e-12)
