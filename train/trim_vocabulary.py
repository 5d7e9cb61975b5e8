"""A base encoder with the part of its vocabulary that the chosen languages need.

Most of a small multilingual encoder is the embeddings of pieces that a few languages never use.
Kept are the special tokens, every single character of the scripts of the chosen languages (and of
none: punctuation, digits, symbols), what the names of states are made of, and then pieces by need:
their share of the tokens of each language, in its frequent words (wordfreq) and in texts.

A text without a dropped piece keeps its tokens: the best segmentation over all pieces is the best
over fewer, as the scores stay, and the longest piece stays the longest. Where a piece was dropped,
the text is cut into smaller ones; only characters of other scripts become unknown.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import regex
import torch
import typer
from babel import Locale, UnknownLocaleError
from babel.core import get_global
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from detente.errors import ConfigError, DataError, MissingExtraError, ModelError
from detente.hub import SETTINGS, read_json
from detente.rows import read_rows, whole_folder, write_json
from detente.states import all_states
from train.base_models import find_base_model, public_name
from train.command import run_command

REPORT: Final = "vocabulary.json"
"""What was kept and what it costs, beside the model."""

TOLERANCE: Final = 1e-4
"""How far a hidden unit of a text without dropped pieces may move."""

WORDS: Final = 50_000
"""Words of a language that are counted."""

# wordfreq writes all words small; in running text about one in four stands with a capital.
_CAPITALISED: Final = 0.25
_SCRIPTS: Final = {
    "Hans": ("Hani",),
    "Hant": ("Hani",),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang",),
}
_COMMON: Final = ("Zyyy", "Zinh")
_UNSPACED: Final = {"Hani", "Hira", "Kana", "Khmr", "Laoo", "Mymr", "Thai"}
_COMPARED: Final = 256
_BATCH: Final = 32

Texts = dict[str, dict[str, float]]
"""By language: each text with its weight."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a tokenizer makes of some texts before and after its vocabulary is trimmed.

    Attributes:
        language: Theirs.
        kind: Where they come from.
        texts: How many.
        unknown_before: The share of unknown tokens.
        unknown: The same with the trimmed vocabulary.
        tokens_before: The mean number of tokens of a text.
        tokens: The same with the trimmed vocabulary.
    """

    language: str
    kind: str
    texts: int
    unknown_before: float
    unknown: float
    tokens_before: float
    tokens: float


def choose_pieces(
    tokenizer: Tokenizer,
    weights: Mapping[str, float],
    sources: Sequence[Texts],
    names: Texts,
    most: int | None = None,
) -> set[int]:
    """Returns the ids of the pieces to keep.

    Args:
        tokenizer: The whole one.
        weights: What a token of each chosen language is worth.
        sources: Words and running texts; those of a language count the same.
        names: What has to stay as it is in any case.
        most: How many pieces may stay; without it, all that are used.

    Raises:
        ConfigError: More have to stay than may.
    """
    pieces = tokenizer.get_vocab()
    kept = {pieces[token] for token in _added(tokenizer)} | _unknown_id(tokenizer)
    # Whatever language the sentence is in, its target is written in English.
    kept |= _characters(
        pieces, {script for lang in ("en", *weights) for script in scripts_of(lang)}
    )
    kept |= _usage(tokenizer, "en", dict.fromkeys((s.name for s in all_states()), 1.0)).keys()
    for language in weights:
        kept |= _usage(tokenizer, language, names.get(language, {})).keys()
    if most is not None and len(kept) > most:
        raise ConfigError(
            "characters, names and special tokens alone are more pieces",
            got=len(kept),
            expected=f"at most {most}",
            fix="Raise --most, or choose fewer languages.",
        )
    pairs = [
        (weight / sum(language in source for source in sources), language, source[language])
        for language, weight in weights.items()
        for source in sources
        if language in source
    ]
    used: defaultdict[int, float] = defaultdict(float)
    for weight, language, texts in pairs:
        usage = _usage(tokenizer, language, texts)
        _add(used, usage, weight / sum(usage.values()))
    if most is None:
        return kept | used.keys()
    # Half by frequency; the rest by the tokens that they save where those are there already.
    kept |= _first(used, kept, (most - len(kept)) // 2)
    core, _ = trim_tokenizer(tokenizer, kept)
    saved: defaultdict[int, float] = defaultdict(float)
    for weight, language, texts in pairs:
        savings, total = _savings(tokenizer, core, kept, language, texts)
        _add(saved, savings, weight / total)
    return kept | _first(saved, kept, most - len(kept))


def trim_tokenizer(tokenizer: Tokenizer, kept: set[int]) -> tuple[Tokenizer, list[int]]:
    """Leaves some pieces of a tokenizer, with new ids in the old order.

    Args:
        tokenizer: A Unigram or WordPiece one.
        kept: The ids of what stays; those of special tokens among them.

    Returns:
        The trimmed tokenizer, and for each of its ids the one before.

    Raises:
        ModelError: It is of another kind.
    """
    settings = _settings(tokenizer)
    model = settings["model"]
    before = sorted(kept)
    new = {old: i for i, old in enumerate(before)}
    if model["type"] == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in kept]
        if model["unk_id"] is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {piece: new[i] for piece, i in model["vocab"].items() if i in kept}
    for token in settings["added_tokens"]:
        token["id"] = new[token["id"]]
    if settings["post_processor"]:
        _renumber(settings["post_processor"], new)
    settings["padding"] = settings["truncation"] = None
    return Tokenizer.from_str(json.dumps(settings, ensure_ascii=False)), before


def trim_base(base: Path, before: Sequence[int], tokenizer: Tokenizer, folder: Path) -> int:
    """Writes the trimmed encoder: what has a row for each piece keeps those of the kept ones.

    Args:
        base: The folder of the whole one.
        before: For each new id the old one.
        tokenizer: The trimmed one.
        folder: Where the files go; it is there.

    Returns:
        The number of parameters in the file.
    """
    config = read_json(base / "config.json")
    rows = config["vocab_size"]
    index = torch.tensor(before)
    state = {
        name: tensor[index].contiguous() if tensor.ndim and len(tensor) == rows else tensor
        for name, tensor in load_file(base / "model.safetensors").items()
    }
    weights = folder / "model.safetensors"
    save_file(state, weights, {"format": "pt"})
    weights.chmod(0o644)  # as every other file; safetensors keeps it to its owner
    new = {old: i for i, old in enumerate(before)}
    ids = {
        key: new.get(value)
        for key, value in config.items()
        if key.endswith("_token_id") and isinstance(value, int)
    }
    write_json(folder / "config.json", config | ids | {"vocab_size": len(before)})
    whole = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=whole.model_max_length,
        model_input_names=whole.model_input_names,
        **whole.special_tokens_map,
    ).save_pretrained(folder)
    # A run that starts here names the encoder that this one is a part of.
    write_json(folder / SETTINGS, {"base_model": public_name(str(base))})
    return sum(tensor.numel() for tensor in state.values())


def covered(tokenizer: Tokenizer, before: Sequence[int], texts: Iterable[str]) -> list[str]:
    """Returns the texts whose tokens in the whole tokenizer are all kept."""
    kept = set(before)
    texts = list(texts)
    encodings = tokenizer.encode_batch_fast(texts)
    return [t for t, e in zip(texts, encodings, strict=True) if kept.issuperset(e.ids)]


def compare(base: Path, trimmed: Path, before: Sequence[int], texts: Sequence[str]) -> float:
    """Compares the trimmed encoder with the whole one on texts without a dropped piece.

    Args:
        base: The folder of the whole one.
        trimmed: The folder of the trimmed one.
        before: For each new id the old one.
        texts: As :func:`covered` returns them: the tokens of all are compared, and the hidden
            units of some.

    Returns:
        The largest difference of a hidden unit.

    Raises:
        ModelError: The tokens are others, or a difference is over :data:`TOLERANCE`.
    """
    whole, part = (Tokenizer.from_file(str(f / "tokenizer.json")) for f in (base, trimmed))
    for tokenizer in (whole, part):
        tokenizer.no_padding()
        tokenizer.no_truncation()
    encodings = zip(whole.encode_batch_fast(texts), part.encode_batch_fast(texts), strict=True)
    for old, new in encodings:
        if old.ids != [before[i] for i in new.ids]:
            raise ModelError(
                "a text without a dropped piece is cut differently",
                where=str(trimmed), got=new.tokens, expected=str(old.tokens),
            )  # fmt: skip
    sample = texts[:: max(len(texts) // _COMPARED, 1)][:_COMPARED]
    differences = (
        (old - new).abs().max().item()
        for old, new in zip(_hidden(base, sample), _hidden(trimmed, sample), strict=True)
    )
    difference = max(differences, default=0.0)
    if not difference <= TOLERANCE:
        raise ModelError(
            "the trimmed encoder differs from the whole one",
            where=str(trimmed), got=difference, expected=f"within {TOLERANCE}",
        )  # fmt: skip
    return difference


def coverage(whole: Tokenizer, part: Tokenizer, kind: str, texts: Texts) -> Iterator[Coverage]:
    """Measures how two tokenizers do on the texts of each language."""
    for language, weighted in texts.items():
        if weighted:
            unknown_before, tokens_before = _measure(whole, weighted)
            unknown, tokens = _measure(part, weighted)
            yield Coverage(
                language, kind, len(weighted), unknown_before, unknown, tokens_before, tokens
            )


def scripts_of(language: str) -> tuple[str, ...]:
    """Returns the scripts of a language by their ISO 15924 codes, as CLDR has it.

    Raises:
        ConfigError: CLDR does not know the language.
    """
    likely = get_global("likely_subtags").get(language)
    if likely is None:
        raise ConfigError("unknown language", got=language, expected="a code such as en, ru, zh")
    script = likely.split("_")[1]
    return _SCRIPTS.get(script, (script,))


def frequent_words(language: str, count: int) -> dict[str, float]:
    """Returns the most frequent words of a language, with their frequency.

    Raises:
        MissingExtraError: wordfreq is not installed.
        ConfigError: It has no list for the language.
    """
    try:
        # The lists alone: cutting a text into words is what needs dictionaries for some languages.
        from wordfreq import available_languages, get_frequency_dict
    except ImportError as error:
        raise MissingExtraError.of("the list of frequent words", "multilingual") from error
    if language not in available_languages():
        raise ConfigError(
            "there is no list of words of the language",
            got=language,
            expected=", ".join(sorted(available_languages())),
        )
    frequencies: dict[str, float] = get_frequency_dict(language)
    return dict(sorted(frequencies.items(), key=lambda item: (-item[1], item[0]))[:count])


def state_names(language: str) -> dict[str, float]:
    """Returns the names of states and regions in a language; in English also those of targets."""
    try:
        names = set(Locale.parse(language).territories.values())
    except (UnknownLocaleError, ValueError) as error:
        raise ConfigError("unknown language", got=language) from error
    if language == "en":
        names |= {state.name for state in all_states()}
    return dict.fromkeys(sorted(names), 1.0)


def read_texts(files: Iterable[str], languages: Sequence[str]) -> Texts:
    """Reads running text: ``FILE`` with the columns text and lang, or ``LANGUAGE=FILE``.

    Rows in other languages are left out.

    Raises:
        DataError: A file cannot be read, or a row has no text or no language.
    """
    texts: Texts = defaultdict(dict)
    for name in files:
        language, separator, rest = name.partition("=")
        path = Path(rest if separator else name)
        for number, row in read_rows(path):
            lang = language if separator else row.get("lang")
            if not lang or not row.get("text"):
                raise DataError(
                    "the row has no text or no language",
                    where=f"{path}, row {number}",
                    got=list(row),
                    expected="columns text and lang",
                    fix=f"Write LANGUAGE={path} if all rows are in one language.",
                )
            if lang in languages:
                texts[lang][row["text"]] = 1.0
    return dict(texts)


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(tokenizer.to_str())
    if (kind := settings["model"]["type"]) not in ("Unigram", "WordPiece"):
        raise ModelError(
            "the tokenizer cannot be trimmed", got=kind, expected="Unigram or WordPiece"
        )
    return settings


def _added(tokenizer: Tokenizer) -> list[str]:
    return [token.content for token in tokenizer.get_added_tokens_decoder().values()]


def _unknown_id(tokenizer: Tokenizer) -> set[int]:
    model = _settings(tokenizer)["model"]
    found = model["unk_id"] if "unk_id" in model else model["vocab"].get(model["unk_token"])
    return set() if found is None else {found}


def _characters(pieces: Mapping[str, int], scripts: set[str]) -> set[int]:
    of_scripts = "".join(rf"\p{{Script={script}}}" for script in sorted({*scripts, *_COMMON}))
    single = regex.compile(rf"(?:\#\#)?[{of_scripts}]")
    return {i for piece, i in pieces.items() if single.fullmatch(piece)}


def _usage(tokenizer: Tokenizer, language: str, texts: Mapping[str, float]) -> dict[int, float]:
    """Returns how often each piece stands in weighted texts."""
    usage: defaultdict[int, float] = defaultdict(float)
    for ids, weight in zip(_encode(tokenizer, language, texts), texts.values(), strict=True):
        for piece in ids:
            usage[piece] += weight
    return usage


def _savings(
    whole: Tokenizer, core: Tokenizer, kept: set[int], language: str, texts: Mapping[str, float]
) -> tuple[dict[int, float], float]:
    """Returns the tokens that each piece beyond the core saves, and all tokens, both weighted."""
    savings: defaultdict[int, float] = defaultdict(float)
    total = 0.0
    encoded = (_encode(tokenizer, language, texts) for tokenizer in (whole, core))
    for ids, in_core, weight in zip(*encoded, texts.values(), strict=True):
        total += weight * len(ids)
        missing = [piece for piece in ids if piece not in kept]
        for piece in missing:
            savings[piece] += weight * (len(in_core) - len(ids)) / len(missing)
    return savings, total


def _encode(tokenizer: Tokenizer, language: str, texts: Iterable[str]) -> list[list[int]]:
    if not _UNSPACED.isdisjoint(scripts_of(language)):
        tokenizer = _inside_text(tokenizer)
    return [e.ids for e in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def _add(need: dict[int, float], more: Mapping[int, float], factor: float) -> None:
    for piece, weight in more.items():
        need[piece] += factor * weight


def _first(need: Mapping[int, float], kept: set[int], count: int) -> set[int]:
    """Returns the pieces that are needed most of those not kept yet."""
    wanted = sorted(need.keys() - kept, key=lambda piece: (-need[piece], piece))
    return set(wanted[:count])


def _inside_text(tokenizer: Tokenizer) -> Tokenizer:
    """Returns a tokenizer that takes a text for a part of a longer one, with no blank before it."""
    settings = _settings(tokenizer)
    nodes = [settings["pre_tokenizer"]]
    while nodes:
        node = nodes.pop()
        if node and node["type"] == "Metaspace":
            node["prepend_scheme"] = "never"
        nodes += (node or {}).get("pretokenizers", [])
    return Tokenizer.from_str(json.dumps(settings, ensure_ascii=False))


def _renumber(node: dict[str, Any], new: Mapping[int, int]) -> None:
    """Puts the new ids into a post-processor."""
    for part in node.get("processors", []):
        _renumber(part, new)
    for role in ("cls", "sep"):
        if role in node:
            token, old = node[role]
            node[role] = [token, new[old]]
    if node["type"] == "TemplateProcessing":
        for token in node["special_tokens"].values():
            token["ids"] = [new[old] for old in token["ids"]]


def _measure(tokenizer: Tokenizer, texts: Mapping[str, float]) -> tuple[float, float]:
    """Returns the share of unknown tokens and the mean number of tokens of weighted texts."""
    unknown = _unknown_id(tokenizer)
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    tokens = missed = 0.0
    for encoding, weight in zip(encodings, texts.values(), strict=True):
        tokens += weight * len(encoding.ids)
        missed += weight * sum(piece in unknown for piece in encoding.ids)
    return missed / max(tokens, 1e-12), tokens / sum(texts.values())


def _hidden(folder: Path, texts: Sequence[str]) -> list[torch.Tensor]:
    """Returns the last hidden units of each text, shape (tokens, units)."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()
    length = getattr(model.config, "max_position_embeddings", 512)
    found = []
    with torch.inference_mode():
        for start in range(0, len(texts), _BATCH):
            batch = tokenizer(
                list(texts[start : start + _BATCH]), padding=True, truncation=True,
                max_length=min(length, 512), return_tensors="pt",
            )  # fmt: skip
            hidden = model(**batch).last_hidden_state
            lengths = batch["attention_mask"].sum(1).tolist()
            found += [units[:n] for units, n in zip(hidden, lengths, strict=True)]
    return found


def _weights(languages: str) -> dict[str, float]:
    weights = {}
    for part in languages.split(","):
        language, _, weight = part.strip().partition("=")
        try:
            weights[language] = float(weight or 1)
        except ValueError:
            raise ConfigError("not a number", where="--languages", got=part) from None
        if not language or not 0 < weights[language] < math.inf:
            raise ConfigError(
                "not a language and its worth",
                where="--languages",
                got=part,
                expected="such as en,ru=3,zh",
            )
    return weights


def _table(rows: Iterable[Coverage]) -> str:
    lines = [
        "| language | texts | | unknown, % | tokens a text |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        unknown = f"{100 * row.unknown_before:.3f} → {100 * row.unknown:.3f}"
        tokens = f"{row.tokens_before:.2f} → {row.tokens:.2f}"
        lines.append(f"| {row.language} | {row.texts} | {row.kind} | {unknown} | {tokens} |")
    return "\n".join(lines)


def main(
    base: Annotated[str, typer.Argument(help="A known base, a local folder, or a hub id.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    languages: Annotated[
        str, typer.Option(help="Codes, and what a token is worth if not 1: en,ru=3,zh")
    ],
    text: Annotated[
        list[str] | None, typer.Option(help="Counted: FILE with text and lang, or LANGUAGE=FILE.")
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option(help="Measured and not counted, named in the same way.")
    ] = None,
    most: Annotated[int | None, typer.Option(min=1, help="The most pieces that stay.")] = None,
    words: Annotated[int, typer.Option(min=1, help="Frequent words of a language.")] = WORDS,
) -> None:
    """Leave out of a base encoder what the chosen languages do not need.

    Example: python -m train.trim_vocabulary intfloat/multilingual-e5-small runs/small
    --languages en,ru,zh --text en=data/statements.jsonl --most 20000
    """
    weights = _weights(languages)
    chosen = list(weights)
    source = find_base_model(base)
    whole = Tokenizer.from_file(str(source / "tokenizer.json"))
    whole.no_padding()
    whole.no_truncation()
    counted, checked = read_texts(text or (), chosen), read_texts(check or (), chosen)
    names = {language: state_names(language) for language in chosen}
    frequent = {language: frequent_words(language, words) for language in chosen}
    capitals = {
        language: found
        | {w.capitalize(): _CAPITALISED * f for w, f in found.items() if w.capitalize() != w}
        for language, found in frequent.items()
    }
    part, before = trim_tokenizer(
        whole, choose_pieces(whole, weights, [capitals, counted], names, most)
    )
    rows = [
        row
        for kind, texts in (
            ("words", frequent),
            ("names", names),
            ("texts", counted),
            ("held back", checked),
        )  # fmt: skip
        for row in coverage(whole, part, kind, texts)
    ]
    with whole_folder(out) as partial:
        parameters = trim_base(source, before, part, partial)
        every = [
            t for group in (names, counted, checked) for found in group.values() for t in found
        ]
        same = covered(whole, before, dict.fromkeys(every))
        difference = compare(source, partial, before, same)
        report = {
            "base": public_name(base),
            "languages": weights,
            "pieces": len(before),
            "pieces_before": whole.get_vocab_size(),
            "parameters": parameters,
            "compared_texts": len(same),
            "largest_difference": difference,
            "coverage": [asdict(row) for row in rows],
        }
        write_json(partial / REPORT, report)
    typer.echo(_table(rows))
    typer.echo(
        f"{out}: {len(before)} of {whole.get_vocab_size()} pieces, {parameters} parameters; "
        f"{len(same)} texts without a dropped piece have the same tokens, "
        f"hidden units within {difference:.1e}"
    )


if __name__ == "__main__":
    run_command(main, "train.trim_vocabulary")
