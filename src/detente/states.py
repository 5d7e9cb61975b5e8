"""States: their codes, the names people use for them, and where a text names them.

The gazetteer covers the members of the United Nations, its observers and partly recognised
states, states that existed in the twentieth century, and three organisations that statements
address like a state (EU, NATO, UN). It is data, in ``states.json`` beside this module;
``scripts/build_states.py`` writes that file from ``data/states.yaml``. Nothing is read at import.

Two questions are kept apart. `resolve` asks what a *target name* means and knows codes and every
alias, in any case that is safe. `mentions` asks which words of a *running text* name a state and
is stricter: names need their capital letter, and three-letter codes are not searched for. Names
in other languages than English come from `detente.languages`, when a text or a name needs them.
"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, partial
from importlib import resources
from typing import Any

from detente import languages
from detente.errors import UnknownStateError

__all__ = [
    "Kind",
    "Mention",
    "State",
    "all_states",
    "candidates",
    "lookup_key",
    "mentions",
    "resolve",
    "state",
]


class Kind(StrEnum):
    """What sort of actor a `State` is."""

    STATE = "state"
    """A member of the United Nations."""
    NON_MEMBER = "non-member"
    """An observer of the United Nations, a state in free association with a member, or one that
    only some states recognise."""
    HISTORICAL = "historical"
    """A state that no longer exists."""
    ORGANISATION = "organisation"
    """An organisation of states that statements address like a state."""


@dataclass(frozen=True, slots=True)
class State:
    """One state, past or present.

    Attributes:
        code: ISO 3166-1 alpha-3 (``XKX`` for Kosovo); for states that no longer exist ISO 3166-3
            or the Correlates of War abbreviation; ``EU``, ``NATO``, ``UN``.
        name: The plain English name without article, which the model reads.
        kind: What sort of actor this is.
    """

    code: str
    name: str
    kind: Kind

    def __str__(self) -> str:
        """Return the name."""
        return self.name


@dataclass(frozen=True, slots=True)
class Mention:
    """A place in a text where a state is named.

    Attributes:
        state: The state that is meant.
        start: Offset of the first character in the text.
        end: Offset after the last character, so that ``text[start:end]`` of the whole text is
            `text` here.
        text: The words as they stand, without article and possessive ending.
    """

    state: State
    start: int
    end: int
    text: str


def all_states() -> tuple[State, ...]:
    """Return every state of the gazetteer, sorted by code."""
    return _gazetteer().states


def state(code: str) -> State:
    """Return the state with exactly this code.

    Raises:
        UnknownStateError: If no state has the code. Use `resolve` for names and aliases.
    """
    found = _gazetteer().by_code.get(code)
    if found is None:
        raise UnknownStateError(
            "no state has this code",
            got=code,
            expected="a code such as 'USA'",
            fix="Use detente.resolve() for names and aliases.",
        )
    return found


def resolve(name: str) -> State | None:
    """Return the state that a code, name, alias, adjective, demonym, capital or seat means.

    Blanks around the name, a leading "the", accents, hyphens, full stops and the kind of
    apostrophe make no difference. Case makes none either, except for codes and abbreviations that
    are words in lower case: "US" is the United States, "us" is nobody.

    The answer is never a guess. It is None where the name is unknown or means several states
    ("Korea", "Congo", "Dominican", "Brussels"); `candidates` then says what could be meant. A name
    that is not English is looked for in the other languages: "США", "美国", "Estados Unidos". The
    classifier uses a target that is None here as free text, as it was written.
    """
    gazetteer = _gazetteer()
    key = lookup_key(name)
    folded = key.casefold()
    if folded in gazetteer.words and not key.isupper():
        return None
    meanings = gazetteer.meanings.get(folded) or _foreign_meanings(name)
    return meanings[0] if len(meanings) == 1 else None


def candidates(name: str) -> list[State]:
    """Return the states that an ambiguous or misspelt name could mean, best first.

    An ambiguous name gives exactly its alternatives, another known name its state. Anything else
    is compared with all names of four letters and more.

    Returns:
        At most five states; an empty list if nothing comes close.
    """
    meanings = _gazetteer().meanings
    folded = lookup_key(name).casefold()
    if folded in meanings:
        return list(meanings[folded])
    if foreign := _foreign_meanings(name):
        return list(foreign)
    # Codes and abbreviations differ from one another by a letter; closeness says nothing there.
    names = [key for key in meanings if len(key) >= 4]
    close = difflib.get_close_matches(folded, names, n=20, cutoff=0.75)
    return list(dict.fromkeys(found for key in close for found in meanings[key]))[:5]


def mentions(text: str, language: str | None = None) -> list[Mention]:
    """Return every place where the text names a state.

    Names, adjectives, demonyms, capitals, seats of power ("the Kremlin") and the usual
    abbreviations count; of overlapping names the longest does ("South Sudan", not "Sudan").
    Compounds give each part ("Russian-American", "Sino-Soviet", "US-led"). Names that several
    states share ("Korean", "Congolese", "Brussels") give nothing, and neither do phrases that
    only contain a name ("New Mexico", "Warsaw Pact", "Atlanta, Georgia").

    Case decides: "turkey", "polish", "chad" and "us" are words, and so are short codes. Names of
    four letters and more are also found in capitals. A text that shouts makes "US" doubtful
    ("JOIN US"): where all words around it are in capitals, it counts only at the start of a
    sentence, after THE, or before a hyphen or an apostrophe.

    Known limits: a capital counts even where it is only the place of a meeting; "Moscow" is
    Russia in 1970 too; adjectives count where they mean a language or a people ("French poetry");
    a name that opens a sentence may be a word ("Turkey is served"); surnames ("Ms Ireland") and
    given names that the data do not list count as states; "Georgia" counts as the state in the
    Caucasus unless the words beside it say otherwise; a shared noun serves one state only ("North
    and South Korea" gives the South).

    Text in other scripts than Latin is read in the languages of its script that
    `detente.languages` knows, run by run; the same limits hold there.

    Args:
        text: Any string. It is not normalised, so offsets refer to it as given.
        language: ISO 639 code of the language in which the script that it uses is read. Without
            it, Latin script is English, and any other script is told by its letters. Spanish,
            French, German and Turkish are read only where they are named here, since their words
            are English words, too; English names are then not searched for.

    Returns:
        Mentions in order of position, none overlapping another. The time taken grows linearly
        with the text.

    Raises:
        InputError: The names of states are not known in this language.
    """
    languages.check_language(language)
    if text.isascii() and language not in languages.IN_LATIN:
        return _english_mentions(text)
    found = [] if language in languages.IN_LATIN else _english_mentions(text)
    foreign = languages.spans(text, language)
    if not foreign:
        return found
    by_code = _gazetteer().by_code
    found += [Mention(by_code[code], start, end, text[start:end]) for start, end, code in foreign]
    return sorted(found, key=lambda mention: mention.start)


def _english_mentions(text: str) -> list[Mention]:
    gazetteer = _gazetteer()
    openings = gazetteer.root.following
    found: list[Mention] = []
    resume = 0
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word not in openings:
            if word.isascii() and "." not in word:
                continue
            if _fold(word) not in openings:
                continue
        start = token.start()
        if start < resume:
            continue
        match = gazetteer.longest(text, start)
        if match is None:
            continue
        sense, resume = match
        if sense.state is not None and not any(
            misread(text, start, resume) for misread in sense.misreadings
        ):
            found.append(Mention(sense.state, start, resume, text[start:resume]))
    return found


def _foreign_meanings(name: str) -> tuple[State, ...]:
    by_code = _gazetteer().by_code
    return tuple(by_code[code] for code in languages.meanings_of(name))


def lookup_key(name: str) -> str:
    """Return the form in which `resolve` compares names, in the case given.

    Words are joined by single blanks, without accents, separators and a leading "the". The key is
    empty where the name holds anything but words and the separators of names.
    """
    return _key_of(_split(name.strip()))


# --- Words -----------------------------------------------------------------------------------

_HYPHENS = "-\u2010\u2011\u2013"
_APOSTROPHES = "'\u2019\u2018\u02bc`\u00b4"
_MARKS = "\u0300-\u036f"
"""Combining accents, which decomposed text (NFD) puts after their letter."""

_WORD = rf"\w+(?:[{_MARKS}]+\w*)*"
_DOTTED = r"(?:[A-Za-z]\.)+[A-Za-z](?!\w)\.?|U\. [SKN]\."
"""An abbreviation with full stops: U.S., U.S.A, and U. S. as older documents set it."""
_ANY_WORD = rf"(?:(?<!\w)(?:{_DOTTED})|{_WORD}|&)"
_TOKEN = re.compile(_ANY_WORD)

_BLANK = r"(?:[^\S\n]{1,8}|[^\S\n]{0,8}\n[^\S\n]{0,8})"
"""Space inside a name: it may wrap to the next line, but not into the next paragraph."""
_STEP = re.compile(
    # A question mark before "s" is an apostrophe that did not survive a change of encoding.
    rf"(?P<gap>{_BLANK}|[{_HYPHENS}{_APOSTROPHES}]|\?(?=s\b)|[,.]{_BLANK})(?P<word>{_ANY_WORD})"
)
_SEPARATORS = {
    **dict.fromkeys(_HYPHENS, "-"),
    **dict.fromkeys(_APOSTROPHES, "'"),
    "?": "'",
    ",": ",",
    ".": ".",
}

_SMALL_WORDS = frozenset({"of", "the", "and", "d", "de", "da", "es", "s"})
"""Words inside names that writers capitalise or not as they please."""

_MIN_CAPITALS = 4
"""Letters that a name must have to be found in capitals; below that, it may be a word."""


def _fold(word: str) -> str:
    """Return a token in the form in which tokens are compared, which keeps its case."""
    if word == "&":
        return "and"
    if not word.isascii():
        decomposed = unicodedata.normalize("NFKD", word)
        word = "".join(char for char in decomposed if not unicodedata.combining(char))
    if "." in word:
        return word.replace(".", "").replace(" ", "").upper()
    return word


def _split(phrase: str) -> tuple[str, ...]:
    """Split a whole phrase into folded words and separators; blanks leave nothing behind.

    Returns:
        The parts, or nothing if some character belongs to neither.
    """
    token = _TOKEN.match(phrase)
    if token is None:
        return ()
    parts, end = [_fold(token[0])], token.end()
    while end < len(phrase):
        step = _STEP.match(phrase, end)
        if step is None:
            return ()
        parts.extend(_parts_of(step))
        end = step.end()
    return tuple(parts)


def _parts_of(step: re.Match[str]) -> Iterator[str]:
    """Yield the separator of a step, unless it is blank, and its folded word."""
    separator = _SEPARATORS.get(step["gap"][0])
    if separator is not None:
        yield separator
    word = _fold(step["word"])
    yield word.lower() if word.lower() in _SMALL_WORDS else word


def _key_of(parts: Iterable[str]) -> str:
    words = [part for part in parts if part not in _SEPARATORS.values()]
    if len(words) > 1 and words[0].casefold() == "the":
        del words[0]
    return " ".join(words)


def _capitals(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part if part in _SMALL_WORDS else part.upper() for part in parts)


def _spellings(phrase: str) -> Iterator[tuple[str, ...]]:
    """Yield the ways to write a name: with hyphens or blanks, "St." or "St", "Peoples"."""
    parts = _split(phrase)
    yield parts
    if "-" in parts:
        yield tuple(part for part in parts if part != "-")
    elif len(parts) == 2:
        yield parts[0], "-", parts[1]
    if parts[0] == "Saint":
        yield "St", *parts[1:]
        yield "St", ".", *parts[1:]
    if "People" in parts:
        at = parts.index("People")
        yield *parts[:at], "Peoples", *parts[at + 3 :]


# --- The index -------------------------------------------------------------------------------

_Misreading = Callable[[str, int, int], bool]
"""Whether the words around text[start:end] show that it does not mean the state."""


@dataclass(frozen=True, slots=True)
class _Sense:
    """What a phrase means in running text: a state, or none for a blocked phrase."""

    state: State | None
    misreadings: tuple[_Misreading, ...] = ()


@dataclass(slots=True)
class _Node:
    """A node of the tree of phrases, one part (word or separator) deeper than its parent."""

    following: dict[str, _Node] = field(default_factory=dict)
    sense: _Sense | None = None

    def add(self, parts: Iterable[str], sense: _Sense) -> None:
        node = self
        for part in parts:
            node = node.following.setdefault(part, _Node())
        node.sense = sense


class _Gazetteer:
    """The data of ``states.json``, indexed for look-ups and for reading text."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.by_code = {
            row["code"]: State(row["code"], row["name"], Kind(row["kind"]))
            for row in data["states"]
        }
        self.states = tuple(self.by_code[code] for code in sorted(self.by_code))
        self.words = frozenset(data["words"])
        self.meanings = self._index_meanings(data)

        self._context = _Context(data)
        self.root = _Node()
        for row in data["states"]:
            self._add_state(row)
        self._add_prefixes(data)
        # Last, so that a blocked phrase wins over the same words as a name.
        for phrase in [*data["ambiguous"], *data["blocked"]]:
            parts = _split(phrase)
            self.root.add(parts, _Sense(None))
            self.root.add(_capitals(parts), _Sense(None))

    def longest(self, text: str, start: int) -> tuple[_Sense, int] | None:
        """Return the sense and the end of the longest phrase that starts here, if any does."""
        token = _TOKEN.match(text, start)
        node = token and self.root.following.get(_fold(token[0]))
        found = None
        end = token.end() if token else start
        while node:
            if node.sense is not None:
                found = node.sense, end
            step = _STEP.match(text, end) if node.following else None
            if step is None:
                break
            for part in _parts_of(step):
                node = node.following.get(part) if node else None
            end = step.end()
        return found

    def _index_meanings(self, data: Mapping[str, Any]) -> dict[str, tuple[State, ...]]:
        meanings: dict[str, tuple[State, ...]] = {}
        for row in data["states"]:
            meaning = (self.by_code[row["code"]],)
            for name in [row["code"], *row["names"], *row["capitals"], *row["lookup"]]:
                for parts in _spellings(name):
                    meanings[_key_of(parts).casefold()] = meaning
        for name, codes in data["ambiguous"].items():
            meanings[lookup_key(name).casefold()] = tuple(self.by_code[code] for code in codes)
        return meanings

    def _add_state(self, row: Mapping[str, Any]) -> None:
        meant = self.by_code[row["code"]]
        for name in row["names"]:
            self._add_name(name, _Sense(meant, self._context.misreadings_of(name)))
        for name in row["capitals"]:
            misreadings = (*self._context.misreadings_of(name), self._context.is_document)
            self._add_name(name, _Sense(meant, misreadings))

    def _add_name(self, name: str, sense: _Sense) -> None:
        for parts in _spellings(name):
            self.root.add(parts, sense)
            if sum(map(len, parts)) >= _MIN_CAPITALS:
                self.root.add(_capitals(parts), sense)

    def _add_prefixes(self, data: Mapping[str, Any]) -> None:
        for prefix, code in data["prefixes"].items():
            self._add_name(prefix, _Sense(self.by_code[code], (_lacks_second_half,)))
        for prefix, code in data["prefixes_before_states"].items():
            self._add_name(prefix, _Sense(self.by_code[code], (self._lacks_second_state,)))

    def _lacks_second_state(self, text: str, start: int, end: int) -> bool:
        """Whether no state follows the hyphen: "Indo-Pacific"."""
        if _lacks_second_half(text, start, end):
            return True
        second = self.longest(text, end + 1)
        return second is None or second[0].state is None


@cache
def _gazetteer() -> _Gazetteer:
    source = resources.files("detente").joinpath("states.json")
    return _Gazetteer(json.loads(source.read_text(encoding="utf-8")))


# --- Context ---------------------------------------------------------------------------------

_WINDOW = 40
"""Characters of context that a misreading may look at on either side."""

_AFTER_HYPHEN = re.compile(rf"[{_HYPHENS}]\w")
_NEXT_CAPITALISED = re.compile(r" ([A-Z][a-z]+)")
_SENTENCE_END = re.compile(r"[.!?:;]\s|\n")
_OPENS_SENTENCE = re.compile(r"(?:\A|\bTHE)\s*[\"'“‘(\[]*\Z")


class _Context:
    """The words around a name that show that it means something else."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        us_members = "|".join(map(re.escape, data["us_members"]))
        ignore_case = partial(re.compile, flags=re.IGNORECASE)
        self._us_homonyms = frozenset(data["us_homonyms"])
        self._before_us_member = ignore_case(rf",\s(?:{us_members})\b")
        self._beside_us_member = ignore_case(rf"(?:,|,? and|,? or|/)\s?(?:{us_members})\b")
        self._after_us_member = ignore_case(rf"\b(?:{us_members})(?:,|,? and|,? or|/)\s?\Z")
        self._instrument = ignore_case(rf"\s(?:{'|'.join(data['instruments'])})\b")
        self._head = ignore_case(rf"\b(?:{'|'.join(data['heads'])}) of \Z")
        self._given_names = frozenset(data["given_names"])
        openings = {
            _split(name)[0] for row in data["states"] for name in [*row["names"], *row["capitals"]]
        }
        self._no_surnames = openings.union(data["after_state"])
        self._abbreviations = frozenset(
            name for row in data["states"] for name in row["names"] if name.isupper()
        )

    def misreadings_of(self, name: str) -> tuple[_Misreading, ...]:
        """Return the misreadings that a name of a state can have in running text."""
        if name == "US":
            return (self.is_pronoun,)
        found: list[_Misreading] = [self.is_town]
        if name in self._us_homonyms:
            found.append(self.is_us_member)
        if name in self._given_names:
            found.append(self.is_given_name)
        return tuple(found)

    def is_town(self, text: str, start: int, end: int) -> bool:
        """Whether it is a town in America: "Moscow, Idaho"."""
        return self._before_us_member.match(text, end) is not None

    def is_us_member(self, text: str, start: int, end: int) -> bool:
        """Whether it stands in a list of American states: "Georgia and Alabama"."""
        before = text[max(0, start - _WINDOW) : start]
        return (
            self._beside_us_member.match(text, end) is not None
            or self._after_us_member.search(before) is not None
        )

    def is_given_name(self, text: str, start: int, end: int) -> bool:
        """Whether a surname seems to follow: "Chad Smith", but not "Chad President Déby"."""
        following = _NEXT_CAPITALISED.match(text, end)
        return following is not None and following[1] not in self._no_surnames

    def is_document(self, text: str, start: int, end: int) -> bool:
        """Whether a capital only names a document or an event: "Treaty of Rome"."""
        before = text[max(0, start - _WINDOW) : start]
        return (
            self._instrument.match(text, end) is not None or self._head.search(before) is not None
        )

    def is_pronoun(self, text: str, start: int, end: int) -> bool:
        """Whether "US" is a shouted "us": "JOIN US"."""
        dotted = text[start:end] != "US"
        if dotted or text.startswith(tuple(_HYPHENS + _APOSTROPHES), end):
            return False
        before = _SENTENCE_END.split(text[max(0, start - _WINDOW) : start])[-1]
        after = _SENTENCE_END.split(text[end : end + _WINDOW])[0]
        around = _TOKEN.findall(before)[-3:] + _TOKEN.findall(after)[:3]
        words = [
            word
            for word in around
            if len(word) > 1 and word.isalpha() and word not in self._abbreviations
        ]
        shouted = bool(words) and all(word.isupper() for word in words)
        return shouted and _OPENS_SENTENCE.search(before) is None


def _lacks_second_half(text: str, start: int, end: int) -> bool:
    """Whether a prefix such as "Franco" stands alone: the general, not France."""
    return _AFTER_HYPHEN.match(text, end) is None
