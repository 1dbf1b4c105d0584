"""Motion latents of one portrait to frames of its whole picture, at the picture's own resolution."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from ..auxiliary.motion_decoder import PATCH, DecodedMotion, MotionDecoder, PortraitFeatures, sample, usual_mouth
from ..auxiliary.motion_decoder import window as mouth_window
from ..auxiliary.teeth import Teeth
from ..config import ModelConfig
from ..inputs.face import apply_fit, mirrored
from ..inputs.face_geometry import LOWER_LIP_OUTER, UPPER_LIP_INNER, UPPER_LIP_OUTER
from ..inputs.lids import fit_lids
from ..inputs.media import to_uint8
from ..inputs.motion_latents import consistent_latents, eye_distance, lid_closure, mouth_centre
from ..inputs.portrait_maps import portrait_maps, skull_plane
from ..inputs.vae import to_raw
from ..sampling.expression import DIALS
from ..types import Fit, Portrait, is_finite
from .bfloat16 import bfloat16_products
from .expression_flow import expression_flow
from .eye_outlines import fitted
from .eyelids import Eyelid, eyelids, window
from .folds import hold_inside, in_order
from .lid_skin import with_skin
from .territory import neighbours, share_of

SHARPENING = 0.75  # of what is painted: its network learned means, which are soft
AT_ONCE = 8  # frames that the network decodes together
GREY = 0.03  # strength of colours, of the brightest channel, up to which a face is grey; coloured from twice as much
CORNERS = UPPER_LIP_INNER[0], UPPER_LIP_INNER[-1]
LIPS, LIPS_EDGE = 1.05, 1.5  # the outline that paint keeps to, over that of the mesh; its softness in working pixels
BEYOND = 4  # pixels of the picture's mirror image beyond the square, which the kernels between pixels reach into
MARGIN = 0.25  # sides of the square, around it: from there moved pixels may come
INVERTING = 8  # rounds of the fixed point that inverts a flow
BICUBIC = -0.75  # torch's parameter of the bicubic kernel
# half way between pixels, from the farthest of three; a little sharper than the plain kernel
LANCZOS = (0.037, -0.173, 0.636)
MOUTH, SMILE, BROWS, LIDS, GAZE, YAW = map(DIALS.index, ("mouth", "smile", "brows", "lids", "gaze_x", "yaw"))


class PortraitDecoder:
    """The motion decoder and one portrait: `decode` makes frames of the whole picture.

    picture: (1, 3, H, W) in [-1, 1], the one that `portrait.fit` was cut from. Only pixels of the square around the
    head change, where the flow is not zero or the mouth is painted; all others stay the picture's, bit for bit. Several
    threads may decode at once. device, dtype: where and in which type the network computes. others: the
    squares of other moving heads in the picture, which keep what is nearer to them (`territory.share_of`). Raises
    ValueError for a picture of another size, or a portrait whose face was not found.
    """

    def __init__(
        self,
        decoder: MotionDecoder,
        config: ModelConfig,
        picture: Tensor,
        portrait: Portrait,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        others: Sequence[Fit] = (),
    ):
        fit = portrait.fit
        if tuple(picture.shape) != (1, 3, fit.height, fit.width):
            raise ValueError(
                f"the picture is {tuple(picture.shape)}, the square was cut from one of {fit.width}x{fit.height}"
            )
        if portrait.mesh is None:
            raise ValueError("the portrait has no face mesh; make it with `inputs.portrait.read_portrait`")
        self.decoder, self.config, self.fit, self.device, self.dtype = decoder, config, fit, device, dtype
        self.still = to_uint8(picture)[0]  # (H, W, 3)
        self.others = neighbours(fit, others)
        self.latents, self.mesh = portrait.latents, portrait.mesh
        self._maps = portrait_maps(portrait.mesh, size=config.image_size, cells=config.latent_size).to(device)
        self._portrait: PortraitFeatures | None = None
        self._canvas: _Canvas | None = None
        self._preparing = threading.Lock()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.fit.height, self.fit.width

    def decode(self, latents: Tensor) -> np.ndarray:
        """latents (F, C, h, w) scaled, or (F, C + D, h, w) with `sampling.expression.DIALS` -> (F, H, W, 3) uint8."""
        frames = np.empty((len(latents), *self.still.shape), dtype=np.uint8)
        frames[:] = self.still
        self.draw(frames, latents)
        return frames

    def blocks(self, latents: Tensor) -> Iterator[np.ndarray]:
        """As `decode`, but at most 8 frames at a time."""
        for part in latents.split(AT_ONCE):
            yield self.decode(part)

    @torch.no_grad()
    def flow(self, latents: Tensor) -> DecodedMotion:
        """latents (F, C, h, w) scaled, or with dials -> flow and painted mouth, before they meet the picture, and
        before smile and brows."""
        with self._preparing:
            self._portrait = self._portrait or self._read_portrait()
        latents, dials = self._parted(latents.to(self.device))
        turned = {}
        if dials is not None:
            turned = {"turn": dials[:, YAW : YAW + 3], "mouth_strength": 1 + dials[:, MOUTH]}
        raw = consistent_latents(
            to_raw(latents, self.config), self.mesh, self._maps, size=self.config.image_size, hold_nods=True, **turned
        )
        look, teeth = self._mouth_look
        with bfloat16_products(self.device, self.dtype):
            decoded = self.decoder(raw.to(self.dtype), self._portrait, look.expand(len(raw), -1), teeth)
        mask = decoded.mouth_mask * self._is_lip(decoded)
        return replace(decoded, flow=in_order(hold_inside(decoded.flow)), mouth_mask=mask)

    def _is_lip(self, decoded: DecodedMotion) -> Tensor:
        """(F, 1, P, P) how far each point of the mouth's window comes from within the portrait's lips.

        In a smile that is turned away, the network would paint on the cheek behind the corner.
        """
        size, cells = decoded.flow.shape[-1], self.decoder.mouth_cells
        around = mouth_window(decoded.mouth, cells=cells, points=2 * cells, size=size)
        source = around + 2 / size * rearrange(sample(decoded.flow, around), "b c h w -> b h w c")
        lips = sample(self._lips.to(source).expand(len(source), -1, -1, -1), source)
        return F.interpolate(lips, size=decoded.mouth_mask.shape[-2:], mode="bilinear", align_corners=False)

    @torch.no_grad()
    def places(self, latents: Tensor) -> Tensor:
        """latents (F, C, h, w) as of `decode` -> (F, 468, 2): where the skin at the points of the portrait's mesh is in
        the frames, in pixels of the picture. Lids, irises and the inside of the mouth are drawn apart from it."""
        found = []
        for part in latents.split(AT_ONCE):
            flow = self.flow(part).flow.float()
            more, _ = self._expressed(flow, self._parted(part)[1])
            found.append(self.places_under(flow if more is None else flow + more))
        return torch.cat(found)

    def places_under(self, flow: Tensor) -> Tensor:
        """flow (F, 2, n, n) in cells, as `flow` decodes it -> `places` under it, (F, 468, 2)."""
        cells = flow.shape[-1]
        start = self.mesh[:, :2].to(flow) * (cells / self.config.image_size)
        place = start.expand(len(flow), -1, -1)
        for _ in range(INVERTING):
            grid = (place * (2 / cells) - 1)[:, :, None]
            back = F.grid_sample(flow, grid, padding_mode="border", align_corners=False)[..., 0]
            place = start - back.transpose(1, 2)
        return place * (self.fit.side / cells) + flow.new_tensor([self.fit.left, self.fit.top])

    def _parted(self, latents: Tensor) -> tuple[Tensor, Tensor | None]:
        """Latents (F, C, h, w), and dials (F, `DIALS`) where any is not 0."""
        channels = self.config.latent_channels
        dials = latents[:, channels:, 0, 0].float()
        return latents[:, :channels], dials if dials.any() else None

    def mouths(self, latents: Tensor) -> tuple[Tensor, Tensor, float]:
        """latents (F, C, h, w) scaled -> what is painted of the mouth: colours in 0..255 and their share (F, 4, P, P),
        in windows around centres (F, 2) in quarters of the working size, and the windows' sides in the same unit."""
        parts = [self.flow(part) for part in latents.split(AT_ONCE)]
        layers = torch.cat([_painted(part, self._colour) for part in parts])[..., 1:-1, 1:-1]
        return layers, torch.cat([part.mouth.float() for part in parts]), self.decoder.mouth_cells

    @cached_property
    def _mouth_look(self) -> tuple[Tensor, Teeth]:
        left, right = self.mesh[list(CORNERS)]
        look, teeth = usual_mouth(float((right - left).norm() / eye_distance(self.mesh)) / 2, device=self.device)
        return look.to(self.dtype), teeth

    @cached_property
    def _lips(self) -> Tensor:
        """(1, 1, S, S): 1 within the outline of the portrait's lips, 0 outside."""
        around = self.mesh[[*UPPER_LIP_OUTER, *reversed(LOWER_LIP_OUTER)], :2].cpu()
        around = around.mean(0) + LIPS * (around - around.mean(0))
        drawn = Image.new("L", (self.config.image_size,) * 2)
        ImageDraw.Draw(drawn).polygon([tuple(point) for point in around.tolist()], fill=255)
        soft = np.asarray(drawn.filter(ImageFilter.GaussianBlur(LIPS_EDGE)), dtype=np.float32)
        return torch.from_numpy(soft / 255)[None, None].to(self.device)

    @cached_property
    def _colour(self) -> float:
        """How much colour the inside of the mouth has: 0 in a grey picture to 1."""
        low, high = (2 * edge for edge in (self.mesh[:, :2].amin(0), self.mesh[:, :2].amax(0)))
        (left, top), (right, bottom) = (
            edge.clamp(0, 2 * self.config.image_size).int().tolist() for edge in (low, high)
        )
        face = self._square()[0, :, top : max(bottom, top + 1), left : max(right, left + 1)] + 1
        strength = float((face.amax(0) - face.amin(0)).mean() / face.amax(0).mean().clamp(min=1e-3))
        return min(1.0, max(0.0, (strength - GREY) / GREY))

    def _square(self) -> Tensor:
        """(1, 3, 2 S, 2 S) in [-1, 1]: the square around the head at twice the working size."""
        picture = torch.from_numpy(self.still).permute(2, 0, 1)[None].float() / 127.5 - 1
        return apply_fit(picture, replace(self.fit, size=2 * self.config.image_size)).clamp(-1, 1)

    def _eyelids(self) -> tuple[Eyelid, Eyelid]:
        size, fit = 2 * self.config.image_size, self.fit
        square = to_uint8(self._square())[0]
        mesh = torch.from_numpy(fit_lids(square, (2 * self.mesh).double().cpu().numpy()))
        lids = with_skin(fitted(eyelids(mesh), square), square, device=self.device)
        return tuple(lid.moved(fit.side / size, (fit.left, fit.top)) for lid in lids)

    def _read_portrait(self) -> PortraitFeatures:
        size = self.config.image_size
        square = self._square()
        maps = portrait_maps(self.mesh, size=size, cells=size // PATCH)[None]
        latents = to_raw(self.latents, self.config)
        given = square, maps, latents, mouth_centre(self.mesh)[None] / PATCH
        # not in half precision: it counts cells
        skull = skull_plane(self.mesh)[None] * torch.tensor([PATCH, PATCH, 1.0])
        return self.decoder.read_portrait(*(x.to(self.device, self.dtype) for x in given), skull.to(self.device))

    @torch.no_grad()
    def draw(self, frames: np.ndarray, latents: Tensor) -> None:
        """Draw the moving head of latents (F, C, h, w) into frames (F, H, W, 3) uint8 of the picture."""
        with self._preparing:
            self._canvas = self._canvas or self._new_canvas()
        own, dials = self._parted(latents)
        shut = lid_closure(to_raw(own, self.config), self.mesh, size=self.config.image_size)
        if dials is not None:
            lids = dials[:, LIDS].to(shut)
            shut = torch.maximum(shut * (1 + lids.clamp(max=0)), lids.clamp(min=0))
        shut = shut.tolist()
        for first in range(0, len(latents), AT_ONCE):
            block = slice(first, first + AT_ONCE)
            decoded = self.flow(latents[block])
            layers = _painted(decoded, self._colour)
            if not (is_finite(decoded.flow) and is_finite(layers)):
                raise ValueError(
                    "the decoder made NaN or infinite values: the latents or the model's weights are damaged. Render "
                    "the clips again, or copy the model file again"
                )
            flows = decoded.flow.float()
            more, gaze = self._expressed(flows, None if dials is None else dials[block])
            for index, (flow, layer, mouth) in enumerate(zip(flows, layers, decoded.mouth.tolist(), strict=True)):
                drawn = torch.from_numpy(frames[first + index])
                expressed = {} if more is None else {"more": more[index], "gaze": gaze[index]}
                self._canvas.draw(drawn, flow, layer, mouth, shut[first + index], **expressed)

    def _new_canvas(self) -> _Canvas:
        return _Canvas.of(
            self.still,
            self.fit,
            cells=self.config.image_size // PATCH,
            mouth_cells=self.decoder.mouth_cells,
            lids=self._eyelids(),
            others=self.others,
            device=self.device,
        )

    def _expressed(self, flows: Tensor, dials: Tensor | None) -> tuple[Tensor | None, list[tuple[float, float]] | None]:
        """flows (F, 2, n, n), dials (F, `DIALS`) -> what smile and brows add to each flow, and gaze right and down."""
        if dials is None or not dials.any():
            return None, None
        mesh = self.mesh.to(flows) * (flows.shape[-1] / self.config.image_size)
        dials = dials.to(flows)
        more = expression_flow(mesh, dials[:, [SMILE, BROWS]], flows)
        more = in_order(hold_inside(flows + more * self._portrait.head.float())) - flows
        return more, [tuple(pair) for pair in dials[:, GAZE : GAZE + 2].tolist()]


def _painted(decoded: DecodedMotion, colour: float = 1.0) -> Tensor:
    """Colours in 0..255 and share of the painted mouth, (F, 4, P + 2, P + 2): with a border of a pixel where its share
    is 0. colour: 0 for a grey one."""
    colours = decoded.mouth_rgb.float()
    if colour < 1:
        colours = torch.lerp(colours.mean(1, keepdim=True).expand_as(colours), colours, colour)
    colours = _sharper(colours).clamp_(-1, 1)
    colours = F.pad(colours, (1, 1, 1, 1), mode="replicate")
    return torch.cat([colours.add_(1).mul_(127.5), F.pad(decoded.mouth_mask.float(), (1, 1, 1, 1))], 1)


def _sharper(colours: Tensor, *, away: int = 2) -> Tensor:
    """(F, 3, P, P) plus `SHARPENING` of its difference from the mean of four pixels around, two pixels away."""
    padded = F.pad(colours, (away, away, away, away), mode="replicate")
    size, around = colours.shape[-1], torch.zeros_like(colours)
    for down, right in ((0, away), (2 * away, away), (away, 0), (away, 2 * away)):
        around += padded[..., down : down + size, right : right + size]
    return torch.lerp(around.div_(4), colours, 1 + SHARPENING)


@dataclass(frozen=True, eq=False)
class _Canvas:
    """What is the same for all frames.

    rows, columns: the part of the picture that may move. source: (1, 3, h, w) in 0..255, the picture around it, each
    second pixel a pixel of it and those between interpolated, so that reading between pixels blurs little. up_y (h, n)
    and up_x (n, w): flow of n cells times these is the flow of every pixel, in units of the grid. place: (1, h, w, 2)
    of the pixels themselves.
    lids: of both eyes; corner: (left, top) of the source's first pixel in the picture. share: (h, w) how freely each
    pixel moves beside other heads, 0 where it is another's; None without any.
    """

    fit: Fit
    cells: int
    mouth_cells: int
    rows: slice
    columns: slice
    source: Tensor
    up_y: Tensor
    up_x: Tensor
    unit: tuple[float, float]
    place: Tensor
    lids: tuple[Eyelid, ...]
    corner: tuple[int, int]
    share: Tensor | None

    @classmethod
    def of(
        cls,
        still: np.ndarray,
        fit: Fit,
        *,
        cells: int,
        mouth_cells: int,
        lids: tuple[Eyelid, ...],
        others: Sequence[Fit],
        device: torch.device | str,
    ) -> _Canvas:
        rows, up_y = _upsampling(fit.top, fit.side, fit.height, cells)
        columns, up_x = _upsampling(fit.left, fit.side, fit.width, cells)
        reach = math.ceil(MARGIN * fit.side)
        (top, bottom), (left, right) = (
            (
                max(part.start - reach, min(0, first - BEYOND)),
                min(part.stop + reach, max(length, first + fit.side + BEYOND)),
            )
            for part, first, length in ((rows, fit.top, fit.height), (columns, fit.left, fit.width))
        )
        around = torch.from_numpy(still)[mirrored(top, bottom, fit.height)][:, mirrored(left, right, fit.width)]
        source = _between(_between(around.permute(2, 0, 1)[None].float(), 2), 3).clamp_(0, 255)
        height, width = source.shape[2:]
        y, x = (2 * (torch.arange(part.start, part.stop) - first) for part, first in ((rows, top), (columns, left)))
        place = _grid(*((2 * at + 1) / length - 1 for at, length in ((y, height), (x, width))))
        cell = fit.side / cells
        middles = (torch.arange(part.start, part.stop) + 0.5 for part in (rows, columns))
        return cls(
            fit,
            cells,
            mouth_cells,
            rows,
            columns,
            source.to(device),
            up_y.to(device),
            up_x.T.contiguous().to(device),
            (4 * cell / width, 4 * cell / height),
            place.to(device),
            lids,
            (left, top),
            share_of(fit, others, *middles).to(device) if others else None,
        )

    def draw(
        self,
        frame: Tensor,
        flow: Tensor,
        layer: Tensor,
        mouth: list[float],
        closure: float = 0.0,
        *,
        more: Tensor | None = None,
        gaze: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Into frame (H, W, 3) uint8: flow (2, n, n) in cells, layer (4, P + 2, P + 2) around mouth (x, y) in cells,
        lids closed from 0 to 1, eyes that look right and down; more: flow (2, n, n) on top, which takes the layer with
        it."""
        flow = flow if more is None else flow + more
        grid = torch.empty_like(self.place)
        for axis, unit in enumerate(self.unit):
            moved = self.up_y @ flow[axis] @ self.up_x
            if self.share is not None:
                moved *= self.share
            torch.addcmul(self.place[0, ..., axis], moved, torch.tensor(unit), out=grid[0, ..., axis])
        pixels = F.grid_sample(self.source, grid, padding_mode="border", align_corners=False)[0]
        if closure > 0 or any(gaze):
            for lid in self.lids:
                self._close(pixels, grid[0], lid, flow, closure, gaze)
        self._paint(pixels, layer, mouth, more)
        drawn, there = pixels.add_(0.5).to(torch.uint8), frame[self.rows, self.columns]
        drawn = torch.stack(drawn.unbind(0), -1)  # faster than a copy of the permuted
        if self.share is not None:
            drawn = torch.where(self.share[..., None] > 0, drawn, there.to(drawn.device))
        there.copy_(drawn)

    def _close(
        self, pixels: Tensor, grid: Tensor, lid: Eyelid, flow: Tensor, closure: float, gaze: tuple[float, float]
    ) -> None:
        fit = self.fit
        spans = window(lid, flow, cell=fit.side / self.cells, corner=(fit.left, fit.top))
        rows, columns = (
            slice(max(0, first - part.start), min(part.stop, last) - part.start)
            for (first, last), part in zip(spans, (self.rows, self.columns), strict=True)
        )
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        lengths, corner = grid.new_tensor(self.source.shape[:1:-1]), grid.new_tensor(self.corner)
        place = ((grid[rows, columns] + 1) * lengths - 1) / 4 + corner + 0.5  # middles of pixels lie at a half

        def read(place: Tensor) -> Tensor:
            grid = (4 * (place - corner - 0.5) + 1) / lengths - 1
            return F.grid_sample(self.source, grid[None], padding_mode="border", align_corners=False)[0]

        pixels[:, rows, columns] = lid.close(place, closure, read, gaze)

    def _paint(self, pixels: Tensor, layer: Tensor, mouth: list[float], more: Tensor | None) -> None:
        cell, size = self.fit.side / self.cells, layer.shape[-1]
        half = 0.5 * self.mouth_cells * cell * size / (size - 2)
        grids, slices = [], []
        for middle, first, part in ((mouth[1], self.fit.top, self.rows), (mouth[0], self.fit.left, self.columns)):
            centre = first + cell * middle
            begin, end = max(part.start, math.floor(centre - half)), min(part.stop, math.ceil(centre + half))
            if begin >= end:
                return
            slices.append(slice(begin - part.start, end - part.start))
            grids.append((torch.arange(begin, end, device=pixels.device) + (0.5 - centre)) / half)
        grid = _grid(*grids)
        if more is not None:
            up_y, up_x = self.up_y[slices[0]], self.up_x[:, slices[1]]
            grid = grid + torch.stack([up_y @ axis @ up_x for axis in more], -1) * (cell / half)
        painted = F.grid_sample(layer[None], grid, padding_mode="zeros", align_corners=False)[0]
        there, covers = pixels[:, slices[0], slices[1]], painted[3:]
        if self.share is not None:
            covers = covers * self.share[slices[0], slices[1]]
        there.lerp_(painted[:3], covers)


def _grid(y: Tensor, x: Tensor) -> Tensor:
    """Places along both axes -> (1, h, w, 2) as `F.grid_sample` reads them."""
    return torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], -1)[None]


def _upsampling(first: int, side: int, length: int, cells: int) -> tuple[slice, Tensor]:
    """One axis: the pixels of the picture inside the middles of the square's outermost cells, and weights (pixels,
    cells).

    Bicubic between cells. The outermost cells rest, so that the flow is exactly zero where the pixels end.
    """
    cell = side / cells
    begin, end = max(0, math.floor(first + cell / 2)), min(length, math.ceil(first + side - cell / 2))
    place = (torch.arange(begin, max(begin, end)) + 0.5 - first) / cell - 0.5  # in middles of cells
    away = (place[:, None] - torch.arange(cells)).abs()
    near = ((BICUBIC + 2) * away - (BICUBIC + 3)) * away * away + 1
    far = ((BICUBIC * away - 5 * BICUBIC) * away + 8 * BICUBIC) * away - 4 * BICUBIC
    weights = torch.where(away <= 1, near, torch.where(away < 2, far, 0.0))
    weights[(place <= 0) | (place >= cells - 1)] = 0
    return slice(begin, max(begin, end)), weights


def _between(picture: Tensor, axis: int) -> Tensor:
    """The picture with a pixel between every two along an axis, by Lanczos' kernel over six."""
    count = picture.shape[axis]
    margin = (0, 0, 2, 2) if axis == 2 else (2, 2, 0, 0)
    padded = F.pad(picture, margin, mode="replicate")
    half = sum(
        weight * (padded.narrow(axis, at, count - 1) + padded.narrow(axis, 5 - at, count - 1))
        for at, weight in enumerate(LANCZOS)
    )
    result = picture.new_empty(
        *(2 * length - 1 if number == axis else length for number, length in enumerate(picture.shape))
    )
    even, odd = [slice(None)] * 4, [slice(None)] * 4
    even[axis], odd[axis] = slice(0, None, 2), slice(1, None, 2)
    result[tuple(even)], result[tuple(odd)] = picture, half
    return result
