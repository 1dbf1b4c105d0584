"""Motion decoder: from motion latents and the portrait to a fine flow and a painted mouth.

Differs from EMO: the paper decodes with the VAE of Stable Diffusion. This one moves the portrait's own pixels, which
keeps the likeness at any resolution, and paints only the window around the mouth, whose inside the portrait does not
show.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from .teeth import Teeth, average_teeth, draw_teeth

LOOK = ("tooth_width", "gap", "upper_line", "lower_line", "arch", "tongue_height")
"""What differs between mouths, in standard deviations from the average: width of the teeth, gap in the middle, how far
the upper ones show, where the lower ones begin, half the width of the row, height of the tongue."""
AVERAGE_LOOK = (0.0736, 0.004, 0.031, -0.0275, 0.2, 0.105)  # in distances of the outer eye corners
LOOK_SPREAD = (0.006, 0.006, 0.011, 0.016, 0.03, 0.02)
SHOWN = 0.052  # how far the upper teeth of a portrait show below the shut lips, in the same unit: speech shows them
ARCH_SHARE = 0.94  # half the width of the row that shows, over half the inner lips' width
WAVES_ACROSS, WAVES_DOWN = (0.6, 0.3, 0.15, 0.075), (0.4, 0.2, 0.1)  # periods, in distances of the eyes
MOUTH_MAPS = 2 + 2 * len(WAVES_ACROSS) + 2 * len(WAVES_DOWN)
PATCH = 4  # pixels folded into channels: the finest features, and the flow, have a quarter of the working size
MAPS = 5  # channels of a portrait's maps
OPENING, OPENING_SCALE = 2, 4.0  # the channel of the mouth's opening in the latents, and its scale there
LIP_SHARE = 0.88  # the gap of the lips in the latents, over the drop of the jaw


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, *, groups: int = 8):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, channels), nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class CellAttention(nn.Module):
    """Self-attention over the cells of a small map, with learned positions."""

    def __init__(self, channels: int, cells: int, *, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.positions = nn.Parameter(nn.init.normal_(torch.empty(1, channels, cells, cells), std=0.02))
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.to_out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(self.norm(x) + self.positions.to(x))
        q, k, v = rearrange(qkv, "b (t n d) h w -> t b n (h w) d", t=3, n=self.heads)
        x_new = F.scaled_dot_product_attention(q, k, v)
        return x + self.to_out(rearrange(x_new, "b n (h w) d -> b (n d) h w", h=x.shape[2]))


@dataclass(frozen=True, eq=False)
class PortraitFeatures:
    """What stays the same over a video.

    fine, middle, coarse: (1, C, ., .) features at a quarter, an eighth and a sixteenth of the working size; latents:
    (1, C, h, w) the portrait's own raw motion latents; head: (1, 1, H / 4, W / 4) the soft mask of what may move;
    mouth: (1, 2) its centre in cells of the fine features; pixels: (1, 3, H, W) of the square at twice the working
    size, of which the mouth is painted;
    steady: (1, 1, H / 4, W / 4) 1 where the face moves with the skull; skull: (1, 2, 3) from cells of the fine features
    to the plane of the teeth, in distances of the eyes, its origin between the shut lips.
    """

    fine: Tensor
    middle: Tensor
    coarse: Tensor
    latents: Tensor
    head: Tensor
    mouth: Tensor
    pixels: Tensor
    steady: Tensor
    skull: Tensor

    def expand(self, frames: int) -> PortraitFeatures:
        """The same for each of so many frames; no copy."""
        one_each = (x.expand(frames, *[-1] * (x.ndim - 1)) if len(x) == 1 else x for x in vars(self).values())
        return PortraitFeatures(*one_each)

    def repeat(self, times: int) -> PortraitFeatures:
        """Each portrait so many times in a row, for batches of several portraits."""
        return PortraitFeatures(*(x.repeat_interleave(times, dim=0) for x in vars(self).values()))


@dataclass(frozen=True, eq=False)
class DecodedMotion:
    """flow: (F, 2, H / 4, W / 4) backward, in cells of this map, zero outside the head; coarse_flows: before
    refinement, for the loss; mouth_rgb (F, 3, P, P) in [-1, 1] and mouth_mask (F, 1, P, P) in 0..1: the painted window
    at twice the working size; mouth_warped (F, 3, P, P): the portrait's own pixels there; mouth: (F, 2) the window's
    centre in cells of the flow."""

    flow: Tensor
    coarse_flows: tuple[Tensor, Tensor]
    mouth_rgb: Tensor
    mouth_mask: Tensor
    mouth_warped: Tensor
    mouth: Tensor


class MotionDecoder(nn.Module):
    """Motion latents and a portrait to flow and mouth. Sizes: working size S, latent cells S / 16, flow S / 4."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        parts = config.motion_decoder
        fine, middle, coarse = parts.channels
        width = parts.mouth_channels
        if config.vae_factor != 4 * PATCH:
            raise ValueError(
                f"the motion decoder needs cells of {4 * PATCH} pixels, got vae_factor {config.vae_factor}"
            )
        self.mouth_cells = parts.mouth_cells
        self.portrait_fine = nn.Sequential(nn.Conv2d(3 * PATCH**2 + MAPS, fine, 3, padding=1), ResidualBlock(fine))
        self.portrait_middle = nn.Sequential(nn.Conv2d(fine, middle, 3, stride=2, padding=1), ResidualBlock(middle))
        self.portrait_coarse = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.conv_in = nn.Conv2d(2 * config.latent_channels, coarse, 5, padding=2)
        attention = CellAttention(coarse, config.latent_size)
        self.coarse = nn.Sequential(ResidualBlock(coarse), attention, ResidualBlock(coarse))
        self.to_middle = nn.Conv2d(coarse, middle, 1)
        self.middle = nn.Sequential(ResidualBlock(middle), ResidualBlock(middle))
        self.to_fine = nn.Conv2d(middle, fine, 1)
        self.fine = ResidualBlock(fine)
        self.flow_coarse = nn.Conv2d(coarse, 2, 3, padding=1)
        self.flow_middle = nn.Conv2d(middle, 2, 3, padding=1)
        self.flow_fine = nn.Conv2d(fine, 2, 3, padding=1)
        for layer in (self.flow_coarse, self.flow_middle, self.flow_fine):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.mouth_in = nn.Conv2d(2 * fine + 5 * PATCH**2 + MOUTH_MAPS, width, 3, padding=1)
        self.mouth_look = nn.Linear(len(LOOK), width)
        self.mouth = nn.Sequential(ResidualBlock(width), ResidualBlock(width))
        self.mouth_out = nn.Conv2d(width, 4 * PATCH**2, 3, padding=1)
        self.mouth_teeth = nn.Conv2d(width, 5, 3, padding=1)  # colour of the enamel, and where each row shows
        nn.init.zeros_(self.mouth_teeth.weight)
        nn.init.zeros_(self.mouth_look.weight)
        nn.init.zeros_(self.mouth_look.bias)
        with torch.no_grad():
            self.mouth_out.weight.mul_(0.1)
            self.mouth_out.bias.zero_()
            self.mouth_out.bias[3 * PATCH**2 :] = -2.0  # the mask begins nearly empty
            self.mouth_teeth.bias.copy_(torch.tensor([1.2, 1.0, 0.7, 2.0, 2.0]))  # ivory

    def read_portrait(
        self, pixels: Tensor, maps: Tensor, latents: Tensor, mouth: Tensor, skull: Tensor
    ) -> PortraitFeatures:
        """pixels: (B, 3, 2 S, 2 S) in [-1, 1]; maps: (B, 5, S / 4, S / 4) of `inputs.portrait_maps`; latents: raw,
        of the portrait, (B, C, h, w); mouth: (B, 2), its centre in cells of the maps; skull: see `PortraitFeatures`."""
        working = F.avg_pool2d(pixels, 2)
        fine = self.portrait_fine(torch.cat([F.pixel_unshuffle(working, PATCH), maps], 1))
        middle = self.portrait_middle(fine)
        _, across, down, _, rigid = maps.split(1, dim=1)
        steady = ((rigid > 0.99) & (down < 0.4) & (across.abs() < 0.75)).to(maps)  # above the mouth
        coarse, head = self.portrait_coarse(middle), maps[:, :1]
        return PortraitFeatures(fine, middle, coarse, latents, head, mouth, pixels, steady, skull)

    def forward(
        self,
        latents: Tensor,
        portrait: PortraitFeatures,
        look: Tensor | None = None,
        teeth: Teeth | None = None,
        jaw: Tensor | None = None,
    ) -> DecodedMotion:
        """latents (F, C, h, w), raw, of F frames of one portrait, or of F portraits.

        look: (F, 6) as `LOOK`, None: the average mouth; teeth: of one or F mouths, None: even ones; jaw: (F,), its drop
        in distances of the eye corners, where it is known more precisely than from the latents.
        """
        portrait = portrait.expand(len(latents))
        x = self.conv_in(torch.cat([latents - portrait.latents, portrait.latents], 1)) + portrait.coarse
        x = self.coarse(x)
        coarse_flow = latents[:, :2] + self.flow_coarse(x)  # a sixteenth; each flow counts cells of its own map
        x = self.middle(_twice(self.to_middle(x)) + portrait.middle)
        middle_flow = 2 * _twice(coarse_flow) + self.flow_middle(x)
        x = self.fine(_twice(self.to_fine(x)) + portrait.fine)
        flow = (2 * _twice(middle_flow) + self.flow_fine(x)) * portrait.head
        mouth = moved_point(portrait.mouth, flow)
        jaw = self._jaw(latents, mouth, portrait) if jaw is None else jaw
        teeth = average_teeth(device=latents.device) if teeth is None else teeth
        painted = self._paint_mouth(x, flow, mouth, portrait, look, teeth, jaw)
        return DecodedMotion(flow, (coarse_flow, middle_flow), *painted, mouth)

    def _jaw(self, latents: Tensor, mouth: Tensor, portrait: PortraitFeatures) -> Tensor:
        """(F,): the drop of the jaw in distances of the eye corners, from the gap of the lips beyond the portrait's."""

        def opening(latents: Tensor, place: Tensor) -> Tensor:
            grid = (place.float() * (2 / portrait.head.shape[-1]) - 1)[:, None, None]
            return sample(latents[:, OPENING : OPENING + 1].float(), grid)[:, 0, 0, 0]

        gap = (opening(latents, mouth) - opening(portrait.latents, portrait.mouth)) / OPENING_SCALE
        return (gap / LIP_SHARE).clamp(min=0)

    def _paint_mouth(
        self,
        x: Tensor,
        flow: Tensor,
        mouth: Tensor,
        portrait: PortraitFeatures,
        look: Tensor | None,
        teeth: Teeth,
        jaw: Tensor,
    ) -> tuple[Tensor, ...]:
        cells, size = self.mouth_cells, flow.shape[-1]
        around = window(mouth, cells=cells, points=2 * cells, size=size)  # two points a cell: each becomes PATCH pixels
        there = sample(flow, around)
        source = around + 2 / size * rearrange(there, "b c h w -> b h w c")
        fine = window(mouth, cells=cells, points=2 * PATCH * cells, size=size)
        fine_flow = F.interpolate(there, scale_factor=PATCH, mode="bilinear", align_corners=False)
        warped = sample(portrait.pixels, fine + 2 / size * rearrange(fine_flow, "b c h w -> b h w c"))
        look = x.new_zeros(len(x), len(LOOK)) if look is None else look
        skull = skull_coordinates(around, flow, portrait)
        waves = teeth_maps(skull, look)
        finely = F.interpolate(skull, scale_factor=PATCH, mode="bilinear", align_corners=False)
        drawn = draw_teeth(teeth.table(), finely, jaw).to(x)
        shown, tone = drawn[:, 0::2], drawn[:, 1::2]  # (F, 2, P, P) of the upper and the lower row
        pictures = F.pixel_unshuffle(warped, PATCH), waves.to(x), F.pixel_unshuffle(shown * tone, PATCH)
        y = torch.cat([sample(x, around), sample(portrait.fine, source), *pictures], 1)
        y = self.mouth_in(y) + self.mouth_look(look)[:, :, None, None]
        y = F.silu(self.mouth(y))
        # contiguous: few channels that lie side by side are computed number by number on a CPU
        light, painted = (layer(y).to(warped).contiguous() for layer in (self.mouth_teeth, self.mouth_out))
        light = F.interpolate(light, scale_factor=PATCH, mode="bilinear", align_corners=False).sigmoid()
        y = _without_pattern(F.pixel_shuffle(painted, PATCH))
        colours = y[:, :3].tanh()
        for row in (1, 0):  # the upper teeth stand in front
            enamel = 2 * light[:, :3] * tone[:, row : row + 1] - 1
            colours = torch.lerp(colours, enamel, shown[:, row : row + 1] * light[:, 3 + row : 4 + row])
        return colours, y[:, 3:].sigmoid() * _soft_border(y.shape[-1], like=y), warped


def usual_mouth(half_width: float, *, device: torch.device | str = "cpu") -> tuple[Tensor, Teeth]:
    """Look (1, 6) and teeth of a portrait whose inner lips are 2 * half_width wide, in distances of the outer eye
    corners."""
    teeth = average_teeth(upper_line=SHOWN, arch=ARCH_SHARE * half_width, device=device)
    width, _, _, lower_line, _, tongue_height = AVERAGE_LOOK
    own = torch.tensor((width, 0.0, SHOWN, lower_line, ARCH_SHARE * half_width, tongue_height))
    return ((own - torch.tensor(AVERAGE_LOOK)) / torch.tensor(LOOK_SPREAD))[None].to(device), teeth


def window(centre: Tensor, *, cells: int, points: int, size: int) -> Tensor:
    """Grid (B, points, points, 2) for `sample`: a window of `cells` around centre (B, 2), in cells of a `size` map."""
    places = (torch.arange(points, device=centre.device, dtype=centre.dtype) + 0.5) * (cells / points) - cells / 2
    x, y = (centre[:, axis, None] + places for axis in (0, 1))  # (B, points)
    grid = torch.stack([x[:, None, :].expand(-1, points, -1), y[:, :, None].expand(-1, -1, points)], -1)
    return grid * (2 / size) - 1


def sample(picture: Tensor, grid: Tensor) -> Tensor:
    """picture (B, C, H, W) read at grid (B, h, w, 2) in -1..1; beyond the border the border's values."""
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """picture (B, C, H, W) moved by a backward flow (B, 2, H, W) in its pixels."""
    height, width = flow.shape[-2:]
    places = (torch.arange(n, device=flow.device, dtype=flow.dtype) + 0.5 for n in (height, width))
    y, x = torch.meshgrid(*places, indexing="ij")
    grid = torch.stack([(x + flow[:, 0]) * (2 / width) - 1, (y + flow[:, 1]) * (2 / height) - 1], -1)
    return sample(picture, grid)


def moved_point(point: Tensor, flow: Tensor, *, rounds: int = 3) -> Tensor:
    """Where point (B, 2) of the portrait is in the frame; both in cells of the backward flow (B, 2, n, n)."""
    size, place = flow.shape[-1], point
    for _ in range(rounds):
        there = sample(flow, (place * (2 / size) - 1)[:, None, None])[:, :, 0, 0]
        place = point - there
    return place.detach()


@torch.no_grad()
def skull_coordinates(around: Tensor, flow: Tensor, portrait: PortraitFeatures) -> Tensor:
    """(B, 2, p, p): where each point of the grid `around` (B, p, p, 2) is on the plane of the teeth, right and down.

    The skull's motion is the affine map nearest to the backward flow (B, 2, n, n) where the face moves with it.
    """
    with torch.autocast("cpu", enabled=False):  # it counts cells; a context of its own for each thread
        size = flow.shape[-1]
        flow, grid = flow.float(), around.float()
        own = (torch.arange(size, device=flow.device) + 0.5) * (2 / size) - 1
        place = torch.stack([own[None, :].expand(size, -1), own[:, None].expand(-1, size)], -1)  # (n, n, 2) in -1..1
        source = place + 2 / size * rearrange(flow, "b c h w -> b h w c")
        weight = rearrange(sample(portrait.steady.float(), source), "b 1 h w -> b (h w)")
        points = F.pad(place, (0, 1), value=1.0).flatten(0, 1)  # (n n, 3)
        normal = torch.einsum("bp,pi,pj->bij", weight, points, points) + 1e-4 * torch.eye(3, device=flow.device)
        moment = torch.einsum("bp,bpc,pj->bcj", weight, source.flatten(1, 2), points)
        to_portrait = torch.linalg.solve(normal, moment.transpose(1, 2)).transpose(1, 2)  # (B, 2, 3)
        there = torch.einsum("bci,bhwi->bhwc", to_portrait, F.pad(grid, (0, 1), value=1.0))
        cells = F.pad((there + 1) * (size / 2), (0, 1), value=1.0)
        return torch.einsum("bci,bhwi->bchw", portrait.skull.float(), cells)


def teeth_maps(skull: Tensor, look: Tensor) -> Tensor:
    """skull (B, 2, p, p), look (B, 6) -> (B, 16, p, p): coordinates relative to the average teeth, and their sines and
    cosines, from which the edges of teeth can be painted sharply."""
    average, spread = look.new_tensor(AVERAGE_LOOK), look.new_tensor(LOOK_SPREAD)
    own = (average + spread * look.float())[..., None, None]  # (B, 6, 1, 1)
    across, down = skull[:, 0] * (AVERAGE_LOOK[0] / own[:, 0]), skull[:, 1] - own[:, 2]
    both = ((across, WAVES_ACROSS), (down, WAVES_DOWN))
    waves = torch.stack([2 * torch.pi / period * x for x, periods in both for period in periods], 1)
    return torch.cat([torch.stack([across, down], 1).clamp(-1, 1) * 3, waves.sin(), waves.cos()], 1)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _without_pattern(picture: Tensor) -> Tensor:
    """(B, C, H, W) without what repeats every `PATCH` pixels, and every second one: pixel shuffle leaves it where the
    loss did not look. Weights 1, 2, 2, 2, 1 along both axes, for `PATCH` 4."""
    x = F.pad(picture, (2, 2, 2, 2), mode="replicate")
    for axis in (2, 3):
        for step in (1, 2, 1):  # two terms each: faster than pooling
            x = x.narrow(axis, 0, x.shape[axis] - step) + x.narrow(axis, step, x.shape[axis] - step)
    return x.mul_(1 / 64).to(picture)


def _soft_border(size: int, *, like: Tensor) -> Tensor:
    """(size, size): 1 inside, to 0 within the last tenth at the border of the window."""
    edge = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) / size
    near = (torch.minimum(edge, 1 - edge) * 10).clamp(max=1)
    return near[:, None] * near
