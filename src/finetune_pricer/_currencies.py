"""Which marks mean which currency, and how each currency writes its numbers: facts, without a decision.

A mark is whatever stands at a number and says whose money it is: a symbol, a code, a word. Several
currencies may share one (`$`), so that a number's currency is what all marks at it have in common.
"""

# ruff: noqa: RUF001 - marks of other alphabets look like letters of ours
from __future__ import annotations

CODES = frozenset(
    """AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD
    CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ
    GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP
    LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB
    PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL
    THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW
    ZWL BTC ETH""".split()
)
WORDLIKE = frozenset("ALL AMD BAM BOB CUP GEL LAK MAD MOP PEN RON RUB SOS STN TOP TRY".split())
"""Codes that are words too (`$20 PEN SET`): they count in capitals only, and where no word follows."""

LOWER_CASE = frozenset(
    "USD EUR GBP CAD AUD NZD CHF JPY CNY INR SEK NOK DKK PLN CZK HUF BRL MXN HKD SGD ZAR KRW ILS THB".split()
)
"""Codes that people also write small, and that are no words then."""

COMMA_DECIMALS = frozenset(
    """EUR BRL RUB TRY PLN SEK NOK DKK CZK HUF RON BGN UAH ISK IDR VND ARS CLP COP UYU PYG BOB CRC VES VED RSD
    ALL MKD BAM GEL AMD AZN BYN KZT MDL UZS TND MAD DZD XOF XAF XPF AOA MZN HRK""".split()
)
"""Their own writing has a decimal comma, so that a lone point before three digits groups thousands."""
NO_DECIMALS = frozenset("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split())
THREE_DECIMALS = frozenset("BHD IQD JOD KWD LYD OMR TND".split())
SPACE_GROUPS = frozenset(
    "EUR RUB PLN SEK NOK CZK HUF BGN UAH KZT BYN UZS ZAR CAD CHF XOF XAF XPF MAD DZD TND".split()
)
"""Their own writing may group thousands by spaces: `1 299`."""

DOLLARS = tuple(
    """USD CAD AUD NZD SGD HKD MXN TWD ARS CLP COP UYU DOP CUP BSD BBD BZD BMD BND KYD XCD FJD GYD JMD LRD MOP
    NAD SRD SBD TTD NIO""".split()
)
_POUNDS = ("GBP", "EGP", "LBP", "SYP", "GIP", "FKP", "SHP", "SDG", "SSP")
_RUPEES = ("INR", "PKR", "LKR", "NPR", "MUR", "SCR")
_KRONER = ("SEK", "NOK", "DKK", "ISK")
_PESOS = ("MXN", "ARS", "CLP", "COP", "UYU", "DOP", "CUP", "PHP")
_FRANCS = ("CHF", "XOF", "XAF", "XPF", "BIF", "CDF", "DJF", "GNF", "KMF", "RWF")
_DIRHAMS = ("AED", "MAD")

CENTS = frozenset({"cents", "cent", "¢"})
"""Marks of a hundredth."""

# In these, capitals count: `Ft` is money and `ft` is a length.
CASED: dict[str, tuple[str, ...]] = {
    "R": ("ZAR",),
    "Ft": ("HUF",),
    "TL": ("TRY",),
    "Fr": ("CHF", *_FRANCS[1:]),
    "Fr.": ("CHF", *_FRANCS[1:]),
    "SFr.": ("CHF",),
    "RM": ("MYR",),
    "Php": ("PHP",),
    "Rp": ("IDR",),
    "Rp.": ("IDR",),
    "Tk": ("BDT",),
    "DT": ("TND",),
    "DH": _DIRHAMS,
    "Dh": _DIRHAMS,
    "Dhs": _DIRHAMS,
    "Dhs.": _DIRHAMS,
    "SR": ("SAR",),
    "QR": ("QAR",),
    "KD": ("KWD",),
    "BD": ("BHD",),
    "JD": ("JOD",),
    "Bs": ("BOB", "VES"),
    "Bs.": ("BOB", "VES"),
    "S/": ("PEN",),
    "S/.": ("PEN",),
    "B/.": ("PAB",),
    "KSh": ("KES",),
    "Ksh": ("KES",),
    "USh": ("UGX",),
    "TSh": ("TZS",),
    "US": ("USD",),
    "CDN": ("CAD",),
    "AU": ("AUD",),
    "NZ": ("NZD",),
    "HK": ("HKD",),
    "SG": ("SGD",),
    "CA": ("CAD",),
    "MX": ("MXN",),
}
SYMBOLS: dict[str, tuple[str, ...]] = {
    "$": DOLLARS,
    "us$": ("USD",),
    "u.s.$": ("USD",),
    "u$s": ("USD",),
    "u$d": ("USD",),
    "$us": ("USD",),
    "ca$": ("CAD",),
    "c$": ("CAD", "NIO"),
    "cdn$": ("CAD",),
    "can$": ("CAD",),
    "$ca": ("CAD",),
    "$can": ("CAD",),
    "au$": ("AUD",),
    "a$": ("AUD",),
    "$au": ("AUD",),
    "nz$": ("NZD",),
    "$nz": ("NZD",),
    "hk$": ("HKD",),
    "$hk": ("HKD",),
    "s$": ("SGD",),
    "sg$": ("SGD",),
    "nt$": ("TWD",),
    "mx$": ("MXN",),
    "mex$": ("MXN",),
    "$mx": ("MXN",),
    "r$": ("BRL",),
    "rd$": ("DOP",),
    "ar$": ("ARS",),
    "col$": ("COP",),
    "j$": ("JMD",),
    "tt$": ("TTD",),
    "ec$": ("XCD",),
    "bz$": ("BZD",),
    "bds$": ("BBD",),
    "n$": ("NAD",),
    "fj$": ("FJD",),
    "€": ("EUR",),
    "£": _POUNDS,
    "e£": ("EGP",),
    "¥": ("JPY", "CNY"),
    "₹": ("INR",),
    "₨": _RUPEES,
    "rs": _RUPEES,
    "rs.": _RUPEES,
    "₩": ("KRW",),
    "₽": ("RUB",),
    "₺": ("TRY",),
    "₪": ("ILS",),
    "₫": ("VND",),
    "đ": ("VND",),
    "₴": ("UAH",),
    "₦": ("NGN",),
    "₱": ("PHP",),
    "฿": ("THB",),
    "৳": ("BDT",),
    "₵": ("GHS",),
    "gh₵": ("GHS",),
    "₡": ("CRC",),
    "₲": ("PYG",),
    "₸": ("KZT",),
    "₾": ("GEL",),
    "₼": ("AZN",),
    "₮": ("MNT",),
    "₭": ("LAK",),
    "₿": ("BTC",),
    "zł": ("PLN",),
    "zl": ("PLN",),
    "kr": _KRONER,
    "kr.": _KRONER,
    "kč": ("CZK",),
    "lei": ("RON", "MDL"),
    "лв": ("BGN",),
    "лв.": ("BGN",),
    "руб": ("RUB", "BYN"),
    "руб.": ("RUB", "BYN"),
    "р.": ("RUB", "BYN"),
    "грн": ("UAH",),
    "грн.": ("UAH",),
    "¢": DOLLARS,
    "د.إ": ("AED",),
    "ر.س": ("SAR",),
    "ج.م": ("EGP",),
    "د.ك": ("KWD",),
    "ر.ق": ("QAR",),
    "د.ب": ("BHD",),
    "ر.ع": ("OMR",),
    "د.أ": ("JOD",),
    "د.إ.": ("AED",),
    "ر.س.": ("SAR",),
    "ج.م.": ("EGP",),
    "د.ك.": ("KWD",),
    "ر.ق.": ("QAR",),
    "د.ب.": ("BHD",),
    "ر.ع.": ("OMR",),
    "د.أ.": ("JOD",),
    "円": ("JPY",),
    "元": ("CNY", "TWD", "HKD", "MOP"),
    "元人民币": ("CNY",),
    "人民币": ("CNY",),
    "rmb": ("CNY",),
    "美元": ("USD",),
    "欧元": ("EUR",),
    "日元": ("JPY",),
    "港元": ("HKD",),
    "港币": ("HKD",),
    "加元": ("CAD",),
    "澳元": ("AUD",),
    "英镑": ("GBP",),
    "韩元": ("KRW",),
    "원": ("KRW",),
    "달러": ("USD",),
    "ドル": DOLLARS,
    "ユーロ": ("EUR",),
}
WORDS: dict[str, tuple[str, ...]] = {
    "dollar": DOLLARS,
    "dollars": DOLLARS,
    "bucks": DOLLARS,
    "buck": DOLLARS,
    "cents": (*DOLLARS, "EUR", "ZAR"),
    "cent": (*DOLLARS, "EUR", "ZAR"),
    "euro": ("EUR",),
    "euros": ("EUR",),
    "pound": _POUNDS,
    "pounds": _POUNDS,
    "quid": ("GBP",),
    "yen": ("JPY",),
    "yuan": ("CNY",),
    "renminbi": ("CNY",),
    "rupee": _RUPEES,
    "rupees": _RUPEES,
    "rupiah": ("IDR",),
    "peso": _PESOS,
    "pesos": _PESOS,
    "franc": _FRANCS,
    "francs": _FRANCS,
    "franken": ("CHF",),
    "reais": ("BRL",),
    "ruble": ("RUB", "BYN"),
    "rubles": ("RUB", "BYN"),
    "roubles": ("RUB", "BYN"),
    "zloty": ("PLN",),
    "złoty": ("PLN",),
    "krona": ("SEK", "ISK"),
    "kronor": ("SEK",),
    "krone": ("NOK", "DKK"),
    "kroner": ("NOK", "DKK"),
    "koruna": ("CZK",),
    "forint": ("HUF",),
    "shekel": ("ILS",),
    "shekels": ("ILS",),
    "lira": ("TRY", "LBP"),
    "baht": ("THB",),
    "dirham": _DIRHAMS,
    "dirhams": _DIRHAMS,
    "riyal": ("SAR", "QAR", "YER"),
    "riyals": ("SAR", "QAR", "YER"),
    "ringgit": ("MYR",),
    "sterling": ("GBP",),
}
NATIONS: dict[str, tuple[str, ...]] = {
    "u.s.": ("USD",),
    "us": ("USD",),
    "american": ("USD",),
    "canadian": ("CAD",),
    "australian": ("AUD",),
    "aussie": ("AUD",),
    "new zealand": ("NZD",),
    "hong kong": ("HKD",),
    "singapore": ("SGD",),
    "singaporean": ("SGD",),
    "taiwan": ("TWD",),
    "taiwanese": ("TWD",),
    "mexican": ("MXN",),
    "argentine": ("ARS",),
    "chilean": ("CLP",),
    "colombian": ("COP",),
    "philippine": ("PHP",),
    "british": ("GBP",),
    "egyptian": ("EGP",),
    "swiss": ("CHF",),
    "japanese": ("JPY",),
    "chinese": ("CNY",),
    "indian": ("INR",),
    "pakistani": ("PKR",),
    "swedish": ("SEK",),
    "norwegian": ("NOK",),
    "danish": ("DKK",),
    "turkish": ("TRY",),
    "brazilian": ("BRL",),
    "jamaican": ("JMD",),
    "bahamian": ("BSD",),
    "barbadian": ("BBD",),
    "fijian": ("FJD",),
    "namibian": ("NAD",),
}
"""Words that say which of the currencies of one name: they count beside another mark only."""
BESIDE_ANOTHER = frozenset(NATIONS) | {"US", "CDN", "AU", "NZ", "HK", "SG", "CA", "MX"}
