"""What a clip's denoising steps read: as it was prepared, and as keys and values of each layer, projected once for all steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, cat, nn

from ..types import ReferenceFeatures
from .backbone import Backbone
from .seen import ZEROS, Groups, KeysValues, Seen, Zeros
from .temporal import MotionTokens


@dataclass(frozen=True, eq=False)
class Scene:
    """What stays the same over a video. reference: the portrait's features, which may be keys and values already.

    face: (B, C, 1, h, w), added to the noise; regions (B, 3, N) by level, for Hallo.
    """

    reference: ReferenceFeatures
    face: Tensor
    regions: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class Context:
    """What every denoising step of a clip reads; parts that are None are skipped (see Backbone), ZEROS are not looked at.

    reference and motion: features by layer; audio: (B, F, M, D) tokens; speed: (B, F, D); face: (B, C, 1, h, w), added to the
    noise. For Hallo: identity (B, 2, M, D), the tokens of nobody and of who is shown; regions (B, 3, N) by level; region_weights
    (3,).
    """

    reference: ReferenceFeatures | Zeros | None
    motion: ReferenceFeatures | None
    audio: Tensor | Zeros | None
    speed: Tensor | None
    face: Tensor | None
    identity: Tensor | None = None
    regions: tuple[Tensor, ...] = ()
    region_weights: Tensor | None = None

    def without_audio(self) -> Context:
        """The unconditional half of audio guidance: silent tokens are zeros."""
        return replace(self, audio=ZEROS)

    def without_reference(self) -> Context:
        """The unconditional half of reference guidance: a portrait of zeros.

        Hallo's has none at all, no face mask, and motion frames that are read as nobody's.
        """
        if self.identity is None:
            return replace(self, reference=ZEROS)
        motion = None if self.motion is None else ReferenceFeatures(self.motion.nobody)
        return replace(self, reference=None, motion=motion, face=None, identity=self.identity.flip(1))


@dataclass(frozen=True, eq=False)
class Projected:
    """Contexts as the backbone reads them: `layers` by name; face (B, C, h, w) or None, in Groups where that differs."""

    layers: dict[str, Seen]
    face: Tensor | Groups | None
    regions: tuple[Tensor, ...]
    region_weights: Tensor | None


def project(backbone: Backbone, contexts: tuple[Context, ...]) -> Projected:
    """What the layers of the backbone look at in `contexts`, which differ only as the halves of guidance do.

    Several are groups of one batch; they share a layer's answer as long as they have seen the same, so the batch parts only
    where it must: a context without the voice goes with the other up to the first audio-attention. Then B must be 1.
    """
    groups = _Groups(contexts)
    first = contexts[0]
    face = groups.see("face", lambda face: None if face is None else face[:, :, 0])
    layers = {}
    for name, beside in backbone.places():
        attention, audio_module, motion_module = beside.attention, beside.audio_module, beside.motion_module
        reader = attention or backbone.addition(name)
        reference = identity = audio = motion = speed = codes = None
        if attention is not None and first.face is not None:
            codes = attention.codes(*_size(first.face, beside.level), like=first.face)
        if reader is not None:
            reference = groups.see("reference", lambda reference: _reference(reader, reference, name, first.face))  # noqa: B023
        if attention is not None and first.identity is not None:
            identity = groups.see("identity", lambda identity: attention.project_identity(identity[:, 1]))  # noqa: B023
        if attention is not None and audio_module is None and first.audio is not None:
            audio = groups.see("audio", lambda audio: attention.project_audio(_voice(audio), like=first.face))  # noqa: B023
        elif audio_module is not None and first.audio is not None:
            audio = groups.see("audio", lambda audio: audio_module.project(  # noqa: B023
                _voice(audio), first.regions[beside.level], first.region_weights))  # noqa: B023
        if motion_module is not None and first.motion is not None:
            motion = groups.see("motion", lambda motion: motion_module.project(motion.features[name]))  # noqa: B023
            speed = None if first.speed is None else motion_module.project_speed(first.speed)
        layers[name] = Seen(reference, identity, audio, motion, speed, codes)
    return Projected(layers, face, first.regions, first.region_weights)


class _Groups:
    """The contexts on their way through the layers: whether they have parted yet, so that a batch holds all of them."""

    def __init__(self, contexts: tuple[Context, ...]):
        self.contexts, self.have_parted, self.rows = contexts, False, 0
        if len(contexts) > 1:
            voice, *others = (one.audio for one in contexts)
            if not isinstance(voice, Tensor) or len(voice) > 1 or any(other is not ZEROS for other in others):
                raise ValueError("contexts are evaluated together for one portrait at a time, and only the first has a voice")
            self.rows = voice.shape[1]

    def see(self, field: str, make: Callable[[Any], Any]) -> Any:
        """make(what a context has in `field`), once for those that have the same, in Groups where they differ."""
        made = {}
        for one in self.contexts:
            value = getattr(one, field)
            if id(value) not in made:
                made[id(value)] = make(value)
        parts = [made[id(getattr(one, field))] for one in self.contexts]
        if len(made) == 1 and not (self.have_parted and isinstance(parts[0], MotionTokens)):
            return parts[0]
        if self.have_parted and isinstance(parts[0], MotionTokens):  # every cell of every group has its own
            return parts[0].beside(parts[1:])
        if self.have_parted and _are_alike(parts):  # each for the rows of its group, in their order
            return KeysValues(cat([part.keys for part in parts]), cat([part.values for part in parts]))
        self.have_parted = True
        return Groups.of(parts, self.rows)


def _are_alike(parts: list) -> bool:
    return all(isinstance(part, KeysValues) and part.keys.shape == parts[0].keys.shape for part in parts)


def _reference(reader: nn.Module, reference: ReferenceFeatures | Zeros | None, name: str, like: Tensor) -> Any:
    if reference is None or isinstance(reference, Zeros):
        return None if reference is None else reader.project(reference, like=like)
    feature = reference.features[name]
    return reader.project(feature) if isinstance(feature, Tensor) else feature


def _size(latents: Tensor, level: int) -> tuple[int, int]:
    """Height and width at a level of the backbone, for latents (..., h, w)."""
    height, width = latents.shape[-2:]
    return (height, width) if level == 0 else _size(latents[..., ::2, ::2], level - 1)


def _voice(audio: Tensor | Zeros) -> Tensor | Zeros:
    """(B, F, M, D) -> (B F, M, D)."""
    return audio if isinstance(audio, Zeros) else audio.flatten(0, 1)
