"""Every file that a shop exports is read as it was meant, or refused with the row, its line and a way out."""

import codecs
import contextlib
import datetime
import gzip
import io
import json
import logging
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune_pricer import ItemDataset
from finetune_pricer.errors import DataError, InvalidRows, MissingExtra, PricerError
from finetune_pricer.items import decompression
from finetune_pricer.items.formats import delimited, quotes

Rows = list[dict[str, Any]]


def save(name: str, content: str | bytes) -> str:
    content = content.encode() if isinstance(content, str) else content
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return name


def as_jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def as_xlsx(rows: Rows) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return workbook({"Sheet": [names, *([row.get(name) for name in names] for row in rows)]})


def workbook(
    sheets: Mapping[str, list[Any]], change: Callable[[openpyxl.Workbook], None] | None = None
) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    if change:
        change(book)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


WRITERS: dict[str, Callable[[Rows], bytes]] = {
    "jsonl": as_jsonl,
    "json": lambda rows: json.dumps(rows, indent=1).encode(),
    "parquet": as_parquet,
    "xlsx": as_xlsx,
}


# Ids are exact.


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (4006381333931, "4006381333931"),
        (40063813339310.0, "40063813339310"),
        (7, "7"),
        (7.0, "7"),
        (-12, "-12"),
        (999_999_999_999_999, "999999999999999"),
        ("0012345678905", "0012345678905"),
        ("4006381333931.0", "4006381333931.0"),
        ("1e3", "1e3"),
        (1.5, "1.5"),
    ],
)
def test_an_id_is_the_one_of_the_file(ending: str, packed: str, given: Any, expected: str) -> None:
    path = save(f"shop.{ending}{packed}", WRITERS[ending]([{"id": given, "title": "Pen", "price": 5}]))
    assert [item.id for item in ItemDataset.from_file(path)] == [expected]


@pytest.mark.parametrize("ending", ["jsonl", "json"])
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("9223372036854775808", "9223372036854775808"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("-18446744073709551617", "-18446744073709551617"),
        ("4006381333931.0", "4006381333931"),
        ("4.006381333931e12", "4006381333931"),
        ("true", "True"),
    ],
)
def test_a_whole_number_of_json_keeps_every_digit(ending: str, written: str, expected: str) -> None:
    row = f'{{"id": {written}, "title": {written}, "price": 5}}'
    path = save(f"shop.{ending}", f"[{row}]" if ending == "json" else row)
    (item,) = ItemDataset.from_file(path)
    assert (item.id, item.title) == (expected, expected)


def test_ids_of_both_kinds_in_one_column_are_read_by_value() -> None:
    rows = [{"id": each, "title": "Pen", "price": 5} for each in (4006381333931, "B00X", 12.0, None, 10**25)]
    items = ItemDataset.from_file(save("shop.jsonl", as_jsonl(rows)))
    assert [item.id for item in items][:3] == ["4006381333931", "B00X", "12"]
    assert items[4].id == str(10**25)
    assert len(items[3].id) == 16


@pytest.mark.parametrize(
    "column",
    [
        pa.array([4006381333931, None], pa.float64()),
        pa.array([4006381333931, None], pa.int64()),
        pa.array([4006381333931, None], pa.decimal128(20, 2)),
        pa.array(["4006381333931", None], pa.large_string()),
        pa.array(["4006381333931", None]).dictionary_encode(),
        pa.array([b"4006381333931", None], pa.binary()),
        pa.array([2.0**70, None]),
    ],
    ids=lambda column: str(column.type)[:20],
)
def test_a_column_of_any_kind_gives_ids_without_exponents(column: pa.Array) -> None:
    pq.write_table(pa.table({"id": column, "title": ["a", "b"], "price": [1, 2]}), "shop.parquet")
    first = ItemDataset.from_file("shop.parquet")[0].id
    assert first in {"4006381333931", str(2**70)}


# Sparse keys.


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json"])
@pytest.mark.parametrize("at", [0, 5, 9_999, 10_000, 10_001])
def test_a_key_that_some_rows_lack_is_empty_there(ending: str, at: int) -> None:
    rows: Rows = [{"title": "Pen", "price": 5, "descr": "A pen"} for _ in range(10_002)]
    rows[at] = {"title": "Mug", "price": 4}
    writer = WRITERS[ending.partition(".")[0]]
    items = ItemDataset.from_file(save(f"shop.{ending}", writer(rows)), columns={"descr": "summary"})
    assert [items[at].summary, items[at].title, items[(at + 1) % len(items)].summary] == [
        None,
        "Mug",
        "A pen",
    ]


def test_a_key_that_only_the_last_row_has_is_a_column() -> None:
    rows: Rows = [{"title": "Pen"}] * 10_050 + [{"title": "Mug", "price": 4}]
    path = save("shop.jsonl", as_jsonl(rows))
    assert ItemDataset.from_file(path, priced=False)[-1].price == 4
    with pytest.raises(InvalidRows, match=r"10,050 of 10,051 rows .*\n  row 1: price = None: has no price"):
        ItemDataset.from_file(path)


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_a_key_that_no_row_has_is_missed_once(ending: str) -> None:
    rows: Rows = [{"name": "Pen", "cost": 4, "x": [1]}] * 3
    path = save(f"shop.{ending}", WRITERS[ending](rows))
    with pytest.raises(InvalidRows, match=r"no column 'price'; it has 'name', 'cost', 'x'; map foreign"):
        ItemDataset.from_file(path)
    with pytest.raises(InvalidRows, match=r"no column 'descr'; it has 'name', 'cost', 'x'"):
        ItemDataset.from_file(path, columns={"name": "title", "cost": "price", "descr": "summary"})


# A bad cell is its row's problem.

LAMP = {"title": "Lamp", "price": 5}


@pytest.mark.parametrize("ending", ["jsonl", "json", "jsonl.gz"])
@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"title": ["a"], "price": 5}, "title", "holds a list"),
        ({"title": {"a": 1}, "price": 5}, "title", "holds an object"),
        ({"title": "a", "price": [5]}, "price", "holds a list"),
        ({"title": "a", "price": {"amount": 5}}, "price", "holds an object"),
        ({"title": "a", "price": True}, "price", "True"),
        ({"title": "a", "price": float("inf")}, "price", "not a finite number"),
        ({"title": "a", "price": "free"}, "price", "free"),
        ({"title": "a", "price": -1}, "price", "at least 0"),
        ({"title": "a", "price": 10**400}, "price", "finite"),
        ({"title": "\ud800", "price": 5}, "title", "half a character"),
        ([1, 2], "line", "is not an object"),
        (None, "line", "is not an object"),
    ],
)
def test_a_cell_that_cannot_be_read_is_the_problem_of_its_row(
    ending: str, row: Any, field: str, reason: str
) -> None:
    path = save(f"shop.{ending}", WRITERS[ending.partition(".")[0]]([LAMP, row, LAMP]))
    items = ItemDataset.from_file(path, on_error="skip")
    assert [item.title for item in items] == ["Lamp", "Lamp"]
    (problem,) = items.skipped
    assert (problem.row, problem.field) == (2, field)
    assert reason in problem.reason + problem.value


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet", "xlsx"])
@pytest.mark.parametrize(
    "value",
    [
        True,
        1.5,
        "\x00 text",
        datetime.date(2024, 1, 1),
        datetime.datetime(2024, 1, 1, 3),  # noqa: DTZ001
        ["a"],
        {"a": [1]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stands_in_columns_that_are_not_wanted_does_not_matter(ending: str, value: Any) -> None:
    if ending.startswith("json") and isinstance(value, datetime.date):
        value = float("nan")
    if ending == "xlsx" and (isinstance(value, list | dict) or value == "\x00 text"):
        value = "=1/0"
    path = save(f"shop.{ending}", WRITERS[ending]([{**LAMP, "other": value}, {**LAMP, "other": None}]))
    assert len(ItemDataset.from_file(path)) == 2


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "json"])
def test_bytes_that_nobody_can_decode_matter_only_where_they_stand(ending: str) -> None:
    kind = ending.partition(".")[0]
    rows = [("Lamp", 12, b""), ("Mat", 3, b"caf\xc3\xa9 \xff\xfe \x81"), ("T\xc3\xbcr", 4, b"\xc3\xa9")]
    cells = [(title.encode("latin-1"), price, note) for title, price, note in rows]
    cells.append((b"R\xfcck\x81", 5, b""))
    if kind == "csv":
        content = b"title,price,note\n" + b"".join(b"%b,%d,%b\n" % row for row in cells)
    else:
        lines = [b'{"title":"%b","price":%d,"note":"%b"}' % row for row in cells]
        content = b"\n".join(lines) if kind == "jsonl" else b"[" + b",\n".join(lines) + b"]"
    items = ItemDataset.from_file(save(f"shop.{ending}", content), on_error="skip")
    assert [item.title for item in items] == ["Lamp", "Mat", "Tür"]
    assert [(problem.row, problem.field) for problem in items.skipped] == [(4, "title")]
    assert "say encoding=" in items.skipped[0].reason


@pytest.mark.parametrize(
    ("lines", "row", "line", "reason"),
    [
        (["a,1", "b", "c,3"], 2, 3, "has 1 cells where the head has 2"),
        (["a,1", "", "", "b,free"], 2, 5, "free"),
        (['"a\nb\nc",1', "b,-1"], 2, 5, "-1"),
        (['"a\r\nb",1', "b,-1"], 2, 4, "-1"),
        (["a,1", '"b,2', 'c,3"', '"d",4', "e,5,6"], 4, 6, "has 3 cells"),
        (
            ['"Lamp,1', "x,2", '"Real, quoted",5', "b,2"],
            1,
            2,
            "a quote is opened and not closed, over 3 lines",
        ),
        (["a,1", 'b,"3'], 2, 3, "a quote is opened and not closed"),
        (['5" pipe,1', '6" pipe,free'], 2, 3, "free"),
    ],
)
def test_a_bad_row_of_a_csv_is_told_with_its_line(lines: list[str], row: int, line: int, reason: str) -> None:
    path = save("shop.csv", "title,price\n" + "\n".join(lines) + "\n")
    skipped = ItemDataset.from_file(path, on_error="skip").skipped
    problem = next(each for each in skipped if reason in str(each))
    assert (problem.row, problem.line) == (row, line)
    assert f"row {row} (line {line})" in str(problem)


def test_lines_are_counted_through_blocks_and_past_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK", 100)
    rows = [f'"item\n{n}",{n}' if n % 3 else f"item {n},{n}" for n in range(200)]
    rows[20], rows[150] = "torn", "thing,free"
    path = save("shop.csv", "title,price\n\n" + "\n".join(rows))
    items = ItemDataset.from_file(path, on_error="skip")
    text = Path(path).read_text().split("\n")
    assert [text[problem.line - 1] for problem in items.skipped if problem.line] == ["torn", "thing,free"]
    assert [problem.row for problem in items.skipped] == [21, 151]
    assert len(items) == 198


def test_lines_of_a_jsonl_and_rows_of_a_sheet_are_told() -> None:
    lines = ["", '{"title": "a", "price": 1}', "  ", "{broken", "", '{"title": "b", "price": "free"}']
    items = ItemDataset.from_file(save("shop.jsonl", "\r\n".join(lines)), on_error="skip")
    assert [(problem.row, problem.line) for problem in items.skipped] == [(2, 4), (3, 6)]
    sheet = workbook({"S": [[], ["title", "price"], ["a", 1], [], [], ["b", "free"]]})
    items = ItemDataset.from_file(save("shop.xlsx", sheet), on_error="skip")
    assert [(problem.row, problem.line) for problem in items.skipped] == [(2, 6)]
    array = '[\n{"title": "a",\n"price": 1},\n{"title": "b",\n"price": "free"}]'
    items = ItemDataset.from_file(save("shop.json", array), on_error="skip")
    assert [(problem.row, problem.line) for problem in items.skipped] == [(2, 4)]


def test_a_line_is_found_without_splitting_the_rows_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    path = save("shop.csv", "title,price\n" + "a,1\nb,free\n" + "c,2.50\n" * 5000)
    split, seen = quotes.split_rows, list[quotes.Row]()

    def count(block: bytes, delimiter: bytes) -> Iterator[quotes.Row]:
        for row in split(block, delimiter):
            seen.append(row)
            yield row

    monkeypatch.setattr(delimited, "split_rows", count)
    items = ItemDataset.from_file(path, on_error="skip")
    assert [(problem.row, problem.line) for problem in items.skipped] == [(2, 3)]
    assert len(seen) < 20


def test_objects_that_go_over_lines_are_told_whatever_stands_between() -> None:
    # As many values as lines, and a brace at the ends of each.
    content = '{"title": "a", "x": [{}\n{}\n{}]}, 5, {"title": "b"}\n'
    items = ItemDataset.from_file(save("shop.jsonl", content), priced=False, on_error="skip")
    assert [problem.row for problem in items.skipped] == [1, 2, 3]


def test_of_several_bad_cells_the_first_field_is_told() -> None:
    line = '{"id": "1", "full": [1], "title": ["a"], "price": 1}\n{"title": "b", "price": 2}\n'
    items = ItemDataset.from_file(save("shop.jsonl", line), on_error="skip")
    assert [problem.field for problem in items.skipped] == ["title"]


@pytest.mark.parametrize("block", [100, 400, 1 << 20])
def test_cells_of_another_kind_are_read_wherever_a_block_of_lines_ends(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompression, "_COPIED", block)
    rows: list[dict[str, Any]] = [
        *({"title": f"thing {n}", "price": n + 0.5, "id": str(n)} for n in range(20)),
        *({"title": f"thing {n}", "price": f"${n}", "id": n} for n in range(20, 40)),
        *({"price": n if n % 2 else f"{n}.50", "title": n, "id": 2.0**70, "note": n} for n in range(40, 60)),
        {"title": "thing 60", "price": "free", "id": "60"},
        *({"id": "61", "title": "thing", "weight": 3, "price": None} for _ in range(20)),
    ]
    path = save("shop.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    items = ItemDataset.from_file(path, priced=False, on_error="skip")
    prices = [
        *(n + 0.5 for n in range(20)),
        *range(20, 40),
        *(n if n % 2 else n + 0.5 for n in range(40, 60)),
    ]
    assert [item.price for item in items] == [*prices, *[None] * 20]
    assert [item.title for item in items][38:42] == ["thing 38", "thing 39", "40", "41"]
    assert [item.id for item in items][19:41] == [*map(str, range(19, 40)), str(2**70)]
    assert [item.weight for item in items][-21:] == [None, *[3.0] * 20]
    assert [(problem.row, problem.line) for problem in items.skipped] == [(61, 61)]


# Dialects.


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("start", ["", "\ufeff", "sep={0}\r\n", "\n\n"])
def test_the_delimiter_is_found_out_and_said(
    ending: str, delimiter: str, start: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "finetune_pricer")
    content = start + 'title{0}price{0}note\n"Lamp{0} a, b; c|d"{0}12{0}x y\nMat{0}3{0}\n'
    items = ItemDataset.from_file(save(f"shop.{ending}", content.format(delimiter)))
    assert [(item.title, item.price) for item in items] == [(f"Lamp{delimiter} a, b; c|d", 12), ("Mat", 3)]
    is_usual = delimiter == ("\t" if ending == "tsv" else ",")
    for said in (caplog.text, items.history[0], str(items.describe())):
        assert (f"delimiter {delimiter!r}" in said) is not is_usual


def test_a_delimiter_that_is_given_is_obeyed() -> None:
    path = save("shop.csv", "title:price\nLamp:5\n")
    assert ItemDataset.from_file(path, delimiter=":")[0].price == 5
    path = save("shop.csv", "title,price;title,price\nLamp,2;3\n")
    with pytest.raises(InvalidRows, match="no column"):
        ItemDataset.from_file(path, delimiter=";")


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "é", 5, "\0"])
def test_what_can_be_no_delimiter_is_refused(delimiter: Any) -> None:
    with pytest.raises(DataError, match="delimiter is one character"):
        ItemDataset.from_file(save("shop.csv", "title,price\n"), delimiter=delimiter)


def test_two_delimiters_that_are_as_good_are_both_shown() -> None:
    path = save("shop.csv", "title,summary;full\nx,y;z\n")
    with pytest.raises(
        InvalidRows, match=r"comma it has .*'summary;full'; with a semicolon it has .*say deli"
    ):
        ItemDataset.from_file(path, priced=False)
    assert ItemDataset.from_file(path, priced=False, delimiter=";")[0].full == "z"
    path = save("shop.csv", "a,b;c,d\n1,2;3,4\n")
    with pytest.raises(
        InvalidRows, match=r"a comma it has the columns .*; with a semicolon it has .*say delimiter="
    ):
        ItemDataset.from_file(path)


def test_commas_in_a_file_of_one_column_are_text() -> None:
    path = save("shop.csv", "title\nLamp, red\nMat\nRug; blue\n")
    with_semicolon = ItemDataset.from_file(save("b.csv", "title\nLamp, red\nMat, x\n"), priced=False)
    assert [item.title for item in with_semicolon] == ["Lamp, red", "Mat, x"]
    assert [item.title for item in ItemDataset.from_file(path, priced=False)] == [
        "Lamp, red",
        "Mat",
        "Rug; blue",
    ]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_file_of_which_no_row_fits_its_head_is_refused(on_error: Any) -> None:
    path = save("shop.csv", "title,price\nLamp;12\nMat;3\n")
    with pytest.raises(InvalidRows, match="2 of 2 rows"):
        ItemDataset.from_file(path, on_error=on_error)


@pytest.mark.parametrize(
    "content", ["title,price", "title,price\n", "title,price\r\n\r\n", "\ufefftitle;price"]
)
def test_a_head_alone_is_no_items(content: str) -> None:
    assert len(ItemDataset.from_file(save("shop.csv", content))) == 0


@pytest.mark.parametrize("content", [b"", b"\n\n", b"   \n", codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_an_empty_file_is_said_to_be(content: bytes) -> None:
    with pytest.raises(InvalidRows, match="is empty"):
        ItemDataset.from_file(save("shop.csv", content))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r'"[row title=\"Big\"] x"', '[row title="Big"] x'),
        (r'"say \"hi\", please"', 'say "hi", please'),
        ('"C:\\"', "C:\\"),
        ('"a ""b"" c"', 'a "b" c'),
        ('""', None),
        ('5" pipe', '5" pipe'),
        ('"Big" lamp', "Big lamp"),
        ('"a\r\nb"', "a\r\nb"),
        ('"a\n\n""b"', 'a\n\n"b'),
        (r'"\"x\""', '"x"'),
    ],
)
def test_quotes_are_read_as_they_were_meant(written: str, read: str | None) -> None:
    path = save("shop.csv", f"title,price,full\n{written},5,x\nMat,3,y\n")
    assert [item.title for item in ItemDataset.from_file(path)] == [read, "Mat"]


def test_a_backslash_before_a_quote_and_a_delimiter_is_told() -> None:
    path = save("shop.csv", 'title,price\n"size \\", big",5\nMat,3\n')
    items = ItemDataset.from_file(path, on_error="skip")
    assert [item.title for item in items] == ["Mat"]
    assert items.skipped[0].line == 2


@pytest.mark.parametrize("back", range(-3, 4))
def test_windows_line_ends_in_quotes_stay_where_blocks_meet(back: int) -> None:
    head, start = b"title,price,full\r\n", b'Lamp,12,"'
    text = b"x" * (2**20 - len(head) - len(start) + back) + b"\r\nB"
    path = save("shop.csv", head + start + text + b'"\r\nMat,3,plain\r\n')
    items = ItemDataset.from_file(path)
    assert str(items[0].full).endswith("x\r\nB")
    assert items[1].title == "Mat"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_any_system_end_rows(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK", 30)
    path = save("shop.csv", end.join(["title,price", *(f"thing {n},{n}" for n in range(50))]))
    assert [item.price for item in ItemDataset.from_file(path)] == [*range(50)]


# Encodings.


def read_or_refuse(path: str) -> tuple[ItemDataset | None, str]:
    try:
        return ItemDataset.from_file(path), ""
    except InvalidRows as error:
        return None, str(error)


TEXTS = {
    "cp1252": "Küchentisch aus Eiche, für große Räume",
    "cp1250": "Łóżko drewniane z szufladą, biały",
    "cp1251": "Деревянный стол для кухни, белый стул, высокое качество, гарантия два года",
    "cp1253": "Ξύλινο τραπέζι κουζίνας, λευκή καρέκλα",
    "gb18030": "这款餐桌采用北美进口白橡木制作桌面经过六道打磨工序手感细腻适合四到六人使用",
    "cp932": "木製のテーブル、白い椅子、高品質です。とても使いやすい",
    "cp949": "나무 식탁과 흰색 의자 고품질 제품입니다",
    "utf-16": "Tür",
    "utf-16-le": "Lamp",
    "utf-8-sig": "Tür 木",
    "utf-32": "Tür",
}


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "json"])
@pytest.mark.parametrize("encoding", TEXTS)
def test_an_encoding_is_found_out_and_said_or_refused_with_the_readings(ending: str, encoding: str) -> None:
    kind = ending.partition(".")[0]
    text = TEXTS[encoding]
    row = json.dumps({"title": text, "price": 5}, ensure_ascii=False)
    content = {"csv": f'title,price\n"{text}",5\n', "jsonl": row, "json": f"[{row}]"}[kind]
    path = save(f"shop.{ending}", content.encode(encoding))
    items, refusal = read_or_refuse(path)
    if items is None:
        assert text[:10] in refusal
        assert "say encoding=" in refusal
    else:
        assert [item.title for item in items] == [text]
        if encoding != "utf-8-sig":
            assert "(encoding " in items.history[0]
            assert "(encoding " in str(items.describe())
    (item,) = ItemDataset.from_file(path, encoding=encoding)
    assert item.title == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Lampe à poser, élégante, très légère", "cp1252"),
        ("Lámpara pequeña de diseño español", "cp1252"),
        ("Smörgåsbord för hemmet", "cp1252"),
        ("Café", "cp1252"),
        ("Men\u2019s shoe \u2013 12\u20ac", "cp1252"),
        ("Křeslo žluté", "cp1250"),
        ("Ahşap masa, geniş", "cp1254"),
    ],
)
def test_letters_of_one_language_decide(text: str, encoding: str) -> None:
    path = save("shop.csv", f'title,price\n"{text}",5\n'.encode(encoding))
    items, refusal = read_or_refuse(path)
    assert items[0].title == text if items else encoding in refusal


def test_what_may_be_two_words_is_refused_with_both() -> None:
    path = save("shop.csv", "title,price\nPiña,3\nLamp,4\n".encode("cp1252"))
    with pytest.raises(
        InvalidRows, match=r"row 1 \(line 2\).*'Piña' in cp1252 or 'Pińa' in cp1250: say encoding="
    ):
        ItemDataset.from_file(path)
    assert [item.title for item in ItemDataset.from_file(path, on_error="skip")] == ["Lamp"]
    assert ItemDataset.from_file(path, encoding="cp1250")[0].title == "Pińa"


def test_a_head_in_an_old_encoding_is_read_or_refused_with_the_readings() -> None:
    path = save("shop.csv", "titlé,price\nLamp,12\n".encode("cp1252"))
    assert ItemDataset.from_file(path, columns={"titlé": "title"})[0].title == "Lamp"
    path = save("shop.csv", "piña,price\nLamp,12\n".encode("cp1252"))
    with pytest.raises(InvalidRows, match=r"the head of 'shop.csv' is not UTF-8; it may be 'piña"):
        ItemDataset.from_file(path, columns={"piña": "title"})


def test_a_slip_in_a_file_of_utf8_is_its_rows_problem() -> None:
    rows = "".join(f"Tür {n},{n}\n" for n in range(50)).encode()
    path = save("shop.csv", b"title,price\n" + rows + b"Caf\xe9,3\n")
    items = ItemDataset.from_file(path, on_error="skip")
    assert [problem.row for problem in items.skipped] == [51]
    assert len(items) == 50


def test_a_file_that_changes_its_encoding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_pricer.items.formats.utf8._PIECE", 1000)
    first, then = ("Küche für große Räume,1\n" * 100).encode("cp1252"), "Tür für Haus,3\n" * 300
    path = save("shop.csv", b"title,price\n" + first + then.encode())
    with pytest.raises(InvalidRows, match=r"begins in cp1252.*goes on in UTF-8"):
        ItemDataset.from_file(path)


@pytest.mark.parametrize("slip", ["Tür", "Gr\u00f6\u00dfe", "5 \u20ac \u2013 x", "12 \u00b0 warm"])
def test_a_slip_of_utf8_in_an_old_encoding_is_read_and_said(slip: str) -> None:
    rows = "".join(f"Küche für große Räume {n},{n}\n" for n in range(50)).encode("cp1252")
    items = ItemDataset.from_file(save("shop.csv", b"title,price\n" + rows + f"{slip},3\n".encode()))
    assert items[50].title == slip
    assert "encoding cp1252, with " in items.history[0]


@pytest.mark.parametrize("encoding", ["nonsense", "", "rot13", "base64", 5, "a\0b"])
def test_what_is_no_encoding_is_refused(encoding: Any) -> None:
    with pytest.raises(DataError, match="encoding is the name of one"):
        ItemDataset.from_file(save("shop.csv", "title,price\n"), encoding=encoding)


def test_a_mark_that_contradicts_the_encoding_is_refused() -> None:
    path = save("shop.csv", "title,price\n".encode("utf-16"))
    with pytest.raises(InvalidRows, match="begins with the mark of utf-16"):
        ItemDataset.from_file(path, encoding="cp1252")


@pytest.mark.parametrize("name", ["shop.parquet", "shop.xlsx"])
def test_settings_of_text_files_are_refused_for_others(name: str) -> None:
    Path(name).touch()
    with pytest.raises(DataError, match="leave encoding= out"):
        ItemDataset.from_file(name, encoding="utf-8")
    with pytest.raises(DataError, match="leave delimiter= out"):
        ItemDataset.from_file(name, delimiter=",")


# JSON.


@pytest.mark.parametrize("name", ["shop.json", "shop.jsonl", "shop.json.gz"])
@pytest.mark.parametrize(
    "content",
    [
        '[{"title": "a", "price": 1}, {"title": "b", "price": 2}]',
        '[\n  {"title": "a",\n "price": 1},\n\n{"title": "b", "price": 2}\n]\n',
        '{"title": "a", "price": 1}\n{"title": "b", "price": 2}\n',
    ],
    ids=["array", "indented array", "lines"],
)
def test_arrays_and_lines_are_known_whatever_the_ending(name: str, content: str) -> None:
    items = ItemDataset.from_file(save(name, content))
    assert [(item.title, item.price) for item in items] == [("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"title": "a"}', "the array is not closed"),
        ('[{"title": "a"} {"title": "b"}]', "on line 1 a comma"),
        ('[\n{"title": "a"},\n{"title": broken}]', "on line 3 it is not JSON"),
        ('[{"title": "a", "price": 1}] x', "something stands behind"),
        ('{"products": [{"title": "a", "price": 1}]}', "no column 'price'; it has 'products'"),
        ("", "is empty"),
        ("[" * 100_000, "cannot read|is not JSON"),
    ],
)
def test_a_broken_json_is_refused_with_its_line(content: str, words: str) -> None:
    with pytest.raises(InvalidRows, match=words):
        ItemDataset.from_file(save("shop.json", content))


def test_a_json_is_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_pricer.items.formats.objects._BLOCK", 7)
    rows: Rows = [{"title": f"Tür {n} \u6728", "price": n, "id": 10**n} for n in range(40)]
    path = save("shop.json", json.dumps(rows, ensure_ascii=False))
    items = ItemDataset.from_file(path)
    assert [(item.title, item.id) for item in items] == [(row["title"], str(row["id"])) for row in rows]
    monkeypatch.setattr(decompression, "LONGEST_LINE", 50)
    with pytest.raises(InvalidRows, match="an object is longer than 50 bytes"):
        ItemDataset.from_file(save("long.json", json.dumps([{"title": "x" * 500, "price": 1}])))


# Excel.


def test_a_sheet_is_found_by_its_columns(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "finetune_pricer")
    goods = [["Products of 2024"], [], ["Name", None, "Cost"], ["Lamp", "x", 12.5], ["Mat", None, "$3"]]
    path = save("shop.xlsx", workbook({"Notes": [["hello"]], "Goods": goods, "Empty": []}))
    items = ItemDataset.from_file(path, columns={"Name": "title", "Cost": "price"})
    assert [(item.title, item.price) for item in items] == [("Lamp", 12.5), ("Mat", 3)]
    assert items.history == ("2 rows read from 'shop.xlsx' (sheet 'Goods')",)
    assert "sheet 'Goods'" in caplog.text


def test_two_sheets_of_goods_are_refused_by_name() -> None:
    rows = [["title", "price"], ["Lamp", 1]]
    with pytest.raises(InvalidRows, match="several sheets with these columns, such as 'A' and 'B'"):
        ItemDataset.from_file(save("shop.xlsx", workbook({"A": rows, "B": rows})))

    def hide(book: openpyxl.Workbook) -> None:
        book["B"].sheet_state = "hidden"

    assert len(ItemDataset.from_file(save("shop.xlsx", workbook({"A": rows, "B": rows}, hide)))) == 1


def test_cells_that_are_merged_downwards_stand_in_each_row() -> None:
    rows = [
        ["category", "title", "price"],
        ["lamps", "a", 1],
        [None, "b", 2],
        ["mats", "c", 3],
        [None, "d", 4],
    ]

    def merge(book: openpyxl.Workbook) -> None:
        book["S"].merge_cells("A2:A3")
        book["S"].merge_cells("A5:B5")

    items = ItemDataset.from_file(
        save("shop.xlsx", workbook({"S": rows}, merge)), priced=False, on_error="skip"
    )
    assert [item.category for item in items][:3] == ["lamps", "lamps", "mats"]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (datetime.date(2024, 5, 1), "2024"),
        (datetime.time(3, 4), "03:04"),
        (True, "True"),
        ("=1/0", "has no price"),
        ("call us", "call us"),
        (None, "has no price"),
    ],
)
def test_a_cell_of_a_sheet_that_is_no_price_is_its_rows_problem(cell: Any, reason: str) -> None:
    rows = [["title", "price"], ["Lamp", 1], ["Mat", cell], ["Rug", 3]]
    items = ItemDataset.from_file(save("shop.xlsx", workbook({"S": rows})), on_error="skip")
    assert [item.title for item in items] == ["Lamp", "Rug"]
    assert (items.skipped[0].row, items.skipped[0].line) == (2, 3)
    assert reason in str(items.skipped[0])


@pytest.mark.parametrize("content", [b"", b"xx", b"PK\x03\x04 torn", b"\xd0\xcf\x11\xe0" + b"\0" * 600])
@pytest.mark.parametrize("name", ["shop.xlsx", "shop.xlsx.gz"])
def test_what_is_no_workbook_is_refused(name: str, content: bytes) -> None:
    with pytest.raises(InvalidRows, match=r"no workbook|is no workbook that Excel"):
        ItemDataset.from_file(save(name, content))


def test_a_sheet_with_a_stray_cell_far_away_takes_no_memory() -> None:
    def stray(book: openpyxl.Workbook) -> None:
        book["S"].cell(1_000_000, 16_000, "x")

    path = save("shop.xlsx", workbook({"S": [["title", "price"], ["Lamp", 1]]}, stray))
    with pytest.raises(InvalidRows, match=r"spans 16,000,000,000 cells, of which 5 are written"):
        ItemDataset.from_file(path)


def test_a_workbook_unpacks_as_far_as_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    path = save("shop.xlsx", workbook({"S": [["title", "price"], *([["x" * 1000, 1]] * 50)]}))
    monkeypatch.setenv("FINETUNE_PRICER_UNPACKED_BYTES", "20000")
    with pytest.raises(InvalidRows, match="unpacks to more than 20,000 bytes"):
        ItemDataset.from_file(path)


OFFICE = "http://schemas.openxmlformats.org"
MAIN, LINK = f"{OFFICE}/spreadsheetml/2006/main", f"{OFFICE}/officeDocument/2006/relationships"
LINKS = f'<Relationships xmlns="{OFFICE}/package/2006/relationships">%s</Relationships>'


def shared_text(text: str, rows: int) -> bytes:
    """A workbook that holds a text once, to which its cells point."""
    link = f'<Relationship Id="r%d" Type="{LINK}/%s" Target="%s"/>'
    cells = "".join('<row><c t="s"><v>2</v></c><c><v>5</v></c></row>' for _ in range(rows))
    cells = '<row><c t="s"><v>0</v></c><c t="s"><v>1</v></c></row>' + cells
    texts = "".join(f"<si><t>{each}</t></si>" for each in ("title", "price", text))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{OFFICE}/package/2006/content-types"/>',
        "_rels/.rels": LINKS % (link % (1, "officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{LINK}"><sheets>'
        '<sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": LINKS
        % (
            link % (1, "worksheet", "worksheets/sheet1.xml")
            + link % (2, "sharedStrings", "sharedStrings.xml")
        ),
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{texts}</sst>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{MAIN}"><sheetData>{cells}</sheetData></worksheet>',
    }
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return sink.getvalue()


def test_a_text_to_which_many_cells_point_is_counted_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    path = save("shop.xlsx", shared_text("x" * 1000, 100))
    assert len(ItemDataset.from_file(path)) == 100
    monkeypatch.setenv("FINETUNE_PRICER_UNPACKED_BYTES", "50000")
    with pytest.raises(InvalidRows, match="unpacks to more than 50,000 bytes"):
        ItemDataset.from_file(path)


def test_without_the_extra_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(MissingExtra, match=r"pip install 'finetune-pricer\[excel\]'"):
        ItemDataset.from_file(save("shop.xlsx", workbook({"S": [["title", "price"]]})))


# Columns.


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": "Variant SKU"}, r"theirs first: columns=\{'Variant SKU': 'id'\}"),
        ({"title": "Name"}, r"columns=\{'Name': 'title'\}"),
        ({"Name": "titel"}, "an item has no field 'titel'"),
        ({"Nmae": "title"}, "has no column 'Nmae'; it has 'Name', 'Variant SKU', 'price'"),
    ],
)
def test_a_wrong_mapping_is_told_with_the_right_one(columns: dict[str, str], words: str) -> None:
    path = save("shop.csv", "Name,Variant SKU,price\nLamp,a,1\n")
    with pytest.raises(InvalidRows, match=words):
        ItemDataset.from_file(path, columns=columns)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "xlsx", "parquet"])
def test_bytes_of_any_kind_raise_none_but_our_errors(ending: str) -> None:
    for content in (
        b"\0" * 50,
        b"\xff" * 50,
        b'"' * 51,
        b"\r" * 50,
        b"[{",
        b"\\" * 9,
        b"PAR1PAR1",
        b"title\0,price\n,",
    ):
        try:
            ItemDataset.from_file(save(f"x.{ending}", content), on_error="skip")
        except PricerError:
            continue


def test_a_row_of_too_many_cells_is_told_also_where_nobody_can_decode_it() -> None:
    path = save("shop.csv", b"title,price\nLamp,12\nX\x81\x8d,3,4\nMat,5\n")
    items = ItemDataset.from_file(path, on_error="skip")
    assert [item.title for item in items] == ["Lamp", "Mat"]
    [problem] = items.skipped
    assert (problem.row, problem.line, problem.reason) == (2, 3, "has 3 cells where the head has 2")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "idna", "punycode", "utf-16-le", "ascii", "utf-7"])
@pytest.mark.parametrize("name", ["shop.csv", "shop.jsonl", "shop.json", "shop.csv.gz"])
def test_a_file_in_another_encoding_than_was_said_is_read_or_refused_in_our_words(
    name: str, encoding: str
) -> None:
    path = save(name, "title,price\nStuhl f\u00fcr Kinder+,12\n".encode("cp1252"))
    with contextlib.suppress(PricerError):
        assert all(item.text for item in ItemDataset.from_file(path, encoding=encoding, on_error="skip"))


def test_a_byte_that_the_given_encoding_does_not_have_is_told_by_that_encoding(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_bytes(b"title,price\na lamp \x9d,5\n")
    with pytest.raises(InvalidRows, match="is not in cp1252: say another encoding="):
        ItemDataset.from_file(path, encoding="cp1252")
