"""What a clip must be to be trained on, and the reasons for which footage is left out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

REASONS = {
    "no face": "no face is detected, or it is lost",
    "several faces": "another face is at least half as tall",
    "small face": "the face is lower than the limit",
    "turned head": "yaw or pitch exceed the limit",
    "cut off face": "the face reaches beyond the picture",
    "blurred face": "the face is less sharp than the limit",
    "far motion": "the head moves further than motion latents can tell",
    "short": "less remains on end than a clip needs",
    "no speech": "the audio encoder detects hardly any speech",
    "lips disagree": "the mouth does not follow the sound at the video's offset",
    "offset": "no offset was found at which lips and sound agree, or it is too large",
    "no sound": "the file has no sound, or it is silent",
    "unreadable": "the file cannot be read",
}


@dataclass(frozen=True)
class Limits:
    """Heights in pixels from forehead to chin, angles in degrees, times in seconds."""

    face_height: float = 80.0
    yaw: float = 35.0
    pitch: float = 30.0
    sharpness: float = 0.10  # see `tracking.sharpness`
    other_face: float = 0.5  # height of another face over the main one's
    shortest: float = 1.6
    longest: float = 8.0  # longer pieces are cut
    speech: float = 0.2  # share of the frames in which the sound opens a mouth
    agreement: float = 0.3  # correlation of mouth and sound, of a whole video at its offset
    clip_agreement: float = 0.15  # the same of one clip, which is less certain
    offset: float = 0.6  # the largest that is corrected


@dataclass(frozen=True)
class Settings:
    """preset: the model that the latents are for; crop: pixels a side of the kept crops; long_side: larger pictures are
    downscaled first."""

    preset: str = "builtin"
    crop: int = 512
    long_side: int = 1280
    limits: Limits = field(default_factory=Limits)
    sources: tuple[tuple[str, str], ...] = ()  # hashes of the files of networks that the data depend on

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, indent=1)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
