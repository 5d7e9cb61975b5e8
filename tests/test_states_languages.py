"""States in other languages than English, with the traps of each."""

import json
import unicodedata

import pytest
from babel.core import get_global
from hypothesis import given, settings
from hypothesis import strategies as st

from detente import languages
from detente.classifier import statements_in
from detente.errors import InputError
from detente.states import Kind, all_states, candidates, mentions, resolve, state
from scripts import build_state_names


def named(text: str, language: str | None = None) -> str:
    return " ".join(f"{found.text}:{found.state.code}" for found in mentions(text, language))


def codes(text: str, language: str | None = None) -> str:
    return " ".join(found.state.code for found in mentions(text, language))


class TestRussian:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Мы ждём ответа США.", "США:USA"),
            ("В Соединённых Штатах, Соединенным Штатам", "USA USA"),
            ("российского посла и россиян", "российского:RUS россиян:RUS"),
            ("русские ушли", "русские:RUS"),
            ("русский язык и русской литературы", ""),
            ("российско-американские переговоры", "российско:RUS американские:USA"),
            ("антироссийский и проамериканскую", "российский:RUS американскую:USA"),
            ("из Белого дома в Кремль", "Белого дома:USA Кремль:RUS"),
            ("в белом доме на холме", ""),
            ("Джорджу Вашингтону поставили памятник", ""),
            ("Вашингтону ответят", "Вашингтону:USA"),
            ("послу в Того из-за того, что", "Того:TGO"),
            ("Того и гляди. Того же мнения", ""),
            ("в Чаде дым, чада домочадцев, чад кухни", "Чаде:TCD"),
            ("войска в Мали, времени мало", "Мали:MLI"),
            ("куб и Куба, кубинцев", "Куба:CUB кубинцев:CUB"),
            ("Индию, индийцы, Индийский океан", "Индию:IND индийцы:IND"),
            ("Нигер и Нигерия", "Нигер:NER Нигерия:NGA"),
            ("Гвинея, Гвинея-Бисау, Папуа — Новой Гвинее", "GIN GNB PNG"),
            ("Северной Кореи и Республики Корея", "Северной Кореи:PRK Республики Корея:KOR"),
            ("корейцы, Конго, Брюссель", ""),
            ("Республики Конго и ДРК", "Республики Конго:COG ДРК:COD"),
            ("в Риме и Вене; вены на руке", "Риме:ITA Вене:AUT"),
            ("писал пером, а Перу молчит", "Перу:PER"),
            ("Перу Толстого", ""),
            ("Поляков и Чехов спорят: чехов и поляков больше", "чехов:CZE поляков:POL"),
            ("РОССИЯ И КИТАЙ", "РОССИЯ:RUS КИТАЙ:CHN"),
            ("Латинской Америки и Северной Америкой", ""),
            ("Советского Союза, СССР, ГДР и ФРГ", "SUN SUN DDR DEU"),
            ("ЕС, НАТО, ООН", "EU NATO UN"),
            ("Королевство Оман, Чили, Панама, Грузию", "Оман:OMN Чили:CHL Панама:PAN Грузию:GEO"),
            ("Росси\u0301я", "Росси\u0301я:RUS"),
        ],
    )  # fmt: skip
    def test_found(self, text, expected):
        assert (named(text) if ":" in expected else codes(text)) == expected


class TestChinese:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("中方坚决反对美国的做法", "中方:CHN 美国:USA"),
            ("中美关系与俄乌冲突", "中:CHN 美:USA 俄:RUS 乌:UKR"),
            ("心中的美好、法律、道德、日前", ""),
            ("发展中国家", ""),
            ("谈判中美国让步", "美国:USA"),
            ("其中美方代表", "美方:USA"),
            ("对美、对美国", "美:USA 美国:USA"),
            ("司法方面，以方便群众", ""),
            ("法方与日方", "法:FRA 日:JPN"),
            ("印度尼西亚和印度", "印度尼西亚:IDN 印度:IND"),
            ("印度洋、日本海、墨西哥湾", ""),
            ("南非不是非洲", "南非:ZAF"),
            ("刚果（金）和刚果(布)，刚果", "刚果（金）:COD 刚果(布):COG"),
            ("朝鲜与韩国，朝鲜半岛", "朝鲜:PRK 韩国:KOR"),
            ("台湾，中国台湾", "台湾:TWN 台湾:TWN"),
            ("几内亚、几内亚比绍、巴布亚新几内亚、赤道几内亚", "GIN GNB PNG GNQ"),
            ("尼日尔和尼日利亚", "尼日尔:NER 尼日利亚:NGA"),
            ("白宫、克里姆林宫和华盛顿", "白宫:USA 克里姆林宫:RUS 华盛顿:USA"),
            ("苏联、东德、西德", "SUN DDR GFR"),
            ("美國與俄羅斯", "美國:USA 俄羅斯:RUS"),
            ("访华、驻俄、反美", "华:CHN 俄:RUS 美:USA"),
        ],
    )
    def test_found(self, text, expected):
        assert (named(text) if ":" in expected else codes(text)) == expected


class TestOthers:
    @pytest.mark.parametrize(
        ("language", "text", "expected"),
        [
            ("uk", "Росія погрожує Україні, росіян бачили в Індії", "Росія Україні росіян Індії"),
            ("uk", "українсько-польський кордон і США", "українсько польський США"),
            ("uk", "українська мова", ""),
            ("uk", "Малі країни й мир у Малі", "Малі"),
            ("ar", "والولايات المتحدة وروسيا", "الولايات المتحدة روسيا"),
            ("ar", "للصين وبالأردن وكالمغرب", "لصين الأردن المغرب"),
            ("ar", "مصر، وأصرّ، مصرّ على موقفه", "مصر"),
            ("ar", "نهر الأردن، عمان، الدعم المالي", ""),
            ("ar", "الكرملين والبيت الأبيض", "الكرملين البيت الأبيض"),
            ("ar", "رِسالةُ الصّينِ والأمريكيين", "الصّينِ أمريكيين"),
            ("fa", "چین و چین‌خوردگی کوه", "چین"),
            ("fa", "روس‌ها و کاخ سفید", "روس\u200cها کاخ سفید"),
            ("fa", "کمک مالی، خلیج فارس", ""),
            ("fa", "عمان و هند و ایران", "عمان هند ایران"),
            ("es", "China y los malienses en Malí", "China malienses Malí"),
            ("es", "porcelana china, EE. UU. y EE.UU.", "china EE. UU. EE.UU."),
            ("es", "América Latina, la Casa Blanca", "Casa Blanca"),
            ("fr", "l'Inde, le Tchad, un diplomate suisse", "Inde Tchad suisse"),
            ("fr", "Maurice et Dominique ; l'île Maurice et la Dominique", "Maurice Dominique"),
            ("fr", "franco-allemand, la Maison-Blanche", "franco allemand Maison-Blanche"),
            ("de", "Russlands Haltung, russische Truppen, die USA", "Russlands russische USA"),
            ("tr", "ABD'nin ve Rusya'yı, Amerikalılar", "ABD Rusya Amerikalı"),
            ("tr", "Maliye bakanı", ""),
            ("ko", "미국은 북한과 러시아의", "미국 북한 러시아"),
            ("ko", "한미일 협력, 인도적 지원", "한 미 일"),
            ("ko", "그런 수단", ""),
            ("ja", "米国とロシアは日米を", "米国 ロシア 日 米"),
            ("ja", "タイトルとインドネシアのこと", "インドネシア"),
            ("he", "בארה\"ב וברוסיה, לבנון", "ארה\"ב רוסיה לבנון"),
            ("hi", "भारत ने अमेरिका से कहा", "भारत अमेरिका"),
        ],
    )  # fmt: skip
    def test_found(self, language, text, expected):
        assert " ".join(found.text for found in mentions(text, language)) == expected

    def test_latin_script_is_english_unless_named(self):
        assert codes("La Suisse et Chad Smith") == ""
        assert codes("La Suisse et la Belgique", "fr") == "CHE BEL"

    def test_scripts_of_one_text_are_read_side_by_side(self):
        text = "Washington ответил Пекину: 美国不会, and Russia agreed."
        assert named(text) == "Washington:USA Пекину:CHN 美国:USA Russia:RUS"

    def test_a_language_named_leaves_the_other_scripts_alone(self):
        assert codes("Россия y los estadounidenses", "es") == "RUS USA"

    def test_unknown_language(self):
        with pytest.raises(InputError, match="'xx'"):
            mentions("Russia", "xx")


class TestResolve:
    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("США", "USA"),
            ("россия", "RUS"),
            ("Советский Союз", "SUN"),
            ("Того", "TGO"),
            ("美国", "USA"),
            ("美", "USA"),
            ("刚果（金）", "COD"),
            ("Estados Unidos", "USA"),
            ("Allemagne", "DEU"),
            ("الصين", "CHN"),
            ("日本", "JPN"),
            ("미국", "USA"),
        ],
    )
    def test_known(self, name, code):
        assert resolve(name) is state(code)

    @pytest.mark.parametrize("name", ["того", "Атлантида", "США и Китай", "中美", "Россия!"])
    def test_unknown(self, name):
        assert resolve(name) is None

    def test_ambiguous(self):
        assert resolve("Корея") is None
        assert [found.code for found in candidates("Корея")] == ["KOR", "PRK"]

    def test_english_comes_first(self):
        assert resolve("Cuba") is state("CUB")


class TestSentences:
    @pytest.mark.parametrize(
        ("document", "language", "expected"),
        [
            ("Мы благодарим Китай. США молчат!", None, [("CHN", "Мы"), ("USA", "США")]),
            ("我们感谢俄罗斯。美国没有回答。", None, [("RUS", "我们"), ("USA", "美国")]),
            ("Gracias a Francia. Rusia calla.", "es", [("FRA", "Gracias"), ("RUS", "Rusia")]),
        ],
    )
    def test_split_and_found(self, document, language, expected):
        found = list(statements_in(document, language=language))
        assert [each.target for _, each in found] == [code for code, _ in expected]
        for ((start, end), each), (_, opening) in zip(found, expected, strict=True):
            assert document[start:end] == each.text
            assert each.text.startswith(opening)

    @pytest.mark.parametrize(
        ("text", "language"),
        [
            ("Hello", "en"),
            ("Это она", "ru"),
            ("Її слова", "uk"),
            ("这不对", "zh"),
            ("これは本", "ja"),
            ("مرحبا أيها", "ar"),
            ("گفت", "fa"),
            ("안녕", "ko"),
            ("", "en"),
        ],
    )
    def test_language_of(self, text, language):
        assert languages.language_of(text) == language


class TestBuild:
    def test_files_are_what_the_script_writes(self):
        for language in build_state_names.OTHERS:
            written = (build_state_names.OUTPUT / f"{language}.json").read_text("utf-8")
            assert written == build_state_names.current_text(language), language

    @pytest.mark.parametrize(
        ("source", "complaint"),
        [
            ({"states": {}, "adjectives": {}}, "unknown keys"),
            ({"states": {"XYZ": ["Utopie"]}}, "unknown keys"),
            ({"states": {"FRA": ["Allemagne"]}}, "belongs to"),
            ({"states": {"FRA": ["!"]}}, "never match"),
        ],
    )
    def test_contradictions_are_refused(self, source, complaint):
        with pytest.raises(build_state_names.SourceError, match=complaint):
            build_state_names.build("fr", source, {})

    def test_forms_that_are_missing_are_asked_for(self):
        with pytest.raises(build_state_names.SourceError, match="inflect_state_names"):
            build_state_names.build("ru", {"states": {}}, {})

    def test_every_code_is_a_state(self):
        for language in build_state_names.OTHERS:
            path = build_state_names.OUTPUT / f"{language}.json"
            for code in json.loads(path.read_text("utf-8"))["names"]:
                state(code)


@settings(deadline=None, max_examples=60)  # the first call loads the data
@given(
    st.lists(
        st.sampled_from(
            ["中", "美国", "方", "对", "США", "российско-", "والصين", "چین", "\u200c", "ABD'nin",
             "미국은", "アメリカ", "ב", "ארה\"ב", " ", "\n", "(", "）", "\u0651", "भारत", "U.S."]
        ),
        max_size=20,
    ).map("".join),
    st.sampled_from([None, *languages.LANGUAGES]),
)  # fmt: skip
def test_spans_are_ordered_and_true_to_the_text(text, language):
    end = 0
    for found in mentions(text, language):
        assert end <= found.start < found.end
        assert text[found.start : found.end] == found.text
        end = found.end


@pytest.mark.parametrize(
    "text",
    [
        "Российский посол поблагодарил Йемен и Новую Зеландию.",
        "Україна дякує Ємену й Зімбабве.",
        "대한민국과 일본은 협력한다.",
        "日本はドイツとガーナに抗議した。",
        "أعربت مصر عن شكرها لإيران والأردن.",
        "भारत ने रूस को धन्यवाद दिया।",
    ],
)
def test_letters_in_pieces_are_the_letters(text):
    """Names of files on a Mac and text out of PDF files come decomposed."""
    pieces = unicodedata.normalize("NFD", text)
    found = mentions(pieces)
    assert [(m.state, unicodedata.normalize("NFC", m.text)) for m in found] == [
        (m.state, m.text) for m in mentions(text)
    ]
    assert [pieces[m.start : m.end] for m in found] == [m.text for m in found]
    assert len(found) >= 2
    assert languages.language_of(pieces) == languages.language_of(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ﻣﺼﺮ ﻭﺍﻟﻌﺮﺍﻕ", "ﻣﺼﺮ:EGY ﺍﻟﻌﺮﺍﻕ:IRQ"),
        ("ｱﾒﾘｶとﾄﾞｲﾂ", "ｱﾒﾘｶ:USA ﾄﾞｲﾂ:DEU"),
    ],
)
def test_letters_in_the_shapes_of_print(text, expected):
    assert named(text) == expected


def test_a_name_in_pieces_is_the_name():
    assert resolve(unicodedata.normalize("NFD", "Йемен")).code == "YEM"


def test_no_code_of_two_letters_is_a_word_of_another_language():
    aliases = get_global("territory_aliases")
    states = [s for s in all_states() if s.kind is Kind.STATE and s.code in aliases]
    two = {aliases[s.code][0]: s.code for s in states}
    assert two["RU"] == "RUS" and len(two) > 190
    for code, right in two.items():
        for written in (code, code.lower()):
            assert (found := resolve(written)) is None or found.code == right


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("欧美国家都来了。", []),
        ("人民币对美元汇率稳定。", []),
        ("马里乌波尔的居民撤离了。", []),
        ("今日中に返事をする。", []),
        ("예수 그리스도의 말씀.", []),
        ("ایران و عمان بر همکاری تأکید کردند.", ["IRN", "OMN"]),
    ],
)
def test_traps_that_readers_found(text, codes):
    assert sorted({m.state.code for m in mentions(text)}) == codes
