"""Readers of files, a kind of file each; loaded when a file of that kind is read.

```text
alphabets  which old encoding a text has, by the letters of its language
utf8       any encoding -> UTF-8
quotes     where rows of a CSV end
dialect    which delimiter a CSV has, and its head
delimited  CSV and TSV -> rows
objects    JSONL and JSON -> rows
columnar   Parquet -> rows
workbook   Excel's .xlsx -> rows
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._lazy import resolve_late

if TYPE_CHECKING:
    from collections.abc import Callable

    from .columnar import read_parquet as read_parquet
    from .delimited import read_delimited as read_delimited
    from .dialect import check_delimiter as check_delimiter
    from .objects import read_json as read_json
    from .objects import read_jsonl as read_jsonl
    from .utf8 import find_codec as find_codec
    from .workbook import read_workbook as read_workbook

__getattr__: Callable[[str], Any] = resolve_late(
    __name__,
    {
        "check_delimiter": "dialect",
        "find_codec": "utf8",
        "read_delimited": "delimited",
        "read_json": "objects",
        "read_jsonl": "objects",
        "read_parquet": "columnar",
        "read_workbook": "workbook",
    },
)
