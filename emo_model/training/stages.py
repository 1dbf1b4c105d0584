"""EMO's three training stages as data: what trains, what is left out at random, how long (arXiv 2402.17485, 'Training
Strategies'); and a fourth, which the paper does not have: distillation to few steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Stage:
    """One stage. Patterns are over parameter names of `Emo`; a parameter trains if it matches `trains` and not
    `frozen`."""

    name: str
    trains: tuple[str, ...]
    frozen: tuple[str, ...] = ()
    is_video: bool = True  # clips of n + f frames; else single frames, without motion, voice and speed
    has_speed: bool = False
    steps: int = 10_000
    batch: int = 4
    learning_rate: float = 1e-5
    warmup_steps: int = 100
    drop_reference: float = 0.05  # share of samples that see a portrait of zeros, for guidance
    drop_audio: float = 0.0
    drop_motion: float = 0.0  # share of samples that begin a video: zero maps
    motion_noise: float = (
        0.0  # motion frames get noise of up to this standard deviation, so that a long video does not drift
    )
    reference_noise: float = 0.0
    frame_references: bool = True  # the reference is often another frame of the clip; else always a still
    favoured: tuple[int, ...] = ()  # timesteps that two thirds of the samples train: those of a sampler of few steps
    channel_weights: tuple[float, ...] = ()  # of the latents' channels in the loss; all alike if empty
    whole_mask: float = (
        0.25  # share of samples whose face may be anywhere. Differs from EMO: the paper names no such share
    )

    def trains_parameter(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.trains) and not any(
            fnmatchcase(name, pattern) for pattern in self.frozen
        )


IMAGE = Stage(
    "image",
    trains=("reference_net.*", "backbone.*", "face_locator.*"),
    frozen=("*.motion_modules.*", "*.attn_audio.*", "*.norm_audio.*"),
    is_video=False,
    batch=48,
)
"""Stage 1: single frames; the reference is another frame of the same video."""

VIDEO = Stage(
    "video",
    trains=("*",),
    frozen=("speed_layers.*", "*.attn_speed.*", "*.norm_speed.*"),
    drop_audio=0.1,
    drop_motion=0.15,
    motion_noise=0.4,
)
"""Stage 2: temporal modules and audio layers join.

EMO leaves open: which voices, portraits and motion frames are dropped, and noise on motion frames.
"""

SPEED = Stage(
    "speed",
    trains=("*.motion_modules.*", "speed_layers.*"),
    has_speed=True,
    drop_audio=0.1,
    drop_motion=0.15,
    motion_noise=0.4,
)
"""Stage 3: speed layers join; only they and the temporal modules train."""

PAPER = (IMAGE, VIDEO, SPEED)

_FEW = {
    "frame_references": False,
    "motion_noise": 0.3,
    "favoured": (999, 999, 499, 499, 666),
    "channel_weights": (1.0, 1.0, 3.0, 2.0, 2.0, 0.7, 0.3, 0.3),
}

BUILTIN = (
    replace(IMAGE, steps=500, batch=16, learning_rate=1e-3, frame_references=False),
    replace(VIDEO, steps=2_400, batch=4, learning_rate=8e-4, **_FEW),
    replace(SPEED, steps=200, batch=4, learning_rate=3e-4, **_FEW),
)
"""The built-in model on one CPU core. Differs from EMO: it starts from nothing, not from SD 1.5 and AnimateDiff.

The reference is always the portrait at rest; the timesteps of a sampler with two steps come up most; of the
motion latents, the mouth weighs most and gaze, which the audio does not determine, least.
"""

TEST = tuple(replace(stage, steps=3, batch=2, learning_rate=1e-3, warmup_steps=1) for stage in PAPER)

RECIPES = {"emo": PAPER, "builtin": BUILTIN, "test": TEST}


@dataclass(frozen=True)
class Distillation:
    """The fourth stage: a student that takes `steps` steps without guidance learns from its guided teacher's
    `teacher_steps`."""

    stage: Stage
    steps: int = 2
    teacher_steps: int = 4  # a multiple of `steps`
    audio_guidance: float = 2.5  # the teacher's
    reference_guidance: float = 1.0
    ema_decay: float = 0.99  # the run is short


DISTILL = Stage(
    "distill",
    trains=("backbone.*",),
    has_speed=True,
    steps=4_000,
    batch=4,
    drop_reference=0.0,
    drop_motion=0.15,
    motion_noise=0.4,
    reference_noise=0.1,
)

DISTILLATIONS = {
    "emo": Distillation(DISTILL, teacher_steps=20, audio_guidance=3.5),
    "builtin": Distillation(
        replace(
            DISTILL,
            frozen=("*.attn1.*", "*.ff.*", "*.upsamplers.*", "*.downsamplers.*"),  # then not in its file: 2.5 of 13 MB
            steps=500,
            batch=4,
            learning_rate=4e-4,
            warmup_steps=30,
            frame_references=False,
            motion_noise=0.3,
        ),
        teacher_steps=2,  # those of the default: only guidance is distilled
        audio_guidance=1.2,
    ),
    "test": Distillation(replace(DISTILL, steps=3, batch=2, learning_rate=1e-3, warmup_steps=1)),
}
"""By preset. Only the last but one was run beyond toy size."""
