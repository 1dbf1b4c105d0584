"""EMO Clips To Latent and EMO Continue From: clips as a LATENT, and as motion frames of the next video."""

from __future__ import annotations

from comfy_api.latest import InputImpl, io
from torch import Tensor

from ..emo_model.cache.folder import CachedClips
from ..emo_model.inputs.video_frames import VideoFrames
from ..emo_model.outputs.disk import size
from ..emo_model.outputs.embedded_latents import read_latents
from ..emo_model.types import MotionFrames
from . import comfy_bridge, conversions
from .custom_types import ClipsType, EmoModelType, MotionType, Reference, ReferenceType
from .schemas import schema


class EmoClipsToLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoClipsToLatent",
            display_name="EMO Clips To Latent",
            description="Converts clips to one LATENT for core's VAE Decode with the 'vae' of EMO Reference Encoder. "
            "For short videos: memory grows with the length, and the node reports how much.",
            inputs=[ClipsType.Input("clips", tooltip="From EMO Sampler.")],
            outputs=[io.Latent.Output(display_name="latent", tooltip="One latent per frame.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, clips: CachedClips) -> io.NodeOutput:
        more = f"{size(clips.picture_bytes)} more"
        if clips.config.motion_decoder:
            more = f"{size(clips.frames * 12e6)} more for each megapixel of the portrait"
        comfy_bridge.tell(
            cls.hidden,
            f"{clips.frames} latents take {size(clips.latent_bytes)} of RAM, and "
            f"{more} when they are decoded to pictures. 'EMO Video Combine' takes the clips "
            "themselves and needs neither.",
        )
        return io.NodeOutput(
            conversions.latent_of([comfy_bridge.to_intermediate(clip) for clip in clips], clips.config)
        )


class EmoContinueFrom(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoContinueFrom",
            display_name="EMO Continue From",
            description="Extracts motion frames from the end of a video, so that the next one continues seamlessly.",
            inputs=[
                EmoModelType.Input("model", tooltip="From Load EMO Model: the model of the next video."),
                ClipsType.Input(
                    "clips",
                    optional=True,
                    tooltip="From EMO Sampler; continues bit-exactly. Connect exactly one of 'clips', "
                    "'video' and 'images'.",
                ),
                io.Video.Input(
                    "video",
                    optional=True,
                    tooltip="Any video, with 'reference' or 'vae'; its last frames are encoded. Files of this pack "
                    "embed their last latents and continue exactly, each face of several by its 'reference'.",
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Decoded frames of a video, with 'reference' or 'vae'; the last ones are encoded.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Encodes 'video' or 'images'; from EMO Reference Encoder, with the same portrait "
                    "as the video.",
                ),
                ReferenceType.Input(
                    "reference",
                    optional=True,
                    tooltip="From EMO Reference Encoder; provides the VAE if 'vae' is not connected. Models "
                    "without motion latents: crops the square from 'video' or 'images' that show the whole picture.",
                ),
            ],
            outputs=[MotionType.Output(display_name="motion", tooltip="For EMO Sampler.")],
        )

    @classmethod
    def execute(
        cls,
        model: comfy_bridge.EmoModel,
        clips: CachedClips | None = None,
        video=None,
        images=None,
        vae=None,
        reference: Reference | None = None,
    ) -> io.NodeOutput:
        count = model.config.motion_frames
        conversions.check_one_given({"clips": clips, "video": video, "images": images}, "Nothing to continue from")
        if clips is not None:
            conversions.check_same_latents(clips, model.config)
            return io.NodeOutput(MotionFrames(clips.last(count)))
        vae = comfy_bridge.resolve_vae(vae, reference)
        if vae is None:
            raise ValueError("'video' and 'images' must be encoded: connect 'reference' of 'EMO Reference Encoder'.")
        frames, carried = (images[-count:], None) if video is None else _end_of(video, count)
        if comfy_bridge.is_bound(vae):
            pictures = conversions.whole_frames(frames, count, vae.picture, vae.portrait.fit)
        else:
            fit = None if reference is None else reference.portrait.fit
            pictures = conversions.fitted_frames(frames, model.config, count, fit)
        if carried is not None:
            carried = comfy_bridge.latents_of_frames(vae, carried, pictures, model.config)
        if carried is not None:
            return io.NodeOutput(MotionFrames(carried[:, : model.config.latent_channels]))  # without dials
        latents = comfy_bridge.encode_decoded_frames(vae, pictures, model.config)
        return io.NodeOutput(MotionFrames(conversions.motion_latents(latents, model.config)))


def _end_of(video, count: int) -> tuple[Tensor, Tensor | None]:
    """The last `count` frames of a VIDEO (or all, if fewer) as IMAGE, and the latents (faces, C, n, h, w) embedded in
    its file."""
    if isinstance(video, InputImpl.VideoFromComponents):  # in memory; ComfyUI 0.3 cannot make a file of it there
        return video.get_components().images[-count:], None
    start, duration = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0.0, 0.0)
    until, source = start + duration if duration else None, video.get_stream_source()
    carried = read_latents(source) if until is None else None  # those of the end that was cut off
    return conversions.picture_of(VideoFrames(source, since=start, until=until).last(count)), carried
