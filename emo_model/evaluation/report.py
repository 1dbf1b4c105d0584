"""Rows of a table (numbers with intervals and bars), as Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table; nan: does not exist.

    value: with its 95 % interval over `count` clips; ceiling: the same of the puppets' own frames; bar, aim: what the
    built-in model should reach; note: what weakens the reading, or why there is no value.
    """

    key: str
    what: str
    value: float
    low: float = math.nan
    high: float = math.nan
    count: int = 0
    ceiling: float = math.nan
    bar: str = ""
    aim: str = ""
    unit: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the value reaches the bar; None without one."""
        return reaches(self.value, self.bar)


def reaches(value: float, bar: str) -> bool | None:
    """bar: '>= 0.9', '<= 0.5', 'size <= 0.1' or '0.9 to 1.15'; None if there is no bar or no value."""
    if not bar or math.isnan(value):
        return None
    words = bar.split()
    if words[0] == ">=":
        return value >= float(words[1])
    if words[0] == "<=":
        return value <= float(words[1])
    if words[0] == "size":
        return abs(value) <= float(words[2])
    return float(words[0]) <= value <= float(words[2])


def as_json(made: Sequence[Row]) -> list[dict]:
    """Not-a-number becomes null."""
    return [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in asdict(row).items()}
        | {"met": row.met}
        for row in made
    ]


def table(made: Sequence[Row]) -> str:
    """Markdown, with an empty cell where there is nothing."""
    lines = [
        "| what | value | 95 % | n | ceiling | bar | aim | met | note |",
        "| --- | ---: | --- | ---: | ---: | --- | --- | --- | --- |",
    ]
    for row in made:
        between = f"{_number(row.low)} to {_number(row.high)}" if not math.isnan(row.low) else ""
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        value = f"{_number(row.value)} {row.unit}".strip() if not math.isnan(row.value) else ""
        lines.append(
            f"| {row.what} | {value} | {between} | {row.count or ''} | {_number(row.ceiling)} | "
            f"{row.bar.replace('size', '±')} | {row.aim} | {met} | {row.note.replace('|', '/')} |"
        )
    return "\n".join(lines) + "\n"


def beside(columns: dict[str, Sequence[Row]]) -> str:
    """Several sets of the same rows as Markdown, a column each: value, its 95 % interval, and of how many videos. Rows
    without any value follow below the table, with the reason."""
    by_key = {name: {row.key: row for row in some} for name, some in columns.items()}
    lines = ["| what | better | " + " | ".join(columns) + " |", "| --- | --- |" + " --- |" * len(columns)]
    missing = []
    for key, row in {row.key: row for some in columns.values() for row in some}.items():
        found = [by_key[name].get(key) for name in columns]
        what = f"{row.what}, {row.unit}" if row.unit else row.what
        if all(one is None or math.isnan(one.value) for one in found):
            missing.append(f"- {what}: {next(one.note for one in found if one is not None)}")
            continue
        cells = []
        for one in found:
            if one is None or math.isnan(one.value):
                cells.append("" if one is None else one.note.replace("|", "/"))
                continue
            between = "" if math.isnan(one.low) else f" ({_number(one.low)} to {_number(one.high)}), n {one.count}"
            cells.append(_number(one.value) + between + (f"; {one.note}" if one.note else ""))
        lines.append(f"| {what} | {row.aim} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *missing]).rstrip() + "\n"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
