"""Write what states are called in other languages: ``python -m scripts.build_state_names``.

For each language, merges the names of Unicode CLDR, read through babel, with
``data/state_names/LANGUAGE.yaml`` and writes ``src/detente/state_names/LANGUAGE.json``; ``--check``
only compares. Russian and Ukrainian words are inflected beforehand, by
``scripts/inflect_state_names.py``, into ``data/state_names/inflected.json``, so that this script
needs no dictionary. Names that two languages of one script give to two states are reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from babel import Locale
from babel.core import get_global
from ruamel.yaml import YAML

from detente.languages import IN_LATIN, LANGUAGES, key_of
from scripts import build_states

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "data" / "state_names"
INFLECTED = SOURCES / "inflected.json"
OUTPUT = ROOT / "src" / "detente" / "state_names"

OTHERS = tuple(language for language in LANGUAGES if language != "en")
KEYS = {
    *("states", "lookup", "ambiguous", "inside", "halves", "phrases", "blocked", "not_cldr"),
    *("surnames", "letters", "before", "after", "not_sides", "not_capitals"),
}
MORE_LOCALES = {"zh": ("zh_Hant",)}
"""Locales beside the language's own whose names of states count."""
NO_BLANKS = {"zh", "ja", "ko"}

Source = Mapping[str, Any]


class SourceError(ValueError):
    """A file of ``data/state_names`` contradicts itself, or lacks something."""


def build(language: str, source: Source, inflected: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the contents of ``state_names/LANGUAGE.json``.

    Args:
        language: ISO 639 code.
        source: ``data/state_names/LANGUAGE.yaml``, read.
        inflected: The forms of each phrase, for languages that are inflected beforehand.

    Raises:
        SourceError: A key or a code is unknown, a name belongs to two states, or a phrase has not
            been inflected.
    """
    unknown = (set(source) - KEYS) | (set(source["states"]) - set(_codes()))
    if unknown:
        raise SourceError(f"{language}: unknown keys {sorted(unknown)}")

    def forms(phrases: Iterable[str]) -> list[str]:
        found = {form for phrase in phrases for form in _forms(language, phrase, inflected)}
        return sorted(found)

    lemmas = names_of(language, source)
    names = {code: forms(lemmas[code]) for code in sorted(lemmas) if lemmas[code]}
    blocked = [*source.get("blocked", []), *_territories(language, source, names)]
    phrases = dict.fromkeys([*forms(blocked), *forms(source.get("ambiguous", {}))], "")
    phrases |= _set_phrases(source)
    for phrase, codes in source.get("phrases", {}).items():
        phrases |= dict.fromkeys(_forms(language, phrase, inflected), codes)
    lookup = {
        form: code for code, listed in source.get("lookup", {}).items() for form in forms(listed)
    }
    for name, codes in source.get("ambiguous", {}).items():
        lookup |= dict.fromkeys(_forms(language, name, inflected), codes)
    _check_unique(language, names, phrases)
    return {
        "names": names,
        "inside": forms(source.get("inside", [])),
        "surnames": source.get("surnames", []),
        "halves": source.get("halves", {}),
        "phrases": dict(sorted(phrases.items())),
        "lookup": dict(sorted(lookup.items())),
    }


def names_of(language: str, source: Source) -> dict[str, list[str]]:
    """Return the uninflected names by which each state is found in text."""
    not_searched = {
        *source.get("ambiguous", {}),
        *source.get("not_cldr", []),
        *(name for listed in source.get("lookup", {}).values() for name in listed),
    }
    found: dict[str, list[str]] = {}
    for code in _codes():
        capitals = set(_capitals(language, code)).difference(source.get("not_capitals", []))
        names = {*_cldr_names(language, code), *capitals} - not_searched
        found[code] = sorted({*names, *source["states"].get(code, [])})
    return found


def phrases_of(language: str, source: Source) -> list[str]:
    """Return every phrase of which the forms are wanted."""
    territories = [
        name for name in Locale(language).territories.values() if not re.search(r"[(\d]", name)
    ]
    listed = [name for names in names_of(language, source).values() for name in names]
    lookup = [name for names in source.get("lookup", {}).values() for name in names]
    rest = [source.get(key, []) for key in ("ambiguous", "phrases", "blocked")]
    return sorted({*listed, *lookup, *territories, *(name for part in rest for name in part)})


@cache
def _codes() -> dict[str, Mapping[str, Any]]:
    source = _english()
    return {
        code: entry for section in build_states.SECTIONS for code, entry in source[section].items()
    }


@cache
def _load(path: Path) -> Any:  # noqa: ANN401
    return YAML(typ="safe").load(path)


def _english() -> Source:
    read: Source = _load(build_states.SOURCE)
    return read


def _cldr_names(language: str, code: str) -> Iterator[str]:
    """Yield CLDR's names of a state: "Myanmar (Burma)" is two, "刚果（金）" is one."""
    if code in _english()["historical"]:
        return
    territory = {"XKX": "XK"}.get(code) or build_states._cldr_code(code)
    for locale in (language, *MORE_LOCALES.get(language, ())):
        name = Locale.parse(locale).territories.get(territory)
        if name is None:
            continue
        outer, _, inner = name.partition(" (")
        yield outer
        if inner:
            yield inner.rstrip(")")


def _capitals(language: str, code: str) -> Iterator[str]:
    """Yield the capitals that CLDR knows as the city of a time zone."""
    cities = _cities(language)
    for city in _codes()[code].get("capital", []):
        yield from cities.get(city, [])


@cache
def _cities(language: str) -> dict[str, list[str]]:
    """Return CLDR's names of the cities of time zones, by the English ones.

    Where a language in Latin script calls a city as its zone is called, CLDR has no name.
    """
    english = Locale("en").time_zones
    zones = Locale(language).time_zones
    found: dict[str, list[str]] = {}
    for zone in sorted({*zones, *get_global("zone_territories")}):
        city = english.get(zone, {}).get("city") or zone.split("/")[-1].replace("_", " ")
        name = zones.get(zone, {}).get("city") or (city if language in IN_LATIN else None)
        if name:
            # CLDR hyphenates a German city, and tells one in Libya from one in Lebanon.
            found.setdefault(city, []).append(name.replace("\u00ad", "").partition(" (")[0])
    return found


def _territories(language: str, source: Source, names: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield CLDR's regions and dependencies that contain a state's name."""
    known = {name for forms in names.values() for name in forms}
    known |= {name for listed in source.get("lookup", {}).values() for name in listed}
    known |= {*source.get("ambiguous", {}), *source.get("not_cldr", [])}
    for territory in Locale(language).territories.values():
        if territory in known or key_of(territory, language) is None:
            continue
        inside = territory if language in NO_BLANKS else f" {territory} ".replace("-", " ")
        if any((name if language in NO_BLANKS else f" {name} ") in inside for name in known):
            yield territory


def _set_phrases(source: Source) -> Iterator[tuple[str, str]]:
    """Yield the phrases in which one character stands for a state, and those that look like one."""
    for letter, code in source.get("letters", {}).items():
        for before in source["before"].get(letter, []):
            yield f"{before}[{letter}]", code
        for after in source["after"].get(letter, []):
            yield f"[{letter}]{after}", code
            if after == "方":
                yield from ((f"{letter}{after}{rest}", "") for rest in source["not_sides"])


def _check_unique(
    language: str, names: Mapping[str, list[str]], phrases: Mapping[str, str]
) -> None:
    owners: dict[str, str] = {}
    blocked = {key_of(phrase, language) for phrase in phrases}
    found = [f"{phrase!r} can never match" for phrase in phrases if not key_of(phrase, language)]
    for code, forms in names.items():
        for form in forms:
            key = key_of(form, language)
            if key is None:
                found.append(f"{form!r} of {code} can never match")
            elif key not in blocked and owners.setdefault(key, code) != code:
                found.append(f"{form!r} belongs to {owners[key]} and to {code}")
    if found:
        raise SourceError(f"{language}: {'; '.join(found)}")


# --- Forms -----------------------------------------------------------------------------------


def _forms(language: str, phrase: str, inflected: Mapping[str, list[str]]) -> Iterable[str]:
    if language in ("ru", "uk"):
        if phrase not in inflected:
            raise SourceError(
                f"{language}: run python -m scripts.inflect_state_names: {phrase!r} has no forms"
            )
        return inflected[phrase]
    inflect = _PARADIGMS.get(language)
    return {phrase, *inflect(phrase)} if inflect else [phrase]


def _spanish(phrase: str) -> Iterator[str]:
    if phrase[0].isupper() or " " in phrase:
        return
    if phrase.endswith("o"):
        yield from (phrase[:-1] + ending for ending in ("a", "os", "as"))
    elif phrase.endswith("és"):
        yield from (phrase[:-2] + ending for ending in ("esa", "eses", "esas"))
    elif phrase.endswith(("án", "ín", "ón")):
        plain = phrase[:-2] + {"á": "a", "í": "i", "ó": "o"}[phrase[-2]] + "n"
        yield from (plain + ending for ending in ("a", "es", "as"))
    elif phrase.endswith(("l", "r")):
        yield from (phrase + ending for ending in ("a", "es", "as"))
    elif phrase.endswith("í"):
        yield from (phrase + "es", phrase + "s")
    else:
        yield phrase + "s"


def _french(phrase: str) -> Iterator[str]:
    if " " in phrase or phrase.isupper():
        return
    if phrase.endswith(("ien", "éen", "yen")):
        endings = ["", "s", "ne", "nes"]
    elif phrase.endswith("e"):
        endings = ["", "s"]
    elif phrase.endswith(("s", "x")):
        endings = ["", "e", "es"]
    elif phrase[0].islower():
        endings = ["", "s", "e", "es"]
    else:
        return
    if phrase[0].islower():
        yield from (phrase + ending for ending in endings)


def _german(phrase: str) -> Iterator[str]:
    if phrase.endswith(("isch", "deutsch")):
        yield from (phrase + ending for ending in ("e", "er", "es", "en", "em"))
    elif phrase[0].isupper() and not phrase.isupper() and phrase[-1] not in "sxz":
        yield phrase + "s"
        if phrase.endswith("er"):
            yield from (phrase + "n", phrase + "in", phrase + "innen")
        elif phrase.endswith("e"):
            yield from (phrase + "n", phrase[:-1] + "in", phrase[:-1] + "innen")


def _arabic(phrase: str) -> Iterator[str]:
    words = phrase.split(" ")
    if len(words) == 1 and phrase.endswith("ي"):
        yield from (phrase + ending for ending in ("ة", "ون", "ين", "ات", "تان", "تين"))
    if words[0].startswith("ال"):
        # "for the" loses the article's first letter; reading takes off the other.
        yield " ".join([words[0][1:], *words[1:]])


_PARADIGMS: Mapping[str, Callable[[str], Iterator[str]]] = {
    "ar": _arabic,
    "de": _german,
    "es": _spanish,
    "fr": _french,
}


# --- Files -----------------------------------------------------------------------------------


def load_source(language: str) -> Source:
    """Return ``data/state_names/LANGUAGE.yaml``, read."""
    read: Source = _load(SOURCES / f"{language}.yaml")
    return read


def current_text(language: str) -> str:
    """Return what ``state_names/LANGUAGE.json`` should hold now."""
    inflected = json.loads(INFLECTED.read_text(encoding="utf-8")).get(language, {})
    return render(build(language, load_source(language), inflected))


def render(data: Mapping[str, Any]) -> str:
    """Return a file's text: one state or table a line."""

    def dump(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    rows = ",\n".join(f"{dump(code)}: {dump(forms)}" for code, forms in data["names"].items())
    rest = ",\n".join(f"{dump(key)}: {dump(data[key])}" for key in data if key != "names")
    return f'{{"names": {{\n{rows}\n}},\n{rest}\n}}\n'


def conflicts(texts: Mapping[str, str]) -> Iterator[str]:
    """Yield what names mean one state in a language and another in one of the same script."""
    owners: dict[str, tuple[str, str]] = {}
    for language, text in texts.items():
        for code, forms in json.loads(text)["names"].items():
            for form in forms:
                key = key_of(form, language) or form
                other, meant = owners.setdefault(key, (language, code))
                if meant != code:
                    yield f"{form}: {meant} in {other}, {code} in {language}"


def main(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a file is not up to date.")
    ] = False,
) -> None:
    """Write src/detente/state_names/, or check that it is up to date."""
    texts = {language: current_text(language) for language in OTHERS}
    for conflict in conflicts(texts):
        typer.echo(f"ambiguous: {conflict}", err=True)
    stale = [
        language
        for language, text in texts.items()
        if not (path := OUTPUT / f"{language}.json").exists() or path.read_text("utf-8") != text
    ]
    if check and stale:
        typer.echo(f"stale: {', '.join(stale)}; run python -m scripts.build_state_names", err=True)
        raise typer.Exit(1)
    OUTPUT.mkdir(exist_ok=True)
    for language in stale:
        (OUTPUT / f"{language}.json").write_text(texts[language], encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
