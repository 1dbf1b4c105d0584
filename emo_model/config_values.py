"""What a config from a file may say: every field has a type and a range before anything is built from it."""

from __future__ import annotations

import json
import math
import types
import typing

MOST_TEXT = 2**20  # characters of a config or card; the longest of ours has 3000
MOST_DEPTH = 16  # braces inside braces
MOST_ITEMS = 64  # of a list

RANGES: dict[str, tuple[float, float]] = {
    "name": (1, 100),  # characters
    "image_size": (8, 4096),
    "fps": (1, 240),
    "vae_factor": (1, 64),
    "latent_channels": (1, 64),
    "latent_scale": (1e-6, 1e6),
    "channels": (1, 8192),
    "layers_per_block": (1, 8),
    "attention_heads": (1, 256),
    "temporal_heads": (1, 256),
    "norm_groups": (1, 1024),
    "feed_forward_multiplier": (1, 32),
    "audio_layers": (1, 128),
    "audio_width": (1, 16384),
    "audio_context_width": (1, 16384),
    "audio_margin_frames": (0, 64),
    "temporal_attentions": (1, 8),
    "temporal_position_limit": (1, 4096),
    "clip_frames": (1, 1024),
    "motion_frames": (1, 256),
    "face_locator_channels": (1, 4096),
    "speed_centres": (0, 1e4),
    "speed_radii": (1e-6, 1e4),
    "speed_width": (1, 16384),
    "train_timesteps": (1, 100_000),
    "beta_start": (1e-9, 1),
    "beta_end": (1e-9, 1),
    "noise_shapes": (0, 4096),
    "noise_frames": (0, 1000),
    "noise_white": (0, 1),
    "motion_smoothness": (0, 1e6),
    "lid_channel": (0, 63),
    "heard_mouth": (0, 1),
    "mouth_channels": (1, 4096),
    "mouth_cells": (1, 1024),
    "mel_bands": (1, 257),
    "width": (1, 4096),
    "blocks": (0, 128),
    "features": (1, 16384),
    "mouth_tracks": (0, 64),
    "identity_tokens": (1, 1024),
    "identity_width": (1, 16384),
    "identity_context_width": (1, 16384),
    "audio_tokens": (1, 1024),
    "audio_projection_width": (1, 16384),
    "face_mask_channels": (1, 64),
    "steps": (1, 1000),
}
"""Of the numbers in a field, several times what any model has had; fields that are not here take any finite number."""


def parse_object(text: str, what: str) -> dict:
    """A JSON object of bounded length and depth. Raises ValueError that starts with `what`, a noun phrase."""
    if len(text) > MOST_TEXT:
        raise ValueError(
            f"{what} has {len(text)} characters, and at most {MOST_TEXT} are read; copy or download the file again"
        )
    depth = deepest = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        deepest = max(deepest, depth)
    if deepest > MOST_DEPTH:
        raise ValueError(
            f"{what} has {deepest} levels of brackets, and at most {MOST_DEPTH} are read; copy or download the file "
            "again"
        )
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not JSON ({str(error):.80}); copy or download the file again") from None
    if not isinstance(values, dict):
        raise ValueError(
            f"{what} is a JSON {type(values).__name__} in place of an object; copy or download the file again"
        )
    return values


def listed(names: list[str]) -> str:
    """The first five names for a sentence; those that are no identifiers in quotes."""
    shown = [name if name.isidentifier() and len(name) <= 40 else f"{ascii(name):.42}" for name in names[:5]]
    return ", ".join(shown) + (", ..." if len(names) > 5 else "")


def check_fields(part: type, values: dict, *, prefix: str = "") -> None:
    """Raises ValueError with field, value and what it must be unless all values fit the fields of a dataclass."""
    hints = typing.get_type_hints(part)
    for name, value in values.items():
        hint, limits = hints[name], RANGES.get(name)
        if not _fits(value, hint, limits):
            allowed = _words(hint)
            if limits is not None:
                allowed += f" of {limits[0]:g} to {limits[1]:g}" + (" characters" if hint is str else "")
            raise ValueError(
                f"the model's config says {prefix}{name} = {json.dumps(value):.80}, but it must be {allowed}; copy or "
                "download the file again"
            )


def _fits(value: object, hint: object, limits: tuple[float, float] | None) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part, limits) for part in parts)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or len(value) > MOST_ITEMS:
            return False
        kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(kinds) == len(value) and all(map(_fits, value, kinds, [limits] * len(value)))
    low, high = limits or (-math.inf, math.inf)
    if hint is str:
        return isinstance(value, str) and low <= len(value) <= high
    if hint in (int, float):
        kinds = int if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and _is_within(value, low, high)
    if hint is type(None):
        return value is None
    return isinstance(value, hint) if isinstance(hint, type) else True


def _is_within(value: float, low: float, high: float) -> bool:
    try:
        return math.isfinite(float(value)) and low <= value <= high
    except OverflowError:
        return False


def _words(hint: object) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(part) for part in parts)
    if origin is tuple:
        count = "a list" if parts[-1] is Ellipsis else f"a list of {len(parts)}"
        return f"{count}: {_words(parts[0])}"
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(hint, "an object")
