"""`python -m emo_model portrait.png voice.wav -o talk.mp4`: a portrait and a voice become a talking video.

Without arguments: the shipped portrait speaks the shipped voice, into emo.mp4.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import torch

from .checkpoints import native
from .config import SamplingConfig
from .inputs import face, media, vae
from .inputs.audio import encode_long, features_per_frame, read_audio, resample
from .sampling.clips import StepReport, count_clips, generate_clips
from .sampling.samplers import SAMPLERS
from .types import Conditions, Portrait, Speed

EXAMPLES = Path(__file__).parents[1] / "workflows" / "inputs"
log = logging.getLogger("emo")


def talk(portrait: Path, voice: Path, out: Path, *, model: Path, sampling: SamplingConfig, fps: float | None = None,
         fit: str = "crop", device: str = "cpu", progress: bool = True) -> dict:
    """Make the video; returns what the JSON line says: frames, fps, seconds (in all), seconds_per_frame, peak_rss_mb, out.

    Raises OSError and ValueError with a sentence for the user, as the readers do.
    """
    from tqdm import tqdm

    began = time.monotonic()
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device '{device}' cannot be used here: {str(error).splitlines()[0]}") from None
    bundle = native.load(model, dtype=torch.float32, device=device)
    config = bundle.config
    if bundle.autoencoder is None or bundle.audio_encoder is None:
        raise ValueError(f"{model.name} has no autoencoder and audio encoder of its own; use it in ComfyUI, where they are nodes")
    if device == "cpu":
        bundle.emo.to(memory_format=torch.channels_last)
    pixels, fitted = face.fit_picture(media.read_picture(portrait), config.image_size, fit)
    log.info("%s", fitted.says)
    waveform, rate = read_audio(voice)
    if not waveform.shape[1]:
        raise ValueError(f"{voice.name} holds no sound (0 samples); choose another file")
    seconds = waveform.shape[1] / rate
    heard = encode_long(lambda sound: bundle.audio_encoder(sound.to(device)), resample(waveform, rate))
    audio = features_per_frame(heard, fps=fps or config.fps, seconds=seconds)
    conditions = Conditions(Portrait(vae.encode(bundle.autoencoder, pixels.to(device), config), pixels, fitted),
                            face.whole_mask(config.image_size), audio, Speed.constant(sampling.head_speed))
    clips = count_clips(conditions.frames, config.clip_frames)
    bar = tqdm(total=clips * sampling.steps, unit="step", disable=not progress, desc=f"{conditions.frames} frames in {clips} clips")

    def on_step(report: StepReport) -> None:
        bar.update()

    with bar, media.VideoWriter(out, fps=audio.fps, width=config.image_size, height=config.image_size, audio=(waveform, rate)) as video:
        for latents in generate_clips(bundle.emo, conditions, config=sampling, device=device, on_step=on_step):
            video.write(media.to_uint8(vae.decode(bundle.autoencoder, latents[0].transpose(0, 1), config)))
    passed = time.monotonic() - began
    return {"out": str(out), "frames": conditions.frames, "fps": audio.fps, "seconds": round(passed, 2),
            "seconds_per_frame": round(passed / conditions.frames, 4), "peak_rss_mb": peak_rss_mb()}


def peak_rss_mb() -> int | None:
    """Peak resident memory of this process, in MB of 10^6 bytes; None on Windows, where Python does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6)


def main(arguments: list[str] | None = None) -> int:
    defaults = {field.name: field.default for field in fields(SamplingConfig)}
    parser = argparse.ArgumentParser(prog="python -m emo_model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("portrait", nargs="?", type=Path, default=EXAMPLES / "emo_portrait.png", help="any picture; cut to a square, not squashed")
    parser.add_argument("audio", nargs="?", type=Path, default=EXAMPLES / "emo_voice.wav", help="any sound file; the video is as long")
    parser.add_argument("-o", "--out", type=Path, default=Path("emo.mp4"), help="the video, mp4 (%(default)s)")
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--model", type=Path, default=native.DEFAULT_WEIGHTS, help="a model file; default: the built-in model")
    models.add_argument("--fast", dest="model", action="store_const", const=native.FAST_WEIGHTS, default=native.DEFAULT_WEIGHTS,
                        help="the built-in model's fast variant, for 2 steps without guidance")
    parser.add_argument("--steps", type=int, help=f"denoising steps per clip (the model's own; built-in: {defaults['steps']})")
    parser.add_argument("--sampler", choices=SAMPLERS, help=f"(the model's own; built-in: {defaults['sampler']})")
    parser.add_argument("--guidance", type=float, dest="audio_guidance", help="how strongly the mouth follows the voice, 1 to 3 "
                        f"(the model's own; built-in: {defaults['audio_guidance']}); 1 is twice as fast")
    parser.add_argument("--reference-guidance", type=float, help="how strongly the portrait is kept (the model's own; built-in: "
                        f"{defaults['reference_guidance']})")
    parser.add_argument("--head-speed", type=float, help=f"degrees per second ({defaults['head_speed']})")
    parser.add_argument("--seed", type=int, help=f"({defaults['seed']})")
    parser.add_argument("--fps", type=float, help="frames per second (the model's own)")
    parser.add_argument("--fit", choices=face.FITS, default="crop", help="cut the picture to a square, or pad it (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, mps (%(default)s)")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if chosen.fps is not None and not 1 <= chosen.fps <= 120:
            raise ValueError(f"--fps must be 1 to 120, got {chosen.fps}")
        if chosen.out.suffix.lower() != ".mp4":
            raise ValueError(f"the video is an mp4; let the name after --out end in .mp4, not '{chosen.out.name}'")
        given = {name: getattr(chosen, name) for name in defaults if getattr(chosen, name, None) is not None}
        sampling = replace(native.read_sampling(chosen.model), **given)
        said = talk(chosen.portrait, chosen.audio, chosen.out, model=chosen.model, sampling=sampling, fps=chosen.fps, fit=chosen.fit,
                    device=chosen.device)
    except (OSError, ValueError) as error:
        log.error("%s", error)
        return 2
    sys.stdout.write(json.dumps(said) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
