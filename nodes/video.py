"""EMO Video Combine: clips, latents or pictures, and the sound, become an mp4 file, block by block."""

from __future__ import annotations

from collections.abc import Iterator

from comfy_api.latest import InputImpl, io, ui

from ..emo_model.cache.folder import CachedClips
from ..emo_model.config import ModelConfig
from ..emo_model.inputs.media import SOUND_CODECS
from . import comfy_bridge, conversions
from .custom_types import ClipsType, Reference, ReferenceType

BLOCK = 16  # frames decoded and written at a time: memory does not grow with the length of the video


class EmoVideoCombine(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmoVideoCombine",
            display_name="EMO Video Combine",
            category="EMO",
            description="Writes an mp4 into ComfyUI's output folder and plays it. Drop the file on the page to get its workflow.",
            inputs=[
                io.Float.Input("fps", default=ModelConfig().fps, min=1.0, max=120.0, step=0.01,
                               tooltip="Frame rate in frames per second, of 'latent' or 'images'. Connect 'fps' of EMO Audio "
                                       "Encoder to stay in time. 'clips' know their own."),
                io.Int.Input("quality", default=17, min=0, max=51,
                             tooltip="Constant rate factor of H.264 (0 to 51): lower is better and larger; "
                                     "17 looks as the original, 23 is usual, 30 is small."),
                io.String.Input("filename_prefix", default="video/EMO",
                                tooltip="Start of the file's name inside ComfyUI's output folder; a text such as "
                                        "%date:yyyy-MM-dd% is filled in."),
                io.Latent.Input("latent", optional=True,
                                tooltip="Latents, one per frame, together with 'vae', instead of 'clips'."),
                io.Vae.Input("vae", optional=True, tooltip="Decodes 'clips' or 'latent'; from EMO Reference Encoder."),
                io.Image.Input("images", optional=True, tooltip="The frames as pictures, instead of 'clips'."),
                io.Audio.Input("audio", optional=True,
                               tooltip="The sound: from EMO Audio Encoder, or another mix of the same length. Its rate, "
                                       "channels and samples stay as they are. Nothing connected: a silent video."),
                ClipsType.Input("clips", optional=True,
                                tooltip="From EMO Sampler, together with 'vae'; this, 'latent' or 'images'. A video of any "
                                        "length takes no more memory than a short one."),
                io.Combo.Input("sound", options=list(SOUND_CODECS), default=SOUND_CODECS[0], optional=True,
                               tooltip="How the sound is stored: 'aac' plays everywhere, 'flac' keeps every sample to the bit "
                                       "and is larger. What AAC cannot have becomes FLAC by itself: 7 or 8 channels, rates such "
                                       "as 192 kHz."),
                ReferenceType.Input("reference", optional=True,
                                    tooltip="From EMO Reference Encoder. Hallo's square is then put back into the whole picture "
                                            "that it was cut from; the built-in model's VAE makes the whole picture by itself."),
                io.Combo.Input("frame", options=list(conversions.FRAMES), default=conversions.FRAMES[0], optional=True,
                               tooltip="What the video shows: 'whole picture', as large as the portrait's; or 'head only', the "
                                       "square around the head."),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The file that was written.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
            not_idempotent=True)

    @classmethod
    def validate_inputs(cls, sound: str = SOUND_CODECS[0], frame: str = conversions.FRAMES[0]) -> bool | str:
        return conversions.not_listed(sound, SOUND_CODECS, "a way to store sound") or conversions.not_listed(
            frame, conversions.FRAMES, "what a video can show") or True

    @classmethod
    def execute(cls, fps: float, quality: int, filename_prefix: str, latent=None, vae=None, images=None, audio=None,
                clips: CachedClips | None = None, sound: str = SOUND_CODECS[0],
                reference: Reference | None = None, frame: str = conversions.FRAMES[0]) -> io.NodeOutput:
        conversions.check_listed(sound, SOUND_CODECS, "a way to store sound")
        conversions.check_listed(frame, conversions.FRAMES, "what a video can show")
        vae = comfy_bridge.bound_to(vae, reference)
        count, frames = conversions.frames_to_write(clips, latent, vae, images, block=BLOCK)
        fps = fps if clips is None else clips.fps
        conversions.check_fps(fps)
        heard = None if audio is None else conversions.one_sound(audio)
        if said := conversions.of_equal_length(heard, count, fps):
            comfy_bridge.tell(cls.hidden, said)
        progress = comfy_bridge.Progress(count)

        decoded = comfy_bridge.pictures(vae, frames) if images is None else map(conversions.frame_bytes, frames)
        framing = comfy_bridge.framing(vae, reference, is_decoded=images is None)

        def blocks() -> Iterator:
            done = 0
            for block in decoded:
                yield from conversions.framed(block, frame, framing)
                done += len(block)
                progress.update(done)

        last = None if clips is None else clips.last(min(clips.frames, clips.config.motion_frames))
        path, subfolder = comfy_bridge.write_video(blocks(), prefix=conversions.playable_prefix(filename_prefix), fps=fps,
                                                   audio=heard, quality=quality, codec=sound, hidden=cls.hidden, last=last)
        shown = ui.SavedResult(path.name, subfolder, io.FolderType.output)
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)), ui=ui.PreviewVideo([shown]))
