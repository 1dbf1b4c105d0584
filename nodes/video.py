"""EMO Video Combine: decodes clips, latents or images and writes an mp4 with sound, block by block."""

from __future__ import annotations

from collections.abc import Iterator

from comfy_api.latest import io

from ..emo_model.cache.folder import CachedClips
from ..emo_model.outputs.video import SOUND_CODECS
from . import comfy_bridge, conversions
from .custom_types import ClipsType, FaceClips, FacesType, Reference, ReferenceType
from .schemas import advanced, schema
from .widgets import fps_input, prefix_input, written

BLOCK = 16  # frames decoded and written at a time: memory does not grow with the length of the video


class EmoVideoCombine(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoVideoCombine",
            display_name="EMO Video Combine",
            description="Writes an mp4 to ComfyUI's output folder and plays it. Drop the file on the page to load its "
            "workflow.",
            inputs=[
                fps_input(
                    "Frames per second of 'latent' or 'images': connect 'fps' of EMO Audio Encoder. Ignored for "
                    "'clips', which carry their own."
                ),
                io.Int.Input(
                    "quality",
                    default=17,
                    min=0,
                    max=51,
                    tooltip="H.264 constant rate factor (CRF, 0 to 51): lower is better and larger; 17 is "
                    "visually lossless, 23 usual, 30 small.",
                ),
                prefix_input("video/EMO"),
                ClipsType.Input(
                    "clips",
                    optional=True,
                    tooltip="From EMO Sampler, with 'reference'. Connect exactly one of 'clips', 'latent' and "
                    "'images'. Memory does not grow with the length of the video.",
                ),
                ReferenceType.Input(
                    "reference",
                    optional=True,
                    tooltip="From EMO Reference Encoder: decodes 'clips' and 'latent' to the whole picture. With "
                    "'images' it locates the head.",
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Soundtrack: from EMO Audio Encoder, or another mix of the same length. Sample "
                    "rate, channels and samples are kept. Not connected: a silent video.",
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="Decodes 'clips' or 'latent' in place of the VAE of 'reference'."
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Latents, one per frame, with 'reference' or 'vae'; alternative to 'clips'.",
                ),
                io.Image.Input("images", optional=True, tooltip="Decoded frames; alternative to 'clips'."),
                advanced(
                    io.Combo.Input(
                        "sound",
                        options=list(SOUND_CODECS),
                        default=SOUND_CODECS[0],
                        optional=True,
                        tooltip="Audio codec: 'aac' plays everywhere, 'flac' is lossless and larger. Formats "
                        "that AAC does not support (7 or 8 channels, rates such as 192 kHz) are always "
                        "written as FLAC.",
                    )
                ),
                io.Combo.Input(
                    "frame",
                    options=list(conversions.FRAMES),
                    default=conversions.FRAMES[0],
                    optional=True,
                    tooltip="Output region: 'whole picture' at the portrait's size, or 'head only', the "
                    "square around the head.",
                ),
                FacesType.Input(
                    "faces",
                    optional=True,
                    tooltip="From EMO Combine Faces: several moving faces of one picture; alternative to 'clips'. "
                    "Needs no 'reference'.",
                ),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The file that was written.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def execute(
        cls,
        fps: float,
        quality: int,
        filename_prefix: str,
        clips: CachedClips | None = None,
        reference: Reference | None = None,
        audio=None,
        vae=None,
        latent=None,
        images=None,
        sound: str = SOUND_CODECS[0],
        frame: str = conversions.FRAMES[0],
        faces: tuple[FaceClips, ...] | None = None,
    ) -> io.NodeOutput:
        conversions.check_option(sound, SOUND_CODECS, "a way to store sound")
        conversions.check_option(frame, conversions.FRAMES, "what a video can show")
        conversions.check_quality(quality)
        vae = comfy_bridge.resolve_vae(vae, reference)
        if faces is None:
            count, frames = conversions.frames_to_write(clips, latent, vae, images, block=BLOCK)
            fps = fps if clips is None else clips.fps
            decoded = (
                comfy_bridge.decode_blocks(vae, frames) if images is None else map(conversions.frame_bytes, frames)
            )
            framing = comfy_bridge.framing(vae, reference, is_decoded=images is None)
        else:
            conversions.check_one_given({"clips": clips, "latent": latent, "images": images, "faces": faces}, "")
            conversions.check_whole_picture(frame)
            count, fps = max(face.clips.frames for face in faces), faces[0].clips.fps
            decoded, framing = comfy_bridge.decode_together(faces, frames=count), conversions.Framing(is_whole=True)
        conversions.check_fps(fps)
        heard = None if audio is None else conversions.one_sound(audio)
        if message := conversions.length_mismatch(heard, count, fps):
            comfy_bridge.tell(cls.hidden, message)
        progress = comfy_bridge.Progress(count)

        watched = [] if images is not None else [(vae, clips)]
        if faces is not None:
            watched = [(face.reference.vae, face.clips) for face in faces]
        watch = comfy_bridge.watch(watched, fps=fps)

        def blocks() -> Iterator:
            done = 0
            for block in decoded:
                if watch is not None:
                    watch.see(block)
                yield from conversions.framed(block, frame, framing)
                done += len(block)
                progress.update(done)

        last = None if clips is None else clips.last(min(clips.frames, clips.config.motion_frames), with_dials=True)
        if faces is not None:
            last = comfy_bridge.last_together(faces, frames=count)
        path, subfolder = comfy_bridge.write_video(
            blocks(),
            frames=count,
            prefix=conversions.playable_prefix(filename_prefix),
            fps=fps,
            audio=heard,
            quality=quality,
            codec=sound,
            hidden=cls.hidden,
            last=last,
        )
        if watch is not None:
            comfy_bridge.tell(cls.hidden, watch.line)
        return written(path, subfolder)
