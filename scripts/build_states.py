"""Write the gazetteer: ``python scripts/build_states.py`` (``--check`` only compares).

Merges the English names of Unicode CLDR, read through babel, with ``data/states.yaml`` and writes
``src/detente/states.json``. The result depends on these two sources alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from babel import Locale
from babel.core import get_global
from ruamel.yaml import YAML

from detente.states import Kind, lookup_key

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "data" / "states.yaml"
OUTPUT = ROOT / "src" / "detente" / "states.json"

SECTIONS = {
    "states": Kind.STATE,
    "non_members": Kind.NON_MEMBER,
    "historical": Kind.HISTORICAL,
    "organisations": Kind.ORGANISATION,
}
SEARCHED = ("official", "people", "metonyms", "abbreviations", "former")
"""Keys of an entry whose names are searched for in running text, besides the capital."""
ENTRY_KEYS = {"name", "capital", "lookup", *SEARCHED}
CONTEXT_KEYS = (
    "prefixes",
    "prefixes_before_states",
    "words",
    "given_names",
    "after_state",
    "instruments",
    "heads",
    "us_homonyms",
    "us_members",
)

Row = dict[str, Any]


class SourceError(ValueError):
    """``data/states.yaml`` contradicts itself."""


def build(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of ``states.json``.

    Raises:
        SourceError: If a key of an entry is misspelt, a name belongs to two states, or a blocked
            phrase contains no name.
    """
    territories: Mapping[str, str] = Locale("en").territories
    rows = sorted(_rows(source, territories), key=lambda row: str(row["code"]))
    _check_unique(rows, source["ambiguous"])
    return {
        "states": rows,
        "ambiguous": source["ambiguous"],
        "blocked": sorted(set(_blocked(source, rows))),
        **{key: source[key] for key in CONTEXT_KEYS},
    }


def _rows(source: Mapping[str, Any], territories: Mapping[str, str]) -> Iterator[Row]:
    for section, kind in SECTIONS.items():
        for code, entry in source[section].items():
            unknown = set(entry) - ENTRY_KEYS
            if unknown:
                raise SourceError(f"{code}: unknown keys {sorted(unknown)}")
            # A former code is CLDR's alias of the successor, whose name is not the same.
            cldr_name = None if kind is Kind.HISTORICAL else territories.get(_cldr_code(code))
            yield _row(code, kind, entry, cldr_name, source["two_states_in_text"])


def _cldr_code(code: str) -> str:
    """Return the code under which CLDR lists a territory: alpha-2 for alpha-3."""
    replacements: list[str] = get_global("territory_aliases").get(code, [code])
    return replacements[0]


def _row(
    code: str,
    kind: Kind,
    entry: Mapping[str, Any],
    cldr_name: str | None,
    two_states_in_text: list[str],
) -> Row:
    name = entry.get("name") or cldr_name
    if name is None:
        raise SourceError(f"{code}: CLDR has no name, so the entry needs one")
    names = {name, *(alias for key in SEARCHED for alias in entry.get(key, []))}
    # CLDR's name is an alias too, unless it is a description ("Congo - Kinshasa").
    if cldr_name and lookup_key(cldr_name):
        names.add(cldr_name)
    lookup = {*entry.get("lookup", []), *(names & set(two_states_in_text))}
    return {
        "code": code,
        "name": name,
        "kind": str(kind),
        "names": sorted(names - lookup),
        "capitals": sorted(entry.get("capital", [])),
        "lookup": sorted(lookup),
    }


def _check_unique(rows: Iterable[Row], ambiguous: Mapping[str, Any]) -> None:
    owners: dict[str, str] = {lookup_key(name).casefold(): "ambiguous" for name in ambiguous}
    for row in rows:
        for name in [row["code"], *row["names"], *row["capitals"], *row["lookup"]]:
            key = lookup_key(name).casefold()
            if not key:
                raise SourceError(f"{row['code']}: {name!r} can never match")
            if owners.setdefault(key, row["code"]) != row["code"]:
                raise SourceError(f"{name!r} belongs to {owners[key]} and to {row['code']}")


def _blocked(source: Mapping[str, Any], rows: Iterable[Row]) -> Iterator[str]:
    """Yield the phrases that contain a name and do not mean the state.

    These are the ones that we list, and CLDR's regions and dependencies: "American Samoa".
    """
    names = {name for row in rows for name in [*row["names"], *row["capitals"]]}
    keys = [f" {lookup_key(name)} " for name in [*names, *source["prefixes"]]]

    def contains_name(phrase: str) -> bool:
        padded = f" {lookup_key(phrase)} "
        return any(key in padded for key in keys)

    for group in source["blocked"].values():
        for phrase in group:
            if not contains_name(phrase):
                raise SourceError(f"blocked phrase {phrase!r} contains no name")
            yield phrase
    for territory in Locale("en").territories.values():
        if territory not in names and contains_name(territory):
            yield territory


def render(data: Mapping[str, Any]) -> str:
    """Return the file's text: one state, list or mapping a line."""

    def dump(value: object) -> str:
        return json.dumps(value, ensure_ascii=False)

    rows = ",\n".join(dump(row) for row in data["states"])
    rest = ",\n".join(f"{dump(key)}: {dump(data[key])}" for key in data if key != "states")
    return f'{{"states": [\n{rows}\n],\n{rest}\n}}\n'


def current_text() -> str:
    """Return what ``states.json`` should hold now."""
    source = YAML(typ="safe").load(SOURCE)
    return render(build(source))


def main(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the file is not up to date.")
    ] = False,
) -> None:
    """Write src/detente/states.json, or check that it is up to date."""
    text = current_text()
    if not check:
        OUTPUT.write_text(text, encoding="utf-8")
        return
    if not OUTPUT.exists() or OUTPUT.read_text(encoding="utf-8") != text:
        typer.echo("src/detente/states.json is stale: run python scripts/build_states.py", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
