"""Motion latents: the motion of each cell of the head square, computed from the face meshes of portrait and frame.

Differs from EMO: the paper denoises the latents of a picture VAE, which encode every pixel; these encode only how the
portrait moves, so the decoder can keep its pixels (latent flow diffusion, arXiv 2303.13744).

Channels of raw latents (B, 8, h, w), for frame and portrait meshes in the square scaled to the working size:
    0, 1  backward flow of the cell, x and y, in cells: source position in the portrait minus its own position
    2     mouth opening: gap of the inner lips over the distance of the outer eye corners, times 4
    3     mouth width minus the portrait's, over the same distance, times 8
    4     lip press minus lower-lip tuck under the teeth, -1 to 1
    5     lid opening over the eye's width, times 3
    6, 7  gaze, right and down; about 1 brings the iris to the corner
Channels 2 to 4 are multiplied by a Gaussian around the mouth's centre in the frame, 5 to 7 by one around each eye's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .face_geometry import Frame, head_frame

MOUTH_SPREAD, EYE_SPREAD = 0.28, 0.20  # standard deviations of the Gaussians, in distances of the outer eye corners
# shares of the portrait's lid opening: lids close below the first and are shut below the second
SQUINT, SHUT = 0.9, 0.15
FREELY, FARTHEST = 2.0, 3.0  # cells that a head may move, and that it may approach
NODS, FARTHEST_NOD = 4.0, 6.5  # degrees that a head may nod freely, and that it approaches; beyond, likeness is lost
# of the mouth's channel: what an opening of 1 adds (1.2 times the mean of 24 puppets, as guided clips have it), and the
# share of the portrait's own that is left when the lips meet (as sampled clips have it; puppets 0.81)
WIDE_OPEN, SHUT_GAP = 1.0, 0.35
NECK = (0.0, 0.45, 0.65)  # the joint that the head turns about, in its own frame, distances of the outer eye corners
GENERATORS = (
    ((0, 0, 0), (0, 0, 1), (0, -1, 0)),
    ((0, 0, -1), (0, 0, 0), (1, 0, 0)),
    ((0, 1, 0), (-1, 0, 0), (0, 0, 0)),
)
UPPER_LIP, LOWER_LIP, MOUTH_LEFT, MOUTH_RIGHT = 13, 14, 61, 291  # points of the mesh
LEFT_EYE, RIGHT_EYE = (33, 133, 159, 145), (362, 263, 386, 374)  # corners, then midpoints of upper and lower lid


def eye_distance(mesh: Tensor) -> Tensor:
    """mesh (..., 468, 3) -> (...,): 3D distance of the outer eye corners, invariant to head rotation."""
    return _between(mesh, LEFT_EYE[0], RIGHT_EYE[1])


def mouth_centre(mesh: Tensor) -> Tensor:
    """mesh (..., 468, 3) -> (..., 2)."""
    return mesh[..., [UPPER_LIP, LOWER_LIP], :2].mean(-2)


def mouth_opening(mesh: Tensor) -> Tensor:
    """mesh (..., 468, 3) -> (...,): gap of the inner lips over the eye distance."""
    return _between(mesh, UPPER_LIP, LOWER_LIP) / eye_distance(mesh)


def mouth_width(mesh: Tensor) -> Tensor:
    """mesh (..., 468, 3) -> (...,): distance of the mouth's corners over the eye distance."""
    return _between(mesh, MOUTH_LEFT, MOUTH_RIGHT) / eye_distance(mesh)


def lid_openings(mesh: Tensor) -> Tensor:
    """mesh (..., 468, 3) -> (..., 2): lid gap over eye width, of the left and the right eye in the picture."""
    return torch.stack(
        [
            _between(mesh, upper, lower) / _between(mesh, first, last)
            for first, last, upper, lower in (LEFT_EYE, RIGHT_EYE)
        ],
        -1,
    )


def motion_latents(
    flow: Tensor,
    mesh: Tensor,
    portrait_mesh: Tensor,
    *,
    cells: int,
    size: int,
    press: Tensor | None = None,
    gaze: Tensor | None = None,
) -> Tensor:
    """The motion between the portrait and F frames -> raw latents (F, 8, cells, cells).

    flow: (F, 2, n, n) backward flow in pixels of an n x n square, n a multiple of `cells`; mesh: (F, 468, 3) and
    portrait_mesh: (468, 3) in pixels of the square at `size`; press: (F,) lip press minus tuck, and gaze: (F, 2); None:
    0.
    """
    frames, pixels = len(mesh), flow.shape[-1]
    cell = pixels // cells
    moved = F.avg_pool2d(flow.float(), cell) / cell
    mesh = mesh.float() * (cells / size)
    zeros = mesh.new_zeros(frames)
    press, (gaze_x, gaze_y) = zeros if press is None else press, (zeros, zeros) if gaze is None else gaze.unbind(-1)
    scale = eye_distance(mesh)
    mouth = _bell(mouth_centre(mesh), MOUTH_SPREAD * scale, cells)
    eyes = torch.stack(
        [_bell(mesh[:, list(eye[:2]), :2].mean(1), EYE_SPREAD * scale, cells) for eye in (LEFT_EYE, RIGHT_EYE)], 1
    )
    width = 8 * (mouth_width(mesh) - mouth_width(portrait_mesh.float()))
    lids = 3 * torch.einsum("fe,fehw->fhw", lid_openings(mesh), eyes)
    around_mouth = torch.stack([4 * mouth_opening(mesh), width, press.to(mesh)], 1)[..., None, None] * mouth[:, None]
    around_eyes = torch.stack([gaze_x, gaze_y], 1).to(mesh)[..., None, None] * eyes.sum(1)[:, None]
    return torch.cat([moved, around_mouth, lids[:, None], around_eyes], 1)


def portrait_latents(mesh: Tensor, *, cells: int, size: int) -> Tensor:
    """mesh (468, 3) of the portrait in pixels of the square at `size` -> raw latents at rest (1, 8, cells, cells)."""
    return motion_latents(mesh.new_zeros(1, 2, cells, cells), mesh[None], mesh, cells=cells, size=size)


def consistent_latents(
    latents: Tensor,
    portrait_mesh: Tensor,
    maps: Tensor,
    *,
    size: int,
    turn: Tensor | None = None,
    mouth_strength: Tensor | None = None,
    hold_nods: bool = False,
) -> Tensor:
    """Make sampled raw latents (F, 8, h, w) consistent: rigid head motion, mouth and eye channels where the flow moves
    them.

    portrait_mesh: (468, 3) in pixels of the square at `size`; maps: (5, h, w), `inputs.portrait_maps` at the cells. The
    flow is replaced by that of the nearest rigid head motion. Sampled Gaussians may be off by a cell: they are placed
    at the moved mouth and eyes with their least-squares amplitude; both eyes get the mean opening. Lids that close
    further than a squint are left to `lid_closure`. turn: (F, 3) yaw, pitch, roll in radians in the picture's axes,
    by which the head is turned on top, after amplitudes were taken where they were sampled; mouth_strength: (F,) times
    how far the mouth is from the portrait's; hold_nods: no sampled nod is farther than `FARTHEST_NOD`.
    """
    cells = latents.shape[-1]
    mesh = portrait_mesh.to(latents.device, torch.float32) * (cells / size)
    frame = head_frame(mesh)
    sampled = flow = rigid_flow(latents[:, :2].float(), maps.to(latents.device), frame, hold_nods=hold_nods).to(latents)
    if turn is not None:
        turn = rotation(*turn.to(mesh).unbind(-1))
        flow = rigid_flow(latents[:, :2].float(), maps.to(latents.device), frame, turn=turn, hold_nods=hold_nods).to(
            latents
        )
    values, read = latents[:, 2:].float(), _bells(mesh, sampled.float())
    mouth, left, right = read if turn is None else _bells(mesh, flow.float())
    amplitude = _amplitude(values[:, :3], read[0])
    if mouth_strength is not None:
        shut = torch.stack([4 * mouth_opening(mesh), *2 * [mesh.new_zeros(())]])
        scaled = shut + mouth_strength.to(amplitude)[:, None] * (amplitude - shut)
        amplitude = torch.cat([scaled[:, :1].clamp(min=0), scaled[:, 1:]], 1)
    around_mouth = amplitude[..., None, None] * mouth[:, None]
    at_rest = 3 * lid_openings(mesh)  # (2,)
    share = _lid_share(values[:, 3:4], *read[1:], at_rest).clamp(min=SQUINT)[..., None, None]
    lids = share * (at_rest[0] * left + at_rest[1] * right)[:, None]
    gaze = _amplitude(values[:, 4:], read[1] + read[2])[..., None, None] * (left + right)[:, None]
    return torch.cat([flow, torch.cat([around_mouth, lids, gaze], 1).to(latents)], 1)


def blend_opening(latents: Tensor, portrait_mesh: Tensor, opening: Tensor, *, share: float, size: int) -> Tensor:
    """Raw latents (F, 8, h, w) with the mouth's opening moved by `share` towards `opening` (F,), 0 the lips meet .. 1
    wide open.

    portrait_mesh: (468, 3) in pixels of the square at `size`.
    """
    exact = torch.promote_types(latents.dtype, torch.float32)
    mesh = portrait_mesh.to(latents.device, exact) * (latents.shape[-1] / size)
    bell = _bells(mesh, latents[:, :2].to(exact))[0]
    now = _amplitude(latents[:, 2:3].to(exact), bell)[:, 0]
    wanted = WIDE_OPEN * opening.to(now) + SHUT_GAP * 4 * mouth_opening(mesh)
    drawn = latents[:, 2] + (share * (wanted - now)[:, None, None] * bell).to(latents)
    return torch.cat([latents[:, :2], drawn[:, None], latents[:, 3:]], 1)


def lid_closure(latents: Tensor, portrait_mesh: Tensor, *, size: int) -> Tensor:
    """latents (F, 8, h, w) raw, portrait_mesh (468, 3) in pixels of the square at `size` -> (F,): 0 for eyes as open as
    the portrait's, or squinting, to 1, shut."""
    mesh = portrait_mesh.to(latents.device, torch.float32) * (latents.shape[-1] / size)
    left, right = _eye_bells(mesh, latents[:, :2].float())
    share = _lid_share(latents[:, 5:6].float(), left, right, 3 * lid_openings(mesh))[:, 0]
    return ((SQUINT - share) / (SQUINT - SHUT)).clamp(0, 1)


def _bells(mesh: Tensor, flow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """mesh (468, 3) of the portrait and flow (F, 2, h, w) in cells -> (F, h, w) around the mouth and each eye, where
    the flow takes them."""
    centre, scale = mouth_centre(mesh).expand(len(flow), 2), eye_distance(mesh).expand(len(flow))
    return _bell(_moved(centre, flow), MOUTH_SPREAD * scale, flow.shape[-1]), *_eye_bells(mesh, flow)


def _eye_bells(mesh: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """mesh (468, 3) of the portrait and flow (F, 2, h, w) in cells -> (F, h, w) around each eye, where the flow takes
    it."""
    spread, cells = (EYE_SPREAD * eye_distance(mesh)).expand(len(flow)), flow.shape[-1]
    return tuple(
        _bell(_moved(mesh[list(eye[:2]), :2].mean(0).expand(len(flow), 2), flow), spread, cells)
        for eye in (LEFT_EYE, RIGHT_EYE)
    )


def _lid_share(lids: Tensor, left: Tensor, right: Tensor, at_rest: Tensor) -> Tensor:
    """lids (F, 1, h, w) -> (F, 1): how open both eyes are, as a share of the portrait's."""
    return (_amplitude(lids, left) + _amplitude(lids, right)) / at_rest.sum()


def rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Radians (F,) each, > 0 to the right, down, clockwise -> (F, 3, 3) for coordinates right, down, backward."""
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, -1).unflatten(-1, (3, 3))

    about_y = matrix(yaw.cos(), zero, -yaw.sin(), zero, one, zero, yaw.sin(), zero, yaw.cos())
    about_x = matrix(one, zero, zero, zero, pitch.cos(), -pitch.sin(), zero, pitch.sin(), pitch.cos())
    about_z = matrix(roll.cos(), -roll.sin(), zero, roll.sin(), roll.cos(), zero, zero, zero, one)
    return about_z @ about_x @ about_y


def _rigid(moves: Tensor, normal: Tensor, frame: Frame) -> Tensor:
    """moves (F, 4, 2), fitted with the normal matrices (F, 4, 4) -> those of the turned and scaled head that fit best.

    In parallel projection the images of the head's axes, (F, 3, 2), are two orthogonal columns of the same length; any
    other ones make the face narrower or slanted.
    """
    own = frame.eyes * frame.axes[:, :2]
    fitted = own + moves[:, 1:]
    middle = normal[:, 0, 1:] / normal[:, :1, 0]
    spread = normal[:, 1:, 1:] - middle[:, :, None] * normal[:, :1, 1:]
    generators = moves.new_tensor(GENERATORS)
    turned = _orthogonal(fitted)
    for _ in range(2):  # Gauss-Newton over scale and three angles
        ways = torch.cat([turned[:, None], generators @ turned[:, None]], 1)  # (F, 4, 3, 2)
        felt = spread[:, None] @ ways
        size = torch.einsum("fakc,fbkc->fab", ways, felt)
        size = size + 1e-4 * size.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] * torch.eye(4).to(size)
        steps = torch.linalg.solve(size, torch.einsum("fakc,fkc->fa", felt, fitted - turned))
        turned = _orthogonal(turned + torch.einsum("fa,fakc->fkc", steps, ways))
    away = torch.einsum("fk,fkc->fc", middle, fitted - turned)
    return torch.cat([(moves[:, 0] + away)[:, None], turned - own], 1)


def _orthogonal(images: Tensor) -> Tensor:
    """images (F, 3, 2) -> the nearest with orthogonal columns of one length."""
    square = images.transpose(1, 2) @ images  # the square root of a 2x2 matrix is known in closed form
    area = torch.linalg.det(square).clamp(min=1e-6).sqrt()[:, None, None]
    size = (square.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + 2 * area).sqrt()  # sum of the singular values
    root = (square + area * torch.eye(2).to(square)) / size
    return size / 2 * images @ torch.linalg.inv(root)


def _nodding_less(moves: Tensor, frame: Frame) -> Tensor:
    """moves (F, 4, 2) of a turned and scaled head -> the same of one that nods no further than `FARTHEST_NOD` from the
    portrait: what a nod shows or hides (under brows, nose and chin) is in no picture, so its flow distorts the face."""
    images = frame.eyes * frame.axes[:, :2] + moves[:, 1:]  # (F, 3, 2), of the head's axes
    images = images / images.norm(dim=1, keepdim=True)
    axes = torch.cat([images, torch.linalg.cross(*images.unbind(-1))[..., None]], -1)
    turns = frame.axes @ axes.transpose(1, 2)  # (F, 3, 3) from the portrait's head to the frame's, about its own axes
    yaw = torch.atan2(turns[:, 2, 0], turns[:, 2, 2])
    pitch = torch.asin(turns[:, 2, 1].clamp(-1, 1))
    roll = torch.atan2(-turns[:, 0, 1], turns[:, 1, 1])
    free, room = math.radians(NODS), math.radians(FARTHEST_NOD - NODS)
    held = pitch.sign() * (free + room * ((pitch.abs() - free).clamp(min=0) / room).tanh())
    held = torch.where(pitch.abs() > free, held, pitch)
    less = turns.transpose(1, 2) @ rotation(yaw, held, roll)
    return _turned(moves, frame.axes.T @ less @ frame.axes, frame)


def _turned(moves: Tensor, turns: Tensor, frame: Frame) -> Tensor:
    """moves (F, 4, 2) of a head that is first turned (F, 3, 3) about the neck, in the axes of the picture."""
    turns = frame.axes @ turns @ frame.axes.T  # in the head's own axes, in which its places are known
    own = frame.eyes * frame.axes[:, :2]  # (3, 2): cells, of an eye distance along each of the head's axes
    neck = moves.new_tensor(NECK)
    to_picture = own + moves[:, 1:]  # (F, 3, 2)
    turned = turns.transpose(1, 2) @ to_picture
    away = torch.einsum("k,fkc->fc", neck, to_picture - turned)
    return torch.cat([(moves[:, 0] + away)[:, None], turned - own], 1)


def rigid_flow(
    flow: Tensor, maps: Tensor, frame: Frame, *, rounds: int = 12, turn: Tensor | None = None, hold_nods: bool = False
) -> Tensor:
    """Project backward flow (F, 2, h, w) in cells, with maps (5, h, w) and head frame (in cells) of the portrait, onto
    rigid head motion.

    In parallel projection a rigid motion with scaling is linear in a point's x, y and depth: its eight coefficients are
    fitted by least squares where the face moves with the skull, made those of a turned and scaled head (`_rigid`), and
    applied in proportion to rigidity. The residual is kept only at the brows; lips, jaw and lids follow from the other
    channels in the decoder. turn: (F, 3, 3): the head is turned by it before it moves; hold_nods: of the motion itself.
    """
    frames, _, height, width = flow.shape
    y, x = torch.meshgrid(*(torch.arange(n, device=flow.device) + 0.5 for n in (height, width)), indexing="ij")
    place = torch.stack([x, y]).expand(frames, -1, -1, -1)  # (F, 2, h, w)
    _, across, down, depth, rigid = maps.float()
    steady = ((rigid > 0.9) & (down < 0.45) & (down > -0.9)).float()
    own = 0.7 * torch.exp(-(((down + 0.22) / 0.12) ** 2)) * ((across.abs() < 0.6) & (rigid > 0.5))
    fields = torch.stack([torch.ones_like(down), across, down, depth.clamp(-2, 2), rigid, steady, own]).expand(
        frames, -1, -1, -1
    )

    def at(source: Tensor) -> Tensor:
        grid = torch.stack([source[:, 0] * (2 / width) - 1, source[:, 1] * (2 / height) - 1], -1)
        return F.grid_sample(fields, grid, padding_mode="border", align_corners=False)

    source = place + flow
    there = at(source)
    basis = there[:, :4].flatten(2).transpose(1, 2)  # (F, N, 4)
    weight = there[:, 5].flatten(1)[..., None]
    normal = basis.transpose(1, 2) @ (weight * basis) + 1e-3 * torch.eye(4, device=flow.device)
    moves = torch.linalg.solve(normal, basis.transpose(1, 2) @ (weight * -flow.flatten(2).transpose(1, 2)))  # (F, 4, 2)
    moves = _rigid(moves, normal, frame)
    if hold_nods:
        moves = _nodding_less(moves, frame)
    fitted = moves = moves * _held_back(moves, fields[0, :4], steady)
    if turn is not None:
        moves = _turned(moves, turn, frame)
        moves = moves * _held_back(moves, fields[0, :4], steady)
    kept, own = there[:, 6:7], _flow_of(moves, place, at, there, rounds)
    if turn is None:
        return own + kept * (flow - own)
    return own + kept * (flow - _flow_of(fitted, place, at, there, rounds))


def _flow_of(moves: Tensor, place: Tensor, at: Callable[[Tensor], Tensor], there: Tensor, rounds: int) -> Tensor:
    """moves (F, 4, 2) -> the backward flow (F, 2, h, w) of the head that moves so, by fixed-point iteration."""
    for _ in range(rounds):
        moved = torch.einsum("fkhw,fkc->fchw", there[:, :4], moves) * there[:, 4:5]
        source = place - moved
        there = at(source)
    return source - place


def _held_back(moves: Tensor, basis: Tensor, steady: Tensor) -> Tensor:
    """moves (F, 4, 2) of basis (4, h, w) -> factors (F, 1, 1) up to 1: no place of the face, where steady (h, w) is 1,
    moves further than `FARTHEST`: between there and the border of the square, which rests, the flow would fold."""
    away = torch.einsum("fkc,khw->fchw", moves, basis).norm(dim=1).mul(steady).flatten(1).amax(1)
    room = FARTHEST - FREELY
    held = torch.where(away > FREELY, FREELY + room * ((away - FREELY) / room).tanh(), away)
    return (held / away.clamp(min=1e-6))[:, None, None]


def _amplitude(values: Tensor, bell: Tensor) -> Tensor:
    """Least-squares amplitude (F, C) of `bell` (F, h, w) in values (F, C, h, w)."""
    return torch.einsum("fchw,fhw->fc", values, bell) / bell.square().sum((1, 2))[:, None].clamp(min=1e-6)


def _moved(place: Tensor, flow: Tensor, *, rounds: int = 3) -> Tensor:
    """Position in the frame of a portrait position (F, 2), in cells: fixed-point inversion of backward flow (F, 2, h,
    w)."""
    found, size = place, flow.shape[-1]
    for _ in range(rounds):
        grid = (found * (2 / size) - 1)[:, None, None]
        found = place - F.grid_sample(flow, grid, padding_mode="border", align_corners=False)[:, :, 0, 0]
    return found


def _between(mesh: Tensor, first: int, second: int) -> Tensor:
    return (mesh[..., first, :] - mesh[..., second, :]).norm(dim=-1)


def _bell(centre: Tensor, spread: Tensor, cells: int) -> Tensor:
    """Gaussians (F, cells, cells) with maximum 1; centre (F, 2) and spread (F,) in cells."""
    places = torch.arange(cells, device=centre.device) + 0.5
    x, y, spread = centre[:, 0, None, None], centre[:, 1, None, None], spread[:, None, None]
    return torch.exp(-((places[None, None] - x) ** 2 + (places[None, :, None] - y) ** 2) / (2 * spread**2))
