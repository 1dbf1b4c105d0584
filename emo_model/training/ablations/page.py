"""The page: what leaving a part out changes, with intervals, as Markdown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...statistics import Estimate, crossed_mean
from .readings import HIGH, LOW, Reading
from .variants import FULL, MODEL, STAGES, WITHOUT

Readings = dict[str, list[list[Reading]]]  # by variant; for each seed, of the same videos


@dataclass(frozen=True)
class Claim:
    """part: of `WITHOUT`; reading: the one that it is for; raises: whether it is raised where the part is left out, or
    lowered; is_ratio: compared by quotients, its mean is geometric."""

    part: str
    reading: str
    name: str
    what: str
    raises: bool
    is_ratio: bool = False

    @property
    def none(self) -> float:
        """No effect."""
        return 1.0 if self.is_ratio else 0.0

    def values(self, readings: list[list[Reading]]) -> Tensor:
        """(S, V), of ratios their logarithms."""
        values = torch.tensor([[getattr(one, self.reading) for one in row] for row in readings], dtype=torch.float64)
        return values.log() if self.is_ratio else values

    def mean(self, values: Tensor) -> Estimate:
        """In the reading's own unit."""
        found = crossed_mean(values)
        if not self.is_ratio:
            return found
        value, low, high = torch.tensor([found.value, found.low, found.high]).exp().tolist()
        return Estimate(value, low, high, found.count)

    def is_seen(self, effect: Estimate) -> bool:
        """Whether all of the interval is on the side that the paper says."""
        return effect.low > self.none if self.raises else effect.high < self.none

    def change(self, value: float) -> str:
        return f"x {value:.2f}" if self.is_ratio else f"{value:+.3f}"


PACE = f"the head's steps at {HIGH:g} over those at {LOW:g} degrees per second"
CLAIMS = (
    Claim("reference attention", "identity", "identity", "distance from the person, over that from others", True, True),
    Claim("audio attention", "lips", "lips", "correlation of the mouth's opening with the true one", False),
    Claim("motion frames", "seams", "seams", "the head's step from clip to clip, over those inside", True, True),
    Claim("face locator", "place", "face position", "distance of the eyes from where the mask says", True),
    Claim("speed layers", "pace", "head speed", PACE, False, True),
)

NOTES = {
    "reference attention": """- **Identity**: distance of a video's mean colours from those of the true video, over the
  mean distance from other people's; 1 is nobody's likeness. The true video is the nearest of {videos} in
  {recognised:.0%} of the videos; without reference attention in {stranger:.0%}; by chance in {chance:.0%}.""",
    "audio attention": """- **Lips**: with all parts, the correlation with the opening of another voice is
  {another:.2f}.""",
    "motion frames": """- **Seams**: a step is how far the mean flow of the face's cells moves between two frames;
  1 is no seam. After so few steps heads tremble, steps inside clips are long, and seams hardly stand out.""",
    "face locator": """- **Face position**: in every clip the camera stands elsewhere than for the portrait, so the
  first clip learns only from the mask where the face is. In widths of the picture, against the true video, of which
  the mask is.""",
    "speed layers": """- **Head speed**: the same noise with both settings; 1 is no effect. The noise is white, so
  nothing but the speed layers reads the setting. This reading cannot see much: a sampled head trembles by 0.4 cells
  from frame to frame (four videos of one seed), where a true one that turns by 30 to 50 degrees per second moves by
  0.04, at 3 to 7 degrees by 0.011. Another 200 steps with 50 times the weight on the flow than on the colours gave
  x 1.00 as well, also with 12 steps of the sampler, and of the spread within a clip.""",
}

TEXT = """# The paper's claims, small
EMO ([arXiv 2402.17485](https://arxiv.org/abs/2402.17485)) says of five of its parts what they are for. Here each is
left out in turn: one small model is trained from nothing with and without it, through the three stages of
[training.md](training.md), on puppets that speak. This command wrote the page:

```sh
python -m emo_model.training ablations --puppets puppets.safetensors --speech speech --held-out held_out \\
  --out runs/ablations
```

It may be stopped at any time, by `--minutes` or a kill, and goes on with `--resume` to the same numbers. Its data are
those of `prepare-puppets` and `prepare-speech` ([training.md](training.md)), of the latter once more with
`--held-out`.

{seeds}, which decide{s} initial weights, batches and the videos' noise; {videos} videos of {seconds:.1f} s for each,
of as many people who were never trained on, with voices that were not. Intervals are 95 %, by bootstrap over {over};
effects are taken video by video. A model has {parameters:.2f} million parameters; it trained on {clips} clips of
{frames} frames, with the built-in audio encoder: {stages}. Videos take {steps} DDIM steps without guidance
({machine}).

## Each part, and what it is for
| left out | measured | with | without | effect of leaving it out | by seed | as the paper says |
| --- | --- | ---: | ---: | --- | --- | --- |
{rows}

{notes}

## Each part, and what it is not for
Means with all parts, and without each; in bold where the part is for it.

{matrix}

## How to read it
- **Small.** Latents of 8x8 cells hold the frame's colours, the flow from the portrait, and the opening of mouth and
  lids, so that all of this can be read without a network ([`clips.py`](../emo_model/training/ablations/clips.py)).
  After so few steps single frames are noisy; likeness here is mean colours, not a face. The paper's model, 512x512 and
  trained on hundreds of hours, is some thousand times larger; nothing here says how large its effects are.
- **Left out** means the null condition in training and in sampling: zeros for features, tokens and maps, a mask of
  ones, no speeds ([`variants.py`](../emo_model/training/ablations/variants.py)). The number of parameters stays.
- **In the built-in model** likeness does not depend on reference attention: its decoder moves the portrait's own
  pixels ([builtin_model.md](builtin_model.md)). There the reference says where mouth and eyes are and how open they
  rest. Its speed layers alone changed nothing that could be measured, so its noise depends on the setting, too.
{unseen}"""


def page(found: Readings, *, about: dict) -> str:
    """Markdown of all seeds that are done, for the parts that were left out; about: see `run.py`."""
    amount, seeds, full = about["amount"], about["seeds"], found[FULL.name]
    claims = [claim for claim in CLAIMS if WITHOUT[claim.part].name in found]
    stranger = found.get(WITHOUT["reference attention"].name, full)
    numbers = {
        "seeds": f"{seeds} seeds" if seeds > 1 else "One seed",
        "s": "s" * (seeds == 1),
        "over": "seeds and videos" if seeds > 1 else "videos, which says nothing about other seeds",
        "videos": amount.videos,
        "seconds": amount.video_clips * MODEL.clip_frames / MODEL.fps,
        "parameters": about["parameters"] / 1e6,
        "clips": amount.clips,
        "frames": amount.frames,
        "stages": ", ".join(f"{amount.steps_of(stage)} steps of {stage.batch} ({stage.name})" for stage in STAGES),
        "steps": amount.steps,
        "machine": about["machine"],
        "recognised": _share("recognised", full),
        "stranger": _share("recognised", stranger),
        "chance": 1 / amount.videos,
        "another": _share("another_voice", full),
    }
    unseen = [claim for claim in claims if not claim.is_seen(claim.mean(_effects(claim, found)))]
    return TEXT.format(
        **numbers,
        rows="\n".join(_row(claim, found) for claim in claims),
        notes="\n".join(NOTES[claim.part].format(**numbers) for claim in claims),
        matrix=_matrix(claims, found),
        unseen="".join(f"- **Not seen** at this size: {one.part} on {one.name}.\n" for one in unseen),
    )


def _effects(claim: Claim, found: Readings) -> Tensor:
    """(S, V): of leaving the claim's part out, in each video."""
    return claim.values(found[WITHOUT[claim.part].name]) - claim.values(found[FULL.name])


def _row(claim: Claim, found: Readings) -> str:
    effects = _effects(claim, found)
    effect = claim.mean(effects)
    value, low, high = map(claim.change, (effect.value, effect.low, effect.high))
    by_seed = ", ".join(claim.change(claim.mean(row[None]).value) for row in effects)
    with_it, without = (_mean(claim, found[name]) for name in (FULL.name, WITHOUT[claim.part].name))
    return (
        f"| {claim.part} | {claim.name}: {claim.what} | {with_it} | {without} | {value} ({low} to {high}) | "
        f"{by_seed} | {'yes' if claim.is_seen(effect) else '**not seen**'} |"
    )


def _matrix(claims: list[Claim], found: Readings) -> str:
    """Every claim's reading of every variant."""
    lines = ["| | " + " | ".join(claim.name for claim in claims) + " |", "| --- |" + " ---: |" * len(claims)]
    for part in (None, *(claim.part for claim in claims)):
        readings = found[FULL.name if part is None else WITHOUT[part].name]
        cells = (f"**{_mean(one, readings)}**" if one.part == part else _mean(one, readings) for one in claims)
        lines.append(f"| {'all parts' if part is None else f'without {part}'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(claim: Claim, readings: list[list[Reading]]) -> str:
    found = claim.mean(claim.values(readings))
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _share(reading: str, readings: list[list[Reading]]) -> float:
    values = [getattr(one, reading) for row in readings for one in row]
    return sum(values) / len(values)
