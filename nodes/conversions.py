"""Converts ComfyUI's values to the library's and back, and checks inputs. Pure functions, no ComfyUI.

ComfyUI: IMAGE (B, H, W, C) in 0..1, MASK (B, H, W) in 0..1, AUDIO {"waveform": (B, C, T), "sample_rate"}, LATENT
unscaled. Library: pixels (B, 3, H, W) in [-1, 1], sound (C, T), latents scaled. Errors are ValueErrors: what is wrong,
and what to do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..emo_model.cache.folder import CachedClips
from ..emo_model.config import ModelConfig, SamplingConfig
from ..emo_model.inputs.audio import as_waveform, check_rate
from ..emo_model.inputs.face import apply_fit, box_of, fit_mask, fit_picture
from ..emo_model.inputs.faces import CHOICES, Face
from ..emo_model.inputs.vae import to_raw, to_scaled
from ..emo_model.inputs.voice_schedule import VoiceSchedule
from ..emo_model.outputs.paste_back import PasteBack
from ..emo_model.sampling.expression import Curve, Expression
from ..emo_model.types import AudioFeatures, FaceMask, FaceMasks, Fit, Portrait, Speed, is_finite

FRAMES = ("whole picture", "head only")
"""Output regions of a video."""

MOST_CHANNELS = 64
"""Of a recording; a waveform with more has its axes exchanged."""

MOST_BEYOND = 8.0
"""Pictures with larger values are not in 0..1 but in 0..255 or beyond; HDR pictures and overshoots stay below."""

CURVE_STEPS = 200
"""Keyframes that a CURVE becomes."""

# ---- pictures --------------------------------------------------------------------------------------------------------


def one_picture(image: Tensor) -> Tensor:
    """IMAGE (1, H, W, C) -> pixels (1, 3, H, W) float32 in [-1, 1]. Grey becomes RGB, transparency white, as in the
    command."""
    if len(image) != 1:
        raise ValueError(
            f"'image' contains {len(image)} pictures, but one portrait is animated at a time. Select one "
            "with 'ImageFromBatch'."
        )
    return rearrange(_colour(image, "image").float().clamp(0, 1) * 2 - 1, "b h w c -> b c h w")


def _colour(image: Tensor, name: str = "images") -> Tensor:
    """Any IMAGE as three channels; whole numbers become 0..1, grey becomes RGB, transparency becomes white.

    Raises ValueError for NaN, infinity and numbers that are not in 0..1; a little beyond is clamped by the callers.
    """
    if image.ndim != 4:
        raise ValueError(
            f"'{name}' has {image.ndim} axes {tuple(image.shape)}, but pictures have four: batch, height, width and "
            "channels. Connect an IMAGE."
        )
    if not image.is_floating_point():
        image = image.float() / (255 if image.dtype == torch.uint8 else 1)
    if image.numel():
        low, high = (bound.item() for bound in image.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            broken = (~image.isfinite()).sum().item()
            raise ValueError(
                f"{broken} values of '{name}' are NaN or infinite. Connect other pictures, or run the node that made "
                "them again, without half precision (--fp32-vae)."
            )
        if low < -MOST_BEYOND or high > MOST_BEYOND:
            raise ValueError(
                f"'{name}' has values from {low:g} to {high:g}, but ComfyUI's pictures go from 0 to 1. Divide them by "
                "255 (or 65535), or connect the output of 'Load Image'."
            )
    if image.shape[-1] in (2, 4):  # the last is alpha
        alpha = image[..., -1:].clamp(0, 1)
        image = image[..., :-1] * alpha + (1 - alpha)
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1].expand(*image.shape[:-1], 3)


def face_choice_error(which: str | None) -> str | None:
    """An error text if a value does not select a face, else None; None (a linked value) is accepted."""
    if which is None or which in CHOICES or (str(which).isdecimal() and int(which) > 0):
        return None
    return f"'{which}' does not select a face; choose one of {', '.join(CHOICES)}, or its number from the left."


def check_face_choice(which: str | None) -> None:
    if which is None or face_choice_error(which):
        raise ValueError(face_choice_error(str(which)))


def faces_found(faces: list[Face], which: str) -> str:
    """A sentence about several detected faces; "" for one."""
    sure = sum(face.is_sure for face in faces)
    return "" if sure < 2 else f" {sure} faces detected; 'which_face' is {which}."


def images(pixels: Tensor) -> Tensor:
    """pixels (B, 3, H, W) in [-1, 1] -> IMAGE (B, H, W, 3)."""
    return rearrange(pixels.float().clamp(-1, 1) / 2 + 0.5, "b c h w -> b h w c").contiguous()


def frame_bytes(image: Tensor) -> np.ndarray:
    """IMAGE (F, H, W, C) -> (F, H, W, 3) uint8."""
    return (_colour(image).float() * 255).round().clamp(0, 255).to(device="cpu", dtype=torch.uint8).numpy()


def dimmed_outside(pixels: Tensor, face_mask: FaceMask, lips: Tensor | None = None) -> Tensor:
    """The cropped square (1, 3, H, W) as IMAGE, darkened outside the face mask, reddish over the lips (1, 1, H, W)."""
    shown = images(pixels) * (0.3 + 0.7 * face_mask.mask[:, 0, :, :, None].to(pixels.device))
    if lips is not None:
        shown = torch.lerp(shown, torch.tensor((1.0, 0.2, 0.2)), 0.4 * lips[:, 0, :, :, None].to(pixels.device))
    return shown


# ---- masks and boxes -------------------------------------------------------------------------------------------------


def fitted_mask(mask: Tensor | None, fit: Fit, *, name: str = "mask") -> FaceMask:
    """MASK (1, H, W) of the original picture, at any scale, or of the cropped square -> FaceMask; name: its input."""
    if mask is None:
        raise ValueError("Mode 'mask' needs a mask. Connect one to 'mask', or set 'mode' to 'box' or 'whole picture'.")
    instead = "or set 'mode' to 'box' or 'whole picture'" if name == "mask" else f"or disconnect '{name}'"
    mask = _painted(mask, name, instead)
    if tuple(mask.shape[-2:]) == (fit.size, fit.size) != (fit.height, fit.width):
        return FaceMask(mask.clamp(0, 1))  # painted over 'picture' of EMO Reference Encoder
    return fit_mask(_over_picture(mask, fit.width, fit.height), fit)


def is_painted(mask: Tensor | None) -> bool:
    """Whether a MASK is not empty, as Load Image's is without painting or transparency."""
    return mask is not None and bool((mask > 0.5).any())


def box_of_face(mask: Tensor, picture: Tensor) -> tuple[int, int, int, int]:
    """MASK (1, H, W) at any scale over a picture (1, 3, H, W) -> its box: left, top, right, bottom in pixels."""
    painted = _painted(mask, "face", "or disconnect 'face'")
    return box_of(_over_picture(painted, picture.shape[-1], picture.shape[-2]))


def _painted(mask: Tensor, name: str, instead: str) -> Tensor:
    """MASK of input `name` -> (1, 1, H, W) float. Raises ValueError, with an alternative `instead`, if it is empty."""
    if mask.ndim < 2 or not mask.numel():
        raise ValueError(f"'{name}' has the shape {tuple(mask.shape)}, which is no mask. Connect a MASK, {instead}.")
    if not is_finite(mask):
        raise ValueError(f"'{name}' has NaN or infinite values. Connect another mask, {instead}.")
    mask = mask.float().cpu().reshape(-1, 1, *mask.shape[-2:])
    if len(mask) != 1:
        raise ValueError(f"'{name}' contains {len(mask)} masks, but a portrait has one. Select one of them first.")
    height, width = mask.shape[-2:]
    if not mask.any():
        is_default = width == height == 64
        no_alpha = " ('Load Image' outputs this mask for a picture without transparency)" if is_default else ""
        raise ValueError(
            f"The mask ({width}x{height}) at '{name}' is empty{no_alpha}. Paint the "
            f"{'mouth' if name == 'lips' else 'face'} with 'Open in MaskEditor' on 'Load Image', "
            f"{instead}."
        )
    return mask


def _over_picture(mask: Tensor, wide: int, high: int) -> Tensor:
    """A mask (1, 1, H, W) resized to its picture. Raises ValueError for another aspect ratio."""
    height, width = mask.shape[-2:]
    if abs(width * high - height * wide) > max(width, height, wide, high):  # beyond rounding
        raise ValueError(
            f"The mask is {width}x{height}, but the portrait is {wide}x{high}. Connect the mask of the "
            "same picture, before any cropping."
        )
    return mask if (width, height) == (wide, high) else F.interpolate(mask, size=(high, wide), mode="bilinear")


def box_of_original(box: dict | list, fit: Fit, shrink: float = 1.0) -> tuple[float, float, float, float]:
    """BOUNDING_BOX in pixels of the original picture, or lists of them -> (x0, y0, x1, y1) as fractions of the square.

    shrink: pixels of the original per pixel of the picture that `fit` is of.
    """
    found = list(_boxes(box))
    if not found:
        raise ValueError(
            "'bounding_box' is empty: the detector found no face. Disconnect it and set the four edges, "
            "or set 'mode' to 'mask' or 'whole picture'."
        )
    best = max(found, key=lambda one: one["width"] * one["height"])
    x, y, width, height = (best[name] / shrink for name in ("x", "y", "width", "height"))
    corners = (x - fit.left, y - fit.top, x + width - fit.left, y + height - fit.top)
    x0, y0, x1, y1 = (min(max(corner / fit.side, 0.0), 1.0) for corner in corners)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(
            f"The box of {width:.0f}x{height:.0f} pixels at ({x:.0f}, {y:.0f}) is outside the square "
            f"cropped from the {fit.width}x{fit.height} portrait ({fit.side} pixels at ({fit.left}, "
            f"{fit.top})). Set 'fit' of 'EMO Reference Encoder' to 'pad', or crop the portrait around the "
            "face first."
        )
    return x0, y0, x1, y1


def grown_box(
    box: tuple[float, float, float, float], size: int, *, times: float = 1.2
) -> tuple[float, float, float, float]:
    """box (left, top, right, bottom) in pixels of the square -> as fractions of it, scaled by `times` (Hallo: 1.2)."""
    left, top, right, bottom = (edge / size for edge in box)
    width, height = (right - left) * times / 2, (bottom - top) * times / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - width, y - height, x + width, y + height


def outline(mesh: Tensor, points: Sequence[int] = range(468)) -> tuple[float, float, float, float]:
    """Bounding box (left, top, right, bottom) of points of a face mesh (468, 3), in its pixels."""
    some = mesh[list(points), :2]
    return (*some.amin(0).tolist(), *some.amax(0).tolist())


def _boxes(value: dict | list) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
    else:
        for item in value:
            yield from _boxes(item)


# ---- sound and speed -------------------------------------------------------------------------------------------------


def one_sound(audio: dict, *, name: str = "audio") -> tuple[Tensor, int]:
    """AUDIO -> (waveform (C, T) float32 on the CPU, sample rate). name: of the input, for errors.

    Two axes, numpy arrays and whole numbers, which other packs make, are accepted.
    """
    if not isinstance(audio, dict) or not {"waveform", "sample_rate"} <= audio.keys():
        raise ValueError(
            f"'{name}' carries {type(audio).__name__} without 'waveform' and 'sample_rate', which is no AUDIO. Connect "
            "a recording, for example from 'Load Audio'."
        )
    waveform, rate = torch.as_tensor(audio["waveform"]), int(audio["sample_rate"])
    if waveform.ndim < 3:  # (C, T) or (T,), as some packs make it
        waveform = waveform.reshape(1, -1, waveform.shape[-1]) if waveform.ndim else waveform.reshape(1, 1, 1)
    if waveform.ndim != 3:
        raise ValueError(
            f"'{name}' has {waveform.ndim} axes {tuple(waveform.shape)}, but AUDIO has three: batch, channels and "
            "samples. Connect a recording, for example from 'Load Audio'."
        )
    if len(waveform) != 1:
        raise ValueError(f"'{name}' contains {len(waveform)} recordings, but a video has one. Run them one by one.")
    if not waveform.numel() or rate < 1:
        raise ValueError(
            f"'{name}' is empty ({waveform.shape[-1]} samples at {rate} Hz). Connect a recording, for "
            "example from 'Load Audio'."
        )
    if waveform.shape[1] > waveform.shape[2] and waveform.shape[1] > MOST_CHANNELS:
        raise ValueError(
            f"'{name}' has {waveform.shape[1]} channels of {waveform.shape[2]} samples: its axes are exchanged. "
            "Connect the output of 'Load Audio'."
        )
    check_rate(rate, f"'{name}'")
    return as_waveform(waveform[0], name=f"'{name}'"), rate


def check_fps(fps: float) -> None:
    """Raises ValueError for a rate outside the widget's limits, which a link can carry."""
    if not 1 <= fps <= 120:
        raise ValueError(
            f"'fps' is {fps:g}, but must be 1 to 120 frames per second. Connect another rate, or "
            "disconnect it and set it in the node."
        )


def sampling_config(options: SamplingConfig, **values) -> SamplingConfig:
    """`options` with other values. Raises ValueError for one outside the widgets' limits, which a link can carry."""
    try:
        return replace(options, **values)
    except ValueError as error:
        raise ValueError(f"Set or connect another value: {error}.") from None


def check_long_side(pixels: int) -> None:
    """Raises ValueError for a size outside the widget's limits, which a link can carry."""
    if not 64 <= pixels <= 8192:
        raise ValueError(f"Set 'long_side' to a number from 64 to 8192 pixels, or connect such a one: it is {pixels}.")


def check_quality(crf: int) -> None:
    """Raises ValueError for a constant rate factor that H.264 does not have, which a link can carry."""
    if not 0 <= crf <= 51:
        raise ValueError(f"Set 'quality' to a number from 0 to 51, or connect such a one: it is {crf}.")


def speed_curve(text: str, *, level: float) -> Speed:
    """Parse '0: 5, 2.5: 30' (seconds: degrees per second; separated by commas or lines); empty: `level` throughout."""
    if not 0 <= level < math.inf:
        raise ValueError(
            f"'speed' is {level:g}, but must be 0 or more degrees per second. Set or connect another number."
        )
    knots = [knot for knot in re.split(r"[,;\n]", text) if knot.strip()]
    if not knots:
        return Speed.constant(level)
    try:
        pairs = sorted((float(seconds), float(speed)) for seconds, speed in (knot.split(":") for knot in knots))
    except ValueError:
        raise ValueError(
            f"Write 'seconds: degrees per second', such as '0: 5, 2.5: 30': the curve '{text.strip():.80}' cannot be "
            "parsed."
        ) from None
    times, speeds = zip(*pairs, strict=True)
    if min(speeds) < 0 or len(set(times)) < len(times) or not all(map(math.isfinite, times + speeds)):
        raise ValueError(
            "Write speeds of 0 or more at times that differ, such as '0: 5, 2.5: 30': the curve "
            f"'{text.strip():.80}' has a negative speed, a repeated time or an infinite number."
        )
    return Speed(times, speeds)


def expression_of(dials: dict[str, object]) -> Expression:
    """Dials by name: text, a number, numbers per frame, or a CURVE, whose 0..1 is the whole video -> Expression.

    None leaves a dial as it is. Raises ValueError that names the dial."""
    try:
        return Expression.of(**{name: _curve_of(value) for name, value in dials.items() if value is not None})
    except ValueError as error:
        raise ValueError(f"Set or connect another value: {error}.") from None


def _curve_of(value: object) -> object:
    """A CURVE as a `Curve`; anything else as it is."""
    if hasattr(value, "interp"):
        places = [step / CURVE_STEPS for step in range(CURVE_STEPS + 1)]
        return Curve(tuple(places), tuple(float(value.interp(place)) for place in places), "share")
    return value.tolist() if isinstance(value, (Tensor, np.ndarray)) else value


# ---- latents and videos ----------------------------------------------------------------------------------------------


def latent_of(clips: list[Tensor], config: ModelConfig) -> dict:
    """Clips of scaled latents (1, C, F, h, w) -> LATENT with samples (F, C, h, w), unscaled."""
    return {"samples": rearrange(to_raw(torch.cat(clips, dim=2), config), "1 c f h w -> f c h w").contiguous()}


def frames_to_write(
    clips: CachedClips | None, latent: dict | None, vae, pictures: Tensor | None, *, block: int
) -> tuple[int, Iterator[Tensor]]:
    """Exactly one of EMO_CLIPS, LATENT (both with a VAE) and IMAGE -> (number of frames, blocks of them).

    Blocks are samples (f, C, h, w) to decode, or IMAGE.
    """
    check_one_given({"clips": clips, "latent": latent, "images": pictures}, "Nothing to write")
    if pictures is None and vae is None:
        raise ValueError(
            f"'{'latent' if clips is None else 'clips'}' must be decoded: connect 'reference' of "
            "'EMO Reference Encoder'."
        )
    if clips is not None:
        return clips.frames, (latent_of([clip], clips.config)["samples"] for clip in clips)
    frames = pictures if latent is None else latent["samples"]
    if frames.ndim != 4:
        raise ValueError(
            f"'latent' has {frames.ndim} axes {tuple(frames.shape)}, but EMO's have four, one latent per "
            "frame. Decode it with 'VAE Decode' and connect the result to 'images'."
        )
    if not len(frames):
        raise ValueError("There are no frames to write: 'latent' or 'images' is empty. Connect another input.")
    if latent is not None and not is_finite(frames):
        broken = (~frames.isfinite()).sum().item()
        raise ValueError(f"{broken} values of 'latent' are NaN or infinite. Run the sampler again, or connect another.")
    return len(frames), iter(frames.split(block))


def check_one_given(inputs: dict[str, object], nothing: str) -> None:
    """Raises ValueError unless exactly one of the inputs is connected; nothing: start of the message if none is."""
    given = [f"'{name}'" for name, value in inputs.items() if value is not None]
    if not given:
        raise ValueError(f"{nothing}: connect one of {', '.join(repr(name) for name in inputs)}.")
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are connected, but only one can be used. Disconnect the other.")


def option_error(value: str | None, options: Iterable[str], what: str) -> str | None:
    """An error text if a value is not an option, which ComfyUI does not check; None (a linked value) is accepted."""
    if value is None or value in options:
        return None
    return f"'{value}' is not {what}; choose one of {', '.join(options)}."


def check_option(value: str, options: Iterable[str], what: str) -> None:
    """Raises ValueError if a value is not an option."""
    if value not in options:
        raise ValueError(option_error(str(value), options, what))


def check_whole_picture(frame: str) -> None:
    """Raises ValueError for an output region that a video of several faces does not have."""
    if frame != FRAMES[0]:
        raise ValueError(f"Set 'frame' to '{FRAMES[0]}': a video of several faces shows all of them.")


def several_sounds(voices: dict[str, object]) -> list[tuple[Tensor, int] | None]:
    """AUDIO by input -> (waveform (C, T), rate) each, None for what is not connected, without such at the end."""
    sounds = [None if voice is None else one_sound(voice, name=name) for name, voice in voices.items()]
    while sounds and sounds[-1] is None:
        sounds.pop()
    return sounds


def boxes_of_faces(masks: Tensor | None, boxes: dict | list | None, picture: Tensor) -> list[tuple] | None:
    """MASKs (faces, H, W) or BOUNDING_BOXes over a picture (1, 3, H, W) -> left, top, right, bottom of each face in
    pixels, in their order; None if neither says anything."""
    if is_painted(masks):
        return [tuple(map(float, box_of_face(mask[None], picture))) for mask in masks.reshape(-1, *masks.shape[-2:])]
    if boxes is not None:
        found = [tuple(float(one[key]) for key in ("x", "y", "width", "height")) for one in _boxes(boxes)]
        if not found:
            raise ValueError(
                "Disconnect 'boxes', or connect other ones: the list is empty, the detector found no face."
            )
        height, width = picture.shape[-2:]
        return [(max(0.0, x), max(0.0, y), min(width, x + w), min(height, y + h)) for x, y, w, h in found]
    return None


def check_faces(faces: Sequence) -> None:
    """Raises ValueError unless these `FaceClips` can be in one video: of one picture, at one frame rate, each once."""
    first = faces[0]
    for face in faces:
        if getattr(face.reference.portrait, "mesh", None) is None:
            raise ValueError(
                "Connect clips of a model that detects faces, such as the built-in one: others have no place "
                "in the whole picture."
            )
        if not np.array_equal(face.reference.whole.still, first.reference.whole.still):
            raise ValueError(
                "Make all references from the same 'image', with the same 'long_side': these show different pictures."
            )
        if face.clips.fps != first.clips.fps:
            raise ValueError(
                f"Encode all voices with the same 'fps': there are {first.clips.fps:g} and {face.clips.fps:g} frames "
                "per second."
            )
    fits = [face.reference.portrait.fit for face in faces]
    if len(set(fits)) < len(fits):
        raise ValueError("Connect each face once: two references are of the same face.")


def times(spans: Sequence[tuple[float, float]] | None) -> str:
    """When a face speaks, for a sentence: '0 to 3.2 s and 7 to 9 s'."""
    if spans is None:
        return "throughout"
    return " and ".join(
        f"{begin:g} s to the end" if end == math.inf else f"{begin:g} to {end:g} s" for begin, end in spans
    )


def schedule_of(text: str | None) -> VoiceSchedule | None:
    """A schedule; None for an empty text. Raises ValueError that begins with what to write."""
    if not (text or "").strip():
        return None
    try:
        return VoiceSchedule.parse(text)
    except ValueError as error:
        raise ValueError(f"Write 'schedule' as intervals and letters: {error}.") from None


def schedule_error(text: str | None) -> str | None:
    """An error text if a text is no schedule, else None; None (a linked value) is accepted."""
    try:
        schedule_of(text)
    except ValueError as error:
        return str(error)
    return None


def check_link(name: str, value: object) -> None:
    """Raises ValueError if a link carries None."""
    if value is None:
        raise ValueError(
            f"The link to '{name}' carries nothing, for example the audio of a video without sound. "
            f"Connect another output, or disconnect '{name}'."
        )


def length_mismatch(sound: tuple[Tensor, int] | None, frames: int, fps: float) -> str | None:
    """A sentence if the durations of sound and frames differ by more than one frame, else None."""
    if sound is None:
        return None
    audio, video = sound[0].shape[-1] / sound[1], frames / fps
    if abs(audio - video) * fps <= 1 + 1e-6:
        return None
    then = "the sound is trimmed" if audio > video else "the rest is silent"
    return f"The sound lasts {audio:.2f} s and the frames {video:.2f} s: {then}."


def check_same_latents(clips: CachedClips, config: ModelConfig) -> None:
    """Raises ValueError if the model of `config` has other latents than the clips."""
    theirs, ours = ((one.latent_channels, one.latent_size, one.latent_scale) for one in (clips.config, config))
    if theirs != ours:
        raise ValueError(
            f"The clips were made with EMO '{clips.config.name}', whose latents differ from those of EMO "
            f"'{config.name}'. Connect the video instead, with 'vae'."
        )


def picture_of(frames: np.ndarray) -> Tensor:
    """(F, H, W, 3) uint8 -> IMAGE."""
    return torch.from_numpy(frames).float() / 255


def fitted_frames(frames: Tensor, config: ModelConfig, count: int, fit: Fit | None = None) -> Tensor:
    """IMAGE (F, H, W, C) -> IMAGE (count, size, size, 3), cropped to the model's square.

    fit: crop of the portrait if the frames show the whole picture; None: frames of the square.
    """
    if len(frames) < count:
        raise ValueError(
            f"Connect a longer video: this one has {len(frames)} frames, and {count} are needed to continue it."
        )
    pixels = rearrange(_colour(frames).float().clamp(0, 1) * 2 - 1, "b h w c -> b c h w")
    if fit is not None:  # files are padded to even sizes
        return images(apply_fit(pixels[..., : fit.height, : fit.width], fit))
    return images(torch.cat([fit_picture(one[None], config.image_size)[0] for one in pixels]))


def whole_frames(frames: Tensor, count: int, picture: Tensor, fit: Fit) -> Tensor:
    """Frames of a video of a portrait, IMAGE (F, H, W, C) -> IMAGE (count, height, width, 3) of the whole picture.

    picture: (1, 3, height, width) in [-1, 1]. The frames may show it at any size, or only the head square of `fit`.
    Raises ValueError for too few frames, and for another aspect ratio.
    """
    if len(frames) < count:
        raise ValueError(
            f"Connect a longer video: this one has {len(frames)} frames, and {count} are needed to continue it."
        )
    frames = _colour(frames).float()
    high, wide = frames.shape[1:3]
    height, width = picture.shape[2:]
    if (high, wide) == (height, width):
        return frames
    if high == wide and (width != height or wide == even(fit.side)):
        return torch.cat([picture_of(one) for one in PasteBack(picture, fit).paste(frame_bytes(frames))])
    if abs(wide * height - high * width) <= 2 * max(wide, high, width, height):  # beyond rounding to even sizes
        return (
            F.interpolate(
                frames.movedim(-1, 1), size=(height, width), mode="bicubic", align_corners=False, antialias=True
            )
            .clamp(0, 1)
            .movedim(1, -1)
        )
    raise ValueError(
        f"The video is {wide}x{high} pixels, the portrait's picture {width}x{height}: they do not match. "
        "Connect the 'vae' of the 'EMO Reference Encoder' with this video's portrait."
    )


def even(length: int) -> int:
    """The next even length: H.264 requires even sizes."""
    return length + length % 2


@dataclass(frozen=True)
class Framing:
    """How the frames of a video relate to the portrait's picture.

    fit: its head square, None if no portrait is known; whole: pastes frames of the square back into it; is_whole:
    whether the frames show the whole picture; None: decided by their size.
    """

    fit: Fit | None = None
    whole: PasteBack | None = None
    is_whole: bool | None = False


def framed(pictures: np.ndarray, frame: str, framing: Framing) -> Iterator[np.ndarray]:
    """Frames (F, H, W, 3) uint8 -> blocks of the output region `frame`, one of `FRAMES`.

    Raises ValueError for 'head only' if the head square is unknown.
    """
    fit, (height, width) = framing.fit, pictures.shape[1:3]
    is_whole = (height, width) == (fit.height, fit.width) if framing.is_whole is None else framing.is_whole
    if is_whole:
        yield pictures if frame == FRAMES[0] else head_only(pictures, fit)
    elif frame == FRAMES[0] and framing.whole is not None:
        yield from framing.whole.paste(pictures)
    elif frame == FRAMES[1] and fit is None and height != width:
        raise ValueError(
            f"Connect 'reference' of 'EMO Reference Encoder', or set 'frame' to '{FRAMES[0]}': the head "
            f"square in frames of {width}x{height} pixels is unknown."
        )
    else:
        yield pictures


def head_only(pictures: np.ndarray, fit: Fit) -> np.ndarray:
    """Crop frames (F, H, W, 3) of the whole picture to the head square, with even sides; edges are repeated outside."""
    rows, columns = (
        np.arange(first, first + even(fit.side)).clip(0, length - 1)
        for first, length in ((fit.top, fit.height), (fit.left, fit.width))
    )
    return pictures[:, rows][:, :, columns]


def motion_latents(latents: Tensor, config: ModelConfig) -> Tensor:
    """Unscaled latents (n, C, h, w) -> scaled (1, C, n, h, w)."""
    return rearrange(to_scaled(latents, config), "n c h w -> 1 c n h w")


def playable_prefix(prefix: str) -> str:
    """The prefix without 'png' or 'webp' in its last part: ComfyUI's pages of 2025 show such a video as a still."""
    folder, slash, name = prefix.replace("\\", "/").rpartition("/")
    name = re.sub(r"\.(png|webp)", "", name)
    return folder + slash + (name.replace("png", "p_ng").replace("webp", "web_p") or "EMO")


def masks_over_time(before: FaceMask | FaceMasks | None, mask: FaceMask, from_second: float) -> FaceMask | FaceMasks:
    """The mask alone, or `before` until `from_second`, then the mask. Raises ValueError if it starts too early."""
    if before is None:
        return mask
    earlier = FaceMasks.of(before)
    if not earlier.seconds[-1] < from_second < math.inf:
        raise ValueError(
            f"'from_second' is {from_second:g}, but the mask at 'before' starts at "
            f"{earlier.seconds[-1]:g} s. Set 'from_second' to a later time, or disconnect 'before'."
        )
    return earlier.then(from_second, mask)


def check_match(
    config: ModelConfig, portrait: Portrait, audio: AudioFeatures, face_mask: FaceMask | FaceMasks | None
) -> None:
    """Raises ValueError if portrait, audio features or mask were made for another model than that of `config`."""
    wanted = (config.latent_channels, config.latent_size, config.latent_size)
    if tuple(portrait.latents.shape[1:]) != wanted:
        raise ValueError(
            "The reference was made for another model: its latents are "
            f"{tuple(portrait.latents.shape[1:])}, EMO '{config.name}' needs {wanted}. Connect the same "
            "'Load EMO Model' to 'EMO Reference Encoder' and 'EMO Sampler'."
        )
    layers, width = audio.frames.shape[1:]
    if (layers, width) != (config.audio_layers, config.audio_width):
        remedy = (
            "the 'audio_encoder' of the same 'Load EMO Model'"
            if config.audio_encoder
            else "core's audio encoder loader with the wav2vec2 model that it was trained with"
        )
        raise ValueError(
            f"The audio features have {layers} layers of width {width}, but EMO '{config.name}' needs "
            f"{config.audio_layers} of width {config.audio_width}. Connect {remedy} to 'EMO Audio "
            "Encoder'."
        )
    if audio.resampling != config.audio_resampling:
        raise ValueError(
            "The audio features were resampled for another kind of model. "
            + (
                f"EMO '{config.name}' resamples inside the audio encoder: connect 'model' of 'Load EMO Model' to 'EMO "
                "Audio Encoder'."
                if config.audio_resampling == "convolutions"
                else f"Connect the 'Load EMO Model' of '{config.name}' to 'model' of 'EMO Audio Encoder', or "
                "disconnect it."
            )
        )
    if config.hallo and (face_mask is None or face_mask.between(0, 0).regions is None):
        raise ValueError(
            f"EMO '{config.name}' needs region masks for pose, face and lips. Connect 'EMO Face Mask "
            "Builder' to 'face_mask'."
        )
    if not len(audio.frames):
        raise ValueError(
            f"The sound lasts {audio.seconds:.3f} s, less than one frame at {audio.fps:g} frames per "
            "second. Connect a longer recording."
        )
