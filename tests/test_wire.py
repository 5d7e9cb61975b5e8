import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from detente import InputError, Statement
from detente.labels import LABELS
from detente.openapi import document, page
from detente.wire import Limits, parse_document, parse_json, parse_question

LIMITS = Limits(statements=3, text_characters=20, document_characters=40)
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=30) | st.sampled_from(["Peru"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
keys = st.sampled_from(["text", "target", "source", "statements", "inputs", "truncate", "raw"])
bodies = st.dictionaries(keys, values | st.fixed_dictionaries({"text": values, "target": values}))


@settings(max_examples=100, deadline=None)
@given(bodies)
@example({"inputs": [["a", " -> Peru"]]})
@example({"statements": [{"text": "a", "target": float("nan")}]})
def test_any_body_is_statements_or_our_error(body):
    for parse in (parse_question, parse_document):
        try:
            found = parse(body, LIMITS)
        except InputError as error:
            json.dumps(str(error)).encode()
            continue
        for each in getattr(found, "statements", []):
            assert isinstance(each, Statement) and len(each.text) <= 20


@settings(max_examples=100, deadline=None)
@given(st.binary() | st.text().map(str.encode))
@example(b'{"a":' * 100_000)
@example(b"9" * 10_000)
def test_any_bytes_are_an_object_or_our_error(content):
    try:
        assert isinstance(parse_json(content), dict)
    except InputError:
        pass


def test_a_source_may_stand_before_the_target_of_a_pair():
    (one,) = parse_question({"inputs": ["We met.", "Kenya -> Peru"]}, LIMITS).statements
    assert (one.target, one.source) == ("Peru", "Kenya")


def test_the_document_names_the_limits_and_the_token():
    told = document(LIMITS, needs_token=True)
    statements = told["components"]["schemas"]["Statements"]["properties"]["statements"]
    assert statements["maxItems"] == 3
    assert "401" in told["paths"]["/predict"]["post"]["responses"]
    assert "401" not in document(LIMITS, needs_token=False)["paths"]["/read"]["post"]["responses"]


def test_the_page_shows_what_the_document_says_and_needs_no_script():
    shown = page(document(LIMITS, needs_token=False))
    assert "POST /read" in shown and "<script" not in shown
    assert all(label in shown for label in LABELS)
