"""What the pages show is what comes out."""

import doctest

import pytest
from conftest import ROOT

import detente


@pytest.mark.parametrize("page", ["README.md", "docs/predict.md"])
def test_the_examples_of_a_page_come_out_as_shown(page):
    # The fence that ends an example is no part of what it prints.
    text = (ROOT / page).read_text("utf-8").replace("\n```\n", "\n\n")
    examples = doctest.DocTestParser().get_doctest(text, {"detente": detente}, page, page, 0)
    assert examples.examples
    assert doctest.DocTestRunner(verbose=False).run(examples).failed == 0
