"""Motion latents of one portrait to frames of its whole picture, at the picture's own resolution."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import ModelConfig
from ..inputs.face import apply_fit
from ..inputs.media import to_uint8
from ..inputs.motion_latents import mouth_centre
from ..inputs.portrait_maps import portrait_maps
from ..inputs.vae import to_raw
from ..models.motion_decoder import PATCH, DecodedMotion, MotionDecoder, sample
from ..types import Fit, Portrait

AT_ONCE = 8  # frames that the network decodes together


class PortraitDecoder:
    """The motion decoder and one portrait: `decode` makes frames of the whole picture.

    picture: (1, 3, H, W) in [-1, 1], the one that `portrait.fit` was cut from. Only pixels of the moving head and the mouth
    change; all others stay the picture's, bit for bit. Raises ValueError for a picture of another size, or a portrait whose face
    was not found.
    """

    def __init__(self, decoder: MotionDecoder, config: ModelConfig, picture: Tensor, portrait: Portrait, *,
                 device: torch.device | str = "cpu"):
        fit = portrait.fit
        if tuple(picture.shape) != (1, 3, fit.height, fit.width):
            raise ValueError(f"the picture is {tuple(picture.shape)}, the square was cut from one of {fit.width}x{fit.height}")
        if portrait.mesh is None:
            raise ValueError("the portrait has no face mesh; make it with `inputs.portrait.read_portrait`")
        self.decoder, self.config, self.fit = decoder, config, fit
        self.still = to_uint8(picture)[0]  # (H, W, 3)
        self.source = picture.to(device)
        self.latents, self.mesh = portrait.latents, portrait.mesh
        self.mouth_side = fit.side * decoder.mouth_cells * PATCH / config.image_size  # of the painted window, in the picture
        self._portrait = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.fit.height, self.fit.width

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        """latents (F, C, h, w) scaled -> (F, H, W, 3) uint8."""
        frames = np.empty((len(latents), *self.still.shape), dtype=np.uint8)
        for first in range(0, len(latents), AT_ONCE):
            decoded = self.flow(latents[first:first + AT_ONCE])
            for index in range(len(decoded.flow)):
                frames[first + index] = self._frame(decoded, index)
        return frames

    @torch.no_grad()
    def flow(self, latents: Tensor) -> DecodedMotion:
        """latents (F, C, h, w) scaled -> flow and painted mouth, before they meet the picture."""
        if self._portrait is None:
            self._portrait = self._read_portrait()
        network = next(self.decoder.parameters())
        return self.decoder(to_raw(latents.to(network), self.config), self._portrait)

    def _read_portrait(self):
        network, size = next(self.decoder.parameters()), self.config.image_size
        square = apply_fit(self.source.cpu(), self.fit)
        maps = portrait_maps(self.mesh, size=size, cells=size // PATCH)[None]
        latents = to_raw(self.latents, self.config)
        twice = F.interpolate(square, scale_factor=2, mode="bilinear", align_corners=False)
        return self.decoder.read_portrait(*(x.to(network) for x in (twice, maps, latents, mouth_centre(self.mesh)[None] / PATCH)))

    def _frame(self, decoded: DecodedMotion, index: int) -> np.ndarray:
        """One frame (H, W, 3) uint8: warped where the flow is not zero, painted in the mouth's window."""
        frame = self.still.copy()
        fit, flow = self.fit, decoded.flow[index:index + 1].float()
        cell = fit.side / flow.shape[-1]
        rows, columns = _moving(flow, fit, cell)
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return frame
        y = torch.arange(rows.start, rows.stop, device=flow.device, dtype=torch.float32) + 0.5
        x = torch.arange(columns.start, columns.stop, device=flow.device, dtype=torch.float32) + 0.5
        place = torch.stack([x[None, :].expand(len(y), -1), y[:, None].expand(-1, len(x))], -1)[None]  # (1, h, w, 2) pixels
        corner = place.new_tensor([fit.left, fit.top])
        moved = _bicubic(flow, (place - corner) / cell)  # (1, 2, h, w) in cells
        lengths = place.new_tensor([fit.width, fit.height])
        source = place + cell * moved.permute(0, 2, 3, 1)
        pixels = sample(self.source, 2 * source / lengths - 1)
        changed = (moved != 0).any(1, keepdim=True)
        centre = corner + cell * decoded.mouth[index]
        in_window = 2 * (place - centre) / self.mouth_side  # -1..1 inside
        layer = F.grid_sample(torch.cat([decoded.mouth_rgb, decoded.mouth_mask], 1)[index:index + 1].float(), in_window,
                              padding_mode="zeros", align_corners=False)
        mask = layer[:, 3:]
        colours = layer[:, :3] / F.grid_sample(torch.ones_like(decoded.mouth_mask[index:index + 1]).float(), in_window,
                                               padding_mode="zeros", align_corners=False).clamp(min=1e-3)
        pixels = torch.lerp(pixels, colours, mask)
        changed |= mask > 1 / 512
        mixed = torch.where(changed, to_bytes(pixels), torch.from_numpy(frame[rows, columns]).permute(2, 0, 1)[None].to(pixels.device))
        frame[rows, columns] = mixed[0].permute(1, 2, 0).cpu().numpy()
        return frame


def to_bytes(pixels: Tensor) -> Tensor:
    """[-1, 1] -> uint8, as `inputs.media.to_uint8` rounds."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _moving(flow: Tensor, fit: Fit, cell: float) -> tuple[slice, slice]:
    """Rows and columns of the picture that the flow can reach."""
    moves = (flow[0] != 0).any(0)
    slices = []
    for some, first, length in ((moves.any(1), fit.top, fit.height), (moves.any(0), fit.left, fit.width)):
        where = some.nonzero().flatten()
        if not len(where):
            return slice(0, 0), slice(0, 0)
        begin, end = (int(where[0]) - 2) * cell + first, (int(where[-1]) + 3) * cell + first  # the bicubic kernel reaches 2 cells
        slices.append(slice(max(0, math.floor(begin)), max(0, min(length, math.ceil(end)))))
    return slices[0], slices[1]


def _bicubic(flow: Tensor, place: Tensor) -> Tensor:
    """flow (1, 2, n, n) read at place (1, h, w, 2) in its cells, smoothly; exactly zero where all cells around are, and outside."""
    grid = place * (2 / flow.shape[-1]) - 1
    return F.grid_sample(flow, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
