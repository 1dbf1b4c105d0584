"""EMO Reference Encoder: detects the face, crops the square around the head and encodes it with the reference net."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..emo_model.inputs.check import check_portrait
from ..emo_model.inputs.face import FITS, fit_picture
from ..emo_model.inputs.identity import NoFaceError
from ..emo_model.inputs.portrait import LONG_SIDE, fit_to_video, read_portrait
from ..emo_model.inputs.vae import to_scaled
from ..emo_model.outputs.paste_back import PasteBack
from ..emo_model.types import Portrait
from . import comfy_bridge, conversions, shipped
from .custom_types import EmoModelType, Reference, ReferenceType
from .schemas import advanced, schema
from .widgets import long_side_input

WHICH = ("largest", "leftmost", "rightmost", *map(str, range(1, 10)))


class EmoReferenceEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoReferenceEncoder",
            display_name="EMO Reference Encoder",
            description="Detects the face in the portrait, crops the square around the head to the model's size, and "
            "encodes it.",
            inputs=[
                EmoModelType.Input("model", tooltip="From Load EMO Model."),
                advanced(
                    io.Combo.Input(
                        "fit",
                        options=list(FITS),
                        default=FITS[0],
                        tooltip="Only for models without face detection, such as Hallo: 'crop' takes the "
                        "largest square, 'pad' keeps the whole picture and repeats its edges.",
                    )
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="One picture with a face, at any size in pixels: photograph, painting, drawing. "
                    "Not connected: the portrait that ships with this pack.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Not connected: the model's own. For models without one (Hallo), from core's Load VAE.",
                ),
                io.Mask.Input(
                    "face",
                    optional=True,
                    tooltip="Mask over the face in 'image'; overrides face detection. Not connected or "
                    "empty: the built-in model detects the face; other models crop by 'fit'.",
                ),
                io.Combo.Input(
                    "which_face",
                    options=list(WHICH),
                    default=WHICH[0],
                    optional=True,
                    tooltip="Which face to animate if several are detected; numbers count from the left, 1 "
                    "is the leftmost. Ignored if 'face' is connected, and by Hallo.",
                ),
                long_side_input(" Ignored by Hallo."),
            ],
            outputs=[
                ReferenceType.Output(display_name="reference", tooltip="The encoded portrait."),
                io.Image.Output(display_name="picture", tooltip="The cropped square at the model's size."),
                io.Vae.Output(
                    display_name="vae",
                    tooltip="Decodes the video: for EMO Video Combine and core's VAE "
                    "nodes. The built-in model's is bound to this portrait and "
                    "decodes to the whole picture; for other models it is the "
                    "input 'vae'.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, which_face: str | None = None) -> bool | str:
        return conversions.face_choice_error(which_face) or True

    @classmethod
    def execute(
        cls,
        model: comfy_bridge.EmoModel,
        fit: str,
        image=shipped.UNCONNECTED,
        vae=None,
        face=None,
        which_face: str = WHICH[0],
        long_side: int = LONG_SIDE,
    ) -> io.NodeOutput:
        conversions.check_option(fit, FITS, "a way to fit a picture")
        conversions.check_face_choice(which_face)
        conversions.check_long_side(long_side)
        conversions.check_link("image", image)
        given = shipped.portrait() if image is shipped.UNCONNECTED else conversions.one_picture(image)
        vae = comfy_bridge.own_vae(model) if vae is None else vae
        encode = cls._with_motion if model.config.motion_decoder else cls._with_pictures
        reference, message = encode(model, vae, given, fit=fit, face=face, which_face=which_face, long_side=long_side)
        comfy_bridge.tell(cls.hidden, message)
        picture = comfy_bridge.to_intermediate(conversions.images(reference.portrait.pixels))
        preview = None if comfy_bridge.is_part(cls.hidden) else ui.PreviewImage(picture, cls=cls)
        return io.NodeOutput(reference, picture, reference.vae, ui=preview)

    @classmethod
    def _with_motion(
        cls, model: comfy_bridge.EmoModel, vae, given, *, face, which_face: str, long_side: int, **_
    ) -> tuple[Reference, str]:
        """For models with motion latents: the head square follows from the face mesh."""
        around = conversions.box_of_face(face, given) if conversions.is_painted(face) else None
        found, faces = comfy_bridge.face_of(given, which_face, around)
        whole, mesh = fit_to_video(given, found.mesh, long_side=long_side)
        shrink = max(1.0, max(given.shape[-2:]) / long_side)
        portrait = read_portrait(whole, mesh, model.config)
        bound = comfy_bridge.bind(vae, whole, portrait, model.config)
        message = portrait.fit.summary + conversions.faces_found(faces, which_face)
        message = "\n".join([message, *check_portrait(given, found, faces).lines])
        if shrink > 1:
            message = f"Picture {given.shape[-1]}x{given.shape[-2]} downscaled: 'long_side' is {long_side}. {message}"
        reference = Reference(
            portrait, model.read_portrait(portrait.latents), PasteBack(whole, portrait.fit), bound, shrink
        )
        return reference, message

    @classmethod
    def _with_pictures(cls, model: comfy_bridge.EmoModel, vae, given, *, fit: str, face, **_) -> tuple[Reference, str]:
        """For models with the latents of a picture VAE (EMO as in the paper, Hallo)."""
        around = None if face is None else conversions.box_of_face(face, given)
        pixels, how = fit_picture(given, model.config.image_size, fit, around)
        identity, message = None, how.summary
        if model.config.hallo:
            try:
                identity = comfy_bridge.find_face(given if face is None else how.inside(given)).embedding
            except NoFaceError as error:
                message += f" {error} Without a face embedding the model preserves the person's identity less well."
        picture = comfy_bridge.to_intermediate(conversions.images(pixels))
        latents = to_scaled(comfy_bridge.encode_picture(vae, picture, model.config), model.config)
        reference = Reference(
            Portrait(latents, pixels, how, identity), model.read_portrait(latents, identity), PasteBack(given, how), vae
        )
        return reference, message
