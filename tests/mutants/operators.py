"""What is broken, beside what mutmut itself breaks: each operator yields changed copies of a node."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libcst as cst
from mutmut.mutation import mutators

if TYPE_CHECKING:
    from collections.abc import Iterator


def remove_statement(node: cst.SimpleStatementLine) -> Iterator[cst.SimpleStatementLine]:
    """Do nothing instead of a statement; imports and docstrings stay."""
    match node.body[0]:
        case cst.Expr(cst.SimpleString()) | cst.Import() | cst.ImportFrom() | cst.Pass():
            return
    yield node.with_changes(body=[cst.Pass()])


def negate_condition(node: cst.If) -> Iterator[cst.If]:
    inside = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    yield node.with_changes(test=cst.UnaryOperation(cst.Not(), inside))


def catch_nothing(node: cst.ExceptHandler) -> Iterator[cst.ExceptHandler]:
    yield node.with_changes(type=cst.Tuple([]), whitespace_after_except=cst.SimpleWhitespace(" "))


def leave_out_context(node: cst.With) -> Iterator[cst.If]:
    """Do the same without the lock, or the transaction."""
    if all(item.asname is None for item in node.items):
        yield cst.If(test=cst.Name("True"), body=node.body)


def change_word(node: cst.BaseString) -> Iterator[cst.BaseString]:
    """Change a string that is one word, or a condition of SQL; how messages are worded is not tested."""
    if not isinstance(node, cst.SimpleString):
        return
    if " " not in node.value:
        yield from mutators.operator_string(node)
    elif "?" in node.value or "ORDER" in node.value:
        yield from loosen_sql(node)


def loosen_sql(node: cst.SimpleString) -> Iterator[cst.SimpleString]:
    before, where, conditions = node.value.rpartition("WHERE")
    for found in re.finditer(r"\w+ = \?", conditions):
        loose = f"{conditions[: found.start()]}({found[0]} OR 1){conditions[found.end() :]}"
        yield node.with_changes(value=before + where + loose)
    if " DESC" in node.value:
        yield node.with_changes(value=node.value.replace(" DESC", ""))


OPERATORS: mutators.OPERATORS_TYPE = [
    *(pair for pair in mutators.mutation_operators if pair[1] is not mutators.operator_string),
    (cst.BaseString, change_word),
    (cst.SimpleStatementLine, remove_statement),
    (cst.If, negate_condition),
    (cst.ExceptHandler, catch_nothing),
    (cst.With, leave_out_context),
]
