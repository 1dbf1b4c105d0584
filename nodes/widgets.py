"""Inputs that several nodes have, with one range and default, and the end of the nodes that write a video."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import InputImpl, io, ui

from ..emo_model.config import ModelConfig, SamplingConfig
from ..emo_model.inputs.portrait import LONG_SIDE
from . import comfy_bridge
from .schemas import advanced

QUALITIES = {"high": 17, "medium": 23, "small file": 30}
"""Constant rate factors of H.264."""


def model_input(files: str) -> io.Combo.Input:
    """files: which of the user's models are suitable."""
    return io.Combo.Input(
        "model",
        options=comfy_bridge.model_names(),
        default=comfy_bridge.BUILT_IN,
        tooltip=f"The built-in model, its fast variant, or a file in ComfyUI/models/emo that {files}.",
    )


def seed_input(
    tooltip: str = "Another seed gives other movements; the same seed gives the same video.",
) -> io.Int.Input:
    return io.Int.Input(
        "seed",
        default=SamplingConfig().seed,
        min=0,
        max=0xFFFF_FFFF_FFFF_FFFF,
        control_after_generate=True,
        tooltip=tooltip,
    )


def quality_input() -> io.Combo.Input:
    return io.Combo.Input(
        "quality",
        options=list(QUALITIES),
        default=next(iter(QUALITIES)),
        tooltip="Of the mp4: 'high' is visually lossless; 'small file' is about a quarter of its size.",
    )


def prefix_input(default: str) -> io.String.Input:
    return io.String.Input(
        "filename_prefix",
        default=default,
        tooltip="File name prefix inside ComfyUI's output folder; placeholders such as %date:yyyy-MM-dd% are expanded.",
    )


def fps_input(tooltip: str) -> io.Float.Input:
    return advanced(io.Float.Input("fps", default=ModelConfig().fps, min=1.0, max=120.0, step=0.01, tooltip=tooltip))


def long_side_input(end: str = "") -> io.Int.Input:
    """end: of the tooltip."""
    return advanced(
        io.Int.Input(
            "long_side",
            default=LONG_SIDE,
            min=64,
            max=8192,
            step=2,
            optional=True,
            tooltip="Downscale the picture until its longer side has at most this many pixels; the video has the same "
            f"size.{end}",
        )
    )


def written(path: Path, subfolder: str) -> io.NodeOutput:
    """The mp4 as VIDEO, played by the node. subfolder: of ComfyUI's output folder, that it lies in."""
    shown = ui.SavedResult(path.name, subfolder, io.FolderType.output)
    return io.NodeOutput(InputImpl.VideoFromFile(str(path)), ui=ui.PreviewVideo([shown]))
