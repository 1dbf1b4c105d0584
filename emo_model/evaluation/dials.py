"""What each dial does: its own reading moves, and the others rest. All differences are paired: the same latents with
and without the dial.

Where the skin went is known exactly: the decoder moves the portrait's pixels by a flow, and the portrait's mesh is
followed along it, in the head's own frame. What is drawn between the lids is read from the pixels of finished frames.
The face mesh, which reads finished frames alone, is asked whether it sees the same (`MESH`); it cannot tell expressions
from one another well enough to judge the rest: it reads a smile as a mouth that opens, of which no lip moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import talk
from ..checkpoints.mediapipe import load_face_finder
from ..checkpoints.native import Bundle
from ..inputs import face_geometry as geometry
from ..inputs.faces import FaceFinder
from ..inputs.media import read_picture
from ..inputs.motion_latents import (
    LEFT_EYE,
    LOWER_LIP,
    MOUTH_LEFT,
    MOUTH_RIGHT,
    RIGHT_EYE,
    UPPER_LIP,
    eye_distance,
    mouth_opening,
)
from ..sampling.direction import Direction
from ..sampling.expression import DIALS, Expression
from ..sampling.finish import blink_starts
from .reading import EYE_ROOM, EYE_WIDTH, changes, eye_looks, read

FIRST, FRAMES, STEP = 12, 24, 2  # of the voice, what is decoded: every second frame of two clips
SIDE = 384  # pixels of the head square
EYE_ROWS = 20  # pixels of an eye's picture from above to below, `reading.EYE_WIDTH` across
FURTHEST = (8, 6)  # pixels of it that its inside is sought aside, right and down
# points that neither speech nor a dial but the pose moves: bridge of the nose, corners of the eyes, temples
HEAD = (168, 6, 197, 195, 5, 4, 33, 133, 362, 263, 127, 356, 234, 454, 21, 251)
UPPER_EDGE, LOWER_EDGE = 0, 17  # middles of the lips' outer edges
EYES, BROWS = [*LEFT_EYE[:2], *RIGHT_EYE[:2]], [*geometry.LEFT_BROW, *geometry.RIGHT_BROW]
READINGS = {
    "opening": "spread over the frames of how far the lips' outer edges are apart, hundredths of an eye distance",
    "corners": "corners of the mouth above its middle, hundredths of an eye distance",
    "brows": "brows above the corners of the eyes, hundredths of an eye distance",
    "lids": "change of the eyes' picture in a blink, 0 to 2",
    "gaze x": "shift of what is seen between the lids, right, hundredths of half an eye's width",
    "gaze y": "the same, up",
    "yaw": "degrees",
    "pitch": "degrees",
    "roll": "degrees",
}
MESH = ("opening", "corners", "brows", "yaw", "pitch", "roll")
"""Readings that the face mesh takes of the finished frames as well; its opening is that of the inner lips."""
SETTINGS = {
    "audio_strength 2": ({"audio_strength": 2}, "opening", 4.0),
    "audio_strength 0": ({"audio_strength": 0}, "opening", -4.0),
    "smile 1": ({"smile": 1}, "corners", 4.5),
    "brows 1": ({"brows": 1}, "brows", 3.0),
    "brows -1": ({"brows": -1}, "brows", -2.5),
    "blinks": ({"blinks": ((FIRST + 5) / 25,)}, "lids", 0.25),
    "gaze_x 1": ({"gaze_x": 1}, "gaze x", 22.0),
    "gaze_x -1": ({"gaze_x": -1}, "gaze x", -22.0),
    "gaze_y 1": ({"gaze_y": 1}, "gaze y", 12.0),
    "gaze_y -1": ({"gaze_y": -1}, "gaze y", -12.0),
    "yaw 10": ({"yaw": 10}, "yaw", 7.5),
    "pitch 8": ({"pitch": 8}, "pitch", 5.0),
    "roll 10": ({"roll": 10}, "roll", 9.5),
}
"""By name: the dials, the reading that they are to move, and by how much at least: the stated amount."""
Found = dict[str, dict[str, list[float]]]
"""Setting -> reading -> its change in each portrait, mean over the frames."""


def measure(bundle: Bundle, portraits: Sequence[Path], voice: Path) -> tuple[Found, Found]:
    """What the dials of `SETTINGS` change: `READINGS`, and `MESH`."""
    found = {name: {what: [] for what in READINGS} for name in SETTINGS}
    seen = {name: {what: [] for what in MESH} for name in SETTINGS}
    finder, sampling = load_face_finder(), replace(bundle.sampling, blinks=0.0)
    sound = talk.read_sound(voice)
    for path in portraits:
        scene = talk.prepare(bundle, read_picture(path), sound, sampling=sampling, square=True, long_side=SIDE)
        latents = _some(scene)
        base, base_mesh, eyes = readings(finder, scene, latents[:, :, ::STEP])
        for name, (dials, own, _) in SETTINGS.items():
            direction = Direction(Expression.of(**dials), blinks=0.0, fps=scene.conditions.audio.fps)
            dialled = direction.dialled(latents, FIRST, total=scene.conditions.frames)
            now, now_mesh, _ = readings(finder if own in MESH else None, scene, dialled[:, :, ::STEP], eyes)
            for kept, values, before in ((found, now, base), (seen, now_mesh, base_mesh)):
                for what, value in values.items():
                    kept[name][what].append(value - before[what])
    return found, seen


def _some(scene: talk.Scene) -> Tensor:
    """(1, C, `FRAMES`, h, w): the voice's frames from `FIRST` on."""
    made: list[Tensor] = []
    for latents in scene.generate():
        made.append(latents)
        if sum(one.shape[2] for one in made) >= FIRST + FRAMES:
            break
    return torch.cat(made, 2)[:, :, FIRST : FIRST + FRAMES]


def readings(
    finder: FaceFinder | None, scene: talk.Scene, latents: Tensor, base: list[Tensor] | None = None
) -> tuple[dict[str, float], dict[str, float], list[Tensor]]:
    """latents (1, C, F, h, w) of a scene -> `READINGS` of its frames, `MESH`, and both eyes' pictures (F, h, w).

    finder: None reads no mesh; base: the eyes' pictures without a dial, against which gaze is read.
    """
    latents = latents[0].transpose(0, 1)
    frames, skin, decoder = scene.decoder.decode(latents), scene.decoder.places(latents), scene.decoder
    mesh = decoder.mesh * (decoder.fit.side / decoder.fit.size)
    mesh = mesh + mesh.new_tensor([decoder.fit.left, decoder.fit.top, 0.0])
    shape, turn = in_the_head(skin, mesh)
    corners = torch.cat([skin, skin.new_zeros(*skin.shape[:2], 1)], 2)
    looks = eye_looks(frames, corners, height=EYE_ROWS)
    eyes = list(looks.unflatten(2, (EYE_ROWS, EYE_WIDTH)).unbind(1))
    right, down = _shifted(eyes, eyes if base is None else base)
    opening = shape[:, LOWER_EDGE, 1] - shape[:, UPPER_EDGE, 1]
    found = _expression(shape, opening) | _pose(turn)
    found |= {"lids": changes(looks).mean(1).amax().item(), "gaze x": 100 * right, "gaze y": -100 * down}
    seen = {}
    if finder is not None:
        reading, meshes = read(finder, frames, mesh, decoder.fit)
        local = torch.stack([geometry.head_frame(one).local(one) for one in meshes])
        seen = _expression(local, mouth_opening(meshes)) | _pose(reading.turn)
    return {what: found[what] for what in READINGS}, seen, eyes


def in_the_head(skin: Tensor, mesh: Tensor) -> tuple[Tensor, Tensor]:
    """Where the points of a portrait's mesh (468, 3) went in frames, skin (F, 468, 2) -> where they are in the head's
    own frame (F, 468, 2): right and down in distances of the outer eye corners; and its turn (F, 3): yaw, pitch, roll
    in radians.

    The pose is the scaled orthographic one that brings the mesh's points of `HEAD` nearest to the skin's; what it
    leaves of a point's displacement is turned back, so a turned head is in the same shape.
    """
    points = list(HEAD)
    known = torch.cat([mesh - mesh[points].mean(0), mesh.new_ones(len(mesh), 1)], 1)
    pose = torch.linalg.lstsq(known[points].expand(len(skin), -1, -1), skin[:, points]).solution  # (F, 4, 2)
    own = mesh[:, :2] + (skin - known @ pose) @ torch.linalg.inv(pose[:, :2])
    right = F.normalize((mesh[RIGHT_EYE[1]] - mesh[LEFT_EYE[0]])[:2], dim=0)
    axes = torch.stack([right, torch.stack([-right[1], right[0]])])
    u, _, v = torch.linalg.svd(pose[:, :3], full_matrices=False)
    across, down = (u @ v).unbind(2)  # the nearest rotation's first two rows
    back = torch.linalg.cross(across, down)
    turn = torch.stack(
        [torch.atan2(across[:, 2], back[:, 2]), torch.asin(-down[:, 2]), torch.atan2(down[:, 0], down[:, 1])]
    )
    return (own - mesh[points, :2].mean(0)) @ axes.T / eye_distance(mesh), turn.T


def _expression(shape: Tensor, opening: Tensor) -> dict[str, float]:
    """shape (F, 468, ...) in the head's frame, opening (F,) -> hundredths."""
    down = shape[..., 1].mean(0)
    return {
        "opening": 100 * opening.std().item(),
        "corners": 100 * (down[[UPPER_LIP, LOWER_LIP]].mean() - down[[MOUTH_LEFT, MOUTH_RIGHT]].mean()).item(),
        "brows": 100 * (down[EYES].mean() - down[BROWS].mean()).item(),
    }


def _pose(turn: Tensor) -> dict[str, float]:
    """turn (F, 3) in radians, which count to the left, down and clockwise -> degrees right, up and clockwise."""
    yaw, pitch, roll = torch.rad2deg(turn.mean(0)).tolist()
    return {"yaw": -yaw, "pitch": -pitch, "roll": roll}


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


def table(found: Found, seen: Found | None = None) -> str:
    """Markdown: settings by readings, median change over the portraits; in how many of them the dial does what is
    stated, the largest change of another's reading as a share of what that one's dial is stated to do, median, and in
    how many portraits all others' are below a fifth; the dial's own change as the face mesh sees it (`measure`)."""
    stated = {what: min(abs(s) for _, own, s in SETTINGS.values() if own == what) for what in READINGS}
    lines = [
        "| dial | " + " | ".join(READINGS) + " | stated | met in | most of another's | all below a fifth in | mesh |",
        "| --- |" + " ---: |" * (len(READINGS) + 5),
    ]
    for name, by_reading in found.items():
        _, own, wanted = SETTINGS[name]
        middle = {what: _median(values) for what, values in by_reading.items()}
        cells = [f"**{value:+.2f}**" if what == own else f"{value:+.2f}" for what, value in middle.items()]
        met, count = sum(value / wanted >= 1 for value in by_reading[own]), len(by_reading[own])
        others = {what: abs(value) / stated[what] for what, value in middle.items() if what != own}
        worst = max(others, key=others.get)
        apart = sum(
            all(abs(by_reading[what][one]) < stated[what] / 5 for what in READINGS if what != own)
            for one in range(count)
        )
        read_back = f"{_median(seen[name][own]):+.2f}" if seen is not None and own in MESH else ""
        cells += [
            f"{wanted:+g}",
            f"{met} of {count}",
            f"{others[worst]:.2f} ({worst})",
            f"{apart} of {count}",
            read_back,
        ]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def carried(found: Found) -> list[str]:
    """What dials would have to carry of others, beside `sampling.expression.CARRIED`, to leave the others' readings at
    rest: lines, in the units of the channels, for whatever is more than a tenth of what is stated. Median of the
    portraits."""
    stated = {what: min(abs(s) for _, own, s in SETTINGS.values() if own == what) for what in READINGS}
    lines = []
    for name, by_reading in found.items():
        for what, values in by_reading.items():
            left = _median(values)
            if what in ("opening", "lids", SETTINGS[name][1]) or abs(left) < stated[what] / 10:
                continue
            against = [by for by, (_, own, wanted) in SETTINGS.items() if own == what]
            by = next((one for one in against if SETTINGS[one][2] * left < 0), against[0])
            (dial, value), (other, amount) = _channel(name), _channel(by)
            share = -left / _median(found[by][what]) * amount / value
            lines.append(f"{name}: {what} {left:+.2f}; {dial} would carry {share:+.3f} of {other}")
    return lines


def _channel(name: str) -> tuple[str, float]:
    """The channel that a setting sets, and its value."""
    dials = SETTINGS[name][0]
    channel = {"audio_strength": "mouth", "blinks": "lids"}.get(next(iter(dials)), next(iter(dials)))
    made = Expression.of(**dials).at(FIRST + 8, 1, fps=25, total=1000, seed=0, blinks=0)
    return channel, made[0, DIALS.index(channel)].item()


def _median(values: Sequence[float]) -> float:
    return torch.tensor(values, dtype=torch.float64).quantile(0.5).item()
