"""ComfyUI's values to the library's and back: IMAGE, MASK, AUDIO, LATENT, BOUNDING_BOX. Pure functions, no ComfyUI.

ComfyUI: IMAGE (B, H, W, C) in 0..1, MASK (B, H, W) in 0..1, AUDIO {"waveform": (B, C, T), "sample_rate"}, LATENT unscaled.
Library: pixels (B, 3, H, W) in [-1, 1], sound (C, T), latents scaled. Errors are ValueErrors that tell a user what to do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..emo_model.cache.folder import CachedClips
from ..emo_model.config import ModelConfig
from ..emo_model.inputs.face import apply_fit, box_of, fit_mask, fit_picture
from ..emo_model.inputs.faces import CHOICES, Face
from ..emo_model.inputs.vae import to_raw, to_scaled
from ..emo_model.inputs.whole import WholePicture
from ..emo_model.types import AudioFeatures, FaceMask, FaceMasks, Fit, Portrait, Speed

FRAMES = ("whole picture", "head only")
"""What a video shows."""

# ---- pictures --------------------------------------------------------------------------------------------------------


def one_picture(image: Tensor) -> Tensor:
    """IMAGE (1, H, W, C) -> pixels (1, 3, H, W) float32 in [-1, 1]. Grey becomes colour; alpha is dropped, as core does."""
    if len(image) != 1:
        raise ValueError(f"'image' holds {len(image)} pictures, but one portrait is animated at a time. "
                         "Pick one with 'ImageFromBatch'.")
    return rearrange(_colour(image).float().clamp(0, 1) * 2 - 1, "b h w c -> b c h w")


def _colour(image: Tensor) -> Tensor:
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1].expand(*image.shape[:-1], 3)


def not_a_face(which: str | None) -> str | None:
    """A sentence where a value chooses no face; None where it does, or is not known yet."""
    if which is None or which in CHOICES or (str(which).isdecimal() and int(which) > 0):
        return None
    return f"'{which}' chooses no face; choose one of {', '.join(CHOICES)}, or a number that counts from the left."


def check_face_choice(which: str | None) -> None:
    if which is None or not_a_face(which):
        raise ValueError(not_a_face(str(which)))


def which_of(faces: list[Face], which: str) -> str:
    """What to say of the faces that were found beside the one that is animated; "" if there are none."""
    sure = sum(face.is_sure for face in faces)
    return "" if sure < 2 else f" {sure} faces found; 'which_face' is {which}."


def images(pixels: Tensor) -> Tensor:
    """pixels (B, 3, H, W) in [-1, 1] -> IMAGE (B, H, W, 3)."""
    return rearrange(pixels.float().clamp(-1, 1) / 2 + 0.5, "b c h w -> b h w c").contiguous()


def frame_bytes(image: Tensor) -> np.ndarray:
    """IMAGE (F, H, W, C) -> (F, H, W, 3) uint8."""
    return (_colour(image).float() * 255).round().clamp(0, 255).to(device="cpu", dtype=torch.uint8).numpy()


def dimmed_outside(pixels: Tensor, face_mask: FaceMask, lips: Tensor | None = None) -> Tensor:
    """The fitted picture (1, 3, H, W) as IMAGE, dark where the face may not be, reddish where lips (1, 1, H, W) are."""
    shown = images(pixels) * (0.3 + 0.7 * face_mask.mask[:, 0, :, :, None].to(pixels.device))
    if lips is not None:
        shown = torch.lerp(shown, torch.tensor((1.0, 0.2, 0.2)), 0.4 * lips[:, 0, :, :, None].to(pixels.device))
    return shown


# ---- masks and boxes -------------------------------------------------------------------------------------------------


def fitted_mask(mask: Tensor | None, fit: Fit, *, name: str = "mask") -> FaceMask:
    """MASK (1, H, W) of the original picture, at any scale, or of the fitted one -> FaceMask. name: of the input, for errors."""
    if mask is None:
        raise ValueError("Mode 'mask' needs a mask. Connect one to 'mask', or set 'mode' to 'box' or 'whole picture'.")
    mask = _painted(mask, name, "or set 'mode' to 'box' or 'whole picture'" if name == "mask" else f"or disconnect '{name}'")
    if tuple(mask.shape[-2:]) == (fit.size, fit.size) != (fit.height, fit.width):
        return FaceMask(mask.clamp(0, 1))  # made from the fitted picture that the reference encoder puts out
    return fit_mask(_over_picture(mask, fit.width, fit.height), fit)


def is_painted(mask: Tensor | None) -> bool:
    """Whether a MASK says anything: Load Image gives an empty one where nothing is painted and nothing is transparent."""
    return mask is not None and bool((mask > 0.5).any())


def box_of_face(mask: Tensor, picture: Tensor) -> tuple[int, int, int, int]:
    """MASK (1, H, W) at any scale over a picture (1, 3, H, W) -> the box around it: left, top, right, bottom in pixels."""
    painted = _painted(mask, "face", "or disconnect 'face'")
    return box_of(_over_picture(painted, picture.shape[-1], picture.shape[-2]))


def _painted(mask: Tensor, name: str, instead: str) -> Tensor:
    """MASK of input `name` -> (1, 1, H, W) float. Raises ValueError, with what to do `instead`, if nothing is painted."""
    mask = mask.float().cpu().reshape(-1, 1, *mask.shape[-2:])
    if len(mask) != 1:
        raise ValueError(f"'{name}' holds {len(mask)} masks, but one portrait has one. Pick one of them first.")
    height, width = mask.shape[-2:]
    if not mask.any():
        no_alpha = ": 'Load Image' gives such a mask when the picture has no transparency" if width == height == 64 else ""
        raise ValueError(f"The mask ({width}x{height}) at '{name}' is empty{no_alpha}. Paint the "
                         f"{'mouth' if name == 'lips' else 'face'} with 'Open in MaskEditor' on 'Load Image', {instead}.")
    return mask


def _over_picture(mask: Tensor, wide: int, high: int) -> Tensor:
    """A mask (1, 1, H, W) at the size of its picture. Raises ValueError if it is of another shape."""
    height, width = mask.shape[-2:]
    if abs(width * high - height * wide) > max(width, height, wide, high):  # beyond rounding
        raise ValueError(f"The mask is {width}x{height}, but the portrait was {wide}x{high}. "
                         "Connect the mask of the same picture, before any cropping.")
    return mask if (width, height) == (wide, high) else F.interpolate(mask, size=(high, wide), mode="bilinear")


def box_of_original(box: dict | list, fit: Fit, shrink: float = 1.0) -> tuple[float, float, float, float]:
    """BOUNDING_BOX in pixels of the original picture, or lists of them -> (x0, y0, x1, y1) as fractions of the fitted one.

    shrink: pixels of the original per pixel of the picture that `fit` is of.
    """
    found = list(_boxes(box))
    if not found:
        raise ValueError("'bounding_box' holds no box: no face was found in the picture. Disconnect it and set the four edges, "
                         "or set 'mode' to 'mask' or 'whole picture'.")
    best = max(found, key=lambda one: one["width"] * one["height"])
    x, y, width, height = (best[name] / shrink for name in ("x", "y", "width", "height"))
    corners = (x - fit.left, y - fit.top, x + width - fit.left, y + height - fit.top)
    x0, y0, x1, y1 = (min(max(corner / fit.side, 0.0), 1.0) for corner in corners)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"The box of {width:.0f}x{height:.0f} pixels at ({x:.0f}, {y:.0f}) lies outside the square that was cut "
                         f"from the {fit.width}x{fit.height} portrait: {fit.side} pixels at ({fit.left}, {fit.top}). Set 'fit' "
                         "of 'EMO Reference Encoder' to 'pad', or crop the portrait around the face first.")
    return x0, y0, x1, y1


def grown_box(box: tuple[float, float, float, float], size: int, *, times: float = 1.2) -> tuple[float, float, float, float]:
    """box (left, top, right, bottom) in pixels of the fitted picture -> as fractions of it, `times` as large (Hallo's: 1.2)."""
    left, top, right, bottom = (edge / size for edge in box)
    width, height = (right - left) * times / 2, (bottom - top) * times / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - width, y - height, x + width, y + height


def outline(mesh: Tensor, points: Sequence[int] = range(468)) -> tuple[float, float, float, float]:
    """The box left, top, right, bottom around points of a face mesh (468, 3), in its pixels."""
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
    """AUDIO -> (waveform (C, T) float32 on the CPU, sample rate). name: of the input, for errors."""
    waveform, rate = audio["waveform"], int(audio["sample_rate"])
    if len(waveform) != 1:
        raise ValueError(f"'{name}' holds {len(waveform)} recordings, but a portrait speaks one at a time. Run them one by one.")
    if waveform.shape[-1] == 0 or rate < 1:
        raise ValueError(f"'{name}' is empty ({waveform.shape[-1]} samples at {rate} Hz). Connect a recording, for example from "
                         "'Load Audio'.")
    waveform = waveform[0].float().cpu()
    if not math.isfinite(waveform.sum()):  # a sum looks at all samples and takes no memory
        broken = (~waveform.isfinite()).sum().item()
        if broken:
            raise ValueError(f"{broken} samples of '{name}' are not numbers (NaN or infinite): the node that made it failed. "
                             "Connect another recording, or make it again.")
    return waveform, rate


def check_fps(fps: float) -> None:
    """Raises ValueError for a rate that only a wire can bring, past the limits of the widget."""
    if not 1 <= fps <= 120:
        raise ValueError(f"'fps' is {fps:g}, but videos have 1 to 120 frames per second. Connect another rate, or disconnect "
                         "it and set it in the node.")


def speed_curve(text: str, *, level: float) -> Speed:
    """'0: 5, 2.5: 30' (seconds: degrees per second; commas or lines) -> Speed; an empty text -> `level` throughout."""
    if not 0 <= level < math.inf:
        raise ValueError(f"'speed' is {level:g}, but a head turns by 0 or more degrees per second. Set or connect another "
                         "number.")
    knots = [knot for knot in re.split(r"[,;\n]", text) if knot.strip()]
    if not knots:
        return Speed.constant(level)
    wanted = "Write 'seconds: degrees per second', such as '0: 5, 2.5: 30'."
    try:
        pairs = sorted((float(seconds), float(speed)) for seconds, speed in (knot.split(":") for knot in knots))
    except ValueError:
        raise ValueError(f"The curve '{text.strip()}' cannot be read. {wanted}") from None
    times, speeds = zip(*pairs, strict=True)
    if min(speeds) < 0 or len(set(times)) < len(times) or not all(map(math.isfinite, times + speeds)):
        raise ValueError(f"The curve '{text.strip()}' has a speed below 0, a time twice, or an infinite number. {wanted}")
    return Speed(times, speeds)


# ---- latents and videos ----------------------------------------------------------------------------------------------


def latent_of(clips: list[Tensor], config: ModelConfig) -> dict:
    """Clips of scaled latents (1, C, F, h, w) -> LATENT with samples (F, C, h, w), unscaled."""
    return {"samples": rearrange(to_raw(torch.cat(clips, dim=2), config), "1 c f h w -> f c h w").contiguous()}


def frames_to_write(clips: CachedClips | None, latent: dict | None, vae, pictures: Tensor | None, *,
                    block: int) -> tuple[int, Iterator[Tensor]]:
    """Exactly one of EMO_CLIPS, LATENT (both with a VAE) and IMAGE -> (how many frames, blocks of them).

    Blocks are samples (f, C, h, w) to decode, or IMAGE.
    """
    check_one_given({"clips": clips, "latent": latent, "images": pictures}, "Nothing to write")
    if pictures is None and vae is None:
        raise ValueError(f"'{'latent' if clips is None else 'clips'}' must be decoded: connect 'vae' to the output of 'EMO "
                         "Reference Encoder'.")
    if clips is not None:
        return clips.frames, (latent_of([clip], clips.config)["samples"] for clip in clips)
    frames = pictures if latent is None else latent["samples"]
    if frames.ndim != 4:
        raise ValueError(f"'latent' has {frames.ndim} axes {tuple(frames.shape)}, but EMO's have four, one latent per frame. "
                         "Decode it with 'VAE Decode' and connect the pictures to 'images'.")
    if not len(frames):
        raise ValueError("There are no frames to write: 'latent' or 'images' is empty.")
    return len(frames), iter(frames.split(block))


def check_one_given(inputs: dict[str, object], nothing: str) -> None:
    """Raises ValueError unless exactly one of the inputs is connected; nothing: how the sentence begins where none is."""
    given = [f"'{name}'" for name, value in inputs.items() if value is not None]
    if not given:
        raise ValueError(f"{nothing}: connect one of {', '.join(repr(name) for name in inputs)}.")
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are connected, but only one of them counts. Disconnect the other.")


def not_listed(value: str | None, options: Iterable[str], what: str) -> str | None:
    """A sentence where a value is not in its list; ComfyUI does not look. None, a linked value that is not known yet, may be."""
    return None if value is None or value in options else f"'{value}' is not {what}; choose one of {', '.join(options)}."


def check_listed(value: str, options: Iterable[str], what: str) -> None:
    """Raises ValueError where a value, now that it is known, is not in its list."""
    if value not in options:
        raise ValueError(not_listed(str(value), options, what))


def check_came(name: str, value: object) -> None:
    """Raises ValueError where a wire brought nothing."""
    if value is None:
        raise ValueError(f"Nothing came over the wire to '{name}': a video without sound, for example, has none to give. Connect "
                         f"something else, or disconnect '{name}'.")


def of_equal_length(sound: tuple[Tensor, int] | None, frames: int, fps: float) -> str | None:
    """A sentence where sound and frames differ by more than a frame; None where they fit."""
    if sound is None:
        return None
    heard, seen = sound[0].shape[-1] / sound[1], frames / fps
    if abs(heard - seen) * fps <= 1 + 1e-6:
        return None
    then = "it is cut where they end" if heard > seen else "the rest is silent"
    return f"The sound lasts {heard:.2f} s and the frames {seen:.2f} s: {then}."


def check_same_latents(clips: CachedClips, config: ModelConfig) -> None:
    """Raises ValueError where clips cannot be read by the model of `config`."""
    theirs, ours = ((one.latent_channels, one.latent_size, one.latent_scale) for one in (clips.config, config))
    if theirs != ours:
        raise ValueError(f"The clips are of EMO '{clips.config.name}', whose latents EMO '{config.name}' cannot read. Connect "
                         "the video instead, with 'vae'.")


def picture_of(frames: np.ndarray) -> Tensor:
    """(F, H, W, 3) uint8 -> IMAGE."""
    return torch.from_numpy(frames).float() / 255


def fitted_frames(frames: Tensor, config: ModelConfig, count: int, fit: Fit | None = None) -> Tensor:
    """IMAGE (F, H, W, C) -> IMAGE (count, size, size, 3), cut to the model's square where it is another size.

    fit: of the portrait that was put back into its whole picture; None: frames of the square.
    """
    if len(frames) < count:
        raise ValueError(f"The video has {len(frames)} frames, and {count} are needed to continue it.")
    pixels = rearrange(_colour(frames).float().clamp(0, 1) * 2 - 1, "b h w c -> b c h w")
    if fit is not None:  # files have an even number of rows and columns
        return images(apply_fit(pixels[..., :fit.height, :fit.width], fit))
    return images(torch.cat([fit_picture(one[None], config.image_size)[0] for one in pixels]))


def whole_frames(frames: Tensor, count: int, picture: Tensor, fit: Fit) -> Tensor:
    """The frames of a video of a portrait, IMAGE (F, H, W, C) -> IMAGE (count, height, width, 3) of the whole picture.

    picture: (1, 3, height, width) in [-1, 1]. The frames may show it at any size, or the head alone: the square of `fit`.
    Raises ValueError for too few of them, and for another shape.
    """
    if len(frames) < count:
        raise ValueError(f"The video has {len(frames)} frames, and {count} are needed to continue it.")
    frames = _colour(frames).float()
    high, wide = frames.shape[1:3]
    height, width = picture.shape[2:]
    if (high, wide) == (height, width):
        return frames
    if high == wide and (width != height or wide == even(fit.side)):
        return torch.cat([picture_of(one) for one in WholePicture(picture, fit).around(frame_bytes(frames))])
    if abs(wide * height - high * width) <= 2 * max(wide, high, width, height):  # beyond rounding to even numbers
        return F.interpolate(frames.movedim(-1, 1), size=(height, width), mode="bicubic", align_corners=False,
                             antialias=True).clamp(0, 1).movedim(1, -1)
    raise ValueError(f"The video is {wide}x{high} pixels and the portrait's picture {width}x{height}: they do not show the same. "
                     "Connect the 'vae' of the 'EMO Reference Encoder' that has the portrait of this video.")


def even(length: int) -> int:
    """As files have it: H.264 wants even numbers of rows and columns."""
    return length + length % 2


@dataclass(frozen=True)
class Framing:
    """What the frames of a video show of a portrait's picture.

    fit: the head square of that picture, None where no portrait is known; whole: puts frames of the square back into it;
    is_whole: the frames show the whole picture; None: if they are as large.
    """

    fit: Fit | None = None
    whole: WholePicture | None = None
    is_whole: bool | None = False


def framed(pictures: np.ndarray, frame: str, framing: Framing) -> Iterator[np.ndarray]:
    """Frames (F, H, W, 3) uint8 -> blocks as the video shows them; frame: one of `FRAMES`.

    Raises ValueError where the head is asked for and nothing tells where it is.
    """
    fit, (height, width) = framing.fit, pictures.shape[1:3]
    is_whole = (height, width) == (fit.height, fit.width) if framing.is_whole is None else framing.is_whole
    if is_whole:
        yield pictures if frame == FRAMES[0] else head_only(pictures, fit)
    elif frame == FRAMES[0] and framing.whole is not None:
        yield from framing.whole.around(pictures)
    elif frame == FRAMES[1] and fit is None and height != width:
        raise ValueError(f"Connect 'reference' of 'EMO Reference Encoder', or set 'frame' to '{FRAMES[0]}': nothing tells where "
                         f"the head is in frames of {width}x{height} pixels.")
    else:
        yield pictures


def head_only(pictures: np.ndarray, fit: Fit) -> np.ndarray:
    """Frames (F, H, W, 3) of the whole picture -> the square around the head, its side even; outside, edges are repeated."""
    rows, columns = (np.arange(first, first + even(fit.side)).clip(0, length - 1)
                     for first, length in ((fit.top, fit.height), (fit.left, fit.width)))
    return pictures[:, rows][:, :, columns]


def motion_latents(latents: Tensor, config: ModelConfig) -> Tensor:
    """Unscaled latents (n, C, h, w) -> scaled (1, C, n, h, w)."""
    return rearrange(to_scaled(latents, config), "n c h w -> 1 c n h w")


def playable_prefix(prefix: str) -> str:
    """A file name's start without 'png' or 'webp' in its last part: ComfyUI's pages of 2025 show such a video as a still."""
    folder, slash, name = prefix.replace("\\", "/").rpartition("/")
    name = re.sub(r"\.(png|webp)", "", name)
    return folder + slash + (name.replace("png", "p_ng").replace("webp", "web_p") or "EMO")


def masks_over_time(before: FaceMask | FaceMasks | None, mask: FaceMask, from_second: float) -> FaceMask | FaceMasks:
    """The mask alone, or after `before` from `from_second` on. Raises ValueError where `before` would not be seen."""
    if before is None:
        return mask
    earlier = FaceMasks.of(before)
    if from_second <= earlier.seconds[-1]:
        raise ValueError(f"'from_second' is {from_second:g}, but the mask at 'before' begins at {earlier.seconds[-1]:g} s and "
                         "is to come before this one. Set 'from_second' to a later time, or disconnect 'before'.")
    return earlier.then(from_second, mask)


def check_match(config: ModelConfig, portrait: Portrait, audio: AudioFeatures,
                face_mask: FaceMask | FaceMasks | None) -> None:
    """Raises ValueError where portrait, voice or mask were prepared for another model than that of `config`."""
    wanted = (config.latent_channels, config.latent_size, config.latent_size)
    if tuple(portrait.latents.shape[1:]) != wanted:
        raise ValueError(f"The reference was made for another model: its latents are {tuple(portrait.latents.shape[1:])}, but "
                         f"EMO '{config.name}' needs {wanted}. Connect the same 'Load EMO Model' to 'EMO Reference Encoder' "
                         "and to 'EMO Sampler'.")
    layers, width = audio.frames.shape[1:]
    if (layers, width) != (config.audio_layers, config.audio_width):
        remedy = ("the 'audio_encoder' of the same 'Load EMO Model'" if config.audio_encoder else
                  "the loader of audio encoders with the wav2vec2 model that it was trained with")
        raise ValueError(f"The audio features have {layers} layers of {width} numbers, but EMO '{config.name}' listens to "
                         f"{config.audio_layers} of {config.audio_width}. Connect {remedy} to 'EMO Audio Encoder'.")
    if audio.resampling != config.audio_resampling:
        raise ValueError(f"The voice was prepared for another kind of model. EMO '{config.name}' " + (
            "hears it in a way of its own: connect 'model' of 'Load EMO Model' to 'EMO Audio Encoder' as well."
            if config.audio_resampling == "convolutions" else
            "needs 'model' of its own 'Load EMO Model' at 'EMO Audio Encoder', or nothing there."))
    if config.audio_transformers and (face_mask is None or face_mask.between(0, 0).regions is None):
        raise ValueError(f"EMO '{config.name}' moves head, face and lips apart and needs to know where they are. Connect "
                         "'EMO Face Mask Builder' to 'face_mask'.")
    if not len(audio.frames):
        raise ValueError(f"The sound lasts {audio.seconds:.3f} s, less than a frame at {audio.fps:g} frames per second. "
                         "Connect a longer recording.")
