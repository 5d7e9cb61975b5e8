"""The trimmer, on the tiny WordPiece encoder and on a Unigram one made here."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from detente import ConfigError, DataError, MissingExtraError, ModelError
from detente.rows import write_jsonl
from train.base_models import public_name
from train.trim_vocabulary import (
    REPORT,
    choose_pieces,
    compare,
    coverage,
    covered,
    frequent_words,
    main,
    read_texts,
    scripts_of,
    state_names,
    trim_base,
    trim_tokenizer,
)

PIECES = [
    ("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0),
    ("▁peace", -5.0), ("▁мир", -5.0), ("▁мирный", -6.0), ("ный", -6.0), ("▁ειρήνη", -6.0),
    ("和平", -6.0), ("▁和平", -7.0), (".", -4.0),
    *((c, -9.0) for c in "pacemирныйειήνη和平"), ("<mask>", 0.0),
]  # fmt: skip
WEIGHTS = {"en": 1.0, "ru": 1.0, "zh": 1.0}
WORDS = {"en": {"peace": 1.0}, "ru": {"мир": 3.0, "мирный": 1.0}, "zh": {"和平": 1.0}}


@pytest.fixture(scope="module")
def unigram(tmp_path_factory):
    """A base with a Unigram tokenizer whose pieces are of Latin, Cyrillic, Greek and Han."""
    tokenizer = Tokenizer(models.Unigram(PIECES, 3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")
    folder = tmp_path_factory.mktemp("unigram")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(PIECES) + 2, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", cls_token="<s>", eos_token="</s>",
        sep_token="</s>", pad_token="<pad>", unk_token="<unk>", mask_token="<mask>",
    ).save_pretrained(folder)  # fmt: skip
    return folder


def read(folder) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer


def kept_texts(tokenizer, kept):
    return {tokenizer.id_to_token(i) for i in kept}


def test_characters_of_the_scripts_stay_and_those_of_others_go(unigram):
    tokenizer = read(unigram)
    kept = kept_texts(tokenizer, choose_pieces(tokenizer, WEIGHTS, [WORDS], {}))
    assert kept.issuperset("pacemирный和平.") and kept.isdisjoint("ειήνη")
    assert "▁ειρήνη" not in kept
    assert kept >= {"<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁peace", "▁мирный"}
    # In running text no blank stands before a Chinese word.
    assert "和平" in kept and "▁和平" not in kept


def test_names_stay_even_where_there_is_little_room(unigram):
    tokenizer = read(unigram)
    names = {"ru": {"мирный": 1.0}}
    least = choose_pieces(tokenizer, WEIGHTS, [{}], names)
    assert "▁мирный" in kept_texts(tokenizer, least)
    assert choose_pieces(tokenizer, WEIGHTS, [WORDS], names, len(least)) == least
    with pytest.raises(ConfigError, match=r"alone are more pieces.*at most 5"):
        choose_pieces(tokenizer, WEIGHTS, [WORDS], {}, 5)


@pytest.mark.parametrize("worth", [("ru", "▁мир"), ("en", "▁peace")])
def test_room_goes_to_the_language_that_is_worth_more(unigram, worth):
    language, piece = worth
    tokenizer = read(unigram)
    least = choose_pieces(tokenizer, WEIGHTS, [{}], {}, None)
    words = {"en": {"peace": 1.0}, "ru": {"мир": 1.0}}
    weights = WEIGHTS | {language: 5.0}
    kept = choose_pieces(tokenizer, weights, [words], {}, len(least) + 1)
    assert kept_texts(tokenizer, kept - least) == {piece}


def test_a_piece_that_saves_tokens_goes_before_a_frequent_one_that_saves_few():
    # Digits, because what the English names of states are made of stays in any case.
    pieces = [("<unk>", 0.0), ("▁", -3.0), ("▁1", -4.0), ("11", -4.5), ("▁123456", -4.0)]
    pieces += [("▁12", -4.0), *((c, -9.0) for c in "123456")]
    tokenizer = Tokenizer(models.Unigram(pieces, 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    words = {"en": {"1": 4.0, "12": 3.0, "123456": 2.0}}
    least = choose_pieces(tokenizer, {"en": 1.0}, [{}], {})
    kept = choose_pieces(tokenizer, {"en": 1.0}, [words], {}, len(least) + 2)
    # "▁1" by frequency; then "▁123456" saves five tokens twice, "▁12" one thrice.
    assert kept_texts(tokenizer, kept - least) == {"▁1", "▁123456"}


def test_targets_can_be_written_whatever_the_languages_are(unigram):
    pieces = [("<unk>", 0.0), ("▁", -3.0), ("▁Japan", -4.0), ("▁мир", -4.0)]
    pieces += [(c, -9.0) for c in "Japnмир"]
    tokenizer = Tokenizer(models.Unigram(pieces, 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    kept = kept_texts(tokenizer, choose_pieces(tokenizer, {"ru": 1.0}, [{}], {}))
    assert kept.issuperset(["▁Japan", *"Japnмир"])


@pytest.mark.parametrize("languages", ["en,ru,", "=2", "en=-1", "ru=nan", "en=0"])
def test_languages_have_a_name_and_a_worth(languages, tmp_path):
    with pytest.raises(ConfigError, match="--languages.*such as"):
        main("nowhere", tmp_path / "out", languages)


def trim(base, folder, kept):
    part, before = trim_tokenizer(read(base), kept)
    folder.mkdir(exist_ok=True)
    parameters = trim_base(base, before, part, folder)
    return read(folder), before, parameters


def test_a_trimmed_base_gives_the_same_tokens_and_hidden_units(unigram, tmp_path):
    whole = read(unigram)
    kept = choose_pieces(whole, WEIGHTS, [WORDS], {})
    part, before, parameters = trim(unigram, tmp_path, kept)
    texts = ["peace. мир.", "мирный", "мир 和平", "ειρήνη", "pace"]
    same = covered(whole, before, texts)
    assert same == ["peace. мир.", "мирный", "pace"]
    assert compare(unigram, tmp_path, before, same) == 0
    assert part.encode("peace").tokens == ["<s>", "▁peace", "</s>"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["vocab_size"] == len(kept) == part.get_vocab_size()
    weights = load_file(tmp_path / "model.safetensors")
    assert len(weights["embeddings.word_embeddings.weight"]) == len(kept)
    assert parameters == sum(tensor.numel() for tensor in weights.values())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path)
    assert model.config.pad_token_id == tokenizer.pad_token_id == 1
    assert tokenizer.mask_token_id == len(kept) - 1


def test_scores_stay(unigram):
    part, before = trim_tokenizer(read(unigram), set(range(len(PIECES))) - {5})
    found = json.loads(part.to_str())["model"]["vocab"]
    assert [tuple(entry) for entry in found] == [PIECES[i] for i in before]


def test_wordpiece_is_trimmed_too(tiny_base, tmp_path):
    whole = read(tiny_base)
    words = {"en": {"thank": 1.0, "kenya": 1.0}}
    kept = choose_pieces(whole, {"en": 1.0}, [words], {})
    part, before, _ = trim(tiny_base, tmp_path, kept)
    assert {"thank", "kenya", "##a", "a"} <= part.get_vocab().keys()
    assert "praise" not in part.get_vocab()
    assert part.encode("We thank Kenya").tokens[1:-1] == ["we", "thank", "kenya"]
    assert part.encode("praise").ids[1:-1] != [part.token_to_id("[UNK]")]
    assert compare(tiny_base, tmp_path, before, ["thank kenya!", "kenya"]) == 0


def test_another_model_than_the_trimmed_one_is_found_out(unigram, tmp_path):
    whole = read(unigram)
    _, before, _ = trim(unigram, tmp_path, choose_pieces(whole, WEIGHTS, [WORDS], {}))
    with pytest.raises(ModelError, match="a text without a dropped piece is cut differently"):
        compare(unigram, tmp_path, before[::-1], ["peace"])
    model = AutoModel.from_pretrained(tmp_path)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight += 0.1 * torch.randn(32)
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="the trimmed encoder differs from the whole one"):
        compare(unigram, tmp_path, before, ["peace"])


def test_a_tokenizer_of_another_kind_is_refused():
    with pytest.raises(ModelError, match="the tokenizer cannot be trimmed"):
        trim_tokenizer(Tokenizer(models.BPE()), set())


def test_coverage_counts_unknown_tokens_before_and_after(unigram):
    whole = read(unigram)
    part, _ = trim_tokenizer(whole, choose_pieces(whole, WEIGHTS, [WORDS], {}))
    (row,) = coverage(whole, part, "texts", {"en": {"peace ειρήνη": 1.0}, "ru": {}})
    assert (row.language, row.texts, row.unknown_before, row.tokens_before) == ("en", 1, 0, 2)
    # "▁peace", "▁", and the Greek, which is one unknown token but for the letter of "мирный".
    assert row.unknown > 0 and row.tokens > 2


def test_scripts_come_from_cldr():
    assert scripts_of("ru") == ("Cyrl",) and scripts_of("ja") == ("Hani", "Hira", "Kana")
    with pytest.raises(ConfigError, match="unknown language"):
        scripts_of("xx")


def test_names_are_those_of_the_language_and_what_models_read():
    assert "Франция" in state_names("ru") and "Soviet Union" in state_names("en")


def test_texts_are_read_with_their_language(tmp_path):
    mixed, plain = tmp_path / "mixed.jsonl", tmp_path / "plain.jsonl"
    write_jsonl(mixed, [{"text": "мир", "lang": "ru"}, {"text": "pax", "lang": "la"}])
    write_jsonl(plain, [{"text": "peace"}])
    found = read_texts([str(mixed), f"en={plain}"], ["ru", "en"])
    assert found == {"ru": {"мир": 1.0}, "en": {"peace": 1.0}}
    with pytest.raises(DataError, match=r"plain\.jsonl, row 1: .*no text or no language"):
        read_texts([str(plain)], ["en"])


def test_the_lists_of_words_are_an_extra(unigram, tmp_path):
    pytest.importorskip("wordfreq")
    main(str(unigram), tmp_path / "out", languages="fa, hi=2", words=50)
    report = json.loads((tmp_path / "out" / REPORT).read_text())
    assert report["languages"] == {"fa": 1.0, "hi": 2.0} and report["largest_difference"] == 0
    assert {row["kind"] for row in report["coverage"]} == {"words", "names"}
    assert public_name(str(tmp_path / "out")) == unigram.name
    with pytest.raises(ConfigError, match="not a number"):
        main(str(unigram), tmp_path / "other", languages="en=much")
    with pytest.raises(ConfigError, match="no list of words"):
        frequent_words("la", 5)


def test_without_the_extra_an_error_names_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wordfreq", None)
    with pytest.raises(MissingExtraError, match=r"detente\[multilingual\]"):
        frequent_words("en", 5)
