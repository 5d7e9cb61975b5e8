"""What states are called in other languages than English, and where a text says so.

Each language has a file in ``state_names/``, which ``scripts/build_state_names.py`` writes from
``data/state_names/``; a file is read when a text or a name first needs it. States are codes here:
`detente.states` turns them into states, and reads English itself.

A file holds word forms, so that reading needs no grammar beyond the letters that some scripts
write onto a word: a conjunction before it, a particle behind it. Text is read by its script, run
by run, and the longest name wins.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise
from typing import Any, Final

from detente.errors import InputError

__all__ = [
    "IN_LATIN",
    "LANGUAGES",
    "Span",
    "check_language",
    "key_of",
    "language_of",
    "meanings_of",
    "spans",
]

Span = tuple[int, int, str]
"""First character, character after the last, and the code of the state."""


@dataclass(frozen=True, slots=True)
class _Script:
    """A script: which tokens it has and who writes it.

    Attributes:
        tokens: One token: a word, or a character where words are not set apart.
        languages: The languages that it is read as.
        letters: For each language that can be told by its letters, those that only it has.
    """

    tokens: re.Pattern[str]
    languages: tuple[str, ...]
    letters: Mapping[str, re.Pattern[str]]


_ARABIC = r"[\u0620-\u065f\u066e-\u06d3\u06d5\u06fa-\u06ff]+"
_KANJI = r"[\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
_KATAKANA = r"[\u30a1-\u30fa\u30fc-\u30fe]+"
_CYRILLIC = r"[\u0400-\u052f\u0301]+(?:['’ʼ][\u0400-\u052f]+)*"

_SCRIPTS: Final = {
    "Cyrillic": _Script(
        re.compile(_CYRILLIC),
        ("ru", "uk"),
        {"ru": re.compile("[ёыэъ]", re.I), "uk": re.compile("[ґєії]", re.I)},
    ),
    "Han": _Script(re.compile(rf"{_KATAKANA}|{_KANJI}|[\u3041-\u3096]"), ("zh", "ja"), {}),
    "Hangul": _Script(re.compile(r"[\uac00-\ud7a3]+"), ("ko",), {}),
    "Arabic": _Script(
        re.compile(_ARABIC),
        ("ar", "fa"),
        {"ar": re.compile("[ةىيكإ]"), "fa": re.compile("[پچژگکی]")},
    ),
    "Hebrew": _Script(
        re.compile(r"[\u0591-\u05c7\u05d0-\u05ea]+(?:[\"'״׳][\u05d0-\u05ea]+)*['׳]?"), ("he",), {}
    ),
    "Devanagari": _Script(re.compile(r"[\u0900-\u0963\u0970-\u097f\u200c\u200d]+"), ("hi",), {}),
}
_LATIN: Final = re.compile(r"[A-Za-z\u00c0-\u024f\u0300-\u036f]+")
IN_LATIN: Final = ("es", "fr", "de", "tr")
"""Read only by request: their names are English words, too."""

LANGUAGES: Final = ("en", *(x for s in _SCRIPTS.values() for x in s.languages), *IN_LATIN)
"""ISO 639 codes of the languages in which states are found."""

_ANY_SCRIPT: Final = {
    "Cyrillic": re.compile(r"[\u0400-\u052f]"),
    "Han": re.compile(_KANJI + r"|[\u3041-\u30ff]"),
    "Hangul": re.compile(r"[\uac00-\ud7a3]"),
    "Arabic": re.compile(r"[\u0620-\u064a\u066e-\u06d3]"),
    "Hebrew": re.compile(r"[\u05d0-\u05ea]"),
    "Devanagari": re.compile(r"[\u0904-\u0963]"),
}
_NOT_LATIN: Final = re.compile(
    r"[\u0400-\u06ff\u0900-\u097f\u3005-\u9fff\uac00-\ud7a3\uf900-\ufaff]"
)
_KANA: Final = re.compile(r"[\u3041-\u30ff]")
_MOSTLY_KANA: Final = 0.1
"""Share of kana among Chinese characters and kana from which a text is Japanese."""


def check_language(language: str | None) -> None:
    """Raises an error for a language whose names of states are not known.

    Raises:
        InputError: The language is neither None nor one of `LANGUAGES`.
    """
    if language is not None and language not in LANGUAGES:
        raise InputError(
            "states are not known by name in this language",
            got=language,
            expected=f"one of {', '.join(LANGUAGES)}",
            fix="Leave the language out to have the text read by its script.",
        )


def spans(text: str, language: str | None = None) -> list[Span]:
    """Returns where a text names states in other languages than English, in order.

    Args:
        text: Any string; offsets refer to it as given.
        language: The language in which to read the script that it is written in. Without it,
            and for the other scripts of the text, every language of the script counts; Latin
            script is then left to English.
    """
    if not _is_composed(text):
        composed, starts, ends = _composed(text)
        return [(starts[a], ends[b - 1], code) for a, b, code in spans(composed, language)]
    found: list[Span] = []
    for name in _scripts_in(text):
        script = _SCRIPTS[name]
        readable = (language,) if language in script.languages else _readable(text, name)
        found += _lexicon(*readable).spans(text, script.tokens)
    if language in IN_LATIN:
        found += _lexicon(language).spans(text, _LATIN)
    return sorted(found)


def meanings_of(name: str) -> list[str]:
    """Returns the codes that a name means in any language but English, none where unknown."""
    codes: list[str] = []
    if not _is_composed(name):
        name = unicodedata.normalize("NFKC", name)
    scripts = [_SCRIPTS[script] for script in _scripts_in(name)]
    groups = [(s.tokens, s.languages) for s in scripts]
    # Two Latin letters are a country's code: the Spanish RU would make Russia's one Britain's.
    if not groups and len(name.strip()) > 2:
        groups = [(_LATIN, IN_LATIN)]
    for tokens, languages in groups:
        for language in languages:
            codes += _lexicon(language).meanings(name, tokens)
    return list(dict.fromkeys(codes))


def language_of(text: str) -> str:
    """Returns the language that a text is most likely written in, by its letters alone.

    Latin script is taken for English, and a script of two languages for the first of them where
    the letters do not tell.
    """
    if not _is_composed(text):
        text = unicodedata.normalize("NFKC", text)
    letters = (
        Counter({name: len(pattern.findall(text)) for name, pattern in _ANY_SCRIPT.items()})
        if _NOT_LATIN.search(text)
        else Counter[str]()
    )
    if not letters.total() or len(_LATIN_LETTER.findall(text)) > letters.total():
        return "en"
    return _readable(text, letters.most_common(1)[0][0])[0]


_LATIN_LETTER: Final = re.compile(r"[A-Za-z\u00c0-\u024f]")


def _scripts_in(text: str) -> list[str]:
    if text.isascii() or not _NOT_LATIN.search(text):
        return []
    return [name for name, pattern in _ANY_SCRIPT.items() if pattern.search(text)]


def _readable(text: str, script: str) -> tuple[str, ...]:
    """Returns the languages that text of a script may be in: those whose own letters it has."""
    if script == "Han":
        kana = len(_KANA.findall(text))
        characters = len(_ANY_SCRIPT["Han"].findall(text))
        return ("ja",) if kana and kana >= _MOSTLY_KANA * characters else ("zh",)
    told = {
        language for language, letters in _SCRIPTS[script].letters.items() if letters.search(text)
    }
    return tuple(x for x in _SCRIPTS[script].languages if x in told or not told)


# --- Characters ------------------------------------------------------------------------------

_PRESENTATION: Final = re.compile(r"[\ufb1d-\ufdff\ufe70-\ufefc\uff66-\uff9f\uffa0-\uffdc]")
"""Shapes of Hebrew and Arabic letters and half-width kana and Hangul, as PDF files give them."""
_GOES_ON: Final = re.compile(r"[\u1160-\u11ff\uff9e\uff9f\uffa0-\uffdc]")
"""Second and third letters of a Korean syllable and half-width voicing marks."""


def _is_composed(text: str) -> bool:
    """Whether each letter is one character, as in the names that are looked for."""
    return text.isascii() or (
        unicodedata.is_normalized("NFC", text) and not _PRESENTATION.search(text)
    )


def _composed(text: str) -> tuple[str, list[int], list[int]]:
    """Returns a text in NFKC, and where in the given one each of its characters starts and ends."""
    composed: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    start = 0
    for end in range(1, len(text) + 1):
        if end < len(text) and (unicodedata.combining(text[end]) or _GOES_ON.match(text[end])):
            continue
        piece = unicodedata.normalize("NFKC", text[start:end])
        composed.append(piece)
        starts += [start] * len(piece)
        ends += [end] * len(piece)
        start = end
    return "".join(composed), starts, ends


# --- Tokens ----------------------------------------------------------------------------------

_FOLDED: Final = str.maketrans(
    {
        "ё": "е", "ʼ": "'", "’": "'", "ı": "i", "״": '"', "׳": "'",
        "ك": "ک", "ي": "ی", "ى": "ی", "ئ": "ی", "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا",
        "ة": "ه", "ۀ": "ه", "ؤ": "و",
    }
)  # fmt: skip
"""Letters that writers exchange."""
_UNWRITTEN: Final = re.compile(
    r"[\u0301\u0591-\u05c7\u0640\u064b-\u0650\u0652-\u065f\u0670\u200c\u200d]"
)
"""Stress, vowel points, lengthening strokes and joiners."""
_INNER_SHADDA: Final = re.compile("\u0651(?!$)")
"""At the end of a word it stays: "مصر" is Egypt, "مصرّ" is "insisting"."""


@lru_cache(maxsize=65536)
def _fold(word: str) -> str:
    """Returns a token in the form in which tokens are compared."""
    word = word.casefold()
    if _LATIN.match(word):
        decomposed = unicodedata.normalize("NFKD", word)
        word = "".join(char for char in decomposed if not unicodedata.combining(char))
    return _INNER_SHADDA.sub("", _UNWRITTEN.sub("", word)).translate(_FOLDED)


_GAPS: Final = re.compile(
    r"(?P<blank>[^\S\n]{1,8}|[^\S\n]{0,8}\n[^\S\n]{0,8})|(?P<hyphen>\s?[-\u2010-\u2015]\s?)"
    r"|(?P<apostrophe>['’])|(?P<stop>\.\s?)|(?P<zwnj>\u200c)|(?P<dot>[·・])|(?P<bracket>[(（])"
)
_JOINS: Final = {
    "blank": " ", "hyphen": "-", "apostrophe": "'", "stop": ".", "zwnj": " ", "dot": "·",
    "bracket": "(",
}  # fmt: skip
_CLOSING: Final = {".": ".", ")": ")）", "）": ")）"}
"""Last characters of a name that belong to no token, and what they may be in text."""


@dataclass(frozen=True, slots=True)
class _Token:
    word: str
    folded: str
    start: int
    end: int


def _tokens(text: str, pattern: re.Pattern[str]) -> list[_Token]:
    return [_Token(m[0], _fold(m[0]), m.start(), m.end()) for m in pattern.finditer(text)]


def _joins(text: str, tokens: Iterable[_Token]) -> list[str | None]:
    """Returns what stands between each token and the next: None where no name goes on."""
    found: list[str | None] = []
    for left, right in pairwise(tokens):
        if left.end == right.start:
            found.append("")
            continue
        gap = _GAPS.fullmatch(text, left.end, right.start)
        found.append(_JOINS[gap.lastgroup] if gap and gap.lastgroup else None)
    return [*found, None]


# --- What scripts write onto a word ----------------------------------------------------------

_PREFIXES: Final = {
    "ru": re.compile("анти|про"),
    "uk": re.compile("анти|про"),
    "ar": re.compile("[وف]?[بلک]?(?:ال)?"),
    "he": re.compile("[והשכלבמ]{1,3}"),
    "es": re.compile("anti|pro"),
    "fr": re.compile("anti|pro"),
    "de": re.compile("anti|pro"),
}
_SUFFIXES: Final = {
    "ko": re.compile(
        "(?:인|측|군|산|계|식|령|정부|당국|대사관?|대통령|총리|외교부|외무부|국방부|국민|시민|국)?"
        "(?:들)?(?:은|는|이|가|을|를|의|에|에서|에게|에는|에도|에서는|와|과|도|만|로|으로|로부터"
        "|으로부터|이나|나|보다|까지|부터|처럼|뿐|에게는|과의|와의|으로서|로서|이며|이자|이다|에만|이란)?"
    ),
    "tr": re.compile("(?:lar|ler)(?:in|i|a|e|da|de|dan|den|la|le)?"),
    "fa": re.compile("ها(?:ی|یی)?"),
}


def _without_prefix(word: str, patterns: Sequence[re.Pattern[str]]) -> Iterator[tuple[int, str]]:
    """Yields what a folded token may be without a prefix: the prefix's length, and the rest."""
    yield 0, word
    for pattern in patterns:
        longest = pattern.match(word)
        most = min(longest.end() if longest else 0, len(word) - _LEAST_STEM)
        for cut in range(1, most + 1):
            if pattern.fullmatch(word, 0, cut):
                yield cut, word[cut:]


def _without_suffix(word: str, patterns: Sequence[re.Pattern[str]]) -> Iterator[tuple[int, str]]:
    """Yields what a folded token may be without a suffix, longest first, and its length."""
    yield 0, word
    for pattern in patterns:
        for cut in range(1, len(word) - 1):
            if pattern.fullmatch(word, len(word) - cut):
                yield cut, word[:-cut]


_LEAST_STEM: Final = 3
"""Letters that a prefix must leave of a word."""


# --- The names of a language -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a phrase names a state.

    Attributes:
        first: The token in which the name begins, and `skip` how many characters into it.
        last: The token in which it ends, and `drop` how many characters before its end.
        code: The state.
    """

    first: int
    skip: int
    last: int
    drop: int
    code: str


@dataclass(frozen=True, slots=True)
class _Sense:
    """What a phrase means in running text.

    Attributes:
        words: Its tokens as they are spelt, which says what capitals it needs.
        marks: The states that it names; none for a phrase that only contains a name, and for a
            name that several states share.
        closing: What follows the last token and belongs to the phrase: a full stop or a bracket.
        whole: Whether the phrase is a name, rather than words of which some name a state.
        inside: Whether it is a word, too, so that its capital tells only inside a sentence.
    """

    words: tuple[str, ...]
    marks: tuple[_Mark, ...]
    closing: str
    whole: bool
    inside: bool = False


_MARKED: Final = re.compile(r"\[(.+?)\]")
_SHORT: Final = 4
"""Letters from which a name is also found in capitals."""
_OPENS_SENTENCE: Final = re.compile(r"(?:\A|[.!?…:;\n])[\s\"'«»“”„‘(\[—–-]*\Z")
_WINDOW: Final = 8
"""Characters before a name that tell whether it opens a sentence."""


class _Lexicon:
    """The names of states in one language, or in several that share a script."""

    def __init__(self, languages: Sequence[str]) -> None:
        self._senses: dict[str, _Sense] = {}
        self._most_words: dict[str, int] = {}
        self._meanings: dict[str, list[str]] = {}
        self._halves: dict[str, str] = {}
        self._surnames: set[str] = set()
        self._prefixes = [_PREFIXES[x] for x in languages if x in _PREFIXES]
        self._suffixes = [_SUFFIXES[x] for x in languages if x in _SUFFIXES]
        for language in languages:
            self._read(language)

    def meanings(self, name: str, tokens: re.Pattern[str]) -> list[str]:
        """Returns the codes that exactly this name stands for."""
        found = _tokens(name, tokens)
        outside = tokens.sub("", name).strip(" \u200c.,-'’()（）·・־\"")
        if not found or outside:
            return []
        key = _key(found, _joins(name, found))
        if key is None:
            return []
        codes = self._meanings.get(key, [])
        sense = self._senses.get(key)
        # "Того" is Togo, "того" is "of that".
        return [] if sense and sense.inside and not _cased(sense, found) else codes

    def spans(self, text: str, pattern: re.Pattern[str]) -> Iterator[Span]:
        """Yields the places in which the text names a state."""
        tokens = _tokens(text, pattern)
        joins = _joins(text, tokens)
        at = 0
        while at < len(tokens):
            found = self._longest(text, tokens, joins, at)
            if found is None:
                if half := self._half(text, tokens[at]):
                    yield half
                at += 1
                continue
            count, sense, cuts = found
            longer = None if sense.whole else self._longer(text, tokens, joins, at, found)
            if longer is None:
                for mark in sense.marks:
                    yield _place(text, tokens[at : at + count], sense, mark, cuts)
            at = longer or at + count

    def _longest(
        self, text: str, tokens: list[_Token], joins: list[str | None], at: int
    ) -> tuple[int, _Sense, tuple[int, int]] | None:
        """Returns the longest phrase that starts at a token.

        Returns:
            How many tokens it has, what it means, and how many letters of prefix and of suffix
            are written onto it.
        """
        for prefix, head in _without_prefix(tokens[at].folded, self._prefixes):
            for count in range(self._most_words.get(head, 1), 0, -1):
                words = tokens[at : at + count]
                key = _key(words, joins[at : at + count], head)
                if key is None or len(words) < count:
                    continue
                for suffix, stem in _without_suffix(key, self._suffixes):
                    sense = self._senses.get(stem)
                    if sense and self._fits(sense, text, words, (prefix, suffix)):
                        return count, sense, (prefix, suffix)
        return None

    def _fits(self, sense: _Sense, text: str, words: list[_Token], cuts: tuple[int, int]) -> bool:
        """Whether the words around and the capitals allow the meaning."""
        end = words[-1].end
        if text.startswith("\u200c", end) and not _ZWNJ_ENDINGS.match(text, end + 1):
            return False
        if cuts[0] and sense.words[0][0].isupper():
            # Arabic and Hebrew have no capitals: what is left are "antiRussia" and the like.
            return False
        if not _cased(sense, words) or words[0].word in self._surnames:
            return False
        if not sense.inside:
            return True
        start = words[0].start
        return not words[0].word.isupper() and not _OPENS_SENTENCE.search(
            text[max(0, start - _WINDOW) : start]
        )

    def _longer(
        self,
        text: str,
        tokens: list[_Token],
        joins: list[str | None],
        at: int,
        phrase: tuple[int, _Sense, tuple[int, int]],
    ) -> int | None:
        """Returns where a name begins inside a phrase and outlasts it, if one does.

        In "中美国" there is no "中美", in "对美国" no "对美", and in "和俄乌" both.
        """
        count, sense, _ = phrase
        for inner in range(at + 1, at + count):
            found = self._longest(text, tokens, joins, inner)
            if found is None or inner + found[0] <= at + count:
                continue
            if (found[1].whole and found[1].marks) or len(found[1].marks) > len(sense.marks):
                return inner
        return None

    def _half(self, text: str, token: _Token) -> Span | None:
        """Returns the first half of a compound: "российско-"."""
        code = self._halves.get(token.folded)
        if code is None or _HYPHEN_WORD.match(text, token.end) is None:
            return None
        return token.start, token.end, code

    def _read(self, language: str) -> None:
        source = resources.files("detente").joinpath("state_names", f"{language}.json")
        data: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
        pattern = _pattern_of(language)
        inside = set(data["inside"])
        for code, forms in data["names"].items():
            for form in forms:
                self._add(form, (code,), pattern, form in inside)
        for phrase, codes in data["phrases"].items():
            self._add(phrase, codes.split(), pattern)
        for name, codes in data["lookup"].items():
            self._learn(key_of(name, language), codes.split())
        self._surnames.update(data["surnames"])
        self._halves |= {_fold(half): code for half, code in data["halves"].items()}

    def _add(
        self, phrase: str, codes: Sequence[str], pattern: re.Pattern[str], inside: bool = False
    ) -> None:
        plain = phrase.replace("[", "").replace("]", "")
        found = _tokens(plain, pattern)
        key = _key(found, _joins(plain, found))
        if key is None:
            raise ValueError(f"{phrase!r} can never match")
        whole = plain == phrase
        if whole and codes:
            self._learn(key, codes)
        sense = _Sense(
            words=tuple(token.word for token in found),
            marks=tuple(_marks(phrase, found, codes)),
            closing=plain[found[-1].end :],
            whole=whole,
            inside=inside,
        )
        other = self._senses.get(key)
        if other and [m.code for m in other.marks] != [m.code for m in sense.marks]:
            # Two languages mean two states, or a phrase blocks what a name means.
            sense = _Sense(sense.words, (), sense.closing, whole=True)
        elif other and sense.words > other.words:
            pass  # lower-case letters sort last: the spelling that asks for fewer capitals
        elif other:
            return
        self._senses[key] = sense
        head = found[0].folded
        self._most_words[head] = max(self._most_words.get(head, 0), len(found))

    def _learn(self, key: str | None, codes: Sequence[str]) -> None:
        if key:
            known = self._meanings.setdefault(key, [])
            known += [code for code in codes if code not in known]


_HYPHEN_WORD: Final = re.compile(r"[-\u2010-\u2015]\w")
_ZWNJ_ENDINGS: Final = re.compile(r"(?:ها|های|هایی|ای|یی|اند)\b")
"""What Persian writes behind a word after a joiner: "روس‌ها", but "چین‌خوردگی" is no China."""


@cache
def _lexicon(*languages: str) -> _Lexicon:
    return _Lexicon(languages)


def _pattern_of(language: str) -> re.Pattern[str]:
    for script in _SCRIPTS.values():
        if language in script.languages:
            return script.tokens
    return _LATIN


def key_of(phrase: str, language: str) -> str | None:
    """Returns the form in which a phrase is compared, None where it can never match."""
    phrase = phrase.replace("[", "").replace("]", "")
    found = _tokens(phrase, _pattern_of(language))
    return _key(found, _joins(phrase, found))


def _key(
    words: Sequence[_Token], joins: Sequence[str | None], head: str | None = None
) -> str | None:
    """Returns the form in which phrases are compared, None where the tokens are no phrase."""
    if not words:
        return None
    parts = [words[0].folded if head is None else head]
    for join, token in zip(joins, words[1:], strict=False):
        if join is None:
            return None
        parts += [join, token.folded]
    return "".join(parts)


def _marks(phrase: str, tokens: Sequence[_Token], codes: Sequence[str]) -> Iterator[_Mark]:
    """Yields where a phrase, written with brackets around its names, names states."""
    marked = list(_MARKED.finditer(phrase))
    if not marked and len(codes) == 1:
        yield _Mark(0, 0, len(tokens) - 1, 0, codes[0])
    for order, (match, code) in enumerate(zip(marked, codes, strict=False)):
        # The brackets before it are not in the plain text.
        start = match.start() - 2 * order
        end = start + len(match[1])
        first = next(i for i, token in enumerate(tokens) if token.start <= start < token.end)
        last = next(i for i, token in enumerate(tokens) if token.start < end <= token.end)
        yield _Mark(first, start - tokens[first].start, last, tokens[last].end - end, code)


def _cased(sense: _Sense, words: Sequence[_Token]) -> bool:
    """Whether words have the capitals of the phrase: all that it has, more where they shout."""
    for spelt, token in zip(sense.words, words, strict=True):
        if spelt[0].isupper() and not token.word[0].isupper():
            return False
        if len(spelt) > 1 and spelt.isupper() and not token.word[: len(spelt)].isupper():
            return False
    shouts = len(words[0].word) > 1 and words[0].word.isupper() and not sense.words[0].isupper()
    return not shouts or sum(map(len, sense.words)) >= _SHORT


def _place(
    text: str, words: Sequence[_Token], sense: _Sense, mark: _Mark, cuts: tuple[int, int]
) -> Span:
    """Returns the characters of a mark in the text."""
    first, last = words[mark.first], words[mark.last]
    start = first.start + mark.skip
    if mark.first == 0 and cuts[0]:
        start = first.start + _written(first.word, cuts[0])
    end = last.end - mark.drop
    if mark.last == len(words) - 1:
        end -= cuts[1]
        if sense.closing and not cuts[1] and text[end : end + 1] in _CLOSING[sense.closing]:
            end += 1
    return start, end, mark.code


def _written(word: str, letters: int) -> int:
    """Returns how many characters of a word are its first letters with their vowel points."""
    return next(i for i in range(1, len(word) + 1) if len(_fold(word[: i + 1])) > letters)
