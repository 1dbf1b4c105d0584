"""Other looks of a picture, by seed: paintings, drawings, cartoons, old film, hard light, glasses and hats, other
crops.

A look changes pixels, and where needed the mesh, so that there are puppets of all kinds of pictures.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from ..inputs.face_geometry import LEFT_BROW, RIGHT_BROW, head_frame, mirror_order

GREY = np.array([0.299, 0.587, 0.114])
_MIRRORED_LOOKS = 0.5  # share of looks that are mirrored besides
_MOVED_LOOKS = 0.4  # share that are turned a little, or cut differently


@dataclass(frozen=True, eq=False)
class Sight:
    """picture: (S, S, 3) float64 in 0..1; mesh: (468, 3) in its pixels."""

    picture: np.ndarray
    mesh: np.ndarray


def change_look(picture: np.ndarray, mesh: Tensor, seed: int) -> tuple[np.ndarray, Tensor, str]:
    """(S, S, 3) uint8 and (468, 3) -> the same in a look drawn by `seed`, and the look's name."""
    dice = np.random.default_rng(seed)
    name = str(dice.choice(list(LOOKS), p=_shares()))
    sight = Sight(picture.astype(np.float64) / 255, mesh.double().numpy())
    if dice.random() < _MOVED_LOOKS:
        sight = move_in_square(sight, dice)
    sight = LOOKS[name](sight, dice)
    if dice.random() < 0.5:
        sight = brightness(sight, dice)
    if dice.random() < _MIRRORED_LOOKS:
        sight = mirror(sight)
    return (np.clip(sight.picture, 0, 1) * 255 + 0.5).astype(np.uint8), torch.from_numpy(sight.mesh).float(), name


def mirror(sight: Sight) -> Sight:
    """Left becomes right, in the mesh as well: its points change places."""
    size = len(sight.picture)
    mesh = sight.mesh[mirror_order().numpy()]
    mesh[:, 0] = size - mesh[:, 0]
    return Sight(sight.picture[:, ::-1], mesh)


def move_in_square(sight: Sight, dice: np.random.Generator) -> Sight:
    """Turned by up to 9 degrees, 0.86 to 1.12 times as large and a little off the centre; edges are repeated."""
    size = len(sight.picture)
    turn, scale = math.radians(dice.uniform(-9, 9)), dice.uniform(0.86, 1.12)
    shift = dice.uniform(-0.05, 0.05, 2) * size
    c, s = math.cos(turn) * scale, math.sin(turn) * scale
    matrix, middle = np.array([[c, -s], [s, c]]), size / 2
    back = np.linalg.inv(matrix)
    offset = -(back @ (shift + middle)) + middle
    theta = np.concatenate([back, (2 * offset / size + back.sum(1) - 1)[:, None]], axis=1)
    source = torch.from_numpy(sight.picture.copy()).permute(2, 0, 1)[None]
    grid = functional.affine_grid(torch.from_numpy(theta)[None], list(source.shape), align_corners=False)
    moved = functional.grid_sample(source, grid, padding_mode="border", align_corners=False)[0].permute(1, 2, 0).numpy()
    mesh = sight.mesh.copy()
    mesh[:, :2] = (mesh[:, :2] - middle) @ matrix.T + middle + shift
    mesh[:, 2] *= scale
    return Sight(moved, mesh)


def brightness(sight: Sight, dice: np.random.Generator) -> Sight:
    """Another exposure, contrast, colour strength and white balance."""
    picture = sight.picture ** dice.uniform(0.7, 1.45)
    grey = (picture @ GREY)[..., None]
    picture = grey + (picture - grey) * dice.uniform(0.6, 1.35)
    picture = 0.5 + (picture - 0.5) * dice.uniform(0.75, 1.2) + dice.uniform(-0.06, 0.06)
    return _with(sight, picture * dice.uniform(0.93, 1.07, 3))


def oil(sight: Sight, dice: np.random.Generator) -> Sight:
    """Patches of paint: the calmest of four neighbouring windows (Kuwahara), then strokes of the brush on canvas."""
    picture = _kuwahara(sight.picture, int(dice.integers(2, 4)))
    grain = _blur(dice.standard_normal((*picture.shape[:2], 1)), 0.8)
    warm = np.array([1.03, 1.0, 0.90]) ** dice.uniform(0, 1.5)
    picture = 0.5 + (picture - 0.5) * dice.uniform(0.85, 1.1)
    return _with(sight, picture * warm * (1 + dice.uniform(0.0, 0.05) * grain))


def pencil(sight: Sight, dice: np.random.Generator) -> Sight:
    """A drawing: grey divided by its blur, some shading, on paper."""
    grey = sight.picture @ GREY
    line = np.clip(grey / np.maximum(_blur(grey[..., None], dice.uniform(2.5, 5))[..., 0], 0.03), 0, 1) ** dice.uniform(
        1.5, 3.5
    )
    shade = 1 - dice.uniform(0.2, 0.75) * (1 - grey) ** 1.2
    paper = np.array([1, 0.98, 0.93]) * dice.uniform(0.88, 1.0)
    ink = np.array([0.12, 0.11, 0.12]) + dice.uniform(0, 0.18) * np.array([1.0, 0.6, 0.35])
    tone = np.clip(line * shade * (1 + 0.03 * dice.standard_normal(grey.shape)), 0, 1)[..., None]
    return _with(sight, ink + (paper - ink) * tone)


def line(sight: Sight, dice: np.random.Generator) -> Sight:
    """Contours in ink on flat colour or paper."""
    grey = _blur((sight.picture @ GREY)[..., None], 0.8)[..., 0]
    edge = np.clip((_blur(grey[..., None], 2.2)[..., 0] - grey) * dice.uniform(10, 18) - 0.12, 0, 1)[..., None]
    flat = np.full_like(sight.picture, 0.96)
    if dice.random() < 0.5:
        flat = _poster(_kuwahara(sight.picture, 3), int(dice.integers(4, 7)))
    return _with(sight, flat * (1 - edge) + 0.07 * edge)


def cartoon(sight: Sight, dice: np.random.Generator) -> Sight:
    """Flat, strong colours in few steps, with or without dark contours."""
    smooth = _kuwahara(_kuwahara(sight.picture, 3), 2)
    flat = _poster(smooth, int(dice.integers(5, 9)))
    grey = (flat @ GREY)[..., None]
    flat = grey + (flat - grey) * dice.uniform(1.1, 1.7)
    if dice.random() < 0.6:
        tone = (smooth @ GREY)[..., None]
        edge = np.clip((_blur(tone, 2.0) - tone) * 14 - 0.15, 0, 1)
        flat = flat * (1 - 0.85 * edge)
    return _with(sight, _blur(flat, 0.5) * np.exp(dice.normal(0, 0.10, 3)))


def grey(sight: Sight, dice: np.random.Generator) -> Sight:
    """A photograph without colour; sometimes stone."""
    tone = (sight.picture @ GREY)[..., None]
    if dice.random() < 0.35:  # a statue: lighter, eyes and lips of the same stuff
        tone = 0.30 + 0.62 * _blur(tone, 0.6) + 0.015 * _blur(dice.standard_normal(tone.shape), 1.2)
        return _with(sight, tone * np.array([1.0, 0.985, 0.95]) ** dice.uniform(0, 2))
    return _with(sight, np.repeat(tone, 3, axis=-1))


def old_film(sight: Sight, dice: np.random.Generator) -> Sight:
    """Sepia or silver, soft, with grain, faded blacks and dark corners."""
    size = len(sight.picture)
    tone = _blur((sight.picture @ GREY)[..., None], dice.uniform(0.4, 1.1))
    tint = np.array([1.07, 0.96, 0.76]) ** dice.uniform(0.0, 1.2)
    picture = (dice.uniform(0.05, 0.16) + tone * dice.uniform(0.75, 0.9)) * tint
    picture += dice.uniform(0.02, 0.06) * _blur(dice.standard_normal((size, size, 1)), 0.6)
    return _with(sight, picture * _vignette(size, dice.uniform(0.15, 0.5)))


def noisy(sight: Sight, dice: np.random.Generator) -> Sight:
    """Sensor noise, more in the dark."""
    level = dice.uniform(0.02, 0.07)
    noise = dice.standard_normal(sight.picture.shape)
    return _with(sight, sight.picture + level * noise * (1.2 - sight.picture))


def compressed(sight: Sight, dice: np.random.Generator) -> Sight:
    """JPEG of poor quality, sometimes from a smaller picture."""
    image, size = _image(sight.picture), len(sight.picture)
    if dice.random() < 0.5:
        small = int(size * dice.uniform(0.35, 0.8))
        image = image.resize((small, small), Image.Resampling.BICUBIC).resize((size, size), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(dice.integers(12, 45)))
    return _with(sight, np.asarray(Image.open(file)) / 255)


def blurred(sight: Sight, dice: np.random.Generator) -> Sight:
    """Out of focus, or softened by a small original."""
    return _with(sight, _blur(sight.picture, dice.uniform(0.8, 2.2)))


def hard_light(sight: Sight, dice: np.random.Generator) -> Sight:
    """Light from one side, in a colour, falling off over the face as over a cylinder; sometimes a second one from
    behind."""
    size, frame = len(sight.picture), head_frame(torch.from_numpy(sight.mesh))
    y, x = np.mgrid[0:size, 0:size] + 0.5
    angle = dice.uniform(-0.6, 0.6) + (math.pi if dice.random() < 0.5 else 0)
    x, y = x - frame.centre[0].item(), y - frame.centre[1].item()
    across = (x * math.cos(angle) + y * math.sin(angle)) / (0.9 * frame.eyes)
    lit = 1 / (1 + np.exp(-dice.uniform(1.2, 4.5) * (across + dice.uniform(-0.2, 0.5))))
    colour = 1 + dice.uniform(-0.3, 0.3, 3)
    shadow = dice.uniform(0.15, 0.5) * (1 + dice.uniform(-0.3, 0.3, 3))
    light = shadow + (colour * dice.uniform(0.95, 1.25) - shadow) * lit[..., None]
    return _with(sight, sight.picture * light)


def vignette(sight: Sight, dice: np.random.Generator) -> Sight:
    """Dark or pale corners and a colour over all."""
    size, paper = len(sight.picture), 0.0 if dice.random() < 0.6 else 1.0
    share = _vignette(size, dice.uniform(0.4, 0.95))
    return _with(sight, (sight.picture * share + paper * (1 - share)) * (1 + dice.uniform(-0.12, 0.12, 3)))


def glasses(sight: Sight, dice: np.random.Generator) -> Sight:
    """Spectacles or sunglasses, drawn over the eyes in the head's own axes."""
    size, scale = len(sight.picture), 4
    frame = head_frame(torch.from_numpy(sight.mesh))
    eyes, right, down = frame.eyes * scale, frame.axes[0, :2].numpy(), frame.axes[1, :2].numpy()
    lens, rim = Image.new("L", (size * scale,) * 2), Image.new("L", (size * scale,) * 2)
    on_lens, on_rim = ImageDraw.Draw(lens), ImageDraw.Draw(rim)
    wide, tall = dice.uniform(0.22, 0.29), dice.uniform(0.15, 0.22)
    square, thick = dice.uniform(1.8, 4.5), dice.uniform(0.012, 0.04) * eyes
    middles = [sight.mesh[[a, b], :2].mean(0) * scale for a, b in ((33, 133), (362, 263))]
    away = dice.uniform(0.0, 0.03)
    turn = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    for side, middle in zip((-1, 1), middles, strict=True):
        middle = middle + (side * away * right + 0.03 * down) * eyes
        x, y = (np.sign(f(turn)) * np.abs(f(turn)) ** (2 / square) for f in (np.cos, np.sin))
        outline = middle + (x[:, None] * wide * right + y[:, None] * tall * down) * eyes
        on_lens.polygon([tuple(point) for point in outline], fill=255)
        on_rim.line(
            [tuple(point) for point in (*outline, *outline[:2])], fill=255, width=max(2, int(thick)), joint="curve"
        )
        ear = sight.mesh[127 if side < 0 else 356, :2] * scale
        on_rim.line(
            [tuple(middle + (side * wide * right - 0.04 * down) * eyes), tuple(ear)], fill=255, width=max(2, int(thick))
        )
    bridge = [
        middle + (-side * (wide - away) * right - 0.02 * down) * eyes
        for side, middle in zip((-1, 1), middles, strict=True)
    ]
    on_rim.line([tuple(point) for point in bridge], fill=255, width=max(2, int(thick)))
    lens, rim = (np.asarray(layer.resize((size, size), Image.Resampling.BOX))[..., None] / 255 for layer in (lens, rim))
    y = np.mgrid[0:size, 0:size][0][..., None] / size
    dark = dice.uniform(0.75, 0.97) if dice.random() < 0.5 else dice.uniform(0.0, 0.15)
    tint = (
        dice.uniform(0.02, 0.20, 3) + 0.25 * dice.random() * np.abs(np.sin(4 * y + dice.uniform(0, 6))) + 0.12 * (1 - y)
    )
    picture = sight.picture * (1 - dark * lens) + tint * dark * lens
    metal = dice.choice([0.05, 0.12, 0.55]) * (1 + dice.uniform(-0.3, 0.3, 3))
    return _with(sight, picture * (1 - rim) + metal * rim)


def hat(sight: Sight, dice: np.random.Generator) -> Sight:
    """A cap, a hat with a brim or a scarf over the forehead and the hair."""
    size, scale = len(sight.picture), 4
    frame = head_frame(torch.from_numpy(sight.mesh))
    right, down, eyes = frame.axes[0, :2].numpy(), frame.axes[1, :2].numpy(), frame.eyes * scale
    brow = sight.mesh[[*LEFT_BROW[:5], *RIGHT_BROW[:5]], :2].mean(0) * scale
    top = sight.mesh[10, :2] * scale
    low = brow + (top - brow) * dice.uniform(0.45, 0.95)
    half, rise = dice.uniform(0.78, 0.98), dice.uniform(0.5, 0.9)
    mask = Image.new("L", (size * scale,) * 2)
    draw = ImageDraw.Draw(mask)
    bow = np.linspace(-1, 1, 30)
    lower = [low + (half * u * right + dice.uniform(0.06, 0.07) * (u * u - 0.2) * 2 * down) * eyes for u in bow]
    upper = [low + (half * 0.95 * u * right - rise * (1 - abs(u) ** 3.0) ** 0.6 * down) * eyes for u in bow[::-1]]
    draw.polygon([tuple(point) for point in (*lower, *upper)], fill=255)
    if dice.random() < 0.5:
        reach, drop = half * dice.uniform(1.05, 1.45), dice.uniform(0.03, 0.12)
        brim = [
            low + (reach * np.cos(t) * right + drop * np.sin(t) * down) * eyes for t in np.linspace(0, 2 * math.pi, 50)
        ]
        draw.polygon([tuple(point) for point in brim], fill=255)
    mask = np.asarray(mask.resize((size, size), Image.Resampling.BOX))[..., None] / 255
    y, x = np.mgrid[0:size, 0:size] + 0.5
    along = ((x - frame.centre[0].item()) * right[0] + (y - frame.centre[1].item()) * right[1]) / frame.eyes
    shade = (0.55 + 0.45 * np.sqrt(np.clip(1 - (along / half) ** 2, 0, 1)))[..., None]
    weave = 1 + 0.06 * _blur(dice.standard_normal((size, size, 1)), 0.8)
    if dice.random() < 0.4:
        weave = weave * (1 + 0.2 * np.sign(np.sin(along * dice.uniform(10, 40)))[..., None])
    colour = dice.uniform(0.04, 0.85, 3) * (0.35 + 0.65 * sight.picture.mean())
    cast = np.roll(_blur(mask, 3), 4, axis=0) * (1 - mask)
    return _with(sight, sight.picture * (1 - mask) * (1 - 0.45 * cast) + colour * shade * weave * mask)


def plain(sight: Sight, dice: np.random.Generator) -> Sight:
    """As it is; for pictures that are only moved, mirrored or exposed differently."""
    return sight


LOOKS: dict[str, Callable[[Sight, np.random.Generator], Sight]] = {
    "oil": oil,
    "pencil": pencil,
    "line": line,
    "cartoon": cartoon,
    "grey": grey,
    "old film": old_film,
    "noisy": noisy,
    "compressed": compressed,
    "blurred": blurred,
    "hard light": hard_light,
    "vignette": vignette,
    "glasses": glasses,
    "hat": hat,
    "moved": plain,
}
_WEIGHTS = {"oil": 2.0, "cartoon": 1.5, "grey": 1.5, "hard light": 1.5, "glasses": 1.3, "moved": 2.0}


def _shares() -> np.ndarray:
    weights = np.array([_WEIGHTS.get(name, 1.0) for name in LOOKS])
    return weights / weights.sum()


def _with(sight: Sight, picture: np.ndarray) -> Sight:
    return Sight(np.clip(picture, 0, 1), sight.mesh)


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))


def _blur(picture: np.ndarray, sd: float) -> np.ndarray:
    """Gaussian blur of (H, W, C), edges repeated."""
    reach = max(1, math.ceil(2.5 * sd))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float32) / sd) ** 2)
    kernel = kernel / kernel.sum()
    planes = torch.from_numpy(np.ascontiguousarray(picture)).float().permute(2, 0, 1)[:, None]
    planes = functional.conv2d(functional.pad(planes, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    planes = functional.conv2d(functional.pad(planes, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
    return planes[:, 0].permute(1, 2, 0).double().numpy()


def _kuwahara(picture: np.ndarray, reach: int) -> np.ndarray:
    """The mean of that of four windows of (reach + 1)^2 pixels with the pixel in a corner that varies least."""
    planes = torch.from_numpy(np.ascontiguousarray(picture)).float().permute(2, 0, 1)[None]
    padded = functional.pad(planes, (reach,) * 4, mode="replicate")
    mean = functional.avg_pool2d(padded, reach + 1, 1)
    spread = (functional.avg_pool2d(padded**2, reach + 1, 1) - mean**2).sum(1, keepdim=True)
    height, width = picture.shape[:2]
    corners = [(i, j) for i in (0, reach) for j in (0, reach)]
    means = torch.stack([mean[..., i : i + height, j : j + width] for i, j in corners])
    spreads = torch.stack([spread[..., i : i + height, j : j + width] for i, j in corners])
    best = spreads.argmin(0, keepdim=True).expand(1, -1, 3, -1, -1)
    return means.gather(0, best)[0, 0].permute(1, 2, 0).double().numpy()


def _poster(picture: np.ndarray, steps: int) -> np.ndarray:
    """Fewer levels of brightness, hues kept, steps softened a little."""
    tone = (picture @ GREY)[..., None]
    level = tone * steps
    soft = np.floor(level) + 1 / (1 + np.exp(-14 * (level - np.floor(level) - 0.5)))
    return picture * (soft / steps) / np.maximum(tone, 0.02)


def _vignette(size: int, depth: float) -> np.ndarray:
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size * 2 - 1
    return 1 - depth * np.clip((x * x + y * y - 0.45) / 1.2, 0, 1)[..., None]
