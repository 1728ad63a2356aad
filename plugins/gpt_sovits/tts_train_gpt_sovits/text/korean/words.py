"""What Korean says for the signs of numbers."""

from __future__ import annotations

import re

from tts_train_gpt_sovits.text.expressions.vocabulary import Vocabulary

TOPIC = "\ue000"
"""Stands for 은 or 는 until the word before it is spelled."""

_PHONE_DIGITS = str.maketrans("0123456789", "공일이삼사오육칠팔구")
_VERSION_DIGITS = str.maketrans("0123456789", "영일이삼사오육칠팔구")
_HALVES = {"am": "오전 ", "pm": "오후 ", None: ""}
_MONEY = {
    "₩": "원", "$": "달러", "¥": "엔", "€": "유로", "£": "파운드", "₹": "루피", "₽": "루블", "฿": "바트", "₫": "동",
    "₱": "페소", "¢": "센트", "US$": "달러", "HK$": "홍콩달러", "NT$": "대만달러", "A$": "호주달러", "AU$": "호주달러",
    "C$": "캐나다달러", "CA$": "캐나다달러", "S$": "싱가포르달러", "NZ$": "뉴질랜드달러", "KRW": "원", "USD": "달러",
    "JPY": "엔", "EUR": "유로", "GBP": "파운드", "CNY": "위안", "RMB": "위안", "HKD": "홍콩달러", "TWD": "대만달러",
    "AUD": "호주달러", "CAD": "캐나다달러", "CHF": "스위스프랑", "INR": "루피", "THB": "바트",
}  # fmt: skip
_UNITS = {
    "%": "퍼센트", "‰": "퍼밀", "℃": "도", "°C": "도", "°": "도", "kg": "킬로그램", "mg": "밀리그램",
    "μg": "마이크로그램", "g": "그램", "t": "톤", "km²": "제곱킬로미터", "km2": "제곱킬로미터", "m²": "제곱미터",
    "m2": "제곱미터", "cm²": "제곱센티미터", "cm2": "제곱센티미터", "mm²": "제곱밀리미터", "m³": "세제곱미터",
    "m3": "세제곱미터", "cm³": "세제곱센티미터", "km": "킬로미터", "m": "미터", "cm": "센티미터", "mm": "밀리미터",
    "μm": "마이크로미터", "nm": "나노미터", "ha": "헥타르", "cc": "시시", "ml": "밀리리터", "mL": "밀리리터",
    "dl": "데시리터", "dL": "데시리터", "l": "리터", "L": "리터", "KB": "킬로바이트", "kB": "킬로바이트",
    "MB": "메가바이트", "GB": "기가바이트", "TB": "테라바이트", "kbps": "케이비피에스", "Mbps": "메가비피에스",
    "Gbps": "기가비피에스", "Hz": "헤르츠", "kHz": "킬로헤르츠", "MHz": "메가헤르츠", "GHz": "기가헤르츠", "W": "와트",
    "kW": "킬로와트", "kWh": "킬로와트시", "V": "볼트", "A": "암페어", "mA": "밀리암페어", "mAh": "밀리암페어시",
    "Pa": "파스칼", "hPa": "헥토파스칼", "dB": "데시벨", "db": "데시벨", "cal": "칼로리", "kcal": "킬로칼로리",
    "ppm": "피피엠", "px": "픽셀", "pt": "포인트", "fps": "에프피에스", "rpm": "알피엠", "dpi": "디피아이",
    "m/s²": "미터 퍼 제곱초", "ms": "밀리초", "s": "초", "min": "분", "h": "시간", "Ω": "옴", "kΩ": "킬로옴",
    "mol": "몰",
}  # fmt: skip
_SPEED = {"h": "시속", "s": "초속", "min": "분속"}
_LENGTHS = frozenset({"km", "m", "cm", "mm"})
_BETWEEN = {
    "+": " 더하기 ", "-": " 빼기 ", "−": " 빼기 ", "×": " 곱하기 ", "x": " 곱하기 ", "X": " 곱하기 ",
    "*": " 곱하기 ", "÷": " 나누기 ", "/": " 나누기 ", "=": f"{TOPIC} ", "→": "에서 ",
}  # fmt: skip
_ALONE = {
    "±": " 플러스마이너스 ", "≠": " 낫 이퀄 ", "≈": " 약 ", "+": " 플러스 ", "=": f"{TOPIC} ", "÷": " 나누기 ",
    "∞": "무한대", "√": "루트 ", "%": "퍼센트", "‰": "퍼밀", "&": " 앤드 ", "@": " 골뱅이 ", "₩": "원", "$": "달러",
    "¥": "엔", "€": "유로", "£": "파운드", "〒": "우편번호 ",
    "♯": " 샵", "♭": " 플랫",
}  # fmt: skip
_POWERS = {"2": "의 제곱", "3": "의 세제곱"}


def phone_digits(digits: str) -> str:
    """Spell a row of digits as telephone numbers are said, with 공 for zero."""
    return digits.translate(_PHONE_DIGITS)


def _date(year: str | None, month: str | None, day: str | None) -> str:
    parts = ((year, "년"), (month, "월"), (day, "일"))
    return " ".join(f"{int(part)}{name}" for part, name in parts if part)


def _time(hour: str, minute: str, second: str | None, half: str | None) -> str:
    parts = [(hour, "시"), (minute, "분"), (second or "0", "초")]
    return _HALVES[half] + " ".join(f"{int(part)}{name}" for part, name in parts if name == "시" or int(part))


def _per(number: str, unit: str, divisor: str) -> str:
    if unit in _LENGTHS and divisor in _SPEED:
        return f"{_SPEED[divisor]} {number}{_UNITS[unit]}"
    return f"{number}{_UNITS[unit]} 퍼 {_UNITS[divisor]}"


def _power(exponent: str) -> str:
    return _POWERS.get(exponent) or f"의 {exponent.lstrip('+').replace('-', '마이너스 ')}제곱"


KOREAN = Vocabulary(
    date=_date,
    time=_time,
    digits=phone_digits,
    version_digits=lambda digits: digits.translate(_VERSION_DIGITS),
    fraction=lambda over, under: f"{under}분의 {over}",
    power=_power,
    per=_per,
    short_phone=r"1(?:5(?:22|33|44|66|77|88|99)|6(?:00|11|22|33|44|55|61|66|68|70|80|88|99)|8(?:00|11|33|55|66|77|99))-\d{4}",
    point=" 점 ",
    group=" ",
    block=" 다시 ",
    to="에서 ",
    ratio=" 대 ",
    decade="년대",
    minus="마이너스 ",
    version="버전 ",
    number="넘버 ",
    number_one="넘버원",
    postcode="우편번호 ",
    english_digits=("제로", "원", "투", "쓰리", "포", "파이브", "식스", "세븐", "에이트", "나인"),
    english_ordinals=(
        "퍼스트",
        "세컨드",
        "서드",
        "포스",
        "피프스",
        "식스스",
        "세븐스",
        "에이스",
        "나인스",
        "텐스",
    ),
    english_letters={"D": "디", "G": "지"},
    money=_MONEY,
    units=_UNITS,
    between=_BETWEEN,
    alone=_ALONE,
    bound={"≤": " 이하", "≥": " 이상", "<": " 미만", ">": " 초과"},
    about="약 ",
    counters="개명원점세살년월일시분초회도번위인대층권장",
    hashtag="해시태그 ",
    sharp=" 샵",
    currency_words="원|달러|엔|유로|파운드|위안",
    large="십백천만억조",
    date_follows=re.compile(
        r"\s?[(][월화수목금토일][)]|에(?!서)|부터|까지|~|\s?(?:개봉|출시|오픈|마감|공개|발매|시작|생일)"
    ),
    fraction_follows=re.compile(
        r"의?\s?(?:확률|비율|크기|양|가격|인구|길이|속도|면적|수준|사이즈)|에\s?(?:해당|불과|달하|이르|그치|육박|못)"
        r"|\s?(?:박자|컵|이상|이하|정도|쯤|배|지점|스푼|큰술)|로\s?(?:줄|감소|축소|나누|떨어)|[을를가이만]\s?"
    ),
    score_before=re.compile(r"(?:스코어|점수)[는가도]?\s?$"),
    score_follows=re.compile(
        r"\s?(?:으?로\s?(?:이|승|패|졌|지|꺾|앞|뒤|역전|비겼|비기|완승|신승|대승|제압|물리|누르|눌)|승|패|무승부|동점|스코어)"
    ),
    ratio_follows=re.compile(r"\s?(?:의\s?)?(?:화면|비율|종횡비|해상도|모니터|비로)"),
    address_before=re.compile(r"(?:동|번길|대로|번지)\s?$"),
)
