"""What a model is and how it is sampled: frozen values, and the presets. A checkpoint carries its `ModelConfig` as
JSON.

Defaults are the paper's (EMO, arXiv 2402.17485) or, where the paper is silent, SD 1.5's and AnimateDiff's;
docs/differences.md lists each choice.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, replace

from .config_values import check_fields, listed, parse_object


@dataclass(frozen=True)
class MotionDecoderConfig:
    """The decoder of motion latents: it warps the portrait and paints the mouth's inside."""

    channels: tuple[int, int, int] = (48, 80, 128)  # at a quarter, an eighth and a sixteenth of the working size
    mouth_channels: int = 48
    mouth_cells: int = (
        24  # side of the painted window, in cells of a quarter of the working size; painted at twice that size
    )


@dataclass(frozen=True)
class AudioEncoderConfig:
    """The built-in audio encoder: a convolutional net on log-mel, trained to read the mouth from the voice."""

    mel_bands: int = 80
    width: int = 128
    blocks: int = 15
    features: int = (
        32  # D of what it hands on, the mouth tracks among them; `ModelConfig.audio_width` of a model that uses it
    )
    mouth_tracks: int = 4  # what it was trained to predict: opening, width, closure, tuck


@dataclass(frozen=True)
class HalloConfig:
    """What Hallo (arXiv 2406.08801) adds to EMO's networks; sizes are those of its checkpoint.

    A model with this part also has another structure: self-attention reads the portrait's tokens beside its
    own, and identity tokens take the place of reference attention; an audio transformer beside each attention moves
    pose, face and lips; temporal modules stand only beside attentions; the first clip's motion frames are the portrait;
    the face locator's output is added after the first convolution; what is resampled to the frame rate is the input of
    the audio encoder's transformer.
    """

    identity_tokens: int = 4
    identity_width: int = 512  # D of the face embedding (insightface's)
    identity_context_width: int = 768
    audio_tokens: int = 32  # per frame, each from the whole window
    audio_projection_width: int = 512  # of the layers between window and tokens
    face_mask_channels: int = 3  # the mask three times, as a picture

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"hallo.{field.name} must be at least 1, got {getattr(self, field.name)}")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes the networks and the noise schedule of one model."""

    name: str = "emo"
    image_size: int = 512  # pixels, square
    fps: float = 25.0  # EMO leaves open: the frame rate
    # latents
    vae_factor: int = 8  # pixels per latent cell, along each side
    latent_channels: int = 4
    latent_scale: float | tuple[float, ...] = (
        0.18215  # scaled latent = raw latent * latent_scale; one for all channels or each
    )
    # the UNet skeleton shared by reference net and backbone
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: int = 2
    attention_heads: int = 8
    norm_groups: int = 32
    feed_forward_multiplier: int = 4
    reference_addition: bool = (
        False  # at levels without attention, add the projected features of the reference net, cell by cell
    )
    reference_positions: bool = False  # Differs from EMO: tell queries and keys of pictures their places
    # audio-attention
    audio_layers: int = 12
    audio_width: int = 768
    audio_context_width: int = 768
    audio_margin_frames: int = 2  # m: a frame gets the features of frames f-m .. f+m
    # temporal modules
    temporal_attentions: int = 2  # self-attentions over frames per module, as AnimateDiff
    temporal_heads: int | None = None  # of their attentions; None: attention_heads
    temporal_position_limit: int = 32
    clip_frames: int = 12  # f
    motion_frames: int = 4  # n
    # face locator and speed layers; no buckets: no speed layers
    face_locator_channels: tuple[int, ...] = (16, 32, 64, 128)
    # c_d, degrees per second. EMO leaves open: the buckets
    speed_centres: tuple[float, ...] = (2.5, 12.5, 25.0, 42.5, 65.0)
    speed_radii: tuple[float, ...] = (5.0, 5.0, 7.5, 10.0, 12.5)  # r_d, degrees per second
    speed_width: int = 320
    # noise schedule. EMO leaves open: schedule and prediction type
    prediction: str = "v_prediction"  # or "epsilon"
    train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"  # or "linear"
    zero_terminal_snr: bool = True
    # Differs from EMO: factor of the initial noise of clips, relative to training; one, or one per channel
    noise_scale: float | tuple[float, ...] = 1.0
    noise_pose: float = 1.0  # the same for the two largest shapes of the flow, which are the head's pose
    # Differs from EMO: noise of the same kind as the motion, see sampling/noise.py; 0 shapes: white noise
    noise_shapes: int = 0  # spatial shapes of each latent channel, kept with the weights
    noise_frames: tuple[
        float, ...
    ] = ()  # by channel: standard deviation in frames of the Gaussian that smooths its noise
    noise_white: float = 0.1  # share of the variance that is white in space
    # Differs from EMO: sampled clips of motion latents are smoothed over time, and blink; see sampling/finish.py
    motion_smoothness: tuple[
        float, ...
    ] = ()  # by latent channel: weight of the squared second differences; empty: as sampled
    lid_channel: int = 5  # how open the eyes are
    # Differs from EMO: the opening is moved this share of the way to the one that the audio encoder predicts; see
    # sampling/heard_mouth.py
    heard_mouth: float = 0.0
    # parts that only the built-in model brings along; None: SD's VAE and a wav2vec2 come from elsewhere
    motion_decoder: MotionDecoderConfig | None = None
    audio_encoder: AudioEncoderConfig | None = None
    hallo: HalloConfig | None = None  # None: EMO's own structure

    def __post_init__(self):
        if self.image_size % self.vae_factor:
            raise ValueError(f"image_size {self.image_size} is not a multiple of vae_factor {self.vae_factor}")
        if len(self.channels) != len(self.attention_levels):
            raise ValueError(f"{len(self.channels)} channels but {len(self.attention_levels)} attention_levels")
        if len(self.speed_centres) != len(self.speed_radii):
            raise ValueError(f"{len(self.speed_centres)} speed_centres but {len(self.speed_radii)} speed_radii")
        if self.motion_frames + self.clip_frames > self.temporal_position_limit:
            raise ValueError(
                f"{self.motion_frames} motion frames and {self.clip_frames} frames do not fit "
                f"temporal_position_limit {self.temporal_position_limit}"
            )
        if self.prediction not in ("v_prediction", "epsilon"):
            raise ValueError(f"prediction must be 'v_prediction' or 'epsilon', got '{self.prediction:.60}'")
        if self.beta_schedule not in ("scaled_linear", "linear"):
            raise ValueError(f"beta_schedule must be 'scaled_linear' or 'linear', got '{self.beta_schedule:.60}'")
        for width, has_attention in zip(self.channels, self.attention_levels, strict=True):
            for heads in {self.attention_heads, self.temporal_heads or self.attention_heads}:
                if width % heads and (has_attention or not self.hallo):
                    raise ValueError(f"{width} channels cannot be divided among {heads} attention heads")
        if self.hallo and self.reference_positions:
            raise ValueError("reference_positions are not built for Hallo's joined attention; set one of the two only")
        scales = self.noise_scale if isinstance(self.noise_scale, tuple) else (self.noise_scale,)
        if not all(0 < scale <= 3 for scale in (*scales, self.noise_pose)) or len(scales) not in (
            1,
            self.latent_channels,
        ):
            raise ValueError(f"noise_scale must be above 0 and at most 3, one or one a channel, got {self.noise_scale}")
        if len(self.noise_frames) != (self.latent_channels if self.noise_shapes else 0):
            raise ValueError(
                f"{self.noise_shapes} noise_shapes and {len(self.noise_frames)} noise_frames do not go "
                f"with {self.latent_channels} latent channels"
            )
        if len(self.motion_smoothness) not in (0, self.latent_channels):
            raise ValueError(
                f"motion_smoothness has {len(self.motion_smoothness)} entries for {self.latent_channels} channels"
            )
        if isinstance(self.latent_scale, tuple) and len(self.latent_scale) != self.latent_channels:
            raise ValueError(
                f"latent_scale has {len(self.latent_scale)} entries for {self.latent_channels} latent channels"
            )
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError(
                "zero_terminal_snr needs prediction 'v_prediction': predicting noise from pure noise is trivial"
            )

    @property
    def latent_size(self) -> int:
        """Cells of a latent along each side."""
        return self.image_size // self.vae_factor

    @property
    def audio_window(self) -> int:
        """K, the steps of an audio or speed window."""
        return 2 * self.audio_margin_frames + 1

    @property
    def audio_resampling(self) -> str:
        """What is resampled to the frame rate: the encoder's layers ("features"), or their input ("convolutions",
        Hallo)."""
        return "convolutions" if self.hallo else "features"

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Inverse of `to_json`; reads files with Hallo's fields beside EMO's as well.

        Raises ValueError with the field's name for a field this version does not know, or of another type or range.
        """
        values = parse_object(text, "the model's config")
        if values.pop("autoencoder", None) is not None:
            raise ValueError(
                f"this model ('{values.get('name')}') is of an earlier version, which painted the "
                "portrait anew with an autoencoder; this one moves the portrait's own pixels: use the "
                "built-in model of this version"
            )
        values.pop("latent_rgb", None)  # only such models had any
        values = _nest_hallo(values)
        _refuse_unknown(cls, values)
        parts = (("motion_decoder", MotionDecoderConfig), ("audio_encoder", AudioEncoderConfig), ("hallo", HalloConfig))
        for name, part in parts:
            if values.get(name) is not None:
                if not isinstance(values[name], dict):
                    raise ValueError(
                        f"the model's config says {name} = {values[name]!r:.80}, but it must be an object; "
                        "copy or download the file again"
                    )
                _refuse_unknown(part, values[name])
                check_fields(part, values[name], prefix=f"{name}.")
                values[name] = _built(part, values[name])
        check_fields(cls, values)
        return _built(cls, values)


@dataclass(frozen=True)
class SamplingConfig:
    """How a video is sampled; the defaults are those of the built-in model."""

    steps: int = 2  # Differs from EMO: the paper takes 40
    sampler: str = "ddim"
    # EMO leaves open: the scales of guidance
    audio_guidance: float = 1.2  # 1: as trained; above: the mouth follows the voice more strongly
    reference_guidance: float = (
        1.0  # 1: as trained; above: the portrait is kept more strongly. Another evaluation when not 1
    )
    # guidance acts from this part of the steps on and up to that, 0..1; outside it costs nothing
    audio_guidance_start: float = 0.0
    audio_guidance_end: float = 1.0
    reference_guidance_start: float = 0.0
    reference_guidance_end: float = 1.0
    region_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)  # Hallo: how strongly audio moves pose, face and lips
    mixed_identity: bool = (
        True  # Hallo: under guidance, read motion frames with the identity tokens that its own code gives them
    )
    noise_scale: float = (
        1.0  # times the model's own; below 1: calmer heads, backgrounds that boil less; above: livelier
    )
    head_speed: float = 12.5  # degrees per second
    blinks: float = 1.0  # of the built-in model: how often, against one in 4 seconds; 0: none but the model's own
    seed: int = 0

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.steps > 1000:
            raise ValueError(f"steps must be 1 to 1000, got {self.steps}")
        for name in ("audio_guidance", "reference_guidance", "head_speed", "blinks"):
            if not math.isfinite(getattr(self, name)) or getattr(self, name) < 0:
                raise ValueError(f"{name} must be a number >= 0, got {getattr(self, name)}")
            if getattr(self, name) > 1000:
                raise ValueError(f"{name} must be at most 1000, got {getattr(self, name):g}")
        for name in ("audio_guidance", "reference_guidance"):
            start, end = getattr(self, f"{name}_start"), getattr(self, f"{name}_end")
            if not 0 <= start <= end <= 1:
                raise ValueError(
                    f"{name} acts in a part of the steps, 0 <= start <= end <= 1, but got {start} to {end}"
                )
        if not -(2**63) <= self.seed < 2**64:
            raise ValueError(f"seed must be a number of up to 64 bits, got {self.seed}")
        if not 0 <= self.noise_scale <= 2:
            raise ValueError(f"noise_scale must be 0 to 2, got {self.noise_scale}")
        if len(self.region_weights) != 3 or not all(0 <= weight <= 3 for weight in self.region_weights):
            raise ValueError(f"region_weights are those of pose, face and lips, 0 to 3 each, got {self.region_weights}")

    def for_face(self, number: int) -> SamplingConfig:
        """These settings for face 0, 1, ... of a picture: each has a seed of its own, so that they do not nod and blink
        together."""
        return replace(self, seed=(self.seed + number * 0x9E37_79B9_7F4A_7C15) % 2**64) if number else self

    def guidance_at(self, step: int) -> tuple[float, float]:
        """(audio, reference): the scales of guidance in step 0, 1, ... of `steps`."""
        return tuple(
            scale if start * self.steps <= step < end * self.steps else 1.0
            for scale, start, end in (
                (self.audio_guidance, self.audio_guidance_start, self.audio_guidance_end),
                (self.reference_guidance, self.reference_guidance_start, self.reference_guidance_end),
            )
        )


EMO_SWITCHES = {
    "reference_attention": "own",
    "identity_tokens": 0,
    "audio_tokens": 0,
    "audio_transformers": False,
    "audio_resampling": "features",
    "temporal_without_attention": True,
    "first_motion_frames": "zeros",
    "face_after_conv_in": False,
}
"""Flat fields of files written before `ModelConfig.hallo`, as EMO had them; Hallo had another value in each."""


def _nest_hallo(values: dict) -> dict:
    """Flat fields of older files -> the part `hallo`. Raises ValueError for a mixture, which was never built."""
    sizes = [field.name for field in dataclasses.fields(HalloConfig)]
    flat = {name: values[name] for name in (*EMO_SWITCHES, *sizes) if name in values}
    kinds = {flat[name] == value for name, value in EMO_SWITCHES.items() if name in flat}
    if len(kinds) > 1:
        raise ValueError(
            f"the config of model '{values.get('name')}' mixes parts of EMO and Hallo, which this version "
            "does not build; load it with the version that wrote it"
        )
    rest = {name: value for name, value in values.items() if name not in flat}
    return rest | {"hallo": {name: flat[name] for name in sizes if name in flat}} if kinds == {False} else rest


def _built(part: type, values: dict):
    """A dataclass of values whose types and ranges fit; what does not fit together is refused with a remedy."""
    try:
        return part(
            **{key: value if dataclasses.is_dataclass(value) else _tuples(value) for key, value in values.items()}
        )
    except ValueError as error:
        raise ValueError(f"{error}; copy or download the file again") from None


def _refuse_unknown(part: type, values: dict) -> None:
    unknown = sorted(values.keys() - {field.name for field in dataclasses.fields(part)})
    if unknown:
        raise ValueError(
            f"the model's config has fields this version does not know: {listed(unknown)}; "
            "update ComfyUI-EMO to load it"
        )


def _tuples(value):
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


EMO = ModelConfig()
"""The paper's size: SD 1.5 widths, 512x512, f = 12, n = 4, m = 2, wav2vec2-base."""

HALLO = ModelConfig(
    name="hallo",
    clip_frames=16,
    motion_frames=2,
    speed_centres=(),
    speed_radii=(),
    beta_schedule="linear",
    hallo=HalloConfig(),
)
"""Hallo v1 (arXiv 2406.08801), the size and the choices of its published checkpoint."""

BUILTIN = ModelConfig(
    name="builtin",
    image_size=256,
    vae_factor=16,
    latent_channels=8,
    latent_scale=(1.0,) * 8,
    channels=(48, 96, 128),
    attention_levels=(False, True, True),
    reference_addition=True,
    reference_positions=True,
    layers_per_block=1,
    attention_heads=4,
    norm_groups=16,
    feed_forward_multiplier=2,
    audio_layers=1,
    audio_width=32,
    audio_context_width=96,
    temporal_attentions=1,
    face_locator_channels=(4, 8, 16, 16, 16),
    speed_width=64,
    noise_shapes=16,
    noise_frames=(1.0,) * 8,
    noise_scale=(0.4, 0.4, 0.2, 0.3, 0.3, 1.0, 1.5, 1.5),
    noise_pose=2.3,
    motion_smoothness=(20.0, 20.0, 0.0, 0.1, 0.0, 0.3, 6.0, 6.0),
    heard_mouth=0.6,
    motion_decoder=MotionDecoderConfig(),
    audio_encoder=AudioEncoderConfig(),
)
"""The built-in model: motion latents of 16x16 cells over the square around the head; a decoder that warps the portrait.
"""

TEST = replace(
    BUILTIN,
    name="test",
    image_size=64,
    channels=(16, 32),
    attention_levels=(True, True),
    attention_heads=2,
    norm_groups=4,
    audio_width=8,
    audio_context_width=16,
    clip_frames=4,
    motion_frames=2,
    face_locator_channels=(4, 4, 4, 4, 4),
    speed_width=8,
    motion_decoder=MotionDecoderConfig(channels=(8, 8, 8), mouth_channels=8, mouth_cells=6),
    audio_encoder=AudioEncoderConfig(mel_bands=16, width=8, blocks=1, features=8),
)
"""Seconds on a CPU; for tests and benchmarks."""

PRESETS = {config.name: config for config in (EMO, HALLO, BUILTIN, TEST)}

SAMPLING = {
    "emo": SamplingConfig(steps=40, audio_guidance=3.5, reference_guidance=3.5),
    "hallo": SamplingConfig(steps=40, audio_guidance=3.5, reference_guidance=3.5, seed=42),
}
"""By preset, where the built-in model's are not right: the paper's steps. Hallo guides voice and portrait as one: two
equal scales, which models of EMO's size begin with, too, as the paper names none."""
