"""The shapes of docs/data_path.md, compared with those of the code, on the meta device (except for the sound)."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emo_model.auxiliary.audio_encoder import AudioEncoder
from emo_model.auxiliary.motion_decoder import MotionDecoder
from emo_model.checkpoints import native
from emo_model.checkpoints.mediapipe import load_face_finder
from emo_model.config import PRESETS, SamplingConfig
from emo_model.inputs import media, portrait
from emo_model.inputs.audio import encode_long, features_per_frame, resample
from emo_model.inputs.portrait_maps import portrait_maps
from emo_model.outputs.portrait_decoder import PortraitDecoder
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.training.clips import ClipStore, draw_batch
from emo_model.training.stages import VIDEO
from emo_model.types import Conditions, MotionFrames, Speed

ROOT = Path(__file__).parents[1]
STORY = ROOT / "docs" / "data_path.md"
ROW = re.compile(r"^\| `(.+?)` \| `\((.+?)\)` \| `\((.+?)\)` \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def told() -> dict[str, tuple[tuple[int, ...], int]]:
    """Name -> (shape, number of letters), as the story says."""

    def parts(text: str) -> list[str]:
        return [part for part in text.split(",") if part.strip()]

    return {
        name: (tuple(map(int, parts(shape))), len(parts(letters)))
        for name, shape, letters in ROW.findall(STORY.read_text(encoding="utf-8"))
    }


@pytest.fixture(scope="module")
def lived(tmp_path_factory) -> dict[str, torch.Tensor | np.ndarray]:
    """Name -> value, as the library has it."""
    # noise of white shapes: the meta device has no numbers that noise could be made of
    config, values = replace(PRESETS["builtin"], noise_shapes=0, noise_frames=()), {}
    parts = native.build(config, device="meta")
    file = tmp_path_factory.mktemp("input") / "portrait.png"
    whole = Image.new("RGB", (640, 480))
    whole.paste(Image.open(ROOT / "workflows" / "inputs" / "emo_portrait.jpg").resize((300, 300)), (200, 100))
    whole.save(file)

    # input
    values["read_picture(portrait)"] = picture = media.read_picture(file)
    values["find_mesh(finder, picture)"] = mesh = portrait.find_mesh(load_face_finder(), picture)
    shown = portrait.read_portrait(picture, mesh, config)
    values |= {"Portrait.pixels": shown.pixels, "Portrait.mesh": shown.mesh}
    values["read_audio(voice)"] = waveform = torch.zeros(2, 88_200)
    values["resample(waveform)"] = sound = resample(waveform, 44_100)

    # conditions
    values["Portrait.latents"] = shown.latents
    latents = shown.latents.to("meta")
    layers = encode_long(AudioEncoder(config.audio_encoder).eval(), sound)
    values["audio_encoder(sound)"] = layers[None]
    audio = features_per_frame(layers, fps=config.fps, seconds=2.0)
    values["AudioFeatures.frames"] = audio.frames
    conditions = Conditions(replace(shown, latents=latents), portrait.face_mask(shown), audio, Speed.constant(12.5))
    values["FaceMask.mask"] = conditions.face_mask.mask

    # once per video, once per clip
    reference = parts.emo.encode_reference(latents)
    values |= {f'reference["{name}"]': feature for name, feature in reference.features.items()}
    clips = list(
        generate_clips(ClipRenderer(parts.emo, conditions, SamplingConfig(steps=1, audio_guidance=1.0), device="meta"))
    )
    before = MotionFrames.last_of(clips[0], config.motion_frames)
    values["MotionFrames.latents"] = before.latents
    motion = parts.emo.encode_motion(before, like=reference)
    values |= {f'motion["{name}"]': feature for name, feature in motion.features.items()}
    clip = conditions.clip(12, clip_frames=config.clip_frames, margin_frames=config.audio_margin_frames)
    context = parts.emo.prepare(reference, motion, clip)
    values |= {
        "ClipConditions.audio": clip.audio,
        "ClipConditions.speed": clip.speed,
        "Context.audio": context.audio,
        "Context.speed": context.speed,
        "Context.face": context.face,
    }

    # at every step
    def listen(place: str, block) -> None:
        def note(_, given, kept, answer) -> None:
            tokens = answer[0] if isinstance(answer, tuple) else answer
            values[f"{place}, tokens"] = values[f"{place}, tokens in"] = given[0]
            values[f"{place}, tokens out"] = tokens
            if "motion_modules" in place:
                values[f"{place}, keys of motion frames"] = given[1].keys_values.keys
            else:
                values[f"{place}, keys of the audio"] = kept["audio"].keys
                values[f"{place}, keys of the portrait"] = kept["reference"].keys

        block.register_forward_hook(note, with_kwargs=True)

    backbone = parts.emo.backbone
    backbone.down_blocks[0].resnets[0].register_forward_hook(
        lambda _, given, answer: values.__setitem__("down_blocks.0.resnets.0", answer)
    )
    for place in ("down_blocks.1.attentions.0", "down_blocks.1.motion_modules.0", "mid_block.motion_modules.0"):
        listen(place, backbone.get_submodule(place).transformer_blocks[0])
    values["noisy"] = torch.zeros_like(clips[0])
    values["prediction"] = parts.emo.predict(values["noisy"], torch.zeros(1, device="meta"), context)

    # output
    values["generate_clips, first clip"], values["generate_clips, last clip"] = clips[0], clips[-1]
    values["portrait_maps(mesh)"] = portrait_maps(shown.mesh, size=config.image_size, cells=config.image_size // 4)
    decoder = PortraitDecoder(MotionDecoder(config).eval(), config, picture, shown)
    made = torch.zeros(clips[0].shape)[0].transpose(0, 1)
    decoded = decoder.flow(made)
    values |= {"DecodedMotion.flow": decoded.flow, "DecodedMotion.mouth_rgb": decoded.mouth_rgb}
    values["decode(first clip)"] = decoder.decode(made)

    # training
    store = ClipStore(
        latents=torch.zeros(2, 40, *latents.shape[1:]),
        stills=torch.zeros(2, 2, *latents.shape[1:]),
        audio=torch.zeros(2, 40, *audio.frames.shape[1:]),
        speed=torch.zeros(2, 40),
        landmarks=torch.zeros(2, 40, 3, 2),
        boxes=torch.zeros(2, 4),
    )
    batch = draw_batch(store, replace(VIDEO, batch=32), config, torch.Generator().manual_seed(0))
    return values | {f"TrainingBatch.{field.name}": getattr(batch, field.name) for field in fields(batch)}


def test_every_shape_of_the_story_is_true(told, lived):
    wrong = {
        name: (shape, tuple(lived[name].shape))
        for name, (shape, _) in told.items()
        if tuple(lived[name].shape) != shape
    }
    assert not wrong


def test_the_story_names_every_axis(told):
    assert len(told) > 30 and all(len(shape) == letters for shape, letters in told.values())


def test_fifty_frames_are_five_clips_of_which_the_last_is_cut(lived, told):
    assert (told["AudioFeatures.frames"][0][0], told["generate_clips, last clip"][0][2]) == (50, 50 - 4 * 12)
