"""Pictures and videos to tensors and back (Pillow, PyAV); videos are written as they are made, frame by frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.audio.resampler import AudioResampler
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor


def read_picture(path: str | Path) -> Tensor:
    """Any picture Pillow reads, turned as its EXIF says -> (1, 3, H, W) in [-1, 1]; transparency becomes white.

    Raises FileNotFoundError, or ValueError for a file that is not a picture or not a whole one.
    """
    name = Path(path).name
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not a picture that Pillow can read; give a PNG, JPEG or WebP file") from None
    except OSError as error:
        if error.errno is not None:  # the file system's, not the decoder's
            raise
        raise ValueError(f"{name} is damaged ({error}); save or download it again") from None
    if picture.mode.startswith("I"):  # 16 bits of grey; Pillow would turn all above 255 into white
        picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    pixels = torch.from_numpy(np.array(Image.alpha_composite(white, picture).convert("RGB")))
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def to_uint8(pixels: Tensor) -> np.ndarray:
    """pixels (F, 3, H, W) in [-1, 1] -> (F, H, W, 3) uint8."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


class VideoWriter:
    """An mp4 (H.264, AAC) that grows as frames come; `with VideoWriter(...) as video: video.write(frames)`.

    fps: frames per second, kept as a fraction; width, height: an odd last row or column is repeated, since H.264 wants even ones;
    audio: (waveform (C, T) float in [-1, 1], sample rate), one or two channels as they are, more are mixed to mono; crf: 0
    (lossless) to 51; metadata: text to carry along, such as a workflow. The sound is written beside the frames, and cut where
    the frames end. The file stands under a temporary name until it is whole; after an error a playable part stays there.
    """

    def __init__(self, path: str | Path, *, fps: float, width: int, height: int, audio: tuple[Tensor, int] | None = None,
                 crf: int = 17, preset: str = "medium", metadata: dict[str, str] | None = None):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.beside = self.path.with_name(self.path.stem + ".part" + self.path.suffix)
        self.rate = Fraction(fps).limit_denominator(1001)
        self.width, self.height = width, height
        self.frames = 0
        self.container = av.open(str(self.beside), "w", options={"movflags": "use_metadata_tags+faststart"})
        for key, value in (metadata or {}).items():
            self.container.metadata[key] = value
        self.video = self.container.add_stream("libx264", rate=self.rate, options={"crf": str(crf), "preset": preset})
        self.video.width, self.video.height = width + width % 2, height + height % 2
        self.video.pix_fmt = "yuv420p"
        self.video.time_base = 1 / self.rate
        self.sound = None
        if audio is not None:
            waveform, self.sample_rate = audio
            self.waveform = (waveform if len(waveform) <= 2 else waveform.mean(0, keepdim=True)).float().cpu()
            self.written_samples = 0
            layout = "mono" if len(self.waveform) == 1 else "stereo"
            rate = self.sample_rate if self.sample_rate in _AAC_RATES else 48_000
            self.sound = self.container.add_stream("aac", rate=rate, layout=layout)
            self.sound.bit_rate = 192_000
            self.resampler = AudioResampler("fltp", layout, rate)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.frames:
            self._write_sound(final=True)
            self.container.mux(self.video.encode(None))
        self.container.close()
        if kind is None:
            self.beside.replace(self.path)

    def write(self, frames: np.ndarray) -> None:
        """frames (F, H, W, 3) uint8."""
        if frames.shape[1:] != (self.height, self.width, 3):
            raise ValueError(f"frames of {frames.shape[2]}x{frames.shape[1]} given to a video of {self.width}x{self.height}")
        if self.width % 2 or self.height % 2:
            frames = np.pad(frames, ((0, 0), (0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = self.frames, 1 / self.rate
            self.container.mux(self.video.encode(frame))
            self.frames += 1
        self._write_sound(final=False)

    def _write_sound(self, *, final: bool) -> None:
        if self.sound is None:
            return
        until = min(round(self.frames / self.rate * self.sample_rate), self.waveform.shape[1])
        for start in range(self.written_samples, until, self.sample_rate):
            block = self.waveform[:, start:min(start + self.sample_rate, until)].contiguous().numpy()
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=self.sound.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = self.sample_rate, start, Fraction(1, self.sample_rate)
            for part in self.resampler.resample(frame):
                self.container.mux(self.sound.encode(part))
        self.written_samples = until
        if final:
            for part in self.resampler.resample(None):
                self.container.mux(self.sound.encode(part))
            self.container.mux(self.sound.encode(None))


_AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)


def read_video(path: str | Path) -> tuple[np.ndarray, float]:
    """All frames (F, H, W, 3) uint8 of a short video, and its frame rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        return frames, float(stream.average_rate)
