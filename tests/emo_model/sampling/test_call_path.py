"""How far it is to read from the clip loop to the kernel of an attention."""

from __future__ import annotations

import traceback
from pathlib import Path

from emo_model.config import SamplingConfig
from emo_model.models.attention import dot_product
from emo_model.sampling.clips import ClipRenderer, generate_clips

LIBRARY = Path(__file__).parents[3] / "emo_model"


def test_from_the_clip_loop_to_reference_attention_are_at_most_fourteen_functions_in_six_files(emo, config, conditions):
    stacks = []

    def attend(*given):
        stacks.append([frame for frame in traceback.extract_stack() if LIBRARY in Path(frame.filename).parents])
        return dot_product(*given)

    emo.backbone.down_blocks[0].attentions[0].transformer_blocks[0].attn2.attend = attend
    next(generate_clips(ClipRenderer(emo, conditions(config, frames=config.clip_frames), SamplingConfig(steps=1))))
    path = [
        *((frame.filename, frame.name) for frame in stacks[0]),
        (str(LIBRARY / "models" / "attention.py"), "dot_product"),
    ]
    assert path[0][1] == "generate_clips"
    assert len(path) <= 14 and len({file for file, _ in path}) <= 6, path
