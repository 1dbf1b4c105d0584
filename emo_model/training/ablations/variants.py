"""A small EMO, its three stages, and the same without one of its parts: by options that every model has.

A part is left out by its null condition, in every sample of training and in sampling: zeros for the portrait's
features, for the audio tokens, for the maps of the motion frames; a mask of ones; stage 3 without speeds, where the
speed attention keeps the zero output that it begins with. So all variants have the same parameters, initial weights
and batches, and the stages before the one in which a part joins are those of the full model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...config import ModelConfig, SamplingConfig
from ..stages import IMAGE, SPEED, VIDEO, Stage

MODEL = ModelConfig(
    name="ablations",
    image_size=64,
    vae_factor=8,
    latent_channels=7,
    latent_scale=(2.0, 2.0, 2.0, 1.0, 1.0, 10.0, 4.0),  # about unit variance
    channels=(32,),  # at 8x8 cells attention reaches everywhere; further levels would only cost time
    attention_levels=(True,),
    reference_positions=True,
    layers_per_block=1,
    attention_heads=2,
    norm_groups=8,
    feed_forward_multiplier=2,
    audio_layers=1,
    audio_width=32,
    audio_context_width=32,
    temporal_attentions=1,
    clip_frames=6,
    motion_frames=2,
    face_locator_channels=(4, 8, 8, 16),
    speed_width=32,
)
"""White noise as in the paper, so that nothing but the speed layers reads the head speed."""

SAMPLING = SamplingConfig(steps=4, audio_guidance=1.0)

_LIPS = {"frame_references": False, "channel_weights": (1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 1.0), "warmup_steps": 20}
STAGES = (
    replace(IMAGE, steps=300, batch=16, learning_rate=2e-3, **_LIPS),
    replace(VIDEO, steps=300, batch=4, learning_rate=2e-3, **_LIPS),
    replace(SPEED, steps=150, batch=4, learning_rate=1e-3, **_LIPS),
)
"""The paper's stages; the reference is always the portrait at rest, as in a video; the mouth weighs most, as in the
built-in model's."""


@dataclass(frozen=True)
class Variant:
    """joins: the stage in which the part that is left out joins; changes: of the stages from there on."""

    name: str
    joins: str = ""
    changes: dict = field(default_factory=dict)

    def stage(self, stage: Stage) -> Stage:
        return replace(stage, **self.changes) if self.differs(stage) else stage

    def differs(self, stage: Stage) -> bool:
        """Whether the weights after this stage are not those of the full model."""
        names = [one.name for one in STAGES]
        return self.joins != "" and names.index(stage.name) >= names.index(self.joins)

    @property
    def has_reference(self) -> bool:
        return self.changes.get("drop_reference") != 1

    @property
    def has_motion(self) -> bool:
        return self.changes.get("drop_motion") != 1

    @property
    def whole_mask(self) -> bool:
        return self.changes.get("whole_mask") == 1

    @property
    def sampling(self) -> SamplingConfig:
        return replace(SAMPLING, audio_guidance=0.0) if self.changes.get("drop_audio") == 1 else SAMPLING


FULL = Variant("full")
WITHOUT = {
    "reference attention": Variant("reference_attention", "image", {"drop_reference": 1.0}),
    "audio attention": Variant("audio_attention", "video", {"drop_audio": 1.0}),
    "motion frames": Variant("motion_frames", "video", {"drop_motion": 1.0}),
    "face locator": Variant("face_locator", "image", {"whole_mask": 1.0}),
    "speed layers": Variant("speed_layers", "speed", {"has_speed": False}),
}
