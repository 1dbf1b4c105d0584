"""What the decoder makes of dials: each moves its own part of the face, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emo_model.checkpoints import native
from emo_model.evaluation.reading import read
from emo_model.inputs.portrait import fit_to_video, read_portrait
from emo_model.outputs.portrait_decoder import PortraitDecoder
from emo_model.sampling.expression import DIALS


@pytest.fixture(scope="module")
def decoder(photograph):
    bundle = native.load(native.DEFAULT_WEIGHTS, dtype=torch.float32)
    picture, mesh = fit_to_video(photograph.picture, photograph.mesh, long_side=256)
    shown = read_portrait(picture, mesh, bundle.config)
    return PortraitDecoder(bundle.motion_decoder.eval(), bundle.config, picture, shown)


def frame(decoder, **dials) -> np.ndarray:
    planes = torch.tensor([float(dials.get(name, 0)) for name in DIALS])
    return decoder.decode(torch.cat([decoder.latents, planes.view(1, -1, 1, 1).expand(1, -1, 16, 16)], 1))[0]


def test_dials_at_zero_give_the_frames_without_dials(decoder):
    assert np.array_equal(frame(decoder), decoder.decode(decoder.latents)[0])


@pytest.mark.parametrize(
    ("dial", "value"),
    [
        ("smile", 1),
        ("brows", 1),
        ("gaze_x", 1),
        ("gaze_y", 1),
        ("lids", 1),
        ("yaw", 0.2),
        ("pitch", 0.1),
        ("roll", 0.2),
    ],
)
def test_each_dial_changes_the_face_and_no_pixel_outside_of_the_head_square(decoder, dial, value):
    changed = np.abs(frame(decoder, **{dial: value}).astype(int) - frame(decoder)).max(-1)
    fit = decoder.fit
    outside = np.ones_like(changed, dtype=bool)
    outside[max(0, fit.top) : fit.top + fit.side, max(0, fit.left) : fit.left + fit.side] = False
    assert changed.max() > 20
    assert not changed[outside].any()


def test_gaze_changes_the_eyes_alone_and_a_smile_does_not(decoder):
    rest, looking = frame(decoder), frame(decoder, gaze_x=1)
    mesh = decoder.mesh * (decoder.fit.side / decoder.fit.size)
    mesh = mesh + torch.tensor([decoder.fit.left, decoder.fit.top, 0.0])
    changed = np.argwhere(np.abs(looking.astype(int) - rest).max(-1) > 8)
    low, high = mesh[[33, 133, 362, 263], :2].amin(0), mesh[[33, 133, 362, 263], :2].amax(0)
    assert (changed[:, 1] > low[0].item() - 3).all() and (changed[:, 1] < high[0].item() + 3).all()
    assert (changed[:, 0] > low[1].item() - 12).all() and (changed[:, 0] < high[1].item() + 12).all()
    smiling = np.abs(frame(decoder, smile=1).astype(int) - rest).max(-1)
    eyes = slice(int(low[1]) - 4, int(high[1]) + 4)
    assert smiling[eyes].mean() < 0.2 * smiling[int(mesh[61, 1]) - 6 : int(mesh[61, 1]) + 6].mean()


def test_the_mesh_reads_the_turns_of_the_head_in_their_directions(decoder, photograph):
    mesh = decoder.mesh * (decoder.fit.side / decoder.fit.size)
    mesh = mesh + torch.tensor([decoder.fit.left, decoder.fit.top, 0.0])
    turns = [{}, {"yaw": 0.2}, {"pitch": 0.15}, {"roll": 0.2}]
    reading, _ = read(photograph.finder, np.stack([frame(decoder, **turn) for turn in turns]), mesh, decoder.fit)
    moved = reading.turn[1:] - reading.turn[0]
    for axis, wanted in enumerate((-0.2, 0.15, 0.2)):  # the reading counts yaw to the left
        assert 0.7 < moved[axis, axis].item() / wanted < 1.3


@pytest.mark.parametrize(
    ("dial", "value", "point"), [("smile", 1, 61), ("smile", 1, 291), ("brows", 1, 105), ("yaw", 0.12, 4)]
)
def test_finished_frames_show_the_skin_where_it_is_said_to_be(decoder, dial, value, point):
    """The patch around a point of the mesh is sought in the frame with the dial, to half a pixel."""

    def latents(**dials):
        planes = torch.tensor([float(dials.get(name, 0)) for name in DIALS])
        return torch.cat([decoder.latents, planes.view(1, -1, 1, 1).expand(1, -1, 16, 16)], 1)

    before, after = (decoder.places(one)[0, point] for one in (latents(), latents(**{dial: value})))
    rest, moved = (
        torch.from_numpy(frame(decoder, **dials)).float().mean(-1)[None, None] for dials in ({}, {dial: value})
    )
    height, width = rest.shape[2:]
    grid = torch.stack(torch.meshgrid(torch.arange(-8.0, 9.0), torch.arange(-8.0, 9.0), indexing="xy"), -1)

    def patches(picture, places):  # (N, 2) -> (N, pixels), standardised
        at = (places[:, None, None] + grid) * 2 / torch.tensor([width, height]) - 1
        seen = torch.nn.functional.grid_sample(picture.expand(len(places), -1, -1, -1), at, align_corners=False)
        seen = seen.flatten(1) - seen.flatten(1).mean(1, keepdim=True)
        return seen / seen.norm(dim=1, keepdim=True)

    steps = torch.arange(-16, 16.1, 0.5)
    shifts = torch.cartesian_prod(steps, steps)
    scores = patches(moved, before + shifts) @ patches(rest, before[None])[0]
    found = shifts[scores.argmax()]
    assert (after - before).norm() > 5
    assert (found - (after - before)).norm() < 1.5
