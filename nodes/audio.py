"""EMO Audio Encoder: encodes the voice, one row of features per video frame."""

from __future__ import annotations

from comfy_api.latest import io

from ..emo_model.inputs.audio import resample
from . import comfy_bridge, conversions, shipped
from .custom_types import AudioFeaturesType, EmoModelType
from .schemas import schema
from .widgets import fps_input


class EmoAudioEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoAudioEncoder",
            display_name="EMO Audio Encoder",
            description="Encodes the voice into features for each video frame. The video will be as long as the sound.",
            inputs=[
                fps_input(
                    "Frame rate of the video, in frames per second. Motion is most natural at the rate the model was "
                    "trained at: 25 for the built-in model."
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Speech or singing of any length, sample rate and number of channels. "
                    "Not connected: the voice that ships with this pack.",
                ),
                EmoModelType.Input(
                    "model",
                    optional=True,
                    tooltip="From Load EMO Model, whose audio encoder is used. Hallo resamples inside the audio "
                    "encoder and needs this link in any case.",
                ),
                io.AudioEncoder.Input(
                    "audio_encoder",
                    optional=True,
                    tooltip="Not connected: the model's own. For models without one (Hallo), from core's audio "
                    "encoder loader with wav2vec2-base-960h.",
                ),
                io.Audio.Input(
                    "mix",
                    optional=True,
                    tooltip="Soundtrack of the video in place of 'audio', for example the full song if "
                    "'audio' is the isolated voice; of the same duration. Not connected: 'audio'.",
                ),
            ],
            outputs=[
                AudioFeaturesType.Output(display_name="audio_features", tooltip="For EMO Sampler."),
                io.Audio.Output(display_name="audio", tooltip="'mix' or 'audio', unchanged, for EMO Video Combine."),
                io.Float.Output(
                    display_name="fps", tooltip="The frame rate in frames per second, for EMO Video Combine."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        fps: float,
        audio=shipped.UNCONNECTED,
        model: comfy_bridge.EmoModel | None = None,
        audio_encoder=None,
        mix=shipped.UNCONNECTED,
    ) -> io.NodeOutput:
        conversions.check_fps(fps)
        conversions.check_link("audio", audio)
        conversions.check_link("mix", mix)
        if audio_encoder is None:
            audio_encoder = comfy_bridge.own_audio_encoder(model)
        audio = shipped.voice() if audio is shipped.UNCONNECTED else audio
        heard = audio if mix is shipped.UNCONNECTED else mix
        waveform, rate = conversions.one_sound(audio)
        progress = comfy_bridge.Progress(1)
        features = comfy_bridge.encode_audio(
            audio_encoder,
            resample(waveform, rate),
            fps=fps,
            seconds=waveform.shape[-1] / rate,
            config=model and model.config,
            on_progress=progress.set,
        )
        frames = len(features.frames) - features.padding
        message = f"{features.seconds:.3f} s at {fps:g} frames per second are {frames} frames."
        if heard is not audio and (
            differs := conversions.length_mismatch(conversions.one_sound(heard, name="mix"), frames, fps)
        ):
            message += f" At 'mix': {differs}"
        comfy_bridge.tell(cls.hidden, message)
        return io.NodeOutput(features, heard, fps)
