"""Speech engines: each speaks a text and says when each phoneme sounds.

A module of this room has three functions. `is_installed()`; `voices(named)`: of these names, those that can speak now;
`speak(text, name, rate, pitch)` -> (waveform (T,) float32 at 16 kHz, phonemes as (IPA, start, end) in seconds), where a
rate of 1 is the voice's normal speed and a pitch of 1 its own.
"""

from . import espeak, festival, flite, kokoro, pico, rhvoice

ENGINES = {"espeak": espeak, "kokoro": kokoro, "flite": flite, "festival": festival, "rhvoice": rhvoice, "pico": pico}
"""By the first part of a voice's name."""
