"""Reads Japanese: numbers and signs as words, then Open JTalk's phonemes with the pitch marks of upstream's v2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tts_train_gpt_sovits.text.expressions.read import read_signs
from tts_train_gpt_sovits.text.expressions.signs import (
    is_letter,
    pauses,
    refuse_references,
    require_readable,
    without_silent,
)
from tts_train_gpt_sovits.text.expressions.vocabulary import Vocabulary
from tts_train_gpt_sovits.text.languages import Script, script_of
from tts_train_gpt_sovits.text.reading import PUNCTUATION, TextReading, TextRejected, library, without_repeated_marks

_HAN_DIGITS = str.maketrans("123456789", "一二三四五六七八九")
_KANA_DIGITS = ("ゼロ", "イチ", "ニー", "サン", "ヨン", "ゴー", "ロク", "ナナ", "ハチ", "キュー")
_HALVES = {"am": "午前", "pm": "午後", None: ""}
_MONEY = {
    "¥": "円", "$": "ドル", "€": "ユーロ", "£": "ポンド", "₩": "ウォン", "₹": "ルピー", "₽": "ルーブル", "฿": "バーツ",
    "₫": "ドン", "₱": "ペソ", "¢": "セント", "US$": "ドル", "HK$": "香港ドル", "NT$": "台湾ドル",
    "A$": "オーストラリアドル", "AU$": "オーストラリアドル", "C$": "カナダドル", "CA$": "カナダドル",
    "S$": "シンガポールドル", "NZ$": "ニュージーランドドル", "JPY": "円", "USD": "ドル", "EUR": "ユーロ",
    "GBP": "ポンド", "KRW": "ウォン", "CNY": "元", "RMB": "元", "HKD": "香港ドル", "TWD": "台湾ドル",
    "AUD": "オーストラリアドル", "CAD": "カナダドル", "CHF": "スイスフラン", "INR": "ルピー", "THB": "バーツ",
}  # fmt: skip
_UNITS = {
    "%": "パーセント", "‰": "パーミル", "℃": "度", "°C": "度", "°": "度", "kg": "キログラム",
    "mg": "ミリグラム", "μg": "マイクログラム", "g": "グラム", "t": "トン", "km²": "平方キロメートル",
    "km2": "平方キロメートル", "m²": "平方メートル", "m2": "平方メートル", "cm²": "平方センチメートル",
    "cm2": "平方センチメートル", "mm²": "平方ミリメートル", "m³": "立方メートル", "m3": "立方メートル",
    "cm³": "立方センチメートル", "km": "キロメートル", "m": "メートル", "cm": "センチメートル", "mm": "ミリメートル",
    "μm": "マイクロメートル", "nm": "ナノメートル", "ha": "ヘクタール", "cc": "シーシー", "ml": "ミリリットル",
    "mL": "ミリリットル", "dl": "デシリットル", "dL": "デシリットル", "l": "リットル", "L": "リットル",
    "kl": "キロリットル", "KB": "キロバイト", "kB": "キロバイト", "MB": "メガバイト", "GB": "ギガバイト",
    "TB": "テラバイト", "kbps": "キロビーピーエス", "Mbps": "メガビーピーエス", "Gbps": "ギガビーピーエス",
    "Hz": "ヘルツ", "kHz": "キロヘルツ", "MHz": "メガヘルツ", "GHz": "ギガヘルツ", "W": "ワット", "kW": "キロワット",
    "kWh": "キロワット時", "V": "ボルト", "A": "アンペア", "mA": "ミリアンペア", "mAh": "ミリアンペア時",
    "Pa": "パスカル", "hPa": "ヘクトパスカル", "dB": "デシベル", "db": "デシベル", "cal": "カロリー",
    "kcal": "キロカロリー", "ppm": "ピーピーエム", "px": "ピクセル", "pt": "ポイント", "fps": "エフピーエス",
    "rpm": "アールピーエム", "dpi": "ディーピーアイ", "ms": "ミリ秒", "s": "秒", "min": "分", "h": "時間",
    "m/s²": "メートル毎秒毎秒", "Ω": "オーム", "kΩ": "キロオーム", "mol": "モル",
}  # fmt: skip
_PER = {"時間": "毎時", "分": "毎分", "秒": "毎秒"}
_BETWEEN = {
    "+": "たす", "-": "引く", "−": "引く", "×": "かける", "x": "かける", "X": "かける", "*": "かける", "÷": "わる",
    "/": "わる", "=": "は", "→": "から",
}  # fmt: skip
_ALONE = {
    "±": "プラスマイナス", "≠": "ノットイコール", "≈": "ニアリーイコール", "≤": "小なりイコール",
    "≥": "大なりイコール", "<=": "小なりイコール", ">=": "大なりイコール", "<": "小なり", ">": "大なり", "+": "プラス",
    "=": "イコール", "÷": "わる", "∞": "無限大", "√": "ルート", "%": "パーセント", "‰": "パーミル", "&": "アンド",
    "@": "アット", "¥": "円", "$": "ドル", "€": "ユーロ", "£": "ポンド", "₩": "ウォン", "〒": "郵便番号",
    "♯": "シャープ", "♭": "フラット",
}  # fmt: skip


def digits_in_a_row(digits: str) -> str:
    """Spell a row of digits. Han digits get Open JTalk's accent for rows; it reads 〇 among them as maru."""
    # Kana for a row with a zero, which would be heard as a circle, maru: 一〇三.
    if "0" in digits:
        return "".join(_KANA_DIGITS[int(digit)] for digit in digits)
    return digits.translate(_HAN_DIGITS)


def _date(year: str | None, month: str | None, day: str | None) -> str:
    if year is None or day is None:  # in a whole date Open JTalk reads 01月 rightly
        month, day = (part and part.lstrip("0") for part in (month, day))
    return "".join(f"{part}{name}" for part, name in ((year, "年"), (month, "月"), (day, "日")) if part)


def _time(hour: str, minute: str, second: str | None, half: str | None) -> str:
    parts = [(hour, "時"), (minute, "分"), (second or "0", "秒")]
    spoken = "".join(f"{int(part)}{name}" for part, name in parts if name == "時" or int(part))
    return _HALVES[half] + spoken


def _power(exponent: str) -> str:
    sign = {"-": "マイナス", "+": "プラス"}.get(exponent[0], "")
    return f"の{sign}{exponent.lstrip('+-')}乗"


def _per(number: str, unit: str, divisor: str) -> str:
    name = _UNITS[divisor]
    return f"{number}{_UNITS[unit]}{_PER.get(name) or f'パー{name}'}"


JAPANESE = Vocabulary(
    date=_date,
    time=_time,
    digits=digits_in_a_row,
    version_digits=digits_in_a_row,
    fraction=lambda over, under: f"{under}分の{over}",
    power=_power,
    per=_per,
    short_phone=r"\b\B",
    point=" 点 ",
    group="の",
    block="の",
    to="から",
    ratio="対",
    decade="年代",
    minus="マイナス",
    version="バージョン",
    number="ナンバー",
    number_one="ナンバーワン",
    postcode="郵便番号",
    english_digits=(
        "ゼロ",
        "ワン",
        "ツー",
        "スリー",
        "フォー",
        "ファイブ",
        "シックス",
        "セブン",
        "エイト",
        "ナイン",
    ),
    english_ordinals=(
        "ファースト",
        "セカンド",
        "サード",
        "フォース",
        "フィフス",
        "シックスス",
        "セブンス",
        "エイス",
        "ナインス",
        "テンス",
    ),
    english_letters={"D": "ディー", "G": "ジー"},
    money=_MONEY,
    units=_UNITS,
    between=_BETWEEN,
    alone=_ALONE,
    bound={"≤": "以下", "≥": "以上", "<": "未満", ">": "超"},
    about="約",
    counters="人個円点歳才年月日時分秒回本度位件台枚つ",
    hashtag="ハッシュタグ",
    sharp="シャープ",
    currency_words="円|ドル|ユーロ|ポンド|ウォン",
    large="十百千万億兆",
    date_follows=re.compile(
        r"\s?[(（][日月火水木金土祝]|から|まで|頃|ごろ|付け|の(?:会議|予定|朝|夜|昼|午前|午後|試合|ライブ|授業|放送)|発売|公開|開催|開始|締|〆|生まれ|~"
        r"|に(?!な|減|縮|抑|達|満|相当|分|切|薄|する|し[たて])"
    ),
    fraction_follows=re.compile(
        r"の?(?:確率|割合|大きさ|サイズ|スケール|縮尺|量|価格|値段|長さ|広さ|速さ|速度|面積|人(?!気)|力|くらい|ぐらい)"
        r"|拍子|カップ|個|倍|以上|以下|程度|に(?:な|減|縮|抑|満|分|薄|する|し[たて])|を(?:超|占)"
    ),
    score_before=re.compile(r"スコア[はがも]?\s?$"),
    score_follows=re.compile(
        r"\s?(?:で(?:の?(?:勝|負|敗|快勝|圧勝|辛勝|引き分け|リード|逆転))|の(?:スコア|勝|敗|引き分け))"
    ),
    ratio_follows=re.compile(r"\s?の?(?:画面|アスペクト|比|割合|モニター|ディスプレイ|映像)"),
    address_before=re.compile(r"(?:[町丁区市村条目]|[市区町村][一-龥ァ-ヶ]{1,5})$"),
)


_MARKS = str.maketrans("：；，。．！？\n·、~—―–•:;", ",,,..!?.,,…---,,,")
_KEPT = frozenset({*PUNCTUATION, " ", "・"})
_LETTERS = "ぁ-ゖァ-ヺー一-鿿㐀-䶿々〆〇"
_READABLE = frozenset({*PUNCTUATION, *map(chr, _MARKS), *" ・/‥"})
_DIGIT_NAMES = str.maketrans("0123456789", "ゼ一二三四五六七八九")
_JOINED_NAME = re.compile(r"(?<=[ァ-ヺー])[=＝゠](?=[ァ-ヺ])")
_WEEKDAY = re.compile(r"(?<=\d日)\s?[(（]([日月火水木金土])[)）]")
_LOSS = re.compile(r"[▲△]\s?(?=\d)")
# A circle is said, except at the head of a line (a bullet) and as the zero of Han digits.
_RIGHT_OR_WRONG = re.compile(r"[○◯〇]×")
_CIRCLE = re.compile(
    r"(?<![\d一二三四五六七八九〇十百千])[○◯〇]{2,}"
    r"|(?<![\s\d一二三四五六七八九〇十百千])(?<!^)[○◯〇](?![\d一二三四五六七八九])"
    r"|(?m:^)[○◯〇](?=[をはがでと])"
)
_FAHRENHEIT = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s?℉")
_FROM_TO = re.compile(r"(?<=[一-鿿])~(?=[一-鿿])|(?<=[年月日時分円])~(?=[\sの、。,.!?)）]|$)")
_DECIMAL = re.compile(r"(?<![\dA-Za-z.])(\d*)\.(\d+)(?!\.?\d)|(?<=[A-Za-z])(\d+)\.(\d+)(?!\.?\d)")


def spoken_signs(text: str) -> str:
    """Write the signs about numbers as words; Open JTalk itself reads whole numbers with their counters."""
    refuse_references(text)
    text = _JOINED_NAME.sub("・", text.replace("...", "…"))
    text = _CIRCLE.sub(lambda m: "マル" * len(m[0]), _LOSS.sub("マイナス", _RIGHT_OR_WRONG.sub("マルバツ", text)))
    text = _FAHRENHEIT.sub(r"華氏\1度", text)
    text = _WEEKDAY.sub(r"\1曜日", _DECIMAL.sub(_decimal, read_signs(text, JAPANESE)))
    text = pauses(_FROM_TO.sub("から", text), _LETTERS)
    require_readable(text, _READABLE | frozenset(filter(is_letter, text)))
    return text


def normalise(text: str) -> str:
    """Give kana, Han, digits and upstream's marks.

    Raises:
        TextRejected: `unreadable_text` for a sign that has no reading where it stands.
    """
    text = spoken_signs(text).replace("‥", "…").translate(_MARKS)
    text = without_silent(text, _KEPT | frozenset(filter(is_letter, text)))
    return without_repeated_marks(re.sub(" {2,}", " ", text))


def _decimal(match: re.Match[str]) -> str:
    written, decimals = match[1] if match[3] is None else match[3], match[2] or match[4]
    whole = written.lstrip("0") or "零"
    return f"{whole}点{decimals.translate(_DIGIT_NAMES).replace('ゼ', 'ゼロ')}"


LIBRARIES = ("pyopenjtalk-plus",)
# The table has no mark for the border of an accent phrase (`#`), so upstream's phones have UNK there.
PHRASE_BORDER = "UNK"
PAUSE = "_"

_MORA_ENDS = frozenset({"a", "e", "i", "o", "u", "A", "E", "I", "O", "U", "N", "cl"})
_NOWHERE = -50  # silence has no place in an accent phrase


class JapaneseReader:
    """Reads Japanese of one version by pyopenjtalk-plus.

    Args:
        prosody: with pitch marks, rise `[`, fall `]`, and voiced vowels throughout (v2 and later); without, devoiced
            vowels keep the phones `I` and `U` that the table has (v1).
    """

    def __init__(self, *, prosody: bool = True) -> None:
        self._open_jtalk = library("pyopenjtalk", purpose="Reading Japanese", extra="ja")
        self._prosody = prosody

    def read(self, text: str) -> TextReading:
        """Read `text`; marks stand where they were written, and no accent phrase goes over a space."""
        norm_text = normalise(text)
        phones: list[str] = []
        for run in re.findall(r"[!?…,.\-]|[^!?…,.\- ]+", norm_text):
            # Cut at marks: Open JTalk reads them all as the same pause.
            phones += [run] if run in PUNCTUATION else self._phones(run)
        return TextReading(norm_text, tuple(phones))

    def _phones(self, text: str) -> Iterator[str]:
        open_jtalk = self._open_jtalk
        try:
            # Not g2p, which gives phones without the accents that pitch marks are made of.
            labels = [_Label.parse(line) for line in open_jtalk.make_label(open_jtalk.run_frontend(text))]
        except RuntimeError as error:  # text without a mark in it for some 8,000 bytes
            raise TextRejected("unreadable_text", f"{text[:40]!r}: Open JTalk says {error}") from error
        if not labels and any(script_of(character) in {Script.HAN, Script.DIGIT} for character in text):
            raise TextRejected("unreadable_text", f"{text[:40]!r}: Open JTalk has no reading for it")
        return _with_prosody(labels) if self._prosody else _plain(labels)


@dataclass(frozen=True)
class _Label:
    """What one full-context label says: the phone, and where its mora lies in the accent phrase."""

    phone: str
    from_accent: int
    """Moras after (positive) or before the accent's."""
    from_start: int
    from_end: int
    moras: int

    @classmethod
    def parse(cls, line: str) -> _Label:
        place = re.search(r"/A:(-?\d+)\+(\d+)\+(\d+)/", line)
        moras = re.search(r"/F:(\d+)_", line)
        phone = line.split("-", 1)[1].split("+", 1)[0]
        from_accent, from_start, from_end = map(int, place.groups()) if place else (_NOWHERE,) * 3
        return cls(phone, from_accent, from_start, from_end, int(moras[1]) if moras else _NOWHERE)


def _with_prosody(labels: Sequence[_Label]) -> Iterator[str]:
    """Write phones with marks after Kurihara et al. (2021), doi 10.1587/transinf.2020EDP7104, as upstream does."""
    for label, following in pairwise(labels[1:]):
        if label.phone == "pau":
            yield PAUSE
            continue
        # Open JTalk writes devoiced vowels in capitals; upstream's v2 reads them voiced.
        yield label.phone.lower() if label.phone in "AEIOU" else label.phone
        if label.from_end == 1 and following.from_start == 1 and label.phone in _MORA_ENDS:
            yield PHRASE_BORDER
        elif (
            label.from_accent == 0 and following.from_start == label.from_start + 1 and label.from_start != label.moras
        ):
            yield "]"
        elif label.from_start == 1 and following.from_start == 2:
            yield "["


def _plain(labels: Sequence[_Label]) -> Iterator[str]:
    for label in labels[1:-1]:
        yield PAUSE if label.phone == "pau" else label.phone.lower() if label.phone in "AEO" else label.phone
