"""Another mouth in a frame of a video: the frame's own skin is moved, its lips come from one where they are shut.

A mouth that speaks cannot be shut by moving its pixels alone: the face mesh is a few pixels off at the lips, and teeth
stay. So lips come from one frame of the scene (the reference), moved to where the head is now, and what they open on is
painted as for portraits. Chin, jaw and cheeks are the frame's own pixels. Whatever does not move stays bit for bit.

Differs from EMO: it has no such mode; the motion comes from the audio encoder's own reading of the mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..auxiliary.motion_decoder import PATCH, MotionDecoder
from ..config import ModelConfig
from ..inputs import face_geometry as geometry
from ..inputs.face_geometry import FACE, POINTS
from ..inputs.face_skin import CHIN, LOWER_INNER, LOWER_OUTER, UPPER_INNER, UPPER_OUTER, Skin
from ..inputs.head_square import head_square
from ..inputs.motion_latents import motion_latents
from ..inputs.portrait import read_portrait
from ..inputs.vae import to_scaled
from .portrait_decoder import PortraitDecoder

DROP, USUAL_WIDTH = 0.24, 0.56  # how far the lower lip falls at most, in distances of the eyes, in mouths of that width
CHIN_SHARE = 0.6  # of the jaw's fall; in talking videos a chin moves 0.3 to 0.7 of the gap of the lips
READ_SHUT = 0.02  # gap that the mesh reads in shut lips, distances of the eyes
STRETCHES = 0.136, 0.21  # how much wider and narrower the mouth is at a width of 1 and -1
NARROWS = 0.44  # times the fall of the jaw, by which an open mouth is narrower
SHUT_ENOUGH = 0.06  # opening of a reference whose lips count as shut
NOSE, SOFT = 0.12, 0.2  # below the eyes, in their distances: from there the skin moves, wholly this much lower
LEAST_MOVE = 0.001  # distances of the eyes
LIPS_EDGE = 0.02, 0.13  # distances of the eyes from the lips: the reference shows up to the first, fading to the second
OWN_MARGIN = 0.028  # by which lips of an open mouth are read further from its inside, distances of the eyes
SLIT_REACH, SLIT_GAP = 0.045, 0.004  # where the line between shut lips is looked for; how far from it lips begin
TEETH_REACH, BRIGHTER = 0.045, 1.15  # distances of the eyes from the line between the lips; teeth against lips
EDGE = 0.006  # width of the edge of the mouth's inside, distances of the eyes; at least a pixel
SURE = (0.6, 0.95)  # shares of the painter's mask: below the first its colours mean nothing
USUAL_DARK, LEAST_PAINTED = (52.0, 27.0, 25.0), 0.01  # colour deep in a mouth if less of its window is painted
WIDE_OPEN = 0.8  # opening at which the colour deep in the mouth is taken
SAME_LIGHT = (0.03, 0.5)  # shares of the reference in pixels where its light is compared with the frame's
LIGHTS = (0.6, 1.6)  # least and most that the reference is lightened
LIGHT_MEMORY = 0.8  # of the frames before, in the reference's light
# fmt: off
LIP_ROWS = (
    76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306, 62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292, 77, 90, 180, 85,
    16, 315, 404, 320, 307, 96, 89, 179, 86, 15, 316, 403, 319, 325,
)
RIGID = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 50, 280, 127, 356)  # move with the skull
# fmt: on
_INSIDE = slice(1, -1)


@dataclass(frozen=True, eq=False)
class MouthMotion:
    """What the mouth does in F frames; (F,) each. opening 0..1, width -1..1, closure and tuck 0..1, as in
    `FaceMotion`."""

    opening: Tensor
    width: Tensor
    closure: Tensor
    tuck: Tensor

    def __len__(self) -> int:
        return len(self.opening)

    def tracks(self) -> dict[str, np.ndarray]:
        found = {name: value.double().cpu().numpy() for name, value in vars(self).items()}
        return {**found, "smile": np.zeros(len(self))}


@dataclass(frozen=True, eq=False)
class Inside:
    """What an open mouth shows in the reference's pixels. layers: (F, 4, P, P) colours in 0..255 and how sure they are;
    centres: (F, 2) of the windows, and `half`, half their sides, pixels."""

    layers: Tensor
    centres: Tensor
    half: float


class DubbedMouth:
    """The lips of one scene.

    picture: (H, W, 3) uint8, of a frame with shut lips, or nearly; mesh: (468, 3) in its pixels; decoder, config: paint
    the mouth's inside. Lips that are open in the reference are shut first, as well as the mesh allows.
    """

    def __init__(self, decoder: MotionDecoder, config: ModelConfig, picture: np.ndarray, mesh: Tensor, *, device="cpu"):
        local = geometry.head_frame(mesh).local(mesh)
        wide = float(local[291, 0] - local[61, 0])
        self.skin = Skin(geometry.refine(geometry.mean_face()).double().numpy(), drop=1.0)
        self.skin.drop = DROP * float(np.clip(wide / USUAL_WIDTH, 0.75, 1.1))
        opening = float((local[14, 1] - local[13, 1]).clamp(min=0))
        self.points, self.picture, self.light = None, None, None
        if opening > SHUT_ENOUGH:
            picture, mesh = self._shut(picture, mesh)
        self.points = _on_the_slit(picture, geometry.refine(mesh).double().numpy(), geometry.head_frame(mesh))
        self.picture = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
        self.mesh, self.config = mesh, config
        pixels = self.picture / 127.5 - 1
        self.portrait = read_portrait(pixels, mesh, config)
        self.decoder = PortraitDecoder(decoder, config, pixels, self.portrait, device=device)
        self.dark: Tensor | None = None  # (3, 1, 1), the colour deep in the mouth, where the painter paints nothing
        wide, none = torch.full((1,), WIDE_OPEN), torch.zeros(1)
        self.inside(MouthMotion(wide, none, none, none))

    def inside(self, motion: MouthMotion) -> Inside:
        """The painted inside of the mouth in F frames."""
        moved = self.skin.pull @ self._led(motion)[:, self.skin.handles]  # (F, 520, 3) in distances of the eyes
        frame = geometry.head_frame(self.portrait.mesh)
        pixels = torch.from_numpy(moved[:, :POINTS]).float() * frame.eyes @ frame.axes
        size, cells = self.config.image_size, self.config.latent_size
        raw = motion_latents(
            torch.zeros(len(moved), 2, cells, cells),
            self.portrait.mesh + pixels,
            self.portrait.mesh,
            cells=cells,
            size=size,
            press=motion.closure - motion.tuck,
        )
        layers, centres, cells_wide = self.decoder.mouths(to_scaled(raw, self.config))
        layers = layers.cpu()
        if self.dark is None:
            self.dark = _darkness(layers)
        layers = torch.cat([torch.lerp(self.dark[None], layers[:, :3], _sure(layers)), layers[:, 3:]], 1)
        fit, cell = self.decoder.fit, self.decoder.fit.side / (size // PATCH)
        places = centres.cpu() * cell + torch.tensor([fit.left, fit.top])
        return Inside(layers, places, 0.5 * cells_wide * cell)

    def draw(
        self,
        frame: np.ndarray,
        mesh: Tensor,
        motion: MouthMotion,
        inside: Inside,
        *,
        number: int = 0,
        own_width: float = 0.0,
        share: float = 1.0,
    ) -> None:
        """Into frame (H, W, 3) uint8: its mouth now follows moment `number` of motion.

        mesh: (468, 3) in its pixels; own_width: how much wider the frame's mouth is than it usually is (`usual_width`),
        distances of the eyes; share: 0 leaves the frame as it is.
        """
        if share <= 0:
            return
        one = MouthMotion(**{name: value[number : number + 1] for name, value in vars(motion).items()})
        moved = self._moved(mesh, one, own_width=own_width, share=share, margin=0.0)
        window = self._window(frame, moved, share)
        if window is not None:
            self._fill(frame, window, moved, inside, number, share)

    def _led(self, motion: MouthMotion) -> np.ndarray:
        """(F, 520, 3): displacement of the points that lead, distances of the eyes."""
        led = np.zeros((len(motion), FACE, 3))
        self.skin.lead_mouth(led, motion.tracks())
        led[:, list(CHIN), 1] *= CHIN_SHARE
        return led

    def _moved(self, mesh: Tensor, motion: MouthMotion, *, own_width: float, share: float, margin: float) -> _Moved:
        """Where the points of a frame's face go: its mouth's own motion is replaced by `motion`."""
        frame = geometry.head_frame(mesh)
        refined = geometry.refine(mesh).double().numpy()
        local = frame.local(geometry.refine(mesh)).double().numpy()
        upper, lower = UPPER_INNER, LOWER_INNER
        fall = max(0.0, local[14, 1] - local[13, 1] - READ_SHUT) / 1.06
        wider = own_width + NARROWS * fall
        was = torch.tensor([fall / self.skin.drop, wider / STRETCHES[0 if wider > 0 else 1], 0.0, 0.0])
        both = MouthMotion(
            *(torch.cat([new, old[None].to(new)]) for new, old in zip(vars(motion).values(), was, strict=True))
        )
        new, old = self._led(both)
        led = new - old
        gap = (local[lower, 1] + led[lower, 1]) - (local[upper, 1] + led[upper, 1])
        less = gap - np.maximum(new[lower, 1] - new[upper, 1], 0.0)  # the lips' own shape may differ from the model's
        less[[0, -1]] = 0
        led[upper, 1] += 0.4 * less
        led[lower, 1] -= 0.6 * less
        led[UPPER_OUTER[_INSIDE], 1] += 0.75 * 0.4 * less[2:-2:2]
        led[LOWER_OUTER[_INSIDE], 1] -= 0.75 * 0.6 * less[2:-2:2]
        low = np.clip((local[:, 1] - NOSE) / SOFT, 0, 1)
        low = low * low * (3 - 2 * low)
        move = (
            (self.skin.pull @ led[self.skin.handles])
            * (low[:, None] * share)
            * frame.eyes
            @ frame.axes.double().numpy()
        )
        far = np.linalg.norm(move, axis=1, keepdims=True) / (LEAST_MOVE * frame.eyes)
        move *= np.clip(far - 1, 0, 1)  # what would hardly move rests
        size = max(2, round(1.8 * float((mesh[10] - mesh[152]).norm())))
        square = head_square(mesh, width=size, height=size, size=size)
        points, _ = geometry.extend(mesh - mesh.new_tensor([square.left, square.top, 0]), square.side)
        points = points.double().numpy() + [square.left, square.top, 0]
        points[:FACE] = refined
        goal = points.copy()
        goal[:FACE] += move
        oval = list(geometry.OVAL)
        for ring, part in enumerate(geometry.CHIN):
            first = FACE + ring * len(oval)
            goal[first : first + len(oval), :2] += part * move[oval, :2]
        source = points.copy()
        bow = np.sqrt(np.sin(np.linspace(0, np.pi, len(upper)).clip(0, np.pi)).clip(0))[:, None]
        away = (margin * share * frame.eyes) * frame.axes[1, :2].double().numpy() * bow
        source[upper, :2] -= away
        source[lower, :2] += away
        return _Moved(frame, local, torch.from_numpy(source).float(), torch.from_numpy(goal).float(), goal)

    def _window(self, frame: np.ndarray, moved: _Moved, share: float) -> _Window | None:
        """The part of the frame that moves; None if it lies outside."""
        height, width = frame.shape[:2]
        shown = torch.zeros(len(moved.source))
        values = [moved.source[:, :2] - moved.goal[:, :2]]
        if self.points is not None:
            shown[:FACE] = torch.from_numpy(_lips_share(moved.local)).float() * share
            place = torch.zeros(len(moved.source), 2)
            place[:FACE] = torch.from_numpy(self.points[:, :2]).float()
            values += [place, shown[:, None]]
        is_active = (values[0] != 0).any(1) | (shown > 0)
        corners, _ = geometry.triangles()
        reached = moved.goal[corners[is_active[corners].any(1)].flatten()][:, :2]
        (left, top), (right, bottom) = reached.amin(0).floor().int().tolist(), reached.amax(0).ceil().int().tolist()
        left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
        if right - left < 2 or bottom - top < 2:
            return None
        corner = torch.tensor([left, top, 0.0])
        fields, _ = geometry.rasterise(moved.goal - corner, torch.cat(values, 1), max(right - left, bottom - top))
        return _Window(left, top, fields[:, : bottom - top, : right - left])

    def _fill(
        self, frame: np.ndarray, window: _Window, moved: _Moved, inside: Inside | None, number: int, share: float
    ) -> None:
        rows, columns, y, x = window.places
        fields = window.fields
        there = torch.from_numpy(frame[rows, columns])
        pixels = window.read(frame, x + fields[0], y + fields[1])
        is_moving = (fields[:2] != 0).any(0)
        if self.picture is not None and inside is not None:
            height, width = self.picture.shape[2:]
            grid = torch.stack([fields[2] * (2 / width) - 1, fields[3] * (2 / height) - 1], -1)
            lips = F.grid_sample(self.picture, grid[None], mode="bicubic", padding_mode="border", align_corners=False)[
                0
            ]
            light = self._lighten(pixels, lips, fields[4])
            pixels = torch.lerp(pixels, lips * light, fields[4])
            is_moving |= fields[4] > 0
            hole = share * _hole(moved, x, y)
            if bool((hole > 0).any()):
                pixels = torch.lerp(pixels, self._painted(moved, inside, number, x, y) * light, hole)
        drawn = pixels.clamp(0, 255).add(0.5).to(torch.uint8).permute(1, 2, 0)
        frame[rows, columns] = torch.where(is_moving[..., None], drawn, there).numpy()

    def _lighten(self, pixels: Tensor, lips: Tensor, shown: Tensor) -> Tensor:
        """(3, 1, 1): what brings the reference's colours nearest to the frame's around the lips, steady over frames."""
        same = ((shown > SAME_LIGHT[0]) & (shown < SAME_LIGHT[1])).float()
        if same.sum() > 8:
            light = ((pixels * same).sum((1, 2)) / (lips * same).sum((1, 2)).clamp(min=1)).clamp(*LIGHTS)
            self.light = light if self.light is None else torch.lerp(light, self.light, LIGHT_MEMORY)
        return torch.ones(3, 1, 1) if self.light is None else self.light[:, None, None]

    def _painted(self, moved: _Moved, inside: Inside, number: int, x: Tensor, y: Tensor) -> Tensor:
        """Colours (3, h, w) of the mouth's inside at the places of a window."""
        rigid = list(RIGID)
        now = F.pad(moved.source[rigid, :2], (0, 1), value=1.0).double()
        then = torch.from_numpy(self.points[rigid, :2])
        affine = torch.linalg.lstsq(now, then).solution.float()  # (3, 2): from the frame to the reference
        place = (
            torch.stack([x.expand(len(y), -1), y.expand(-1, x.shape[1]), torch.ones(len(y), x.shape[1])], -1) @ affine
        )
        grid = (place - inside.centres[number]) / inside.half
        layer = inside.layers[number : number + 1]
        return F.grid_sample(layer, grid[None], padding_mode="border", align_corners=False)[0, :3]

    def _shut(self, picture: np.ndarray, mesh: Tensor) -> tuple[np.ndarray, Tensor]:
        """The reference with its lips brought together, and its mesh."""
        zero = torch.zeros(1)
        moved = self._moved(mesh, MouthMotion(zero, zero, zero, zero), own_width=0.0, share=1.0, margin=OWN_MARGIN)
        picture = picture.copy()
        window = self._window(picture, moved, 1.0)
        if window is not None:
            self._fill(picture, window, moved, None, 0, 1.0)
        return picture, moved.goal[:POINTS]


@dataclass(frozen=True, eq=False)
class _Moved:
    frame: geometry.Frame
    local: np.ndarray  # (520, 3) before
    source: Tensor  # (664, 3) pixels
    goal: Tensor
    exact: np.ndarray  # goal in double


@dataclass(frozen=True, eq=False)
class _Window:
    """left, top: its corner; fields: (2, h, w) the frame's own flow, or (5, h, w) with places in the reference and how
    far it shows."""

    left: int
    top: int
    fields: Tensor

    @property
    def places(self) -> tuple[slice, slice, Tensor, Tensor]:
        """Rows and columns of the frame, and the middles of their pixels, (h, 1) and (1, w)."""
        tall, wide = self.fields.shape[1:]
        rows, columns = slice(self.top, self.top + tall), slice(self.left, self.left + wide)
        return (
            rows,
            columns,
            torch.arange(tall)[:, None] + (self.top + 0.5),
            torch.arange(wide)[None] + (self.left + 0.5),
        )

    def read(self, frame: np.ndarray, x: Tensor, y: Tensor, *, room: int = 8) -> Tensor:
        """Pixels (3, h, w) in 0..255 of a frame at places (h, w) near the window."""
        tall, wide = self.fields.shape[1:]
        left, top = max(0, self.left - room), max(0, self.top - room)
        part = frame[top : self.top + tall + room, left : self.left + wide + room]
        pixels = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None].float()
        height, width = part.shape[:2]
        grid = torch.stack([(x - left) * (2 / width) - 1, (y - top) * (2 / height) - 1], -1)
        return F.grid_sample(pixels, grid[None], mode="bicubic", padding_mode="border", align_corners=False)[0]


def usual_width(openings: Tensor, widths: Tensor, shut: float = READ_SHUT) -> Tensor:
    """openings, widths (F,) of a mouth, distances of the eyes -> (F,) its widths if it were shut."""
    return widths + NARROWS * (openings - shut).clamp(min=0) / 1.06


def teeth_share(picture: np.ndarray, mesh: Tensor) -> float:
    """picture (H, W, 3) uint8, mesh (468, 3) in its pixels -> share of the places around the line between the lips that
    are brighter than the lips: the mesh may read a shut mouth where teeth show."""
    frame, flat = geometry.head_frame(mesh), mesh[:, :2]
    middle, inner = slice(3, 8), [list(row[3:8]) for row in (geometry.UPPER_LIP_INNER, geometry.LOWER_LIP_INNER)]
    outer = [list(row[middle]) for row in (geometry.UPPER_LIP_OUTER, geometry.LOWER_LIP_OUTER)]
    lips = torch.cat([(flat[a] + flat[b]) / 2 for a, b in zip(inner, outer, strict=True)])  # (10, 2)
    steps = torch.linspace(-TEETH_REACH, TEETH_REACH, 11) * frame.eyes
    line = (flat[inner[0]] + flat[inner[1]]) / 2
    between = (line[:, None] + steps[None, :, None] * frame.axes[1, :2]).flatten(0, 1)

    def light(places: Tensor) -> Tensor:
        x, y = (places[:, k].long().clamp(0, picture.shape[1 - k] - 1).numpy() for k in range(2))
        return torch.from_numpy(picture[y, x].astype(np.float32)).mean(1)

    return float((light(between) > BRIGHTER * light(lips).median()).float().mean())


def _lips_share(local: np.ndarray) -> np.ndarray:
    """local (520, 3) -> (520,): 1 on the lips, falling to 0 around them."""
    ring = np.concatenate([local[UPPER_OUTER, :2], local[LOWER_OUTER[::-1], :2]])
    line = np.concatenate([np.linspace(a, b, 6)[:-1] for a, b in zip(ring, np.roll(ring, -1, 0), strict=True)])
    away = np.linalg.norm(local[:, None, :2] - line[None], axis=-1).min(1)
    away[[*UPPER_OUTER, *LOWER_OUTER, *UPPER_INNER, *LOWER_INNER, *LIP_ROWS]] = 0
    near, far = LIPS_EDGE
    share = np.clip((far - away) / (far - near), 0, 1)
    return share * share * (3 - 2 * share)


def _hole(moved: _Moved, x: Tensor, y: Tensor) -> Tensor:
    """(h, w): share of each pixel that lies between the inner lips; x (1, w), y (h, 1)."""
    upper, lower = moved.exact[UPPER_INNER, :2], moved.exact[LOWER_INNER, :2]
    middle, half = (upper[0] + upper[-1]) / 2, np.linalg.norm(upper[-1] - upper[0]) / 2
    along = (upper[-1] - upper[0]) / max(2 * half, 1e-6)
    down = np.array([-along[1], along[0]])
    across, deep = x.numpy() - middle[0], y.numpy() - middle[1]
    u, v = across * along[0] + deep * along[1], across * down[0] + deep * down[1]

    def height(row: np.ndarray) -> np.ndarray:
        place, tall = (row - middle) @ along, (row - middle) @ down
        order = np.argsort(place)
        return np.interp(u, place[order], tall[order])

    soft = max(1.0, EDGE * moved.frame.eyes)
    inside = np.minimum(v - height(upper), height(lower) - v) / soft
    return torch.from_numpy(np.clip(inside, 0, 1) * (np.abs(u) < half)).float()


def _sure(layers: Tensor) -> Tensor:
    """layers (F, 4, P, P) -> (F, 1, P, P): where the painter's colours mean something, without the rim of its mask."""
    least, most = SURE
    return ((layers[:, 3:] - least) / (most - least)).clamp(0, 1)


def _darkness(layers: Tensor) -> Tensor:
    """layers (1, 4, P, P) of a wide open mouth -> (3, 1, 1): the colour of what is deep in it."""
    sure = _sure(layers)
    weight = sure * (1 - layers[:, :3].mean(1, keepdim=True).clamp(0, 255) / 255) ** 4 + 1e-6
    seen = (layers[:, :3].clamp(0, 255) * weight).sum((0, 2, 3)) / weight.sum()
    share = (sure.mean() / LEAST_PAINTED).clamp(max=1)
    return torch.lerp(torch.tensor(USUAL_DARK), seen, share)[:, None, None]


def _on_the_slit(picture: np.ndarray, points: np.ndarray, frame: geometry.Frame) -> np.ndarray:
    """points (520, 3) of a shut mouth in pixels of picture (H, W, 3) -> with both inner lips at the dark line between
    the lips, which the mesh misses by some pixels: the darkest smooth path near it."""
    points, eyes = points.copy(), frame.eyes
    middle = (points[UPPER_INNER, :2] + points[LOWER_INNER, :2]) / 2
    down = frame.axes[1, :2].double().numpy()
    down = down / max(np.linalg.norm(down), 1e-6)
    steps = np.linspace(-SLIT_REACH, SLIT_REACH, 31)
    place = torch.from_numpy(middle[:, None] + steps[None, :, None] * eyes * down)
    grey = torch.from_numpy(np.ascontiguousarray(picture)).float() @ torch.tensor([0.299, 0.587, 0.114])
    grey = F.avg_pool2d(grey[None, None], 3, 1, 1, count_include_pad=False)
    scale = torch.tensor([2 / picture.shape[1], 2 / picture.shape[0]])
    seen = F.grid_sample(grey, (place * scale - 1).float()[None], padding_mode="border", align_corners=False)[
        0, 0
    ].numpy()
    cost = seen / (seen.std() + 1e-3) + 0.6 * (steps / SLIT_REACH) ** 2
    bend = 0.15 * (np.arange(len(steps))[:, None] - np.arange(len(steps))[None]) ** 2
    best, came = cost[0], []
    for row in cost[1:]:
        total = best[None] + bend
        came.append(total.argmin(1))
        best = row + total.min(1)
    path = [int(best.argmin())]
    for row in reversed(came):
        path.append(int(row[path[-1]]))
    offset = np.convolve(np.pad(steps[path[::-1]], 2, mode="edge"), np.ones(5) / 5, mode="valid")
    bow = np.sin(np.linspace(0, np.pi, len(offset))).clip(0) ** 0.3
    line = middle + (offset * bow * eyes)[:, None] * down
    away = (SLIT_GAP * bow * eyes)[:, None] * down
    points[UPPER_INNER, :2], points[LOWER_INNER, :2] = line - away, line + away
    return points
