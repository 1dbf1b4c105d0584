"""Training of the motion decoder on turned portraits, and where the shipped one opens the mouth of a turned face."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

pytest.importorskip("numba", reason="puppets are drawn with numba: pip install numba")

from emo_model.auxiliary.motion_decoder import PATCH, sample, window
from emo_model.checkpoints import native
from emo_model.inputs.face_geometry import head_frame
from emo_model.inputs.media import to_uint8
from emo_model.synthetic.puppet_store import Person, PuppetStore, cut_person
from emo_model.training.motion_decoder import MotionDecoderTask


class OnePerson:
    """A store of one person."""

    def __init__(self, person: Person):
        self.person = person

    def indices(self, *, held_out: bool) -> list[int]:
        return [0]

    def __getitem__(self, index: int) -> Person:
        return self.person


def yaw(mesh: torch.Tensor) -> float:
    back = head_frame(mesh).axes[2]
    return torch.atan2(back[0], back[2]).item()


def test_a_turned_person_is_the_same_person_seen_from_the_side(puppets):
    person = PuppetStore(puppets)[0]
    for angle in (-0.5, 0.3):
        turned = person.turned(angle, 0.0)
        assert abs(yaw(turned.mesh) - yaw(person.mesh)) == pytest.approx(abs(angle), abs=0.15)
        assert turned.picture.shape == person.picture.shape and turned.name == person.name


def test_the_mouth_of_a_turned_face_opens_where_its_lips_part(photograph):
    bundle = native.load(native.DEFAULT_WEIGHTS)
    decoder = bundle.motion_decoder.float()
    person = cut_person("1.jpg", Image.fromarray(to_uint8(photograph.picture)[0]), photograph.mesh)
    people = OnePerson(person.turned(0.5, 0.0))
    task = MotionDecoderTask(decoder, bundle.config, people, batch=2, pairs=2, noise=0.0, only_mouth=True)
    batch = task.batch(0)
    seen = (part[:1] for part in (batch.portraits, batch.maps, batch.rest, batch.mouth, batch.skull))
    with torch.no_grad():
        decoded = decoder(batch.latents, decoder.read_portrait(*seen), batch.look, batch.teeth, batch.jaw)
    cells = decoder.mouth_cells
    around = window(decoded.mouth, cells=cells, points=2 * PATCH * cells, size=decoded.flow.shape[-1])
    ours, truth = decoded.mouth_mask, sample(batch.painted, around)
    both, either = (pick(ours, truth).flatten(1).sum(1) for pick in (torch.minimum, torch.maximum))
    assert truth.flatten(1).mean(1).min() > 0.005 and (both / either).mean() > 0.61
