"""An audit finds what spoils training and judging, and takes the spoiled rows from the side that learns."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_pricer import Item, ItemDataset, MadeUpCatalogue, audit
from finetune_pricer._methods import duplicates
from finetune_pricer.errors import DataError, MissingExtra
from finetune_pricer.prepare import AuditReport, Finding
from finetune_pricer.prepare.audit import KINDS, Kind
from finetune_pricer.prices import marked_prices

WORDS = "alder birch cedar dogwood elm fir gum hazel ivy juniper kauri larch maple nutmeg oak pine".split()
CATALOGUE = MadeUpCatalogue(seed=7)


def items(*rows: tuple[str, float | None], category: str = "Trees") -> ItemDataset:
    return ItemDataset.from_items(
        Item(summary=text, price=price, category=category, id=f"{n}")
        for n, (text, price) in enumerate(rows, 1)
    )


def one(report: AuditReport, kind: Kind) -> Finding:
    [finding] = report.of(kind)
    return finding


def test_a_clean_set_is_ok_and_says_which_reply_fits() -> None:
    splits = CATALOGUE.splits(train=300, validation=50, test=50)
    report = audit(splits.train, validation=splits.validation, test=splits.test)
    assert report.ok
    assert not report.of("duplicate across splits")
    assert str(report).startswith("ok: train 300, validation 50, test 50")
    assert "reply form: " in str(report)
    assert [list(left) for left in report.clean()] == [list(split) for split in splits]


def test_duplicates_within_and_across_splits_are_reported_with_ids_and_prices() -> None:
    train = items(
        ("An oak desk, new.", 5), ("an OAK desk -- new", 5), ("Pine shelf here", 7), ("Elm box lid", 9)
    )
    test = items(("pine  shelf, here!", 8))
    report = audit(train, test=test)
    inside, across = one(report, "duplicate"), one(report, "duplicate across splits")
    assert str(inside) == ("train row 2 (id '2', $5.00) and train row 1 (id '1', $5.00): but for its form")
    assert (across.place and across.place.split, across.other and across.other.split) == ("train", "test")
    assert one(report, "conflicting prices").place == across.place
    assert not report.ok
    cleaned = report.clean()
    assert [item.id for item in cleaned.train] == ["1", "4"]
    assert len(cleaned.test) == 1
    assert cleaned.train.history[-2:] == (
        "audit removed 1 rows that say the same as a test row",
        "audit removed 1 rows that say the same as an earlier row, at the same price",
    )


def test_the_test_split_loses_nothing_and_validation_only_to_test() -> None:
    same = items(("An oak desk with drawers", 5))
    report = audit(same, validation=same, test=ItemDataset.concat(same, same))
    assert [len(split) for split in report.clean()] == [0, 0, 2]


def test_one_text_at_two_prices_is_reported_and_kept() -> None:
    report = audit(items(("An oak desk", 5), ("an oak desk", 6)))
    assert one(report, "conflicting prices")
    assert report.ok
    assert len(report.clean().train) == 2


def test_near_duplicates_are_reported_with_their_similarity_and_become_groups_and_stay() -> None:
    text = "solid oak desk with three drawers brass handles and a leather top made by hand"
    train = items(
        (f"{text} in small", 100), ("something else in quite other words", 3), (f"{text} in large", 250)
    )
    test = items((f"{text} in medium", 170))
    report = audit(train, test=test)
    near = one(report, "near-duplicate")
    shingles = len(text.split()) - 2 + 2
    assert near.similarity == pytest.approx((shingles - 1) / (shingles + 1))
    assert len(report.of("near-duplicate across splits")) == 2
    assert report.ok
    assert len(report.clean().train) == 3
    labels = report.groups()
    assert labels[0] == labels[2] != labels[1]
    assert report.groups("test").tolist() == [labels[0]]
    assert len(report.groups("validation")) == 0
    splits = train.split(validation=0, test=1, seed=3, group=labels)
    sides = [{item.id for item in split} for split in splits]
    assert any({"1", "3"} <= side for side in sides)


def test_texts_that_only_a_chain_connects_are_no_group() -> None:
    # Each text shares most of its word triples with the next one, and the first none with the last.
    words = [f"word{n}" for n in range(60)]
    chain = items(*((" ".join(words[start : start + 20]), 5.0 + start) for start in range(0, 40, 3)))
    report = audit(chain)
    assert len(report.of("near-duplicate")) == len(chain) - 1
    labels = report.groups()
    assert len(set(labels.tolist())) > len(chain) // 3
    for row, label in enumerate(labels):
        assert abs(row - int(label)) <= 2  # all of a group are like one of them


def test_the_own_price_in_the_text_is_a_leak_only_with_its_currency() -> None:
    train = items(
        ("Oak desk, list price $129.00, now yours", 129.0),
        ("Pine shelf of 60 cm length, sturdy", 60.0),
        ("Elm box for USD 20, was $35", 35.0),
        ("Fir table, other things cost $70", 12.0),
    )
    report = audit(train)
    assert [finding.place and finding.place.row for finding in report.of("own price in text")] == [1, 3]
    assert report.of("own price in text")[0].detail == "says '$129.00'"
    # 129.00 stands in its text too; the 60 is a length.
    assert [finding.place and finding.place.row for finding in report.of("number equal to price")] == [
        1,
        2,
        3,
    ]
    assert 0 < report.chance < 3
    assert not report.ok
    assert [item.id for item in report.clean().train] == ["2", "4"]
    assert "by chance" in str(report)


@pytest.mark.parametrize(
    ("ending", "price", "currency", "leaks"),
    [
        # the course's older layout: rounded to whole dollars
        *((f"Price is ${round(price)}.00", price, "USD", True) for price in (1.49, 3.49, 9.49, 19.49, 24.51)),
        *((f"Price is ${round(price)}.00", price, "USD", True) for price in (120.40, 999.0)),
        ("for $3", 2.5, "USD", True),
        ("nur 20 \u20ac", 19.5, "EUR", True),
        ("for $4", 3.49, "USD", False),
        ("for $3.99", 3.49, "USD", False),
        ("for $3.00 CAD", 3.49, "USD", False),
        # every spelling
        ("only $30 K9 harness", 30, "USD", True),
        ("Rs. 1,299/- only", 1299, "INR", True),
        ("for 20-30 USD", 20, "USD", True),
        ("for 1.3k dollars", 1300, "USD", True),
        ("at 5 dollars and 20 cents", 5.2, "USD", True),
        ("Price (USD): 25", 25, "USD", True),
        ("\uff0419\uff0e99", 19.99, "USD", True),
        ("1.299,00 \u20ac", 1299, "EUR", True),
        ("model 1299", 1299, "USD", False),
    ],
)
def test_the_own_price_is_found_rounded_and_in_every_spelling(
    ending: str, price: float, currency: str, leaks: bool
) -> None:
    train = items((f"A thing among others\n\n{ending}", price))
    report = audit(train, similarity=None, currency=currency)
    assert len(report.of("own price in text")) == leaks
    assert len(report.clean().train) == 1 - leaks


def test_short_and_long_texts_and_outlying_prices_are_reported() -> None:
    rows = [(" ".join(np.roll(WORDS, n)) + f" number {n}", 50.0 + n % 7) for n in range(40)]
    rows += [("Oak desk", 52.0), ("word " * 2000, 52.0), ("a far too dear thing " + " ".join(WORDS), 9999.0)]
    report = audit(items(*rows))
    assert one(report, "short text").detail == "2 words"
    assert one(report, "long text").detail == "10,000 characters"
    outlier = one(report, "outlying price")
    assert (outlier.place and outlier.place.row, outlier.detail) == (43, "the median of Trees is $53.00")


def test_categories_of_one_split_only_are_reported() -> None:
    train = ItemDataset.concat(
        items(("Oak desk with drawers", 5)), items(("Tin can opener", 2), category="Tin")
    )
    report = audit(train, test=items(("Elm box with a lid", 4)))
    assert one(report, "category in one split").detail == "'Tin': 1 items, all in train"
    assert not audit(train).of("category in one split")


def test_findings_come_as_a_frame() -> None:
    frame = audit(items(("An oak desk", 5), ("an oak desk", 6))).to_frame()
    assert frame.loc[0, ["kind", "row", "other_row", "other_price"]].tolist() == [
        "conflicting prices",
        2,
        1,
        5.0,
    ]
    assert set(frame["kind"]) <= set(KINDS)


def test_without_the_extra_the_rest_of_the_audit_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(MissingExtra, match="similarity=None"):
        audit(items(("An oak desk", 5)))
    assert audit(items(("An oak desk", 5)), similarity=None).ok
    with pytest.raises(DataError, match="similarity"):
        audit(items(("An oak desk", 5)), similarity=0.2)


def test_a_thousand_texts_of_one_template_are_one_group() -> None:
    body = " ".join(WORDS * 3)
    report = audit(items(*((f"{body} item number{n}", float(n)) for n in range(1000))))
    assert len(set(report.groups().tolist())) == 1
    assert len(report.of("near-duplicate")) < 50_000


@pytest.mark.parametrize(
    ("prices", "form"),
    [
        ([3, 4, 5], "'$1,199.99' (the default): all prices are below $1,000,"),
        ([20, 200, 999.99], "'$1,199.99' (the default): all prices are below $1,000,"),
        ([50.0] * 199 + [2000], "'$1,199.99' (the default): 0.5% of the prices have thousands,"),
        ([50, 5000], "'$1,199.99' (the default): 50.0% of the prices have thousands,"),
        ([], "no prices are known"),
    ],
)
def test_the_advised_reply_fits_the_range_of_prices(prices: list[float], form: str) -> None:
    train = items(*((f"thing {n}", price) for n, price in enumerate(prices)))
    assert audit(train, similarity=None).reply.startswith(form)


def test_unpriced_items_can_be_audited() -> None:
    assert audit(items(("An oak desk", None), ("An elm box", 3))).ok
    assert audit(ItemDataset.from_items([])).ok


def test_marked_prices_are_found_in_long_texts_too() -> None:
    text = "filler " * 3000 + "MSRP: $1,299.00 and 20 USD, not 15 or 30 EUR"
    assert list(marked_prices(text)) == [(1299.0, "$1,299.00"), (20.0, "20 USD")]
    assert list(marked_prices(text, "EUR")) == [(30.0, "30 EUR")]


def brute_force(texts: list[str], similarity: float) -> set[tuple[int, int]]:
    sets = []
    for text in texts:
        words = duplicates.words_of(text)
        sets.append({tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))})
    return {
        (a, b)
        for b in range(len(sets))
        for a in range(b)
        if len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= similarity
    }


def test_near_pairs_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(5)
    texts = []
    for base in range(60):
        words = [f"w{base}x{n}" for n in range(40)]
        for _ in range(4):
            changed = list(words)
            for at in rng.integers(0, 40, rng.integers(0, 6)):
                changed[at] = f"new{rng.integers(10**9)}"
            texts.append(" ".join(changed))
    shingles = duplicates.Shingles(duplicates.words_of(text) for text in texts)
    found = {(a, b) for a, b, _ in duplicates.near_pairs(shingles, 0.6)}
    wanted = brute_force(texts, 0.6)
    assert found <= wanted
    assert len(wanted) > 100
    assert len(found) >= 0.97 * len(wanted)


@settings(max_examples=40, deadline=None)
@given(
    words=st.lists(st.sampled_from(WORDS), min_size=3, max_size=20),
    upper=st.lists(st.booleans(), min_size=20, max_size=20),
    gaps=st.lists(
        st.sampled_from([" ", "  ", ", ", " - ", ".\n", "\t", " (", ") ", "; "]), min_size=20, max_size=20
    ),
    price=st.floats(1, 500),
)
def test_a_planted_duplicate_is_found_whatever_case_spacing_and_punctuation(
    words: list[str], upper: list[bool], gaps: list[str], price: float
) -> None:
    others = [(item.text, item.price) for item in CATALOGUE.items(20)]
    planted = "".join(
        (word.upper() if loud else word) + gap for word, loud, gap in zip(words, upper, gaps, strict=False)
    )
    report = audit(items(*others, (" ".join(words), price)), test=items((planted, price)), similarity=None)
    finding = one(report, "duplicate across splits")
    assert finding.place is not None
    assert (finding.place.split, finding.place.row) == ("train", 21)
    assert len(report.clean().train) == 20


_TABLE = "这款餐桌采用北美进口白橡木制作桌面经过六道打磨工序手感细腻适合四到六人使用可搭配同系列餐椅"

# Two texts, and whether they are nearly the same.
NEAR = [
    (_TABLE, _TABLE + "包邮", True),
    (_TABLE, _TABLE.replace("北美", "欧洲"), True),
    (_TABLE, "手工陶瓷茶杯一套六只配木质托盘适合送礼可放入洗碗机清洗" * 2, False),
    (
        "オーク材の食卓四人用で天板は六回磨かれています組立不要",
        "オーク材の食卓六人用で天板は六回磨かれています組立不要",
        True,
    ),
    ("โต๊ะไม้โอ๊คสำหรับสี่คนขัดเงาหกครั้ง", "โต๊ะไม้โอ๊คสำหรับหกคนขัดเงาหกครั้ง", True),
    ("โต๊ะไม้โอ๊คสำหรับสี่คนขัดเงาหกครั้ง", "ถ้วยชาเซรามิกทำมือชุดหกใบพร้อมถาดไม้", False),
    ("हाथ से बनी पीतल की मेज़ दीया बड़ा और भारी", "हाथ से बनी पीतल की मेज़ दीया बड़ा और हल्का", True),
    ("식탁 오크 원목 네 명이 쓰는 여섯 번 연마", "식탁 오크 원목 여섯 명이 쓰는 세 번 칠", False),
]


@pytest.mark.parametrize(("first", "second", "near"), NEAR, ids=[text[:8] for text, *_ in NEAR])
def test_near_twins_are_found_in_scripts_without_spaces_too(first: str, second: str, near: bool) -> None:
    report = audit(items((first, 100), (second, 120)))
    assert len(report.of("near-duplicate")) == near
    assert len(set(report.groups().tolist())) == (1 if near else 2)
    assert not report.of("short text")


@pytest.mark.parametrize(
    ("text", "short"),
    [("餐桌", True), ("白橡木餐桌", False), ("Oak table", True), ("Oak table 120 cm", False), ("ไม้", False)],
)
def test_a_text_is_short_by_its_words_or_in_scripts_without_spaces_by_its_characters(
    text: str, short: bool
) -> None:
    assert bool(audit(items((text, 5)), similarity=None).of("short text")) == short


def test_the_same_text_in_other_marks_and_widths_is_a_duplicate_in_any_script() -> None:
    twins = items(("ﾊﾟｿｺﾝ、15型", 900), ("パソコン 15型", 900), ("Café crème", 3), ("CAFE\u0301 crème", 3))
    assert len(audit(twins, similarity=None).of("duplicate")) == 2


_SHELF = "a shelf of solid oak with four boards and brass feet made by hand for books and plants in"

# Prices of twins, and the findings: the row, and what is said of it.
MAGNITUDES: list[tuple[list[float | None], list[tuple[int, str]]]] = [
    ([49.9, 4990], [(2, "100 times its twin's price")]),
    ([4990, 49.9], [(2, "its twin's price is 100 times this one")]),
    ([5, 50], [(2, "10 times its twin's price")]),
    ([5, 49], []),
    ([19.99, 199.9], [(2, "10 times its twin's price")]),
    ([5, 0.5, 5.5], [(2, "the median of 3 twins is 10 times this one")]),
    ([5, 6, 600, 7], [(3, "86 times the median of 4 twins")]),
    ([0, 100], []),
    ([None, 100], []),
    ([5], []),
]


@pytest.mark.parametrize(("prices", "found"), MAGNITUDES, ids=repr)
def test_a_price_of_another_magnitude_than_its_twins_is_told(
    prices: list[float | None], found: list[tuple[int, str]]
) -> None:
    colours = ["red", "blue", "green", "white"]
    report = audit(items(*((f"{_SHELF} {colours[n]}", price) for n, price in enumerate(prices))))
    told = report.of("price of another magnitude")
    assert [(each.place and each.place.row, each.detail) for each in told] == found
    assert report.ok


def test_one_wrong_price_among_many_items_of_one_text_is_one_finding() -> None:
    rows = [("An oak shelf", price) for price in (500.0, 5.0, 6.0, 5.5, 5.0)]
    found = one(audit(items(*rows), similarity=None), "price of another magnitude")
    assert (found.place and found.place.row, found.detail) == (1, "91 times the median of 5 twins")


def test_a_price_of_another_magnitude_is_told_of_the_side_that_is_learned_from() -> None:
    report = audit(items(("An oak shelf", 8000)), test=items(("an oak shelf.", 80)), similarity=None)
    found = one(report, "price of another magnitude")
    assert found.place is not None
    assert found.other is not None
    assert (found.place.split, found.other.split) == ("train", "test")


def test_prices_of_0_markup_and_titles_that_are_not_in_the_text_are_told() -> None:
    rows = ItemDataset.from_items(
        [
            Item(id="free", title="Oak shelf", summary="Oak shelf of four boards", price=0),
            Item(id="html", title="Pine box", summary="<p>Pine box</p> for tools &amp; toys", price=5),
            Item(id="bare", title="Elm stool", summary="For the kitchen, three legs", price=7),
            Item(id="course", title="Fir desk", summary="Title: Desk\nCategory: Home", price=8),
            Item(id="nameless", summary="A tray of beech wood", price=9),
        ]
    )
    report = audit(rows, similarity=None)
    kinds: list[Kind] = ["price of 0", "markup in text", "title not in description"]
    found = {kind: [each.place.id for each in report.of(kind) if each.place] for kind in kinds}
    assert found == {"price of 0": ["free"], "markup in text": ["html"], "title not in description": ["bare"]}
    assert one(report, "title not in description").detail == "'Elm stool' stands above the description"
    assert report.ok
    hidden = audit(rows, similarity=None, fields=("summary",))
    assert one(hidden, "title not in description").detail.startswith("'Elm stool' is not shown; name 'title'")
