"""EMO Clips To Latent and EMO Continue From: the clips of a video for core's nodes, and for the video after it."""

from __future__ import annotations

from comfy_api.latest import InputImpl, io
from torch import Tensor

from ..emo_model.cache.folder import CachedClips
from ..emo_model.inputs.carried import read_latents
from ..emo_model.inputs.media import last_frames
from ..emo_model.types import MotionFrames
from . import comfy_bridge, conversions
from .custom_types import ClipsType, EmoModelType, MotionType, Reference, ReferenceType


class EmoClipsToLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmoClipsToLatent",
            display_name="EMO Clips To Latent",
            category="EMO",
            description="All latents of a video at once, for core's VAE Decode with the 'vae' of EMO Reference Encoder: for "
                        "short videos, since memory grows with the length. The node says how much.",
            inputs=[ClipsType.Input("clips", tooltip="From EMO Sampler.")],
            outputs=[io.Latent.Output(display_name="latent", tooltip="One latent per frame.")],
            hidden=[io.Hidden.unique_id])

    @classmethod
    def execute(cls, clips: CachedClips) -> io.NodeOutput:
        more = f"{clips.picture_bytes / 1e9:.2f} GB more"
        if clips.config.motion_decoder:
            more = f"{clips.frames * 12 / 1e3:.2f} GB more for each megapixel of the portrait"
        comfy_bridge.tell(cls.hidden, f"{clips.frames} latents take {clips.latent_bytes / 1e9:.2f} GB of RAM, and {more} when "
                                      "they are decoded to pictures. 'EMO Video Combine' takes the clips themselves and needs "
                                      "neither.")
        return io.NodeOutput(conversions.latent_of([comfy_bridge.keep(clip) for clip in clips], clips.config))


class EmoContinueFrom(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmoContinueFrom",
            display_name="EMO Continue From",
            category="EMO",
            description="Takes the last frames of a video, so that another one goes on from them without a jump.",
            inputs=[
                EmoModelType.Input("model", tooltip="From Load EMO Model: the model that makes the next video."),
                ClipsType.Input("clips", optional=True,
                                tooltip="From EMO Sampler: continues exactly. This, 'video' or 'images'."),
                io.Video.Input("video", optional=True,
                               tooltip="Any video, with 'vae'; its last frames are read. One of this pack continues exactly."),
                io.Image.Input("images", optional=True,
                               tooltip="The frames of a video as pictures, with 'vae'; the last ones count."),
                io.Vae.Input("vae", optional=True,
                             tooltip="Encodes the frames of 'video' or 'images'; from EMO Reference Encoder, with the portrait "
                                     "of the video."),
                ReferenceType.Input("reference", optional=True,
                                    tooltip="From EMO Reference Encoder. The built-in model takes its VAE where 'vae' is not "
                                            "connected; for others, 'video' or 'images' then show the whole picture around "
                                            "the square."),
            ],
            outputs=[MotionType.Output(display_name="motion", tooltip="For EMO Sampler.")])

    @classmethod
    def execute(cls, model: comfy_bridge.EmoModel, clips: CachedClips | None = None, video=None, images=None,
                vae=None, reference: Reference | None = None) -> io.NodeOutput:
        count = model.config.motion_frames
        conversions.check_one_given({"clips": clips, "video": video, "images": images}, "Nothing to continue from")
        if clips is not None:
            conversions.check_same_latents(clips, model.config)
            return io.NodeOutput(MotionFrames(clips.last(count)))
        vae = comfy_bridge.bound_to(vae, reference)
        if vae is None:
            raise ValueError("The frames must be encoded: connect 'vae' to the output of 'EMO Reference Encoder'.")
        frames, carried = (images[-count:], None) if video is None else _end_of(video, count)
        if comfy_bridge.knows_portrait(vae):
            pictures = conversions.whole_frames(frames, count, vae.picture, vae.portrait.fit)
        else:
            fit = None if reference is None else reference.portrait.fit
            pictures = conversions.fitted_frames(frames, model.config, count, fit)
        if carried is not None and comfy_bridge.shows(vae, carried, pictures, model.config):
            return io.NodeOutput(MotionFrames(carried))
        latents = comfy_bridge.latents_of_frames(vae, pictures, model.config)
        return io.NodeOutput(MotionFrames(conversions.motion_latents(latents, model.config)))


def _end_of(video, count: int) -> tuple[Tensor, Tensor | None]:
    """The last `count` frames of a VIDEO, or all if it has fewer, as IMAGE, and the latents (1, C, n, h, w) its file carries."""
    if isinstance(video, InputImpl.VideoFromComponents):  # in memory; ComfyUI 0.3 cannot make a file of it there
        return video.get_components().images[-count:], None
    start, duration = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0.0, 0.0)
    until, source = start + duration if duration else None, video.get_stream_source()
    carried = read_latents(source) if until is None else None  # those of the end that was cut off
    return conversions.picture_of(last_frames(source, count, since=start, until=until)), carried
