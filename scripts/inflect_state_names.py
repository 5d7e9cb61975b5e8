"""Inflect Russian and Ukrainian names of states: ``python -m scripts.inflect_state_names``.

Writes ``data/state_names/inflected.json``, from which ``scripts/build_state_names.py`` takes the
forms. Needs the extra ``languages``: pymorphy3 with its dictionaries, of which the Russian one goes
back to OpenCorpora (CC BY-SA) and the Ukrainian one's package declares GPLv3. What is kept are the
forms of names of states.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pymorphy3
import typer

from scripts.build_state_names import INFLECTED, load_source, phrases_of

CASES = ("nomn", "gent", "datv", "accs", "ablt", "loct", "voct")
NUMBERS = ("sing", "plur")


def forms_of(phrase: str, analyser: Any) -> set[str]:  # noqa: ANN401
    """Return a phrase in every case, a lower-case word (adjective, people) in both numbers.

    Adjectives and the first noun are declined, and what else is in the nominative both declined
    and not: "Республики Корея", "Боснии и Герцеговины". Words in capitals stay as they are.
    """
    words = re.findall(r"[\w'’ʼ-]+|[^\w'’ʼ-]+", phrase)
    parses = [next(iter(_readings(word, analyser)), None) for word in words]
    common = phrase[0].islower() and len(words) == 1
    found = {phrase}
    plural = any(p and "plur" in str(p.tag) for p in parses[:1])
    for number in NUMBERS if common else (NUMBERS[plural],):
        genders = ("masc", "femn", "neut") if _is_adjective(parses[0]) and common else (None,)
        for case, gender in itertools.product(CASES, genders):
            found |= set(_in_case(words, parses, case, number, gender, analyser))
    return found


def _readings(word: str, analyser: Any) -> list[Any]:  # noqa: ANN401
    """Return the nominative readings of a word: those as a place, if there are any, or all."""
    if not word[0].isalpha() or (word.isupper() and len(word) > 1):
        return []
    readings = [
        p
        for p in analyser.parse(word)
        if "nomn" in str(p.tag)
        and p.tag.POS in ("NOUN", "ADJF", "PRTF")
        and "Fixd" not in str(p.tag)
    ]
    places = [
        p for p in readings if word[0].islower() or "Geox" in str(p.tag) or p.tag.POS != "NOUN"
    ]
    return places or readings


def _is_adjective(parse: Any) -> bool:  # noqa: ANN401
    return parse is not None and parse.tag.POS != "NOUN"


def _in_case(
    words: list[str],
    parses: list[Any],
    case: str,
    number: str,
    gender: str | None,
    analyser: Any,  # noqa: ANN401
) -> Iterator[str]:
    """Yield a phrase in one case: as far as its first noun, and as a whole."""
    declined = list(words)
    for i, (word, parse) in enumerate(zip(words, parses, strict=True)):
        if parse is None:
            continue
        of_word = "plur" if "plur" in str(parse.tag) else "sing" if len(words) > 1 else number
        features = {case, of_word}
        if gender and of_word == "sing":
            features.add(gender)
        # Ukrainian dictionaries mark the plural alone.
        form = parse.inflect(features) or parse.inflect(features - {"sing"})
        if form is None:
            continue
        declined[i] = _spelt_like(word, form.word)
        if parse.tag.POS != "NOUN" and case == "accs" and len(words) == 1:
            for animacy in ("anim", "inan"):
                if other := parse.inflect((features | {animacy}) - {"sing"}):
                    yield _spelt_like(word, other.word)
        if parse.tag.POS == "NOUN":
            # A case may have several endings: Судана and Судану.
            nouns = [p for p in _readings(word, analyser) if p.tag.POS == "NOUN"]
            for other in itertools.chain.from_iterable(noun.lexeme for noun in nouns):
                if case in other.tag and ("plur" in other.tag) == (of_word == "plur"):
                    ending = _spelt_like(word, other.word)
                    yield "".join([*declined[:i], ending, *words[i + 1 :]])
    yield "".join(declined)


def _spelt_like(word: str, form: str) -> str:
    """Return a form with the capitals of the word: after each hyphen anew."""
    parts = zip(word.split("-"), form.split("-"), strict=False)
    return "-".join(f[:1].upper() + f[1:] if w[:1].isupper() else f for w, f in parts)


def main() -> None:
    """Write data/state_names/inflected.json."""
    table: dict[str, dict[str, list[str]]] = {}
    for language in ("ru", "uk"):
        analyser = pymorphy3.MorphAnalyzer(lang=language)
        phrases = phrases_of(language, load_source(language))
        table[language] = {phrase: sorted(forms_of(phrase, analyser)) for phrase in phrases}

    def dump(value: object) -> str:
        return json.dumps(value, ensure_ascii=False)

    parts = (
        f"{dump(language)}: {{\n"
        + ",\n".join(f"{dump(phrase)}: {dump(forms)}" for phrase, forms in of.items())
        + "\n}"
        for language, of in table.items()
    )
    INFLECTED.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
