"""A stated grammar: the rules of a text file, and sentences drawn from them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.errors import UserError

Value = TypeVar("Value")

START = "sentence"
_RULE = re.compile(r"([a-z_]+)\s*=(.*)")
_TOKEN = re.compile(r"<([a-z_]+)>|([a-z']+)")


@dataclass(frozen=True, slots=True)
class Grammar:
    """Rules without recursion; a token in angle brackets names another rule.

    Attributes:
        rules: for each name its alternatives, each a row of tokens; all drawn equally often.
    """

    rules: dict[str, tuple[tuple[str, ...], ...]]

    def draw(self, rng: random.Random) -> str:
        """A sentence. Only `rng.random()` is used, whose values Python promises to keep."""
        return " ".join(self._expand(START, rng))

    def _expand(self, rule: str, rng: random.Random) -> list[str]:
        words: list[str] = []
        for token in pick(self.rules[rule], rng):
            words += self._expand(token[1:-1], rng) if token[0] == "<" else [token]
        return words


def pick(values: Sequence[Value], rng: random.Random) -> Value:
    """One of the values, all equally likely; the same for a seed in every Python."""
    return values[int(rng.random() * len(values))]


def read(path: Path) -> Grammar:
    """Read a grammar file; `data/demo_grammar.txt` tells the form.

    Raises:
        UserError: no such file, a line that is no rule, a rule that is missing, stands twice,
            is never used or leads back to itself.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise UserError(f"No such grammar: {path}") from error
    rules: dict[str, tuple[tuple[str, ...], ...]] = {}
    for name, body in _logical_lines(text, path):
        if name in rules:
            raise UserError(f"{path}: the rule '{name}' stands twice.")
        rules[name] = tuple(_tokens(part, name, path) for part in body.split("|"))
    grammar = Grammar(rules)
    _check(grammar, path)
    return grammar


def _logical_lines(text: str, path: Path) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _RULE.fullmatch(line)
        if match:
            lines.append((match[1], match[2]))
        elif line[0].isspace() and lines:
            lines[-1] = (lines[-1][0], lines[-1][1] + " " + line)
        else:
            raise UserError(
                f"{path}, line {number} is no rule.",
                constraint="name = alternative | alternative, or an indented line that goes on",
                found=line.strip(),
            )
    return lines


def _tokens(alternative: str, rule: str, path: Path) -> tuple[str, ...]:
    tokens = tuple(alternative.split())
    wrong = [t for t in tokens if not _TOKEN.fullmatch(t)]
    if wrong or not tokens:
        raise UserError(
            f"{path}: an alternative of '{rule}' is not well formed.",
            constraint="words of the letters a to z, and <rules>; at least one",
            found=wrong[0] if wrong else "nothing between two |",
        )
    return tokens


def _check(grammar: Grammar, path: Path) -> None:
    """Every rule exists, is reached from the start and does not lead back to itself."""
    reached: set[str] = set()

    def visit(rule: str, above: tuple[str, ...]) -> None:
        if rule in above:
            raise UserError(f"{path}: '{rule}' leads back to itself: {' > '.join(above)} > {rule}")
        if rule not in grammar.rules:
            raise UserError(f"{path}: there is no rule '{rule}'.", remedy=f"add a line '{rule} ='")
        if rule in reached:
            return
        for token in (t for alternative in grammar.rules[rule] for t in alternative):
            if token[0] == "<":
                visit(token[1:-1], (*above, rule))
        reached.add(rule)

    visit(START, ())
    unused = sorted(set(grammar.rules) - reached)
    if unused:
        raise UserError(f"{path}: rules that no sentence uses: {', '.join(unused)}")
