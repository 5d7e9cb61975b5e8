"""A few of the inputs of `make fuzz`, and each that once did harm: read, or refused by an error."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.fuzz import NAMES
from scripts.fuzz_targets import SEEDS, TARGETS

PIECES = [
    *(s[i : i + 9] for seeds in SEEDS.values() for s in seeds for i in range(0, len(s), 9)),
    b"{", b"[", b'"', b"\\ud800", b"\n", b"\r", b",", b":", b"\x00", b"\xff", b"\xc3\xa9", b"- ",
    b"!!python/object:os.system", b"&a", b"*a", b"<<", b"%YAML 1.1\n---\n", b"1e999", b"0o7", b"~",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_read_or_refused(name):
    for seed in SEEDS[name]:
        TARGETS[name](seed)


LAUGHS = b"".join(
    b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("k"))
)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 1000,
        b"run: " + b"- " * 1000,
        b"fit.epochs=" + b"[" * 500,
        b"a: &a [x]\n" + LAUGHS + b"run: *j",  # nine to the ninth
        b"run: &a {x: *a, name: *a}\ndata: *a\nbase: *a",
        b"a: !!int ''",
        b"a: !!bool x",
        b"fit.epochs=!!bool x",
        b"a: " + b"9" * 5000,
    ],
    ids=lambda data: data[:20].decode(),
)
def test_what_once_did_harm_to_the_reader_of_configurations(data):
    TARGETS["config"](data)


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(data=st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(PIECES)).map(b"".join)))
def test_any_bytes_are_read_or_refused_by_an_error_of_ours(name, data):
    TARGETS[name](data)
