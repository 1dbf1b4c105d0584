"""What widgets and links carry: numbers in their limits, options, curves, schedules, names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from ...emo_model.config import SamplingConfig
from ...emo_model.inputs.faces import CHOICES, Face
from ...emo_model.inputs.voice_schedule import VoiceSchedule
from ...emo_model.sampling.expression import Curve, Expression
from ...emo_model.types import Speed

CURVE_STEPS = 200
"""Keyframes that a CURVE becomes."""


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


def playable_prefix(prefix: str) -> str:
    """The prefix without 'png' or 'webp' in its last part: ComfyUI's pages of 2025 show such a video as a still."""
    folder, slash, name = prefix.replace("\\", "/").rpartition("/")
    name = re.sub(r"\.(png|webp)", "", name)
    return folder + slash + (name.replace("png", "p_ng").replace("webp", "web_p") or "EMO")
