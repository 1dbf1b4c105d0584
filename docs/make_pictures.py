"""Icon and banner of the registry's page, a clip, and the video to dub: `python docs/make_pictures.py`.

It draws docs/images/icon.png and banner.png, the shipped portrait and, under it, the loudness of the shipped voice;
cuts web/docs/pictures/EmoTalkingPortrait.webp, of the help page of EMO Talking Portrait, from docs/images/hero.webp;
and makes workflows/inputs/emo_video.mp4 with the built-in model.
"""

from __future__ import annotations

import sys
import tempfile
import wave
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
INPUTS = HERE.parent / "workflows" / "inputs"
NIGHT, CORAL = (24, 26, 32), (255, 138, 101)


def loudness(bars: int) -> np.ndarray:
    """(bars,) root mean square of as many parts of the voice, the loudest 1."""
    with wave.open(str(INPUTS / "emo_voice.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16).astype(float)
    level = np.array([np.sqrt(np.mean(part**2)) for part in np.array_split(samples, bars)])
    return level / level.max()


def draw_voice(picture: Image.Image, box: tuple[int, int, int, int], bars: int) -> None:
    """box: left, top, right, bottom in pixels; bars are mirrored about its middle."""
    left, top, right, bottom = box
    draw, middle, step = ImageDraw.Draw(picture), (top + bottom) / 2, (right - left) / bars
    for number, level in enumerate(loudness(bars)):
        half = max(step / 4, level * (bottom - top) / 2)
        x = left + (number + 0.5) * step
        draw.rounded_rectangle((x - step / 3, middle - half, x + step / 3, middle + half), step / 3, fill=CORAL)


def icon(side: int = 400) -> Image.Image:
    with Image.open(INPUTS / "emo_portrait.jpg") as portrait:
        made = portrait.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    shade = Image.new("L", (1, side))
    shade.putdata([max(0, min(200, round(600 * (row / side - 0.62)))) for row in range(side)])
    made.paste(Image.new("RGB", (side, side), NIGHT), mask=shade.resize((side, side)))
    draw_voice(made, (side // 10, side * 3 // 4, side * 9 // 10, side * 19 // 20), 24)
    return made


def banner(width: int = 1344, height: int = 576) -> Image.Image:
    made = Image.new("RGB", (width, height), NIGHT)
    with Image.open(INPUTS / "emo_portrait.jpg") as portrait:
        made.paste(portrait.convert("RGB").resize((height, height), Image.Resampling.LANCZOS), (0, 0))
    draw_voice(made, (height + 60, height // 4, width - 60, height * 3 // 4), 40)
    return made


def clip(seconds: float = 3.0, side: int = 256) -> tuple[list[Image.Image], int]:
    """The beginning of README's video at half its rate: (frames, milliseconds of a frame)."""
    frames, passed = [], 0
    with Image.open(HERE / "images" / "hero.webp") as hero:
        for number in range(hero.n_frames):
            hero.seek(number)
            hero.load()
            duration = hero.info["duration"]
            if number % 2 == 0:
                frames.append(hero.convert("RGB").resize((side, side), Image.Resampling.LANCZOS))
            passed += duration
            if passed >= 1000 * seconds:
                break
    return frames, 2 * duration


def video_to_dub(path: Path, begin: float = 3.4, end: float = 6.4) -> None:
    """The shipped portrait, 384x384, says a part of the shipped voice (seconds): default settings, seed 0."""
    sys.path.insert(0, str(HERE.parent))
    from emo_model.__main__ import main

    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.wav"
        with wave.open(str(INPUTS / "emo_voice.wav")) as whole, wave.open(str(part), "wb") as cut:
            cut.setparams(whole.getparams())
            whole.setpos(round(begin * whole.getframerate()))
            cut.writeframes(whole.readframes(round((end - begin) * whole.getframerate())))
        small = Path(folder) / "portrait.png"
        with Image.open(INPUTS / "emo_portrait.jpg") as portrait:
            portrait.convert("RGB").resize((384, 384), Image.Resampling.LANCZOS).save(small)
        if main([str(small), str(part), "-o", str(path), "--no-clips"]):
            sys.exit(f"{path} was not made")


if __name__ == "__main__":
    icon().save(HERE / "images" / "icon.png")
    banner().save(HERE / "images" / "banner.png")
    first, *others = (made := clip())[0]
    (HERE.parent / "web" / "docs" / "pictures").mkdir(exist_ok=True)
    first.save(
        HERE.parent / "web" / "docs" / "pictures" / "EmoTalkingPortrait.webp",
        save_all=True,
        append_images=others,
        duration=made[1],
        loop=0,
        quality=60,
        method=6,
    )
    video_to_dub(INPUTS / "emo_video.mp4")
