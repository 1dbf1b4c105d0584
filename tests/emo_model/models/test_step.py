"""One denoising step as a device sees it: pictures keep their memory layout, and nothing waits for the device."""

from __future__ import annotations

from dataclasses import replace

import pytest
import small_models
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from emo_model.acceleration.group_norm import use_own_group_norm
from emo_model.checkpoints.random_files import SMALL_HALLO
from emo_model.config import ModelConfig, SamplingConfig
from emo_model.inputs.face import box_mask, voice_regions
from emo_model.models import attention
from emo_model.models.emo import Emo
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.sampling.samplers import SAMPLERS, guided
from emo_model.sampling.schedule import NoiseSchedule
from emo_model.types import MotionFrames

SMALL = {  # pictures of more than one cell at every level, whose layout can be told
    "emo": replace(small_models.EMO, image_size=128, clip_frames=3),
    "builtin": replace(small_models.BUILTIN, clip_frames=3, noise_shapes=0, noise_frames=()),
    "hallo": replace(SMALL_HALLO, image_size=128, clip_frames=2, motion_frames=2),
}
META = torch.device("meta")
BOTH = SamplingConfig(steps=3, audio_guidance=2.5, reference_guidance=1.5)


@pytest.fixture(scope="module", params=SMALL)
def model(request, awake) -> Emo:
    return use_own_group_norm(awake(Emo(SMALL[request.param]))).to(memory_format=torch.channels_last)


@pytest.fixture(scope="module", params=SMALL)
def elsewhere(request) -> Emo:
    """On a device that computes nothing and refuses to be waited for."""
    with META:
        emo = Emo(SMALL[request.param]).eval().requires_grad_(False)
    for part in emo.modules():
        if isinstance(part, attention.Attention):
            part.attend = lambda q, k, v, heads: torch.empty_like(q)  # a kernel; here torch would decompose it
    return emo.to(memory_format=torch.channels_last)


@pytest.fixture
def given(conditions, seeded):
    """Conditions of a clip for a model, or of several."""

    def make(config: ModelConfig, device: torch.device | str = "cpu", clips: int = 1):
        whole = conditions(config, frames=config.clip_frames * clips)
        portrait = replace(whole.portrait, latents=whole.portrait.latents.to(device))
        if config.hallo:
            whole = replace(whole, face_mask=voice_regions(box_mask(config.image_size, (0.2, 0.2, 0.8, 0.9))))
            portrait = replace(portrait, identity=seeded(1, config.hallo.identity_width, seed=5).to(device))
        return replace(whole, portrait=portrait)

    return make


def ready(emo: Emo, whole, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32):
    """(a clip's context, noisy latents)"""
    config = emo.config
    size = (config.latent_channels, config.motion_frames, config.latent_size, config.latent_size)
    draw = torch.Generator().manual_seed(6)
    reference = emo.encode_reference(whole.portrait.latents.to(dtype), whole.portrait.identity)
    motion = emo.encode_motion(MotionFrames(torch.randn(1, *size, generator=draw).to(device, dtype)), like=reference)
    clip = whole.clip(0, clip_frames=config.clip_frames, margin_frames=config.audio_margin_frames)
    noisy = torch.randn(1, size[0], config.clip_frames, *size[2:], generator=draw).to(device)
    return emo.prepare(reference, motion, clip), noisy


@torch.no_grad()
def test_every_layer_that_works_on_pictures_is_given_and_gives_them_in_channels_last(model, given):
    context, noisy = ready(model, given(model.config))
    predict, wrong, seen_layers = guided(model, context, BOTH), [], []

    def look(name: str, *pictures: Tensor) -> None:
        seen_layers.append(name)
        if not all(x.is_contiguous(memory_format=torch.channels_last) for x in pictures if x.ndim == 4):
            wrong.append(name)

    hooks = [
        part.register_forward_hook(lambda _, args, made, name=name: look(name, args[0], made))
        for name, part in model.backbone.named_modules()
        if isinstance(part, (nn.Conv2d, nn.GroupNorm))
    ]
    predict(noisy, 500)
    for hook in hooks:
        hook.remove()
    assert len(seen_layers) > 30 and not wrong


class Device(TorchDispatchMode):
    """kernels: names of what is not a view, while `is_on`; from_host: those that read a tensor of the CPU."""

    def __init__(self):
        super().__init__()
        self.kernels, self.from_host, self.is_on = [], [], False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if self.is_on and not func.is_view:
            self.kernels.append(func.overloadpacket.__name__)
            on_host = [x for x in args if isinstance(x, Tensor) and x.device.type == "cpu" and x.ndim]
            if on_host and isinstance(made, Tensor) and made.device == META:
                self.from_host.append(func.overloadpacket.__name__)
        return made


HOWS = {"guided": BOTH, "guided at first": replace(BOTH, audio_guidance_end=0.5)}
RUNS = [
    *(("builtin", "guided", sampler) for sampler in SAMPLERS),
    ("builtin", "guided at first", "ddim"),
    *((name, "guided", "ddim") for name in SMALL if name != "builtin"),
]


@pytest.mark.parametrize(("elsewhere", "how", "sampler"), RUNS, indirect=["elsewhere"])
def test_between_first_and_last_step_nothing_waits_for_the_device_and_nothing_is_sent_to_it(
    elsewhere, given, sampler, how
):
    """A number read from the device would raise; all that is made before the first step may be sent."""
    whole, how = given(elsewhere.config, META), replace(HOWS[how], sampler=sampler)
    asked = []
    with Device() as device:

        def predict(*given):
            asked.append(len(device.kernels))
            device.is_on = True
            return elsewhere.predict(*given)

        def on_step(report):
            device.is_on = report.step < report.steps  # what lies between two clips may wait

        list(generate_clips(ClipRenderer(elsewhere, whole, how, device=META, predict=predict, on_step=on_step)))
    assert len(asked) == how.steps and asked[-1] > 100
    assert not device.from_host


@torch.no_grad()
def test_times_embedded_for_all_steps_at_once_are_those_of_each_step(model, given):
    context, noisy = ready(model, given(model.config))
    timesteps = NoiseSchedule(model.config).timesteps(10)
    table, cached = model.embed_timesteps(timesteps, context.face), model.cache(context)
    for step, timestep in enumerate(timesteps):
        each = model.backbone.embed_timesteps(torch.tensor([timestep]), noisy)[0]
        assert (table[step] - each).abs().max() <= 1e-5 * each.abs().max()
    each, once = (model.predict(noisy, time, cached) for time in (torch.tensor(timesteps[3:4]), table[3:4]))
    assert (once - each).abs().max() <= 1e-5 * each.abs().max()
    assert not torch.allclose(table[0], table[-1])
