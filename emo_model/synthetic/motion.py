"""How a drawn head moves: mouth tracks from the speech, and head, lids, gaze and brows of its own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .dice import Dice

MOUTH_TRACKS = ("opening", "width", "closure", "tuck")


@dataclass(frozen=True, eq=False)
class FaceMotion:
    """Tracks of one length or batch: all (F,), or (B, F), or (B,) for single pictures, float32."""

    opening: Tensor  # 0 shut .. 1 wide open
    width: Tensor  # -1 rounded .. 1 spread
    closure: Tensor  # 0 .. 1 lips pressed together
    tuck: Tensor  # 0 .. 1 lower lip under the teeth, as in f and v
    yaw: Tensor  # radians; > 0 towards the right of the picture
    pitch: Tensor  # radians; > 0 down
    roll: Tensor  # radians; > 0 clockwise
    x: Tensor  # half pictures, right
    y: Tensor  # half pictures, down
    scale: Tensor  # relative to the identity's; 1: the same
    blink_left: Tensor  # 0 open .. 1 shut, the eye at the left of the picture
    blink_right: Tensor
    gaze_x: Tensor  # of both eyes; about 1 brings the iris to the corner
    gaze_y: Tensor
    brow: Tensor  # -1 lowered .. 1 raised
    smile: Tensor | None = None  # 0 .. 1; None: zeros (drawn heads do not smile)
    squint: Tensor | None = None  # 0 .. 1, both lids narrowed

    def __post_init__(self):
        for name in ("smile", "squint"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, torch.zeros_like(self.opening))

    @classmethod
    def neutral(cls, *shape: int, device: torch.device | str = "cpu") -> FaceMotion:
        """Looking straight on, mouth shut, eyes open."""
        tracks = {field.name: torch.zeros(shape, device=device) for field in dataclasses.fields(cls)}
        return cls(**(tracks | {"scale": torch.ones(shape, device=device)}))

    @classmethod
    def stack(cls, motions: Sequence[FaceMotion]) -> FaceMotion:
        """B motions of (F,) -> one of (B, F)."""
        return cls(
            **{
                field.name: torch.stack([getattr(motion, field.name) for motion in motions])
                for field in dataclasses.fields(cls)
            }
        )

    def map(self, change) -> FaceMotion:
        return FaceMotion(**{field.name: change(getattr(self, field.name)) for field in dataclasses.fields(self)})

    def __getitem__(self, index) -> FaceMotion:
        return self.map(lambda track: track[index])

    def __len__(self) -> int:
        return len(self.opening)

    def flatten(self) -> FaceMotion:
        """(B, F) -> (B * F,), one entry per picture."""
        return self.map(torch.flatten)

    def to(self, device) -> FaceMotion:
        return self.map(lambda track: track.to(device))

    @property
    def mouth(self) -> Tensor:
        """(..., 4) in the order of MOUTH_TRACKS."""
        return torch.stack([getattr(self, name) for name in MOUTH_TRACKS], -1)


def sample_motion(
    seed: int, frames: int, fps: float, *, mouth: Tensor, voiced: Tensor | None = None, head_speed: float | None = None
) -> FaceMotion:
    """One clip of (F,) tracks.

    mouth: (F, 4) in the order of MOUTH_TRACKS; voiced: (F,) 0..1 energy of the voice, for nods and brows;
    head_speed: mean rotation in degrees per second; None: drawn, log-normal with median 10, two thirds of clips in
    5..20.
    """
    if mouth.shape != (frames, 4):
        raise ValueError(f"mouth must be ({frames}, 4), got {tuple(mouth.shape)}")
    generator = torch.Generator().manual_seed(seed)
    seconds = torch.arange(frames, dtype=torch.float64) / fps
    draw = torch.randn(16, generator=generator, dtype=torch.float64).clamp(-2.2, 2.2)
    wanted = 10.0 * math.exp(0.7 * draw[0].item()) if head_speed is None else float(head_speed)
    pace = wanted / 12.0
    tempo = min(3.2, max(0.45, pace ** (0.7 if pace > 1 else 0.5)))  # lively heads move more often, not only further

    def sway(low=0.08, high=0.9):  # unit variance, band-limited
        return _sway(seconds, low * tempo, high * tempo, generator)

    yaw, pitch, roll = 0.15 * sway(), 0.09 * sway(), 0.065 * sway()
    energy = torch.zeros(frames, dtype=torch.float64) if voiced is None else _smooth(voiced.double().cpu(), 0.10 * fps)
    energy = energy - energy.mean() if frames else energy
    pitch = pitch + (0.10 + 0.04 * draw[1]) * energy + 0.05 * _stresses(voiced, frames, fps, generator, 0.7)
    offset = (0.085 * draw[2], 0.05 * draw[3], 0.04 * draw[4])
    rotation = _rotate_at(torch.stack((yaw, pitch, roll)), wanted, fps)
    yaw, pitch, roll = (move + still for move, still in zip(rotation, offset, strict=True))
    yaw, pitch, roll = _within(yaw, 0.50), _within(pitch, 0.30), _within(roll, 0.24)

    lively = min(1.4, 0.35 + wanted / 16.0)
    x = _within(0.018 * draw[5] + 0.020 * lively * sway() + 0.05 * yaw, 0.085)
    y = _within(0.014 * draw[6] + 0.012 * lively * sway() + 0.04 * pitch, 0.06)
    scale = 1 + _within(0.018 * draw[7] + 0.012 * lively * sway(), 0.06)
    blink = _blinks(frames, fps, generator, energy=voiced)
    gaze_x = _glances(frames, fps, generator) - 0.5 * yaw
    gaze_y = 0.7 * _glances(frames, fps, generator) - 0.5 * pitch
    raised = 0.5 * _stresses(voiced, frames, fps, generator, 0.5)
    brow = _within(0.10 * draw[8] + 0.14 * sway(0.15, 1.0) + 0.35 * energy + raised, 0.8)
    smile = _swell(frames, fps, generator, share=0.25, most=0.8)
    squint = (0.35 * smile + 0.5 * _swell(frames, fps, generator, share=0.15, most=0.6)).clamp(0, 1)
    tracks = dict(
        zip(MOUTH_TRACKS, mouth.double().cpu().unbind(-1), strict=True),
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        x=x,
        y=y,
        scale=scale,
        blink_left=blink,
        blink_right=blink * (1 - 0.02 * draw[9].abs()),
        gaze_x=gaze_x,
        gaze_y=gaze_y,
        brow=brow,
        smile=smile,
        squint=squint,
    )
    return FaceMotion(**{name: track.float() for name, track in tracks.items()})


def sample_still_motion(seeds: Sequence[int] | Tensor, *, device: torch.device | str = "cpu") -> FaceMotion:
    """B unrelated moments (B,), each of its own seed: mouths of all kinds, poses somewhat wider than in clips."""
    dice = Dice(seeds)
    unit, between, normal = dice.unit, dice.between, dice.normal
    kind = unit("kind")
    speaking, wide_open, pressed, tucked = (
        kind < 0.62,
        (kind >= 0.62) & (kind < 0.74),
        (kind >= 0.74) & (kind < 0.83),
        (kind >= 0.83) & (kind < 0.90),
    )
    opening = torch.where(speaking, between("opening", 0, 1) ** 1.4, 0.0)
    opening = torch.where(wide_open, between("gape", 0.7, 1), opening)
    opening = torch.where(tucked, between("tuck opening", 0.05, 0.25), opening)
    yaw, pitch = normal("yaw", 0, 0.17), normal("pitch", 0, 0.10)
    blink = torch.where(unit("blinking") < 0.10, between("blink", 0, 1.25).clamp(max=1), torch.zeros_like(kind))
    tracks = dict(
        opening=opening,
        width=normal("width", 0, 0.45).clamp(-1, 1),
        closure=torch.where(pressed, between("closure", 0.4, 1), 0.0),
        tuck=torch.where(tucked, between("tuck", 0.4, 1), 0.0),
        yaw=yaw,
        pitch=pitch,
        roll=normal("roll", 0, 0.075),
        x=normal("x", 0, 0.030),
        y=normal("y", 0, 0.020),
        scale=1 + normal("scale", 0, 0.022),
        blink_left=blink,
        blink_right=blink,
        gaze_x=normal("gaze x", 0, 0.08) - 0.5 * yaw,
        gaze_y=normal("gaze y", 0, 0.056) - 0.5 * pitch,
        brow=normal("brow", 0, 0.22),
        smile=torch.where(unit("smiling") < 0.3, between("smile", 0, 1), torch.zeros_like(kind)),
        squint=torch.where(unit("squinting") < 0.2, between("squint", 0, 0.8), torch.zeros_like(kind)),
    )
    return FaceMotion(**{name: track.float().to(device) for name, track in tracks.items()})


def head_speed_degrees(motion: FaceMotion, fps: float) -> Tensor:
    """Tracks (..., F) -> (..., F): rotation angle between a frame and the one before, in degrees per second
    (EMO, 'Speed Layers'). The first frame repeats the second's."""
    turn = _rotation(motion.yaw.double(), motion.pitch.double(), motion.roll.double())  # (..., F, 3, 3)
    if turn.shape[-3] < 2:
        return torch.zeros_like(motion.yaw)
    between = turn[..., 1:, :, :] - turn[..., :-1, :, :]
    # |R - S| = sqrt(8) sin(angle / 2)
    angle = 2 * torch.asin((between.square().sum((-2, -1)).sqrt() / 8**0.5).clamp(max=1))
    speed = torch.rad2deg(angle) * fps
    return torch.cat((speed[..., :1], speed), -1).float()


def _rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)

    def matrix(*entries):
        return torch.stack(entries, -1).unflatten(-1, (3, 3))

    about_y = matrix(yaw.cos(), zero, yaw.sin(), zero, one, zero, -yaw.sin(), zero, yaw.cos())
    about_x = matrix(one, zero, zero, zero, pitch.cos(), pitch.sin(), zero, -pitch.sin(), pitch.cos())
    about_z = matrix(roll.cos(), -roll.sin(), zero, roll.sin(), roll.cos(), zero, zero, zero, one)
    return about_z @ about_x @ about_y


def _rotate_at(turn: Tensor, wanted: float, fps: float) -> Tensor:
    """Scale (3, F) yaw, pitch, roll to the wanted mean speed, as far as a neck allows."""
    if turn.shape[-1] < 2:
        return turn
    for _ in range(6):  # rotations do not add quite linearly, and necks resist
        motion = FaceMotion.neutral(turn.shape[-1])
        motion = dataclasses.replace(motion, yaw=turn[0], pitch=turn[1], roll=turn[2])
        turn = turn * (wanted / head_speed_degrees(motion, fps).mean().clamp(min=1e-6).item())
        turn = torch.stack((_within(turn[0], 0.45), _within(turn[1], 0.27), _within(turn[2], 0.22)))
    return turn


def _within(track: Tensor, limit: float) -> Tensor:
    return limit * torch.tanh(track / limit)


def _sway(seconds: Tensor, low: float, high: float, generator: torch.Generator, waves: int = 9) -> Tensor:
    frequency = low * (high / low) ** torch.rand(waves, 1, generator=generator, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(waves, 1, generator=generator, dtype=torch.float64)
    amplitude = (frequency / low) ** -0.6 * (0.5 + torch.rand(waves, 1, generator=generator, dtype=torch.float64))
    track = (amplitude * torch.sin(2 * math.pi * frequency * seconds + phase)).sum(0)
    return track / (amplitude.square().sum() / 2).sqrt()


def _smooth(track: Tensor, sd_frames: float) -> Tensor:
    reach = max(1, math.ceil(3 * sd_frames))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=track.dtype) / sd_frames) ** 2)
    padded = torch.cat((track[:1].expand(reach), track, track[-1:].expand(reach)))
    return torch.nn.functional.conv1d(padded[None, None], (kernel / kernel.sum())[None, None])[0, 0]


def _blinks(frames: int, fps: float, generator: torch.Generator, *, energy: Tensor | None = None) -> Tensor:
    """A blink every 2 to 6 seconds: shut within 2 to 3 frames (at 25 a second), open again within 4 to 6; every tenth
    is doubled. Four in ten wait for the next pause of the voice, if one comes within a second."""
    lid = torch.zeros(frames, dtype=torch.float64)

    def draw() -> float:
        return float(torch.rand((), generator=generator))

    quiet = None if energy is None else (_smooth(energy.double().cpu(), 0.06 * fps) < 0.12)
    now = draw() * 4.0 - 0.3
    time = torch.arange(frames, dtype=torch.float64) / fps
    while now * fps < frames:
        if draw() < 0.4 and quiet is not None and now > 0:
            first, last = int(now * fps), min(frames, int((now + 1) * fps))
            pause = quiet[first:last].nonzero()
            now = now + float(pause[0]) / fps if len(pause) else now
        for start in (now, now + 0.38)[: 2 if draw() < 0.1 else 1]:
            closing, held, opening = (2 + draw()) / 25, (0.6 + 1.2 * draw()) / 25, (4 + 2 * draw()) / 25
            depth = 1.0 if draw() < 0.9 else 0.7 + 0.3 * draw()
            down = ((time - start) / closing).clamp(0, 1)
            up = ((time - start - closing - held) / opening).clamp(0, 1)
            lid = torch.maximum(lid, depth * (down**2 * (3 - 2 * down) * (1 - up) ** 1.6))
        now += 2.0 + 4.0 * draw() ** 1.2
    return lid


def _stresses(voiced: Tensor | None, frames: int, fps: float, generator: torch.Generator, share: float) -> Tensor:
    """(F,) 0..1: a soft bump at some of the loud syllables, each of its own height; zeros without a voice."""
    bumps = torch.zeros(frames, dtype=torch.float64)
    if voiced is None or frames < 3:
        return bumps
    loud = _smooth(voiced.double().cpu(), 0.06 * fps)
    peaks = (loud[1:-1] >= loud[:-2]) & (loud[1:-1] > loud[2:]) & (loud[1:-1] > loud.mean() + 0.4 * loud.std())
    time = torch.arange(frames, dtype=torch.float64) / fps
    last = -1.0
    for peak in (peaks.nonzero()[:, 0] + 1).tolist():
        height, width, chosen = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        if chosen < share and peak / fps - last > 0.35:
            last = peak / fps
            bumps = bumps + (0.4 + 0.6 * height) * torch.exp(-0.5 * ((time - last) / (0.10 + 0.05 * width)) ** 2)
    return bumps


def _swell(frames: int, fps: float, generator: torch.Generator, *, share: float, most: float) -> Tensor:
    """(F,) 0..most: comes and goes over seconds, there for about `share` of the time."""
    seconds = torch.arange(frames, dtype=torch.float64) / fps
    track, now = torch.zeros(frames, dtype=torch.float64), 0.0
    lasting = 2.5
    while now < frames / fps + lasting:
        start, rise, long, fall, height = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        rise, fall, long = 0.5 + rise, 0.7 + 1.3 * fall, lasting * (0.5 + long)
        begin = now + 2 * start * lasting * (1 - share) / share - lasting
        up, down = ((seconds - begin) / rise).clamp(0, 1), ((seconds - begin - long) / fall).clamp(0, 1)
        track = torch.maximum(track, most * height * (up * up * (3 - 2 * up)) * (1 - down * down * (3 - 2 * down)))
        now = begin + long + fall
    return track


def _glances(frames: int, fps: float, generator: torch.Generator) -> Tensor:
    """Steps between resting points (sd 0.075), each step two frames long."""
    track = torch.zeros(frames, dtype=torch.float64)
    start = 0
    while start < frames:
        track[start:] = 0.075 * float(torch.randn((), generator=generator).clamp(-2, 2))
        start += max(1, round(fps * (0.5 + 1.8 * float(torch.rand((), generator=generator)))))
    return torch.cat((track[:1], (track[1:] + track[:-1]) / 2))
