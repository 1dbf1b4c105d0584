"""Two-way renaming of parameters by one table of patterns, with strict checks for missing and unexpected keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Renaming:
    """rules: (their pattern, our pattern); the first match is used. `{i}` (one letter) matches a number, `{rest}`
    anything."""

    rules: tuple[tuple[str, str], ...]

    def to_ours(self, key: str) -> str | None:
        """Our name for their key, or None if no rule matches."""
        return _first(self._theirs, key)

    def to_theirs(self, name: str) -> str | None:
        """Their key for our name, or None. Two names may map to one key."""
        return _first(self._ours, name)

    @cached_property
    def _theirs(self) -> list[tuple[re.Pattern, str]]:
        return [(_compile(theirs), ours) for theirs, ours in self.rules]

    @cached_property
    def _ours(self) -> list[tuple[re.Pattern, str]]:
        return [(_compile(ours), theirs) for theirs, ours in self.rules]


def _compile(pattern: str) -> re.Pattern:
    parts = re.split(r"\{(\w+)\}", pattern)  # text, placeholder, text, ...
    return re.compile(
        "".join(
            re.escape(part) if index % 2 == 0 else rf"(?P<{part}>{'[0-9]+' if len(part) == 1 else '.+?'})"
            for index, part in enumerate(parts)
        )
    )


def _first(rules: list[tuple[re.Pattern, str]], key: str) -> str | None:
    for pattern, template in rules:
        if found := pattern.fullmatch(key):
            return template.format(**found.groupdict())
    return None


def check_fit(found: Mapping[str, Iterable[int]], wanted: Mapping[str, Iterable[int]], *, file: str, what: str) -> None:
    """Raises ValueError with the first five differences unless `found` (key -> shape) equals `wanted`."""
    missing, left = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    other = [
        f"{key} {'x'.join(map(str, found[key]))} for {'x'.join(map(str, wanted[key]))}"
        for key in sorted(wanted.keys() & found.keys())
        if tuple(found[key]) != tuple(wanted[key])
    ]
    if not (missing or left or other):
        return
    misfits = [
        f"{len(keys)} {words} ({', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''})"
        for keys, words in ((missing, "missing"), (left, "left over"), (other, "of another shape"))
        if keys
    ]
    raise ValueError(f"{file} is not {what} that fits: of {len(wanted)} tensors, {'; '.join(misfits)}")
