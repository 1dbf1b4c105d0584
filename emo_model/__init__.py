"""EMO, Emote Portrait Alive (arXiv 2402.17485): one portrait and a voice become a talking video.

A reference net encodes the portrait once; a backbone, conditioned on a face mask, the voice and a head speed, denoises
one clip of frames at a time; the last frames of a clip (the motion frames) condition the next one.

Axis letters, used in every docstring:

    B  batch                     H, W  height and width: pixels, or cells of a latent
    F  frames of the video       n     motion frames in front of a clip
    C  channels                  N     tokens of one frame, N = H * W
    M  tokens of a context       L, D  layers and width of the audio encoder
    K  audio or speed steps in the window around a frame, K = 2 m + 1

Pixels are (B, C, F, H, W) or, for single pictures, (B, C, H, W), in [-1, 1]; latents are scaled to about unit variance
(`inputs.vae` knows the factor); sound is mono at 16 kHz; names end in `_seconds`, `_frames` or `_degrees` where it
matters.

    for frames in emo_model.speak(emo_model.load(), "portrait.jpg", "voice.wav"):  # blocks (F, H, W, 3) uint8
        ...
"""

from __future__ import annotations

__all__ = ["idle", "load", "speak", "speak_together"]


def __getattr__(name: str):
    """Import the public functions lazily, so that importing the package is cheap."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from . import talk

    return getattr(talk, name)
