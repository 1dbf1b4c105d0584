"""EMO Face Mask Builder: the region in which the face may move, for the whole video or from a given second on."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..emo_model.inputs.face import box_mask, voice_regions, whole_mask
from ..emo_model.inputs.face_geometry import LOWER_LIP_OUTER, UPPER_LIP_OUTER
from ..emo_model.inputs.portrait import face_mask as face_mask_of
from ..emo_model.types import FaceMask, FaceMasks
from . import comfy_bridge, conversions
from .custom_types import BoundingBoxType, FaceMaskType, Reference, ReferenceType
from .schemas import schema

MODES = ("whole picture", "box", "mask", "detected")


def edge(name: str, default: float) -> io.Float.Input:
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip=f"{name.capitalize()} edge of the box as a fraction of the picture (0 to 1), in mode 'box'.",
    )


class EmoFaceMaskBuilder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoFaceMaskBuilder",
            display_name="EMO Face Mask Builder",
            description="Sets the region in which the face may move, for the whole video or from a given second on. "
            "The node's preview darkens everything outside.",
            inputs=[
                ReferenceType.Input(
                    "reference", tooltip="From EMO Reference Encoder; the mask is cropped like the portrait."
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=MODES[3],
                    tooltip="'whole picture': anywhere. 'box': within the four edges below, or within "
                    "'bounding_box' if connected. 'mask': where 'mask' is white. 'detected': the "
                    "detected face and lips of the portrait, as the built-in model was trained.",
                ),
                edge("left", 0.15),
                edge("top", 0.1),
                edge("right", 0.85),
                edge("bottom", 0.95),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where the face may move: over the original picture (Load Image after "
                    "'Open in MaskEditor'), or over the cropped square. Used in mode 'mask'.",
                ),
                BoundingBoxType.Input(
                    "bounding_box",
                    optional=True,
                    extra_dict={"forceInput": True},  # newer pages: no widget
                    tooltip="A face box in pixels of the original picture, for example from a face "
                    "detector; of several, the largest is used. Used in mode 'box'.",
                ),
                io.Mask.Input(
                    "lips",
                    optional=True,
                    tooltip="Mask around the mouth, about twice its width and height, over the original "
                    "picture or the cropped square. Only used by Hallo. Not connected: the detected "
                    "lips in mode 'detected', else the lower part of the face.",
                ),
                FaceMaskType.Input(
                    "before",
                    optional=True,
                    tooltip="From another EMO Face Mask Builder: its mask applies until 'from_second', "
                    "this one from there on. Not connected: this mask applies to the whole "
                    "video.",
                ),
                io.Float.Input(
                    "from_second",
                    default=0.0,
                    min=0.0,
                    max=1e6,
                    step=0.1,
                    optional=True,
                    tooltip="Time in seconds at which this mask replaces the one at 'before'. Ignored "
                    "without 'before'.",
                ),
            ],
            outputs=[
                FaceMaskType.Output(display_name="face_mask", tooltip="For EMO Sampler."),
                io.Mask.Output(display_name="mask", tooltip="The same mask as a MASK over the cropped square."),
            ],
        )

    @classmethod
    def validate_inputs(cls, mode: str) -> bool | str:
        return conversions.option_error(mode, MODES, "a mode") or True

    @classmethod
    def execute(
        cls,
        reference: Reference,
        mode: str,
        left: float,
        top: float,
        right: float,
        bottom: float,
        mask=None,
        bounding_box=None,
        lips=None,
        before: FaceMask | FaceMasks | None = None,
        from_second: float = 0.0,
    ) -> io.NodeOutput:
        conversions.check_option(mode, MODES, "a mode")
        fit = reference.portrait.fit
        mouth = None if lips is None else conversions.fitted_mask(lips, fit, name="lips").mask
        if mode == "detected":
            mesh = comfy_bridge.mesh_of(reference)
            if reference.portrait.mesh is None:
                built = box_mask(fit.size, conversions.grown_box(conversions.outline(mesh), fit.size))
            else:
                built = face_mask_of(reference.portrait)
            lip_box = conversions.outline(mesh, (*UPPER_LIP_OUTER, *LOWER_LIP_OUTER))
            mouth = (
                box_mask(fit.size, conversions.grown_box(lip_box, fit.size, times=2)).mask if mouth is None else mouth
            )
        elif mode == "mask":
            built = conversions.fitted_mask(mask, fit)
        elif mode == "box":
            box = left, top, right, bottom
            if bounding_box is not None:
                box = conversions.box_of_original(bounding_box, fit, reference.shrink)
            built = box_mask(fit.size, box)
        else:
            built = whole_mask(fit.size)
        built = voice_regions(built, mouth)
        shown = conversions.dimmed_outside(reference.portrait.pixels, built, mouth)
        face_mask = conversions.masks_over_time(before, built, from_second)
        return io.NodeOutput(
            face_mask, comfy_bridge.to_intermediate(built.mask[:, 0]), ui=ui.PreviewImage(shown, cls=cls)
        )
