"""EMO Reference Encoder: the portrait, fitted to the model's size and read once by the reference net."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..emo_model.inputs.face import FITS, fit_picture
from ..emo_model.inputs.identity import NoFaceError
from ..emo_model.inputs.vae import to_scaled
from ..emo_model.inputs.whole import WholePicture
from ..emo_model.types import Portrait
from . import comfy_bridge, conversions, shipped
from .custom_types import EmoModelType, Reference, ReferenceType


class EmoReferenceEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmoReferenceEncoder",
            display_name="EMO Reference Encoder",
            category="EMO",
            description="Fits the portrait to the model's square, without squashing it, and reads who it shows.",
            inputs=[
                EmoModelType.Input("model", tooltip="From Load EMO Model."),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model: from Load EMO Model, if it brings one."),
                io.Combo.Input("fit", options=list(FITS), default=FITS[0],
                               tooltip="How a picture that is not square becomes so: 'crop' cuts out the largest square, "
                                       "'pad' keeps all of the picture and repeats its edges."),
                io.Image.Input("image", optional=True,
                               tooltip="One picture with one face, of any size in pixels. "
                                       "Nothing connected: the portrait that comes with this pack."),
                io.Mask.Input("face", optional=True,
                              tooltip="White over the face in 'image', for large pictures: the square is cut around it, twice as "
                                      "large. Nothing connected: 'fit' decides alone."),
            ],
            outputs=[
                ReferenceType.Output(display_name="reference", tooltip="The portrait as the model knows it."),
                io.Image.Output(display_name="picture", tooltip="The fitted picture, in the model's size in pixels."),
            ],
            hidden=[io.Hidden.unique_id])

    @classmethod
    def validate_inputs(cls, fit: str) -> bool | str:
        return conversions.not_listed(fit, FITS, "a way to fit a picture") or True

    @classmethod
    def execute(cls, model: comfy_bridge.EmoModel, vae, fit: str, image=shipped.UNCONNECTED, face=None) -> io.NodeOutput:
        conversions.check_listed(fit, FITS, "a way to fit a picture")
        conversions.check_came("image", image)
        given = shipped.portrait() if image is shipped.UNCONNECTED else conversions.one_picture(image)
        around = None if face is None else conversions.box_of_face(face, given)
        pixels, how = fit_picture(given, model.config.image_size, fit, around)
        identity, said = None, how.says
        if model.config.identity_tokens:
            try:
                identity = comfy_bridge.find_face(given if face is None else how.inside(given)).embedding
            except NoFaceError as error:
                said += f" {error} So the model gets no face embedding, and keeps the person less well."
        comfy_bridge.tell(cls.hidden, said)
        picture = comfy_bridge.keep(conversions.images(pixels))
        latents = to_scaled(comfy_bridge.encode_picture(vae, picture, model.config), model.config)
        reference = Reference(Portrait(latents, pixels, how, identity), model.read_portrait(latents, identity),
                              WholePicture(given, how))
        return io.NodeOutput(reference, picture, ui=ui.PreviewImage(picture, cls=cls))
