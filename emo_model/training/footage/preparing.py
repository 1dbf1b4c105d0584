"""One video to training clips: a function of the file and the settings alone, for one process, job arrays and Ray."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import io
import json
import logging
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...inputs.audio import SAMPLE_RATE
from ...inputs.face import apply_fit, square_fit
from ...inputs.face_geometry import STEADY, similarity
from ...inputs.files import sentence_of
from ...inputs.head_square import head_square
from ...inputs.motion_latents import (
    FARTHEST,
    LEFT_EYE,
    RIGHT_EYE,
    lid_openings,
    mouth_centre,
    mouth_opening,
    portrait_latents,
)
from ...inputs.motion_of_frames import motion_of_meshes
from ...inputs.portrait import mesh_in_square
from ...inputs.vae import encode, to_scaled
from ...inputs.video_frames import TimedFrame, VideoFrames
from ...synthetic.motion import FaceMotion, head_speed_degrees
from ...types import Fit
from . import shards
from .networks import Networks
from .settings import Settings
from .tracking import FrameFact, Meshes, angles, track
from .voice import SILENT, Agreement, Heard, Sound, agreement, features_between, own_agreement

log = logging.getLogger(__name__)

SMOOTH_FRAMES = 3.0  # standard deviation of the Gaussian that smooths the pose before its speed is taken
VAE_AT_ONCE = 4
VAE_STILLS = 4  # moments of a clip that may be its reference
THUMBNAIL = 144  # pixels a side of the report's pictures
MOST_ATTEMPTS = 3  # after which a video that ends the process is refused


@dataclass(frozen=True, eq=False)
class Piece:
    """Frames on end with one good face.

    number: of the first frame; row: of its mesh; frames: how many; heard: mouth and sound.
    """

    number: int
    row: int
    frames: int
    heard: Heard | None = None


class Preparer:
    """prepare(path) for videos, one after the other; holds the networks. Use one per process.

    It computes with one thread: sums in another order have other last bits, and the data must not depend on how many
    cores a machine has. `--workers` uses them.
    """

    def __init__(self, networks: Networks, settings: Settings, out: Path):
        self.networks, self.settings, self.out = networks, settings, out

    def __call__(self, path: str | Path) -> dict:
        """Prepare one video into `out`, unless it is there; returns its row for the report. Never raises for a file."""
        path = Path(path)
        try:
            key = content_key(path)
        except OSError as error:
            key = hashlib.sha256(str(path).encode()).hexdigest()[:16]
            return self._finish(key, _refused(path, key, "unreadable", sentence_of(error)))
        row = self.out / shards.VIDEOS / f"{key}.json"
        if row.exists():
            return json.loads(row.read_text(encoding="utf-8"))
        attempt = self._attempt(key)
        if attempt > MOST_ATTEMPTS:
            what = f"the process ended {MOST_ATTEMPTS} times while it was read"
            return self._finish(key, _refused(path, key, "unreadable", what))
        try:
            with one_thread():
                result = self._prepared(path, key)
        except (OSError, ValueError) as error:
            result = _refused(path, key, "unreadable", sentence_of(error))
        except Exception as error:  # noqa: BLE001 - one bad file among thousands must not end the run
            log.exception("%s", path)
            result = _refused(path, key, "unreadable", f"{type(error).__name__}: {error}")
        return self._finish(key, result)

    def _attempt(self, key: str) -> int:
        path = self.out / shards.VIDEOS / f"{key}.attempts"
        count = 1 + (len(path.read_bytes()) if path.exists() else 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(b".")
        return count

    def _finish(self, key: str, row: dict) -> dict:
        shards.write_atomically(
            self.out / shards.VIDEOS / f"{key}.json", json.dumps(row, indent=1, ensure_ascii=False, sort_keys=True)
        )
        (self.out / shards.VIDEOS / f"{key}.attempts").unlink(missing_ok=True)
        return row

    def _prepared(self, path: Path, key: str) -> dict:
        fps, limits = self.networks.config.fps, self.settings.limits
        video = VideoFrames(path, long_side=self.settings.long_side)
        counts: collections.Counter[str] = collections.Counter()
        pictures: dict[str, str] = {}

        def on_reason(reason: str, frame) -> None:
            if reason not in pictures:
                pictures[reason] = self._picture(key, reason, frame.pixels)

        try:
            opened = Sound(path)
        except (OSError, ValueError) as error:
            return _refused(path, key, "no sound", sentence_of(error))
        with Meshes() as meshes, opened as sound:
            if sound.peak < SILENT:
                return _refused(path, key, "no sound", f"{path.name} is silent: its peak is {sound.peak:.1g} of 1")
            total, pieces = 0, []
            facts = track(video.retimed(fps), self.networks.finder, limits, meshes, on_reason)
            for piece, reason, frames in _pieces(facts, limits.shortest * fps, limits.longest * fps):
                total += frames
                counts[reason] += frames * (piece is None)
                pieces += [] if piece is None else [piece]
            pieces = [self._heard(piece, meshes, sound) for piece in pieces]
            spoken = [piece for piece in pieces if piece.heard.speech >= limits.speech]
            counts["no speech"] += sum(piece.frames for piece in pieces) - sum(piece.frames for piece in spoken)
            found = agreement([piece.heard for piece in spoken], fps=fps) if spoken else None
            problem = found.problem(limits) if found else ""
            if problem:
                counts["offset"] += sum(piece.frames for piece in spoken)
                spoken = []
            kept = []
            for piece in spoken:
                if own_agreement(piece.heard, found.seconds * fps) < limits.clip_agreement:
                    counts["lips disagree"] += piece.frames
                    continue
                near, lost = self._within_reach(piece, meshes)
                counts["far motion"] += lost
                if near.frames < limits.shortest * fps:
                    counts["short"] += near.frames
                else:
                    kept.append(near)
            self._write(key, path, video, kept, meshes, sound, found, pictures)
        return {
            "video": path.name,
            "key": key,
            "status": "prepared" if kept else "refused",
            "reason": "" if kept else max(counts, key=counts.get, default="short"),
            "message": problem,
            "seconds": round(total / fps, 2),
            "kept_seconds": round(sum(piece.frames for piece in kept) / fps, 2),
            "clips": len(kept),
            "rejected": {reason: round(count / fps, 2) for reason, count in sorted(counts.items()) if count},
            "offset_seconds": round(found.seconds, 4) if found else None,
            "agreement": round(found.r, 4) if found else None,
            "notes": list(video.notes),
            "pictures": pictures,
        }

    def _heard(self, piece: Piece, meshes: Meshes, sound: Sound) -> Piece:
        """With the mouth as seen and as the sound asks for, a little beyond the largest offset."""
        fps, encoder = self.networks.config.fps, self.networks.encoder
        reach = round(self.settings.limits.offset * fps) + 4
        rows = features_between(
            self.networks.own_features,
            sound,
            first=(piece.number - reach) / fps,
            frames=piece.frames + 2 * reach,
            fps=fps,
        )
        asked = encoder.mouth(rows[None].to(next(encoder.parameters()).device))[0, :, 0].cpu()
        return replace(piece, heard=Heard(mouth_opening(meshes.read(piece.row, piece.frames)), asked))

    def _within_reach(self, piece: Piece, meshes: Meshes) -> tuple[Piece, int]:
        """The longest part in which the head stays within what motion latents tell, and how many frames are lost."""
        config = self.networks.config
        if config.motion_decoder is None:
            return piece, 0
        own = meshes.read(piece.row, piece.frames)
        still = own[most_restful(own)]
        fit = head_square(still, width=1, height=1, size=config.image_size)
        moved = (own - still)[:, list(STEADY), :2].norm(dim=2).amax(1) / fit.side * config.latent_size
        first, frames = _longest((moved <= FARTHEST).tolist())
        return replace(piece, number=piece.number + first, row=piece.row + first, frames=frames), piece.frames - frames

    def _write(
        self,
        key: str,
        path: Path,
        video: VideoFrames,
        pieces: list[Piece],
        meshes: Meshes,
        sound: Sound,
        found: Agreement | None,
        pictures: dict[str, str],
    ) -> None:
        """The second reading of the video: crops and what is computed of them, clip by clip."""
        with shards.TarWriter(self.out / shards.CLIPS / f"{key}.tar") as tar:
            for piece, frames in _frames_of(video.retimed(self.networks.config.fps), pieces):
                name = f"{key}-{tar.samples:04d}"
                files, still = self._clip(piece, frames, meshes.read(piece.row, piece.frames), sound, found)
                files["json"] = json.dumps(files["json"] | {"video": path.name, "name": name}, sort_keys=True).encode()
                tar.add(name, files)
                if "clip" not in pictures:
                    pictures["clip"] = self._picture(key, "clip", still)

    def _clip(
        self, piece: Piece, frames: Iterator[np.ndarray], own: Tensor, sound: Sound, found: Agreement
    ) -> tuple[dict, np.ndarray]:
        """The files of one clip by extension ('json' still a dict), and its most restful crop (crop, crop, 3)."""
        config, settings = self.networks.config, self.settings
        still = most_restful(own)
        fit, crops, size = None, [], config.image_size
        for pixels in frames:
            if fit is None:
                fit = self._square(own, still, width=pixels.shape[1], height=pixels.shape[0])
            picture = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            crops.append(
                ((apply_fit(picture, replace(fit, size=settings.crop)) + 1) * 127.5 + 0.5).clamp(0, 255).byte()
            )
        crops = torch.cat(crops)  # (F, 3, crop, crop)
        inside = mesh_in_square(own, fit)
        first = piece.number / config.fps + found.seconds
        rows = features_between(
            self.networks.features or self.networks.own_features,
            sound,
            first=first,
            frames=piece.frames,
            fps=config.fps,
        )
        if config.motion_decoder is not None:
            asked = features_between(
                self.networks.own_features, sound, first=first, frames=piece.frames, fps=config.fps
            )
            encoder = self.networks.encoder
            mouth = encoder.mouth(asked[None].to(next(encoder.parameters()).device))[0].cpu().clamp(0, 1)
            latents = motion_of_meshes(inside, inside[still], config, press=mouth[:, 2] - mouth[:, 3])
            rest = portrait_latents(inside[still], cells=config.latent_size, size=size)
            stills = to_scaled(rest, config)
        else:
            latents = self._vae_latents(crops)
            stills = latents[restful_order(own)[:VAE_STILLS]]
        low, high = inside[..., :2].amin(1) / size, inside[..., :2].amax(1) / size
        eyes = (inside[:, list(eye[:2]), :2].mean(1) for eye in (LEFT_EYE, RIGHT_EYE))
        wave_form = sound.read(round(first * SAMPLE_RATE), round(piece.frames / config.fps * SAMPLE_RATE))
        about = {
            "frames": piece.frames,
            "fps": config.fps,
            "first_second": round(piece.number / config.fps, 4),
            "offset_seconds": round(found.seconds, 4),
            "agreement": round(own_agreement(piece.heard, found.seconds * config.fps), 4),
            "union": [round(float(edge), 4) for edge in (*low.amin(0), *high.amax(0))],
            "still": still,
            "square": [fit.left, fit.top, fit.side],
            "picture": [fit.width, fit.height],
        }
        half = {"latents": latents, "stills": stills, "audio": rows}
        half["landmarks"] = torch.stack([mouth_centre(inside), *eyes], 1) / size
        files = {f"{name}.npy": shards.array_bytes(value.half().numpy()) for name, value in half.items()}
        full = {"boxes": torch.cat([low, high], 1), "rotation": rotation_degrees(own), "meshes": inside}
        files |= {f"{name}.npy": shards.array_bytes(value.float().numpy()) for name, value in full.items()}
        pictures = crops.permute(0, 2, 3, 1).numpy()
        files |= {"json": about, "wav": wav_bytes(wave_form), "mp4": mp4_bytes(pictures, config.fps)}
        return files, pictures[still]

    def _square(self, meshes: Tensor, still: int, *, width: int, height: int) -> Fit:
        """One square for a clip: around the head at rest, or for pixels' latents around wherever the face is."""
        size = self.networks.config.image_size
        if self.networks.config.motion_decoder is not None:
            return head_square(meshes[still], width=width, height=height, size=size)
        flat = meshes[..., :2]
        box = (*flat.amin((0, 1)).tolist(), *flat.amax((0, 1)).tolist())
        return square_fit(width, height, size, "crop", box)

    def _vae_latents(self, crops: Tensor) -> Tensor:
        config = self.networks.config
        parts = []
        for part in crops.split(VAE_AT_ONCE):
            pixels = part.float() / 127.5 - 1
            if pixels.shape[-1] != config.image_size:
                pixels = torch.nn.functional.interpolate(
                    pixels, size=(config.image_size,) * 2, mode="bicubic", align_corners=False, antialias=True
                ).clamp(-1, 1)
            parts.append(encode(self.networks.vae, pixels, config).cpu())
        return torch.cat(parts)

    def _picture(self, key: str, what: str, pixels: np.ndarray) -> str:
        """A small JPEG for the report; returns its name."""
        name = f"{key}-{what.replace(' ', '_')}.jpg"
        image = Image.fromarray(pixels)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        data = io.BytesIO()
        image.save(data, "JPEG", quality=85)
        shards.write_atomically(self.out / shards.PICTURES / name, data.getvalue())
        return name


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def content_key(path: Path) -> str:
    """The first 16 digits of the SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()[:16]


def _refused(path: Path, key: str, reason: str, message: str) -> dict:
    return {
        "video": path.name,
        "key": key,
        "status": "refused",
        "reason": reason,
        "message": message,
        "seconds": 0.0,
        "kept_seconds": 0.0,
        "clips": 0,
        "rejected": {},
        "offset_seconds": None,
        "agreement": None,
        "notes": [],
        "pictures": {},
    }


def _pieces(facts: Iterator[FrameFact], shortest: float, longest: float) -> Iterator[tuple[Piece | None, str, int]]:
    """(piece, "", frames), or (None, the reason, frames): all frames once."""
    run: list[FrameFact] = []

    def cut(run: list[FrameFact]) -> Iterator[tuple[Piece | None, str, int]]:
        if not run:
            return
        if len(run) < shortest:
            yield None, "short", len(run)
            return
        count = -(-len(run) // int(longest))
        for number in range(count):
            first, last = len(run) * number // count, len(run) * (number + 1) // count
            yield Piece(run[first].number, run[first].row, last - first), "", last - first

    for fact in facts:
        is_next = run and (fact.number, fact.shot, fact.row) == (run[-1].number + 1, run[-1].shot, run[-1].row + 1)
        if run and (fact.reason or not is_next):
            yield from cut(run)
            run = []
        if fact.reason:
            yield None, fact.reason, 1
        else:
            run.append(fact)
    yield from cut(run)


def _frames_of(frames: Iterator[TimedFrame], pieces: Sequence[Piece]) -> Iterator[tuple[Piece, Iterator[np.ndarray]]]:
    """Each piece, in their order, with its frames; read them before the next piece."""
    for piece in pieces:

        def own(piece: Piece = piece) -> Iterator[np.ndarray]:
            for frame in frames:
                if frame.number >= piece.number:
                    yield frame.pixels
                if frame.number >= piece.number + piece.frames - 1:
                    return

        yield piece, own()


def _longest(is_good: list[bool]) -> tuple[int, int]:
    """(first, length) of the longest run of True."""
    best, first = (0, 0), 0
    for place, good in enumerate([*is_good, False]):
        if not good:
            best = max(best, (place - first, -first))
            first = place + 1
    return -best[1], best[0]


def restful_order(meshes: Tensor) -> list[int]:
    """Frames of (F, 468, 3), those first that make the best portrait: mouth shut, eyes open, towards the camera, and
    the head where it is most of the time."""
    turned = torch.tensor([sum(abs(angle) for angle in angles(mesh)) for mesh in meshes])
    lids = lid_openings(meshes).mean(1)
    places = meshes[:, list(STEADY), :2].mean(1)
    height = (meshes[:, 10] - meshes[:, 152]).norm(dim=1).median()
    away = (places - places.median(0).values).norm(dim=1) / height
    cost = 4 * mouth_opening(meshes) + turned / 40 + 4 * away + 4 * (lids.median() - lids).clamp(min=0)
    return cost.argsort(stable=True).tolist()


def most_restful(meshes: Tensor) -> int:
    """The first of `restful_order`."""
    return restful_order(meshes)[0]


def rotation_degrees(meshes: Tensor) -> Tensor:
    """meshes (F, 468, 3) -> (F,): how far the head turns from the frame before, in degrees; the first repeats the
    second's. The pose is smoothed over `SMOOTH_FRAMES` against the noise of the mesh."""
    steady = meshes[:, list(STEADY)].double()
    turns = torch.stack([similarity(steady[0], mesh)[0] for mesh in steady])
    yaw, pitch = torch.atan2(turns[:, 0, 2], turns[:, 2, 2]), torch.asin((-turns[:, 1, 2]).clamp(-1, 1))
    roll = torch.atan2(turns[:, 1, 0], turns[:, 1, 1])
    reach = round(3 * SMOOTH_FRAMES)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).double() / SMOOTH_FRAMES) ** 2)
    tracks = torch.stack([yaw, pitch, roll])[:, None]
    padded = torch.cat([tracks[..., :1].expand(-1, -1, reach), tracks, tracks[..., -1:].expand(-1, -1, reach)], -1)
    yaw, pitch, roll = torch.nn.functional.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0].float()
    return head_speed_degrees(replace(FaceMotion.neutral(len(yaw)), yaw=yaw, pitch=pitch, roll=roll), 1.0)


def wav_bytes(samples: Tensor) -> bytes:
    """(T,) in [-1, 1] at 16 kHz -> a 16-bit WAV file."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples.clamp(-1, 1) * 32767).round().short().numpy().tobytes())
    return data.getvalue()


def mp4_bytes(frames: np.ndarray, fps: float) -> bytes:
    """(F, H, W, 3) uint8 -> an H.264 file. One thread, so that its bytes do not depend on the machine's cores, and no
    macroblock tree, with which x264 writes other bytes from time to time."""
    from fractions import Fraction

    import av

    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.options = {"crf": "12", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
        stream.codec_context.thread_count = 1
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return data.getvalue()


def read_mp4(data: bytes) -> np.ndarray:
    """(F, H, W, 3) uint8 of `mp4_bytes`."""
    import av

    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
