"""The public entry point: `load` a model, then `speak` yields the frames of a talking video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from .acceleration.group_norm import use_own_group_norm
from .cache.folder import CacheRun
from .cache.renderer import CachedRenderer
from .checkpoints import native
from .checkpoints.mediapipe import load_face_finder
from .checkpoints.native import Bundle
from .config import SamplingConfig
from .estimate import count_clips
from .inputs import media, portrait
from .inputs.audio import SoundFile, as_waveform, check_rate, encode_lazily, silence
from .inputs.voice_schedule import LETTERS, VoiceSchedule
from .inputs.voices import MixedSound, assign, encode_voice, soundtrack
from .outputs.portrait_decoder import PortraitDecoder
from .outputs.several_faces import GroupDecoder, stacked
from .sampling.clips import ClipRenderer, generate_clips
from .sampling.direction import Direction, direct, idle_frames
from .sampling.expression import Expression
from .types import AudioFeatures, Conditions, Fit, MotionFrames, Portrait, Speed, is_finite

MODELS = {"default": native.DEFAULT_WEIGHTS, "fast": native.FAST_WEIGHTS}


def load(model: str | Path = "default", device: torch.device | str = "cpu") -> Bundle:
    """Load a model in float32: 'default' or 'fast' (built-in), or a file of this pack.

    Raises FileNotFoundError or ValueError if the file or the device cannot be used.
    """
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ValueError, TypeError, ImportError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        others = " or 'cuda'" if torch.cuda.is_available() else ""
        raise ValueError(f"device '{device}' cannot be used here: {reason:.120}; use 'cpu'{others}") from None
    path = MODELS.get(model, model) if isinstance(model, str) else model
    bundle = native.load(path, dtype=torch.float32, device=device)
    if bundle.motion_decoder is None or bundle.audio_encoder is None:
        raise ValueError(
            f"{Path(path).name} contains no motion decoder and audio encoder; use it in ComfyUI, with core's loaders "
            "of VAE and audio encoder"
        )
    for part in (bundle.emo, bundle.motion_decoder):
        part.to(memory_format=torch.channels_last)
    use_own_group_norm(bundle.emo)
    return bundle


def speak(
    bundle: Bundle,
    picture: str | Path | Tensor,
    voice: str | Path | tuple[Tensor, int],
    *,
    sampling: SamplingConfig | None = None,
    face: str | int | Sequence[float] | None = None,
    long_side: int = portrait.LONG_SIDE,
    square: bool = False,
    fps: float | None = None,
    motion: MotionFrames = MotionFrames(),
    expression: Expression = Expression(),
) -> Iterator[np.ndarray]:
    """Yield blocks of frames (F, H, W, 3) uint8 as they are generated, at `fps` frames per second (the model's own).

    picture: a file, or pixels (1, 3, H, W) in [-1, 1]; voice: a file, or a waveform (C, T) and its sample rate.
    sampling: None for the model's own. face: 'largest', 'leftmost', 'rightmost' or its number from the left, or its
    box: left, top, right, bottom as fractions of the picture or in pixels. long_side: larger pictures are downscaled to
    it. square: only the head square. motion: latents of the last frames of the video to continue. expression: dials.
    Raises OSError and ValueError that say what to do.
    """
    options = {"sampling": sampling, "face": face, "long_side": long_side, "square": square, "fps": fps}
    scene = prepare(bundle, picture, voice, expression=expression, **options)
    for latents in scene.generate(motion=motion):
        yield from scene.decoder.blocks(latents[0].transpose(0, 1))


def speak_together(
    bundle: Bundle,
    picture: str | Path | Tensor,
    voices: Sequence[str | Path | tuple[Tensor, int] | None],
    *,
    schedule: str | None = None,
    in_turn: bool = False,
    faces: Sequence[str | int | Sequence[float]] | None = None,
    sampling: SamplingConfig | None = None,
    long_side: int = portrait.LONG_SIDE,
    fps: float | None = None,
    motion: MotionFrames = MotionFrames(),
    expression: Expression = Expression(),
    expressions: Mapping[str, Expression] = MappingProxyType({}),
) -> Iterator[np.ndarray]:
    """`speak` of several faces in one picture, which are lettered from the left: A, B, C, ...

    voices: the k-th is that of the k-th face, None for a silent one; faces beyond them are silent, too: they blink and
    breathe with their mouths shut. The video is as long as the longest. schedule: who is heard when, such as '0.0-3.2
    A; 3.0-7.5 B'; with a single voice it is that of all faces named. in_turn: each voice starts where the one before it
    ends. faces: which faces move, each as `face` of `speak`; None: all; boxes are lettered in the order given. motion:
    latents (faces, C, n, h, w) of the last frames of the video to continue. expression: the dials of all faces;
    expressions: by letter, those of a face in their place.
    """
    group = prepare_together(
        bundle,
        picture,
        voices,
        schedule=schedule,
        in_turn=in_turn,
        faces=faces,
        sampling=sampling,
        long_side=long_side,
        fps=fps,
        expression=expression,
        expressions=expressions,
    )
    for latents in group.generate(motion=motion):
        yield from group.blocks(latents)


def idle(
    bundle: Bundle,
    picture: str | Path | Tensor,
    seconds: float,
    *,
    sampling: SamplingConfig | None = None,
    face: str | int | Sequence[float] | None = None,
    long_side: int = portrait.LONG_SIDE,
    square: bool = False,
    fps: float | None = None,
    expression: Expression = Expression(),
) -> Iterator[np.ndarray]:
    """As `speak`, of a portrait that waits and listens: it blinks, breathes and moves a little, its mouth is shut, and
    the last frame leads to the first. seconds: 1 to 3600."""
    options = {"sampling": sampling, "face": face, "long_side": long_side, "square": square, "fps": fps}
    scene = prepare(bundle, picture, None, idle_seconds=seconds, expression=expression, **options)
    for latents in scene.generate():
        yield from scene.decoder.blocks(latents[0].transpose(0, 1))


@dataclass(frozen=True, eq=False)
class Scene:
    """A portrait and a voice, prepared for sampling.

    picture: (1, 3, H, W) in [-1, 1], at the size of the frames, H and W even; sound: None if the portrait is idle;
    decoder: latents to frames; direction: what is done to the clips before.
    """

    bundle: Bundle
    sampling: SamplingConfig
    picture: Tensor
    conditions: Conditions
    sound: SoundFile | tuple[Tensor, int] | None
    decoder: PortraitDecoder
    direction: Direction = Direction()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.decoder.size

    @property
    def clips(self) -> int:
        return count_clips(self.conditions.frames, self.bundle.config.clip_frames)

    @property
    def device(self) -> torch.device:
        return next(self.bundle.emo.parameters()).device

    @property
    def summary(self) -> str:
        """One sentence for the log."""
        (height, width), fit = self.size, self.conditions.portrait.fit
        return f"Frames of {width}x{height}; head square of {fit.side} pixels at ({fit.left}, {fit.top})."

    def generate(
        self,
        *,
        cache: CacheRun | None = None,
        weights: str | None = None,
        finished_only: bool = False,
        motion: MotionFrames = MotionFrames(),
        **how,
    ) -> Iterator[Tensor]:
        """Scaled latents (1, C, F, h, w), clip by clip, with dials where there are any; those of `motion` are left out.

        how: see `ClipRenderer`; with a cache, see `CachedRenderer`.
        """
        if motion.latents is not None:
            motion = MotionFrames(motion.latents[:, : self.bundle.config.latent_channels])
        render = ClipRenderer(self.bundle.emo, self.conditions, self.sampling, device=self.device, **how)
        if cache is not None:
            render = CachedRenderer(render, cache, weights=weights, finished_only=finished_only)
        return self.direction.of(generate_clips(render, motion=motion), sampled=self.conditions.frames)


@dataclass(frozen=True, eq=False)
class Group:
    """The faces of one picture that move together: a scene each, by letter.

    sound: the soundtrack; decoder: latents of all faces to frames.
    """

    scenes: Mapping[str, Scene]
    sound: SoundFile | tuple[Tensor, int] | MixedSound
    decoder: GroupDecoder

    @classmethod
    def of(cls, scene: Scene) -> Group:
        """A single face."""
        return cls({"A": scene}, scene.sound, GroupDecoder([scene.decoder]))

    @property
    def first(self) -> Scene:
        return next(iter(self.scenes.values()))

    @property
    def clips(self) -> int:
        """Of all faces together."""
        return sum(scene.clips for scene in self.scenes.values())

    @property
    def summary(self) -> str:
        """One sentence for the log, and one per face if there are several."""
        if len(self.scenes) == 1:
            return self.first.summary
        height, width = self.decoder.size
        lines = [f"Frames of {width}x{height}; {len(self.scenes)} faces, lettered from the left."]
        for letter, scene in self.scenes.items():
            fit = scene.conditions.portrait.fit
            lines.append(f"{letter}: head square of {fit.side} pixels at ({fit.left}, {fit.top}).")
        return "\n".join(lines)

    def generate(
        self, *, caches: Sequence[CacheRun | None] = (), motion: MotionFrames = MotionFrames(), **how
    ) -> Iterator[Tensor]:
        """Scaled latents (B, C, F, h, w) of the B faces, clip by clip; see `Scene.generate`.

        caches: a run for each face, or none; motion: latents (B, C, n, h, w). Raises ValueError if those are of another
        number of faces.
        """
        count = len(self.scenes)
        starts = [motion] * count if motion.latents is None else [MotionFrames(one) for one in motion.latents.split(1)]
        if len(starts) != count:
            raise ValueError(f"the video to continue has {len(starts)} faces, but {count} are to move now")
        clips = [
            scene.generate(cache=cache, motion=start, **how)
            for scene, cache, start in zip(self.scenes.values(), caches or [None] * count, starts, strict=True)
        ]
        return map(stacked, zip(*clips, strict=False))  # of finished clips only, the faces may have unlike many

    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents (B, C, F, h, w) -> frames (F, H, W, 3) uint8."""
        return self.decoder.decode(latents.transpose(1, 2))

    def blocks(self, latents: Tensor) -> Iterator[np.ndarray]:
        """As `decode`, but at most 8 frames at a time."""
        yield from self.decoder.blocks(latents.transpose(1, 2))


def read_inputs(
    picture: str | Path | Tensor, voice: str | Path | tuple[Tensor, int] | SoundFile
) -> tuple[Tensor, SoundFile | tuple[Tensor, int]]:
    """Picture, (1, 3, H, W) in [-1, 1] or uint8, and voice; what has been read already is handed on.

    Raises as `speak` does.
    """
    return read_picture(picture), read_sound(voice)


def read_picture(picture: str | Path | Tensor) -> Tensor:
    """A picture, (1, 3, H, W) in [-1, 1] or uint8; what has been read already is handed on. Raises as `speak` does."""
    if not isinstance(picture, Tensor):
        picture = media.read_pixels(picture)
    elif picture.ndim != 4 or tuple(picture.shape[:2]) != (1, 3):
        raise ValueError(f"the picture must be (1, 3, H, W), in [-1, 1] or uint8, got {tuple(picture.shape)}")
    if not is_finite(picture):
        raise ValueError("the picture has NaN or infinite pixels; use another")
    return picture


def read_sound(voice: str | Path | tuple[Tensor, int] | SoundFile) -> SoundFile | tuple[Tensor, int]:
    """A voice; what has been read already is handed on. Raises as `speak` does."""
    if isinstance(voice, tuple):
        check_rate(voice[1], "the voice")
        sound = as_waveform(voice[0]), voice[1]
    else:
        sound = voice if isinstance(voice, SoundFile) else SoundFile(voice)
    samples = sound[0].shape[1] if isinstance(sound, tuple) else sound.samples
    if not samples:
        name = "the voice" if isinstance(sound, tuple) else sound.path.name
        raise ValueError(f"{name} contains no sound (0 samples); use another file")
    return sound


def prepare(
    bundle: Bundle,
    picture: str | Path | Tensor,
    voice: str | Path | tuple[Tensor, int] | SoundFile | None,
    *,
    sampling: SamplingConfig | None = None,
    face: str | int | Sequence[float] | None = None,
    long_side: int = portrait.LONG_SIDE,
    square: bool = False,
    fps: float | None = None,
    expression: Expression = Expression(),
    idle_seconds: float | None = None,
) -> Scene:
    """Read picture and voice and detect the face; arguments and errors as in `speak`. idle_seconds: in place of a
    voice, see `idle`."""
    config, device = bundle.config, next(bundle.emo.parameters()).device
    sampling = sampling or bundle.sampling
    rate = fps or config.fps
    fade = 0
    if idle_seconds is not None:
        frames, fade = idle_frames(idle_seconds, rate)
        voice = silence(frames, fps=rate)
    picture, sound = read_inputs(picture, voice)
    mesh = portrait.find_mesh(load_face_finder(), picture, face)
    if square:
        picture, mesh = portrait.cut_square(picture, mesh)
    picture, mesh = portrait.fit_to_video(picture, mesh, long_side=long_side)
    audio = encode_lazily(lambda piece: bundle.audio_encoder(piece.to(device)), sound, fps=rate)
    audio, sound = replace(audio, fade=fade), sound if idle_seconds is None else None
    return _scene(bundle, picture, portrait.read_portrait(picture, mesh, config), audio, sound, sampling, expression)


def prepare_together(
    bundle: Bundle,
    picture: str | Path | Tensor,
    voices: Sequence[str | Path | tuple[Tensor, int] | SoundFile | None],
    *,
    schedule: str | None = None,
    in_turn: bool = False,
    faces: Sequence[str | int | Sequence[float]] | None = None,
    sampling: SamplingConfig | None = None,
    long_side: int = portrait.LONG_SIDE,
    fps: float | None = None,
    expression: Expression = Expression(),
    expressions: Mapping[str, Expression] = MappingProxyType({}),
) -> Group:
    """Read picture and voices and detect the faces; arguments and errors as in `speak_together`."""
    config, device = bundle.config, next(bundle.emo.parameters()).device
    sampling, fps = sampling or bundle.sampling, fps or config.fps
    who = None if schedule is None else VoiceSchedule.parse(schedule)
    sounds = [None if voice is None else read_sound(voice) for voice in voices]
    picture = read_picture(picture)
    found = portrait.find_faces(load_face_finder(), picture, faces)
    spoken = assign(tuple(found), sounds, schedule=who, in_turn=in_turn)
    picture, meshes = portrait.fit_to_video(
        picture, torch.stack([face.mesh for face in found.values()]), long_side=long_side
    )
    shown = [portrait.read_portrait(picture, mesh, config) for mesh in meshes]
    seconds, scenes = max(voice.seconds for voice in spoken), {}
    if unknown := sorted(set(expressions) - set(found)):
        raise ValueError(f"there are dials of face {unknown[0]}, but the faces are {', '.join(found)}")
    for letter, own, voice in zip(found, shown, spoken, strict=True):
        audio = encode_voice(lambda piece: bundle.audio_encoder(piece.to(device)), voice, fps=fps, seconds=seconds)
        others = [other.fit for other in shown if other is not own]
        settings = sampling.for_face(LETTERS.index(letter))
        dials = expressions.get(letter, expression)
        scenes[letter] = _scene(bundle, picture, own, audio, voice.sound, settings, dials, others=others)
    return Group(scenes, soundtrack(spoken), GroupDecoder([scene.decoder for scene in scenes.values()]))


def _scene(
    bundle: Bundle,
    picture: Tensor,
    shown: Portrait,
    audio: AudioFeatures,
    sound: SoundFile | tuple[Tensor, int] | None,
    sampling: SamplingConfig,
    expression: Expression,
    *,
    others: Sequence[Fit] = (),
) -> Scene:
    direction, sampling = direct(audio, expression, sampling)
    direction.check(bundle.config)
    conditions = Conditions(shown, portrait.face_mask(shown), audio, Speed.constant(sampling.head_speed))
    device = next(bundle.emo.parameters()).device
    decoder = PortraitDecoder(bundle.motion_decoder, bundle.config, picture, shown, device=device, others=others)
    return Scene(bundle, sampling, picture, conditions, sound, decoder, direction)
