"""What each dial does, read from finished frames: its own reading moves, and the others rest.

The face mesh reads mouth, brows and pose; eyes are read from their pixels, for the mesh sees neither lids nor irises
well. All differences are paired: the same latents with and without the dial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .. import talk
from ..checkpoints.mediapipe import load_face_finder
from ..checkpoints.native import Bundle
from ..inputs import face_geometry as geometry
from ..inputs.faces import FaceFinder
from ..inputs.media import read_picture
from ..inputs.motion_latents import LEFT_EYE, LOWER_LIP, MOUTH_LEFT, MOUTH_RIGHT, RIGHT_EYE, UPPER_LIP, mouth_opening
from ..sampling.direction import Direction
from ..sampling.expression import Expression
from ..sampling.finish import blink_starts
from .reading import EYE_HEIGHT, EYE_ROOM, EYE_WIDTH, eye_looks, read

FIRST, FRAMES, STEP = 12, 24, 2  # of the voice, what is decoded: every second frame of two clips
SIDE = 384  # pixels of the head square
FURTHEST = (8, 5)  # pixels of an eye's picture that its inside is sought aside, right and down
READINGS = {
    "opening": "spread of the mouth's opening over the frames, hundredths of an eye distance",
    "corners": "corners of the mouth above its middle along the head, hundredths of an eye distance",
    "brows": "brows above the line of the eyes, hundredths of an eye distance",
    "lids": "change of the eyes' picture in a blink, 0 to 2",
    "gaze x": "shift of what is seen between the lids, right, hundredths of half an eye's width",
    "gaze y": "the same, up",
    "yaw": "degrees",
    "pitch": "degrees",
    "roll": "degrees",
}
SETTINGS = {
    "audio_strength 2": ({"audio_strength": 2}, "opening", 2.0),
    "audio_strength 0": ({"audio_strength": 0}, "opening", -2.0),
    "smile 1": ({"smile": 1}, "corners", 2.5),
    "brows 1": ({"brows": 1}, "brows", 2.5),
    "brows -1": ({"brows": -1}, "brows", -2.0),
    "blinks": ({"blinks": ((FIRST + 5) / 25,)}, "lids", 0.25),
    "gaze_x 1": ({"gaze_x": 1}, "gaze x", 25.0),
    "gaze_x -1": ({"gaze_x": -1}, "gaze x", -25.0),
    "gaze_y 1": ({"gaze_y": 1}, "gaze y", 12.0),
    "gaze_y -1": ({"gaze_y": -1}, "gaze y", -12.0),
    "yaw 10": ({"yaw": 10}, "yaw", 7.5),
    "pitch 8": ({"pitch": 8}, "pitch", 5.0),
    "roll 10": ({"roll": 10}, "roll", 9.5),
}
"""By name: the dials, the reading that they are to move, and by how much at least: the stated amount."""


def measure(bundle: Bundle, portraits: Sequence[Path], voice: Path) -> dict[str, dict[str, list[float]]]:
    """Setting -> reading -> its change in each portrait, mean over the frames."""
    found: dict[str, dict[str, list[float]]] = {name: {what: [] for what in READINGS} for name in SETTINGS}
    finder, sampling = load_face_finder(), replace(bundle.sampling, blinks=0.0)
    sound = talk.read_sound(voice)
    for path in portraits:
        scene = talk.prepare(bundle, read_picture(path), sound, sampling=sampling, square=True, long_side=SIDE)
        latents = _some(scene)
        base, eyes = readings(finder, scene, latents[:, :, ::STEP])
        for name, (dials, *_) in SETTINGS.items():
            direction = Direction(Expression.of(**dials), blinks=0.0, fps=scene.conditions.audio.fps)
            dialled = direction.dialled(latents, FIRST, total=scene.conditions.frames)
            for what, value in readings(finder, scene, dialled[:, :, ::STEP], eyes)[0].items():
                found[name][what].append(value - base[what])
    return found


def _some(scene: talk.Scene) -> Tensor:
    """(1, C, `FRAMES`, h, w): the voice's frames from `FIRST` on."""
    made: list[Tensor] = []
    for latents in scene.generate():
        made.append(latents)
        if sum(one.shape[2] for one in made) >= FIRST + FRAMES:
            break
    return torch.cat(made, 2)[:, :, FIRST : FIRST + FRAMES]


def readings(
    finder: FaceFinder, scene: talk.Scene, latents: Tensor, base: list[Tensor] | None = None
) -> tuple[dict[str, float], list[Tensor]]:
    """latents (1, C, F, h, w) of a scene -> `READINGS` of the decoded frames, and both eyes' pictures (F, h, w).

    base: the eyes' pictures without a dial, against which gaze is read.
    """
    frames = scene.decoder.decode(latents[0].transpose(0, 1))
    fit = scene.conditions.portrait.fit
    mesh = scene.conditions.portrait.mesh * (fit.side / fit.size)
    mesh = mesh + mesh.new_tensor([fit.left, fit.top, 0.0])
    reading, meshes = read(finder, frames, mesh, fit)
    local = torch.stack([geometry.head_frame(one).local(one) for one in meshes])[..., 1]
    corners = (local[:, [UPPER_LIP, LOWER_LIP]].mean() - local[:, [MOUTH_LEFT, MOUTH_RIGHT]].mean()).item()
    brows = _height(meshes, [*LEFT_EYE[:2], *RIGHT_EYE[:2]], [*geometry.LEFT_BROW, *geometry.RIGHT_BROW])
    eyes = list(eye_looks(frames, meshes).unflatten(2, (EYE_HEIGHT, EYE_WIDTH)).unbind(1))
    right, down = _shifted(eyes, eyes if base is None else base)
    yaw, pitch, roll = torch.rad2deg(reading.turn.mean(0)).tolist()
    return {
        "opening": 100 * mouth_opening(meshes).std().item(),
        "corners": 100 * corners,
        "brows": 100 * brows,
        "lids": reading.eyes.mean(1).amax().item(),
        "gaze x": 100 * right,
        "gaze y": -100 * down,
        "yaw": -yaw,  # the reading counts to the left
        "pitch": -pitch,
        "roll": roll,
    }, eyes


def _height(meshes: Tensor, low: list[int], high: list[int]) -> float:
    """How far in the picture the points `high` lie above `low`, across the line of the eyes, in its length."""
    along = meshes[:, RIGHT_EYE[1], :2] - meshes[:, LEFT_EYE[0], :2]
    down = torch.stack([-along[:, 1], along[:, 0]], 1) / along.square().sum(1, keepdim=True)
    return ((meshes[:, low, :2].mean(1) - meshes[:, high, :2].mean(1)) * down).sum(1).mean().item()


def _shifted(eyes: list[Tensor], base: list[Tensor]) -> tuple[float, float]:
    """Pictures of both eyes (F, h, w) and the same before -> how far their insides moved, right and down, half widths:
    where they correlate most, to a part of a pixel; median over frames, mean of both."""
    found = []
    for now, before in zip(eyes, base, strict=True):
        frames, height, width = now.shape
        across, tall = FURTHEST
        inner = before[:, tall : height - tall, across : width - across]
        scores = torch.full((frames, 2 * tall + 1, 2 * across + 1), -1.0)
        for y in range(2 * tall + 1):
            for x in range(2 * across + 1):
                there = now[:, y : y + inner.shape[1], x : x + inner.shape[2]]
                scores[:, y, x] = _correlations(there, inner)
        best = scores.flatten(1).argmax(1)
        places = []
        for frame, place in enumerate(best.tolist()):
            y, x = divmod(place, 2 * across + 1)
            places.append((_peak(scores[frame, y, :], x) - across, _peak(scores[frame, :, x], y) - tall))
        found.append(torch.tensor(places).median(0).values * (2 * EYE_ROOM / width))
    return tuple(torch.stack(found).mean(0).tolist())


def _correlations(one: Tensor, other: Tensor) -> Tensor:
    one, other = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (one, other))
    return (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1)).clamp(min=1e-6)


def _peak(scores: Tensor, at: int) -> float:
    """The place of a maximum, between samples by a parabola."""
    if not 0 < at < len(scores) - 1:
        return float(at)
    before, here, after = scores[at - 1 : at + 2].tolist()
    bend = before - 2 * here + after
    return at + (0.5 * (before - after) / bend if bend < 0 else 0.0)


def blinks_counted(rate: float, *, seconds: float = 600.0, seed: int = 0) -> int:
    """How many blinks a video of so many seconds has with this `blink_rate`; by the schedule, without pictures."""
    base = [start for start, _ in blink_starts(0, seconds, seed=seed, rate=1.0) if start < seconds]
    dial = Expression.of(blink_rate=rate).at(
        0, round(25 * seconds), fps=25, total=round(25 * seconds), seed=seed, blinks=1.0
    )
    lids = dial[:, 3]
    begun = int(((lids[1:] > 0) & (lids[:-1] <= 0)).sum())
    taken = int(((lids[1:] < 0) & (lids[:-1] >= 0)).sum())
    return len(base) + begun - taken


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: settings by readings, mean change over the portraits; then what is met."""
    stated = {what: min(abs(s) for _, own, s in SETTINGS.values() if own == what) for what in READINGS}
    lines = [
        "| dial | " + " | ".join(READINGS) + " | stated | met in | most of another's |",
        "| --- |" + " ---: |" * (len(READINGS) + 3),
    ]
    for name, by_reading in found.items():
        _, own, wanted = SETTINGS[name]
        cells = []
        for what, values in by_reading.items():
            mean = sum(values) / len(values)
            cells.append(f"**{mean:+.2f}**" if what == own else f"{mean:+.2f}")
        met = sum(value / wanted >= 1 for value in by_reading[own])
        others = {what: abs(sum(v) / len(v)) / stated[what] for what, v in by_reading.items() if what != own}
        worst = max(others, key=others.get)
        cells += [f"{wanted:+g}", f"{met} of {len(by_reading[own])}", f"{others[worst]:.2f} ({worst})"]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
