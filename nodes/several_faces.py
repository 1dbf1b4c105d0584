"""EMO Several Faces and EMO Combine Faces: each face of a picture becomes a portrait with a voice of its own, and the
sampled faces become one video."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import io, ui

from ..emo_model.inputs.check import check_portrait
from ..emo_model.inputs.face_letters import lettered
from ..emo_model.inputs.portrait import LONG_SIDE, fit_to_video, read_portrait
from ..emo_model.inputs.voice_schedule import LETTERS
from ..emo_model.inputs.voices import MixedSound, assign, soundtrack
from ..emo_model.outputs.paste_back import PasteBack
from ..emo_model.sampling.expression import Expression
from . import comfy_bridge, conversions, shipped
from .custom_types import (
    AudioFeaturesType,
    BoundingBoxType,
    ClipsType,
    EmoModelType,
    ExpressionType,
    FaceClips,
    FacesType,
    Reference,
    ReferenceType,
)
from .schemas import schema
from .widgets import long_side_input

ORDERS = ("together", "one after another")
MOST = 4  # inputs for voices, and for faces that were sampled apart


def schedule_input() -> io.String.Input:
    return io.String.Input(
        "schedule",
        default="",
        multiline=True,
        tooltip="Who speaks when, faces by letter from the left, in seconds: '0.0-3.2 A; 3.0-7.5 B'. With a single "
        "voice it is that of all faces named. Empty: each face has its own voice throughout.",
    )


def order_input() -> io.Combo.Input:
    return io.Combo.Input(
        "order",
        options=list(ORDERS),
        default=ORDERS[0],
        tooltip="'together': all voices start at 0, as recordings of one talk do. 'one after another': each starts "
        "where the one before it ends.",
    )


def voice_inputs() -> list[io.Audio.Input]:
    return [
        io.Audio.Input(
            f"voice_{letter.lower()}",
            optional=True,
            tooltip=f"The voice of face {letter}"
            + (
                ", the leftmost. No voice connected: the question and answer that ship with this pack."
                if letter == "A"
                else "; not connected: it is silent."
            ),
        )
        for letter in LETTERS[:MOST]
    ]


def expression_inputs() -> list[io.Input]:
    return [
        ExpressionType.Input(
            f"expression_{letter.lower()}",
            optional=True,
            tooltip=f"From EMO Expression: the dials of face {letter}, for the built-in model.",
        )
        for letter in LETTERS[:MOST]
    ]


class EmoSeveralFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoSeveralFaces",
            display_name="EMO Several Faces",
            description="Detects all faces of a picture, letters them from the left and gives each its voice. EMO "
            "Sampler runs once for each face; faces without a voice blink and breathe with their mouths shut.",
            inputs=[
                EmoModelType.Input(
                    "model", tooltip="From Load EMO Model; a model that detects faces, as the built-in one."
                ),
                schedule_input(),
                order_input(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="One picture with several faces. Not connected: the two people that ship with this pack.",
                ),
                *voice_inputs(),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="A mask over each face that moves, as a batch, in place of detection: the first is A. "
                    "Empty: all faces are detected.",
                ),
                BoundingBoxType.Input(
                    "boxes",
                    optional=True,
                    extra_dict={"forceInput": True},
                    tooltip="A box around each face that moves, in pixels of 'image', in place of detection: the first "
                    "is A.",
                ),
                long_side_input(),
                *expression_inputs(),
            ],
            outputs=[
                ReferenceType.Output(
                    display_name="reference",
                    is_output_list=True,
                    tooltip="A list with the portrait of each face, for EMO Sampler and EMO Combine Faces.",
                ),
                AudioFeaturesType.Output(
                    display_name="audio_features",
                    is_output_list=True,
                    tooltip="A list with the features of each face's voice, for EMO Sampler.",
                ),
                io.Audio.Output(display_name="audio", tooltip="All voices mixed, for EMO Video Combine."),
                io.Image.Output(display_name="picture", tooltip="The picture with the letters of the faces."),
                ExpressionType.Output(
                    display_name="expression",
                    is_output_list=True,
                    tooltip="A list with the dials of each face, for EMO Sampler.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, schedule: str | None = None) -> bool | str:
        return conversions.schedule_error(schedule) or True

    @classmethod
    def execute(
        cls,
        model: comfy_bridge.EmoModel,
        schedule: str,
        order: str,
        image=shipped.UNCONNECTED,
        voice_a=shipped.UNCONNECTED,
        voice_b=shipped.UNCONNECTED,
        voice_c=shipped.UNCONNECTED,
        voice_d=shipped.UNCONNECTED,
        masks=None,
        boxes=None,
        long_side: int = LONG_SIDE,
        expression_a: Expression = Expression(),
        expression_b: Expression = Expression(),
        expression_c: Expression = Expression(),
        expression_d: Expression = Expression(),
    ) -> io.NodeOutput:
        conversions.check_option(order, ORDERS, "an order of voices")
        conversions.check_long_side(long_side)
        conversions.check_link("image", image)
        who, vae, encoder = conversions.schedule_of(schedule), _own_vae(model), comfy_bridge.own_audio_encoder(model)
        given = shipped.portrait("two people") if image is shipped.UNCONNECTED else conversions.one_picture(image)
        sounds = _sounds({"voice_a": voice_a, "voice_b": voice_b, "voice_c": voice_c, "voice_d": voice_d})
        faces = comfy_bridge.faces_of(given, conversions.boxes_of_faces(masks, boxes, given))
        try:
            voices = assign(tuple(faces), sounds, schedule=who, in_turn=order == ORDERS[1] and len(sounds) > 1)
        except ValueError as error:
            raise ValueError(f"Change 'schedule', 'order' or the voices: {error}.") from None
        seconds, fps = max(voice.seconds for voice in voices), model.config.fps
        whole, meshes = fit_to_video(given, torch.stack([face.mesh for face in faces.values()]), long_side=long_side)
        shrink = max(1.0, max(given.shape[-2:]) / long_side)
        references, features, lines = [], [], []
        progress = comfy_bridge.Progress(len(faces))
        for (letter, face), mesh, voice in zip(faces.items(), meshes, voices, strict=True):
            portrait = read_portrait(whole, mesh, model.config)
            references.append(
                Reference(
                    portrait,
                    model.read_portrait(portrait.latents),
                    PasteBack(whole, portrait.fit),
                    comfy_bridge.bind(vae, whole, portrait, model.config),
                    shrink,
                    LETTERS.index(letter),
                )
            )
            encoded = comfy_bridge.encode_audio(
                encoder,
                voice.heard(seconds),
                fps=fps,
                seconds=seconds,
                config=model.config,
                on_progress=lambda done, total: None,
            )
            features.append(replace(encoded, silent=voice.silent(seconds)))
            progress.update(len(features))
            lines.append(_line(letter, voice))
            lines += [f"{letter}: {line}" for line in check_portrait(given, face).lines]
        comfy_bridge.tell(cls.hidden, "\n".join(lines))
        shown = conversions.images(lettered(given, {letter: face.box for letter, face in faces.items()}))
        sound = soundtrack(voices)
        waveform, rate = sound.waveform() if isinstance(sound, MixedSound) else sound
        preview = None if comfy_bridge.is_part(cls.hidden) else ui.PreviewImage(shown, cls=cls)
        heard = {"waveform": waveform[None], "sample_rate": rate}
        dials = dict(zip(LETTERS, (expression_a, expression_b, expression_c, expression_d), strict=False))
        expressions = [dials.get(letter, Expression()) for letter in faces]
        picture = comfy_bridge.to_intermediate(shown)
        return io.NodeOutput(references, features, heard, picture, expressions, ui=preview)


def _own_vae(model: comfy_bridge.EmoModel):
    if model.config.motion_decoder is None:
        raise ValueError(
            f"Connect a model that detects faces, such as '{comfy_bridge.BUILT_IN}': EMO '{model.config.name}' "
            "animates one square crop."
        )
    return comfy_bridge.own_vae(model)


def _sounds(voices: dict) -> list:
    """The voices by input; the shipped ones if none is connected."""
    for name, voice in voices.items():
        conversions.check_link(name, voice)
    if all(voice is shipped.UNCONNECTED for voice in voices.values()):
        return [conversions.one_sound(shipped.voice(file)) for file in shipped.VOICES]
    return conversions.several_sounds(
        {name: None if voice is shipped.UNCONNECTED else voice for name, voice in voices.items()}
    )


def _line(letter: str, voice) -> str:
    if voice.sound is None:
        return f"{letter} is silent."
    return f"{letter} speaks {conversions.times(voice.spans or [(round(voice.begin, 2), round(voice.seconds, 2))])}."


class EmoCombineFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        sampled = "From EMO Sampler: the clips of one face, or of all faces of EMO Several Faces."
        made = "From EMO Several Faces or EMO Reference Encoder: what 'clips' were sampled with."
        more = [
            (
                ClipsType.Input(
                    f"clips_{number}", optional=True, tooltip="The clips of another face of the same picture."
                ),
                ReferenceType.Input(
                    f"reference_{number}", optional=True, tooltip=f"What 'clips_{number}' were sampled with."
                ),
            )
            for number in range(2, MOST + 1)
        ]
        return schema(
            node_id="EmoCombineFaces",
            display_name="EMO Combine Faces",
            description="Combines the clips of several faces of one picture for EMO Video Combine. Everything outside "
            "the heads stays the picture's, pixel for pixel.",
            inputs=[
                ClipsType.Input("clips", tooltip=sampled),
                ReferenceType.Input("reference", tooltip=made),
                *(one for pair in more for one in pair),
            ],
            outputs=[FacesType.Output(display_name="faces", tooltip="For EMO Video Combine.")],
            is_input_list=True,
        )

    @classmethod
    def execute(
        cls,
        clips: list,
        reference: list,
        clips_2: list | None = None,
        reference_2: list | None = None,
        clips_3: list | None = None,
        reference_3: list | None = None,
        clips_4: list | None = None,
        reference_4: list | None = None,
    ) -> io.NodeOutput:
        pairs = {
            "": (clips, reference),
            "_2": (clips_2, reference_2),
            "_3": (clips_3, reference_3),
            "_4": (clips_4, reference_4),
        }
        faces = []
        for name, (sampled, made) in pairs.items():
            sampled, made = sampled or [], made or []
            if len(sampled) != len(made):
                raise ValueError(
                    f"Connect 'clips{name}' and 'reference{name}' of the same faces: there are {len(sampled)} clips "
                    f"and {len(made)} references."
                )
            faces += [FaceClips(one, other) for one, other in zip(sampled, made, strict=True)]
        conversions.check_faces(faces)
        return io.NodeOutput(tuple(faces))
