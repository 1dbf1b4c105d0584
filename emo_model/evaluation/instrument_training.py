"""Training of the instruments on rendered heads, and the test on heads they never saw."""

from __future__ import annotations

import logging
import math
import platform
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from ..synthetic.identities import sample_identities
from ..synthetic.renderer import render
from . import drawn
from .instruments import (
    MOUTH,
    POSE,
    InstrumentConfig,
    Instruments,
    Readings,
    eye_patch,
    face_patch,
    marks_in_box,
    mouth_patch,
    to_size,
)
from .statistics import correlation

log = logging.getLogger(__name__)

TRUSTED_CORRELATION = 0.8
_POINT_JITTER, _BOX_JITTER, _SCALE_JITTER = 0.06, 0.10, 0.08  # of the distance from eyes to mouth


@torch.no_grad()
def draw_examples(seeds: range, *, size: int, device: torch.device | str) -> tuple[Tensor, dict[str, Tensor]]:
    """A person and a moment for each seed -> pictures (B, 3, size, size) uint8, and what is known of them.

    boxes: (B, 3) of another, calm moment of the same person; marks: (B, 3, 2) in 0..1; mouth: (B, 4); pose: (B, 3); traits:
    (B, K); lids: (B, 2); gaze: (B, 2); iris: (B, 3).
    """
    blank = Instruments(InstrumentConfig(size=size, traits=drawn.TRAITS))  # scales nothing: traits in the renderer's units
    pictures, known = [], []
    for start in range(0, len(seeds), 256):
        some = seeds[start:start + 256]
        who, moment = sample_identities(some, device=device), drawn.exercise(some, device=device)
        pictures.append(((render(who, moment, size=size) + 1) * 127.5).round().to(torch.uint8))
        true = drawn.truth(who, moment, blank)
        boxes = drawn.reference_boxes(who, drawn.calm(some, device=device))
        known.append({
            "boxes": torch.cat([box.tensor(1) for box in boxes]), "marks": true.marks,
            "mouth": torch.stack([getattr(true, name) for name in MOUTH], 1),
            "pose": torch.stack([getattr(true, name) for name in POSE], 1),
            "traits": true.traits, "lids": torch.stack([true.blink_left, true.blink_right], 1),
            "gaze": torch.stack([true.gaze_x_left, true.gaze_y_left], 1), "iris": true.iris[:, 0]})
        log.info("drew %d of %d heads", start + len(some), len(seeds))
    return torch.cat(pictures), {name: torch.cat([part[name] for part in known]).to(device) for name in known[0]}


def train_instruments(*, people: int = 8_000, steps: int = 1_200, batch: int = 64, size: int = 128, width: int = 16,
                      learning_rate: float = 1e-3, seed: int = 0, test_people: int = 1_000,
                      device: torch.device | str = "cpu") -> Instruments:
    """Draw `people` heads, train, test on `test_people` others; returns the instruments with their card."""
    began = time.monotonic()
    torch.manual_seed(seed)
    first = drawn.INSTRUMENT_PEOPLE
    pictures, known = draw_examples(range(first, first + people), size=size, device=device)
    drew = time.monotonic() - began
    config = InstrumentConfig(size=size, width=width, traits=drawn.TRAITS)
    instruments = Instruments(config).to(device, memory_format=torch.channels_last)
    _scale(instruments, known)
    optimiser = torch.optim.AdamW(instruments.parameters(), lr=learning_rate, weight_decay=0.02)
    generator = torch.Generator().manual_seed(seed)
    warm = max(1, steps // 12)
    for step in range(steps):
        rate = learning_rate * min(1.0, (step + 1) / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        index = torch.randint(people, (batch,), generator=generator).to(device)
        losses = _losses(instruments, pictures[index], {name: value[index] for name, value in known.items()}, generator)
        optimiser.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(instruments.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 0 or step == steps - 1:
            log.info("step %d of %d: %s", step, steps, ", ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items()))
    trained = time.monotonic() - began - drew
    instruments.eval().requires_grad_(False)
    instruments.card = {
        "made_by": f"python -m emo_model.evaluation train-instruments --people {people} --steps {steps} --batch {batch} "
                   f"--size {size} --width {width} --learning-rate {learning_rate} --seed {seed}",
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU",
        "seconds": {"drawing": round(drew, 1), "training": round(trained, 1)},
        "people": {"trained": [first, first + people],
                   "tested": [drawn.INSTRUMENT_TEST_PEOPLE, drawn.INSTRUMENT_TEST_PEOPLE + test_people]}}
    return check(instruments, people=test_people)


def _scale(instruments: Instruments, known: dict[str, Tensor]) -> None:
    """Set mean and std of every output from the examples."""
    marks = marks_in_box(known["marks"], known["boxes"]).flatten(1)
    eye = torch.cat([known["lids"][:, :1], known["gaze"], known["iris"]], 1)
    face = torch.cat([marks, known["pose"], known["traits"]], 1)
    for name, values in (("face", face), ("mouth", known["mouth"]), ("eye", eye)):
        getattr(instruments, f"{name}_mean").copy_(values.mean(0))
        getattr(instruments, f"{name}_std").copy_(values.std(0).clamp(min=1e-3))


def _losses(instruments: Instruments, pictures: Tensor, known: dict[str, Tensor],
            generator: torch.Generator) -> dict[str, Tensor]:
    count, config, device = len(pictures), instruments.config, pictures.device

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    pictures = _spoil(pictures.float() / 127.5 - 1, generator)
    boxes = known["boxes"].clone()
    boxes[:, :2] += _BOX_JITTER * boxes[:, 2:] * noise(count, 2)
    boxes[:, 2] *= 1 + _SCALE_JITTER * noise(count).clamp(-2, 2)
    distances = boxes[:, 2]
    marks = known["marks"] + _POINT_JITTER * distances[:, None, None] * noise(count, 3, 2)

    def error(said: Tensor, true: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        return F.smooth_l1_loss(said, (true - mean) / std, reduction="none", beta=0.5)

    face = instruments.face(face_patch(pictures, boxes, config.face))
    wanted = torch.cat([marks_in_box(known["marks"], boxes).flatten(1), known["pose"], known["traits"]], 1)
    off = error(face, wanted, instruments.face_mean, instruments.face_std)
    mouth = instruments.mouth(mouth_patch(pictures, marks[:, 0], distances, config.mouth))
    mouth_off = error(mouth, known["mouth"], instruments.mouth_mean, instruments.mouth_std)
    left, right = (eye_patch(pictures, marks[:, side], distances, config.eye) for side in (1, 2))
    eye = instruments.eye(torch.cat([left, right.flip(-1)]))
    mirror = known["gaze"] * torch.tensor([-1.0, 1.0], device=device)
    eye_wanted = torch.cat([torch.cat([known["lids"][:, :1], known["gaze"], known["iris"]], 1),
                            torch.cat([known["lids"][:, 1:], mirror, known["iris"]], 1)])
    seen = 1 - eye_wanted[:, :1].clamp(0, 1)  # what a shut eye looks at cannot be seen
    weight = torch.cat([torch.full_like(seen, 2.0), (2 * seen**2).expand(-1, 2), (seen**2).expand(-1, 3) / 2], 1)
    eye_off = error(eye, eye_wanted, instruments.eye_mean, instruments.eye_std) * weight
    return {"marks": 3 * off[:, :6].mean(), "pose": 2 * off[:, 6:9].mean(), "traits": off[:, 9:].mean(),
            "mouth": 3 * mouth_off.mean(), "eyes": 2 * eye_off.mean()}


def _spoil(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """As a model's pictures may be: softer, noisier, of another contrast."""
    count, size = len(pictures), pictures.shape[-1]
    chosen = torch.rand(3, generator=generator)
    if chosen[0] < 0.5:
        smaller = round(size * (0.45 + 0.5 * torch.rand((), generator=generator).item()))
        pictures = F.interpolate(to_size(pictures, smaller), size=(size, size), mode="bicubic", align_corners=False)
    if chosen[1] < 0.5:
        seed = int(torch.randint(2**31, (), generator=generator))
        grain = torch.randn(pictures.shape, generator=torch.Generator(pictures.device).manual_seed(seed), device=pictures.device)
        pictures = pictures + 0.06 * chosen[2] * grain
    contrast, light = (torch.randn(2, count, 1, 1, 1, generator=generator) * 0.06).to(pictures)
    return (pictures * (1 + contrast) + light).clamp(-1, 1)


@torch.no_grad()
def read_examples(instruments: Instruments, people: int, *,
                  first: int = drawn.INSTRUMENT_TEST_PEOPLE) -> tuple[Readings, Readings]:
    """The readings of heads never seen, each from its own calm still's box, and the truth."""
    device = instruments.trusted.device
    said, true = [], []
    for start in range(first, first + people, 100):
        some = range(start, min(start + 100, first + people))
        who, moment = sample_identities(some, device=device), drawn.exercise(some, device=device)
        pictures = render(who, moment, size=instruments.config.size)
        boxes = drawn.reference_boxes(who, drawn.calm(some, device=device))
        said.append(instruments.read(pictures, boxes))
        true.append(drawn.truth(who, moment, instruments))
    return Readings.join(said), Readings.join(true)


def check(instruments: Instruments, *, people: int) -> Instruments:
    """Read heads never seen; write the correlations into the card and mark the traits that can be trusted."""
    said, true = read_examples(instruments, people)
    everyone = torch.ones(len(true), dtype=torch.bool)

    def follows(name: str, some: Tensor = everyone) -> float:
        return correlation(getattr(said, name)[some].flatten(), getattr(true, name)[some].flatten())

    found = {name: follows(name) for name in (*MOUTH, *POSE, "blink_left", "blink_right")}
    for side in ("left", "right"):
        seeing = getattr(true, f"blink_{side}") < 0.3
        found |= {f"gaze_{axis}_{side}": follows(f"gaze_{axis}_{side}", seeing) for axis in "xy"}
    found["iris"] = follows("iris", torch.maximum(true.blink_left, true.blink_right) < 0.3)
    person = {name: correlation(said.traits[:, index], true.traits[:, index])
              for index, name in enumerate(instruments.config.traits)}
    instruments.trusted.copy_(torch.tensor([float(person[name] >= TRUSTED_CORRELATION) for name in instruments.config.traits]))
    off = (said.marks - true.marks).norm(dim=-1).mean(0) * instruments.config.size
    instruments.card |= {
        "correlations": {name: round(value, 3) for name, value in found.items()},
        "traits": {name: round(value, 3) for name, value in person.items()},
        "degrees_off": {name: round(math.degrees((getattr(said, name) - getattr(true, name)).abs().mean()), 2) for name in POSE},
        "pixels_off": {
            name: round(value, 2) for name, value in zip(("mouth", "eye_left", "eye_right"), off.tolist(), strict=True)}}
    return instruments
