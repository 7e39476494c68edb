"""Markdown pages whose examples are tested.

A fenced block's first word is its language; what follows it on that line is for these tests:

- ``python`` blocks run in the page's order and share their names. Where a line is an expression
  with a comment that is a value, the expression must have that value. ``needs=a,b`` names packages
  without which a block is skipped.
- ``theirs`` marks Python for another package, which runs with its import changed; the block marked
  ``ours=a,b`` after it must give ``a`` and ``b`` the same values.
- ``sh run`` blocks run, line by line; a comment ``# exit status 1`` says how a line ends.
- ``csv prompts.csv`` blocks become that file.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```(\S*) *(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: The page.
        line: Of its first line, from 1.
        language: The fence's first word.
        notes: The other words, those without ``=`` with an empty value.
        text: What is in it.
    """

    page: Path
    line: int
    language: str
    notes: dict[str, str]
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.name}, line {self.line}"

    @property
    def lines(self) -> list[str]:
        """Its lines, those that a backslash ends joined to the next."""
        return self.text.replace("\\\n", " ").splitlines()


def blocks(page: Path) -> Iterator[Block]:
    """Find the fenced blocks of a page."""
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    for _, line in lines:
        opened = FENCE.match(line)
        if not opened:
            continue
        content, first = [], 0
        for number, inner in lines:
            if inner == "```":
                break
            first = first or number
            content.append(inner)
        words = opened[2].split()
        notes = {key: value for key, _, value in (word.partition("=") for word in words)}
        yield Block(page, first, opened[1], notes, "\n".join(content) + "\n")


def execute(block: Block, names: dict[str, Any]) -> int:
    """Run a block of Python; returns how many of its expressions had to have a value."""
    said = comments(block.text)
    checked = 0
    for node in ast.parse(block.text).body:
        lines = ast.Module([node], [])
        ast.increment_lineno(lines, block.line - 1)
        last = (node.end_lineno or 0) - block.line + 1
        if isinstance(node, ast.Expr) and last in said:
            code = compile(ast.Expression(node.value), str(block.page), "eval")
            got = eval(code, names)
            assert got == said[last], f"{block.place}: {ast.unparse(node)} is {got!r}"
            checked += 1
        else:
            exec(compile(lines, str(block.page), "exec"), names)
    return checked


def comments(code: str) -> dict[int, Any]:
    """Return the comments that are values, by their lines."""
    values = {}
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            try:
                values[token.start[0]] = ast.literal_eval(token.string.lstrip("# "))
            except (ValueError, SyntaxError):
                continue
    return values


def prose(text: str) -> str:
    """Return a page's text without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Return what a page's links lead to, those in code left out."""
    text = re.sub(r"`[^`]*`", "", prose(page.read_text(encoding="utf-8")))
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> list[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles]


def sections(page: Path) -> dict[str, str]:
    """Return a page's text by its headings of the second level; before them stands ""."""
    parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}
