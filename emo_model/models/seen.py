"""What attentions look at when it is known before the denoising steps: projected once, and where guidance's halves differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor


class Zeros:
    """Tokens that are all zeros. No attention need look at them: its answer is a constant."""


ZEROS = Zeros()


@dataclass(frozen=True, eq=False)
class KeysValues:
    """Tokens as an attention reads them: keys and values, (..., M, C) each."""

    keys: Tensor
    values: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> KeysValues:
        return KeysValues(change(self.keys), change(self.values))


@dataclass(frozen=True, eq=False)
class Answer:
    """What every query is told that looks at zeros: (1, 1, C), or (B, N, C) if it depends on where it stands."""

    answer: Tensor


@dataclass(frozen=True, eq=False)
class Groups:
    """What is seen by the groups of a batch, the halves of guidance, where they differ. rows: of the batch, per group.

    runs: (first group, number of groups, what they see) of neighbours that see the same.
    """

    runs: tuple[tuple[int, int, Any], ...]
    rows: int

    @classmethod
    def of(cls, parts: list, rows: int) -> Groups:
        runs, start = [], 0
        for _, same in groupby(parts, key=id):
            same = list(same)
            runs.append((start, len(same), same[0]))
            start += len(same)
        return cls(tuple(runs), rows)

    def each(self, look: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """look(what a group sees, *its rows of the tensors) for each group, (groups * rows, ...).

        Tensors of `rows` rows are still common to all groups: from here on they part. Neighbours that see the same look together.
        """
        are_common = len(tensors[0]) == self.rows
        answers = []
        for start, count, seen in self.runs:
            if are_common:
                answers += [look(seen, *tensors)] * count
            else:
                answers.append(look(seen, *(x[start * self.rows:(start + count) * self.rows] for x in tensors)))
        return torch.cat(answers)

    def into(self, add: Callable[[Any, Tensor], Tensor], x: Tensor) -> Tensor:
        """`each` for what is added to x (R, ...): written into x, or into a copy for each group if they part here."""
        are_common = len(x) == self.rows
        x = for_groups(x, self.rows * sum(count for _, count, _ in self.runs))
        for start, count, seen in self.runs:
            parts = x[start * self.rows:(start + count) * self.rows].split(self.rows if are_common else len(x))
            made = add(seen, parts[0])
            for part in parts if made is not parts[0] else parts[1:]:
                part.copy_(made)
        return x


@dataclass(frozen=True, eq=False)
class Seen:
    """What a layer of the backbone looks at beside its own frames, ready for any number of steps; None: it skips such a thing.

    reference, identity, audio: tokens' keys and values, or answers, in Groups where those differ; audio of Hallo's audio modules:
    one for each region. motion: MotionTokens, of as many groups as the batch then has. codes (N, C): where each token lies.
    """

    reference: Any = None
    identity: Any = None
    audio: Any = None
    motion: Any = None
    speed: KeysValues | None = None
    codes: Tensor | None = None


def per_frame(x: Tensor, rows: int) -> Tensor:
    """x (B, ...) of B videos for their `rows` frames in all; as it is where one of the two can be broadcast."""
    return x if 1 in (len(x), rows) else x.repeat_interleave(rows // len(x), dim=0)


def for_groups(x: Tensor, rows: int) -> Tensor:
    """x (R, ...) from before the groups parted, once for each of them: (rows, ...)."""
    return x if len(x) == rows else torch.cat([x] * (rows // len(x)))


def look(x: Tensor, seen: Any, add: Callable[[Any, Tensor], Tensor]) -> Tensor:
    """add(seen, x), by groups where they see different things. `add` may write into x, which must be nobody else's."""
    if not isinstance(seen, Groups):
        return add(seen, x)
    return seen.each(add, x) if must_copy() else seen.into(add, x)


def into(x: Tensor, more: Tensor) -> Tensor:
    """x + more, written into x, which must be nobody else's; unless autograd or a compiler looks on, or x is the coarser type."""
    return x + more if must_copy() or x.dtype != more.dtype else x.add_(more)


def must_copy() -> bool:
    """Whether nothing may be written over: autograd needs what was there, and a compiler does better by itself."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()
