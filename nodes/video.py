"""EMO Video Combine: latents or pictures, and the sound, become an mp4 file, block by block."""

from __future__ import annotations

from collections.abc import Iterator

from comfy_api.latest import InputImpl, io, ui

from ..emo_model.config import ModelConfig
from . import comfy_bridge, conversions

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
                               tooltip="Frame rate in frames per second. Connect 'fps' of EMO Audio Encoder to stay in time."),
                io.Int.Input("quality", default=17, min=0, max=51,
                             tooltip="Constant rate factor of H.264 (0 to 51): lower is better and larger; "
                                     "17 looks as the original, 23 is usual, 30 is small."),
                io.String.Input("filename_prefix", default="video/EMO",
                                tooltip="Start of the file's name inside ComfyUI's output folder; a text such as "
                                        "%date:yyyy-MM-dd% is filled in."),
                io.Latent.Input("latent", optional=True, tooltip="From EMO Sampler, together with 'vae'; this or 'images'."),
                io.Vae.Input("vae", optional=True, tooltip="Decodes 'latent'; from Load EMO Model."),
                io.Image.Input("images", optional=True, tooltip="The frames as pictures, instead of 'latent'."),
                io.Audio.Input("audio", optional=True,
                               tooltip="The sound: from EMO Audio Encoder, or another mix of the same length. "
                                       "Cut where the frames end. Nothing connected: a silent video."),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The file that was written.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
            not_idempotent=True)

    @classmethod
    def execute(cls, fps: float, quality: int, filename_prefix: str, latent=None, vae=None, images=None,
                audio=None) -> io.NodeOutput:
        frames = conversions.frames_to_write(latent, vae, images)
        sound = None if audio is None else conversions.one_sound(audio)
        progress = comfy_bridge.Progress(len(frames))

        def blocks() -> Iterator:
            for start in range(0, len(frames), BLOCK):
                block = frames[start:start + BLOCK]
                yield conversions.frame_bytes(block if latent is None else vae.decode(block))
                progress.update(start + len(block))

        path, subfolder = comfy_bridge.write_video(blocks(), prefix=conversions.playable_prefix(filename_prefix), fps=fps,
                                                   audio=sound, quality=quality, hidden=cls.hidden)
        shown = ui.SavedResult(path.name, subfolder, io.FolderType.output)
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)), ui=ui.PreviewVideo([shown]))
