"""Finished clips on the disk: each is durable before the next begins, and found again by what it was made from.

A spool is a folder with one safetensors file per clip. The file's name is a hash of everything that shaped the clip, the motion
frames before it among them; so to resume is to look up, and a change renders anew only what it reaches.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..config import ModelConfig, SamplingConfig
from ..types import ClipConditions, Portrait, ReferenceFeatures

log = logging.getLogger("emo")
FORMAT = "comfyui-emo clip 1"
CLIP = re.compile(r"[0-9a-f]{64}\.safetensors")  # nothing else in the folder is ours to delete
PART = re.compile(r"[0-9a-f]{64}\.([0-9a-f]{16})\.part")  # by the lease of the run that writes it
LEASE = re.compile(r"([0-9a-f]{16})\.lease")
LOCK = "spool.lock"  # held while the folder is looked at or cleaned; another one, or another time of it, tells of clips that went
LONGEST_RUN = 7 * 86_400  # seconds; asked only where nothing tells whether a run lives
GB = 1e9


@dataclass(frozen=True)
class SpoolLimits:
    """What is kept between runs; clips that a living run has used are never counted out."""

    max_gb: float = 20.0  # of 10^9 bytes; beyond, the clips that were not used for the longest time go first
    max_days: float = 14.0  # since a clip was last used

    @classmethod
    def from_environment(cls) -> SpoolLimits:
        """Limits from EMO_CACHE_GB and EMO_CACHE_DAYS, if set. Raises ValueError unless they are numbers >= 0."""
        given = {}
        for variable, name in (("EMO_CACHE_GB", "max_gb"), ("EMO_CACHE_DAYS", "max_days")):
            if text := os.environ.get(variable, "").strip():
                try:
                    given[name] = float(text)
                except ValueError:
                    given[name] = -1.0
                if not given[name] >= 0:
                    raise ValueError(f"the environment variable {variable} is '{text}', but must be a number >= 0; correct or "
                                     "unset it")
        return cls(**given)


# ---- what a clip is made from ------------------------------------------------------------------------------------------


class _Digest:
    """sha256 over named values; names and lengths go in as well, so that no two lists of values look alike."""

    def __init__(self, *parts: str):
        self.sha = hashlib.sha256()
        for part in parts:
            self.add("", part)

    def add(self, name: str, value: Tensor | str | None) -> None:
        if isinstance(value, Tensor):
            kind, data = f"{value.dtype} {tuple(value.shape)}", _bytes(value)
        else:
            kind, data = type(value).__name__, ("" if value is None else value).encode()
        self.sha.update(f"{name}\0{kind}\0{len(data)}\0".encode())
        self.sha.update(data)

    def hex(self) -> str:
        return self.sha.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def content_of(tensor: Tensor) -> str:
    """A hash of a tensor's type, shape and every bit."""
    digest = _Digest()
    digest.add("", tensor)
    return digest.hex()


def weights_of(module: nn.Module) -> str:
    """A hash of all weights and buffers with their names and their layout in memory, which decides on the last bits.

    Several are read at a time, for they may be gigabytes.
    """
    state = sorted(module.state_dict().items())
    with ThreadPoolExecutor(4) as pool:
        contents = pool.map(content_of, (value for _, value in state))
        return _Digest(*(f"{name} {value.stride()} {content}"
                         for (name, value), content in zip(state, contents, strict=True))).hex()


@functools.cache
def _code() -> str:
    """A hash of the code between conditions and latents: another version may make other clips."""
    home = Path(__file__).parents[1]
    rooms = (file for room in ("models", "sampling") for file in sorted((home / room).glob("*.py")))
    return _Digest(*(file.read_text(encoding="utf-8") for file in (home / "config.py", home / "types.py", *rooms))).hex()


def machine_of(device: torch.device | str, dtype: torch.dtype) -> str:
    """What decides on the last bits beside the code: the same steps come out a little different elsewhere."""
    device = torch.device(device)
    facts = [torch.__version__, device.type, str(dtype)]
    if device.type == "cuda":
        facts.append(torch.cuda.get_device_name(device))
        with contextlib.suppress(RuntimeError):  # newer torch refuses to say it where its newer switches were used
            facts += [str(torch.backends.cuda.matmul.allow_tf32), str(torch.backends.cudnn.allow_tf32)]
    elif device.type == "cpu":
        facts += [platform.machine(), str(torch.get_num_threads())]
    return " ".join(facts)


class ClipKeys:
    """The names of a video's clips. What all clips share is hashed once; what a clip has of its own, with each.

    weights: `weights_of` the model; renewal: names what becomes of motion frames between clips, "" if nothing; together: see
    `guided_by`, it decides on the last bits.
    """

    def __init__(self, model: ModelConfig, portrait: Portrait, config: SamplingConfig, *, weights: str,
                 reference: ReferenceFeatures | None, device: torch.device | str, dtype: torch.dtype, renewal: str = "",
                 together: bool = True):
        sampling = dataclasses.asdict(config)
        del sampling["head_speed"]  # clips have their own speeds
        digest = _Digest(FORMAT, _code(), weights, model.to_json(), repr(sorted(sampling.items())), machine_of(device, dtype),
                         renewal, str(together))
        digest.add("portrait", portrait.latents)
        digest.add("identity", portrait.identity)
        for name, feature in _features(reference):
            digest.add(name, feature)
        self.shared = digest.hex()

    def of(self, number: int, clip: ClipConditions, motion: Tensor | None) -> str:
        """The name of clip `number` (from 0; it decides on the noise) after motion frames `motion` (1, C, n, h, w)."""
        digest = _Digest(self.shared, str(number), repr(clip.region_weights))
        for name, value in (("audio", clip.audio), ("speed", clip.speed), ("mask", clip.face_mask), ("regions", clip.regions),
                            ("motion", motion)):
            digest.add(name, value)
        return digest.hex()


def _features(reference: ReferenceFeatures | None) -> Iterator[tuple[str, Tensor | None]]:
    if reference is not None:
        yield from sorted(reference.features.items())
        yield from ((f"nobody {name}", feature) for name, feature in sorted((reference.nobody or {}).items()))
        yield "identity tokens", reference.identity


# ---- the folder --------------------------------------------------------------------------------------------------------


class Spool:
    """A folder of clips, shared by all runs that name it, also at the same time."""

    def __init__(self, folder: str | Path, limits: SpoolLimits = SpoolLimits()):  # noqa: B008
        self.folder, self.limits = Path(folder), limits

    def run(self, *, weights: str | None = None, renewal: str = "") -> SpoolRun:
        """Clean up, and hold on to all clips that are found or saved from now on. Raises OSError where no file can be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / LOCK):
            self._clean()
            lease = Lease(self.folder)
        return SpoolRun(self, lease, weights, renewal)

    @property
    def mark(self) -> str:
        """Another one when the folder was removed, or a clip of it was missed: what was made from it may lack clips."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOCK, "a", encoding="utf-8") as file:
            state = os.fstat(file.fileno())
        return f"{self.folder} {state.st_ino} {state.st_mtime_ns}"

    @property
    def bytes(self) -> int:
        """What the clips take on the disk."""
        return sum(size for _, size, _ in self._clips())

    @property
    def says(self) -> str:
        return (f"Clips are kept in {self.folder}: {self.bytes / GB:.2f} GB now, at most {self.limits.max_gb:g} GB between runs, "
                f"each for {self.limits.max_days:g} days after its last use.")

    def _clips(self) -> list[tuple[float, int, Path]]:
        """(last used, bytes, path), the longest unused first."""
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if CLIP.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((entry.stat().st_mtime, entry.stat().st_size, Path(entry.path)))
        return sorted(found)

    def _clean(self) -> None:
        """Remove what the limits say, and what dead runs left half written. Called with the folder locked."""
        leases = (path for path in self.folder.iterdir() if LEASE.fullmatch(path.name))
        alive = {path.stem: path.stat().st_mtime for path in leases if _is_held(path)}
        for path in self.folder.iterdir():
            part = PART.fullmatch(path.name)
            if part and part[1] not in alive:
                _remove(path)
        in_use_since = min(alive.values(), default=float("inf")) - 3  # file systems may round times to 2 s
        clips = self._clips()
        total, removed, now = sum(size for _, size, _ in clips), 0, time.time()
        for used, size, path in clips:
            is_old = now - used > self.limits.max_days * 86_400
            if used >= in_use_since or not (is_old or total > self.limits.max_gb * GB):
                break
            if _remove(path):
                total, removed = total - size, removed + 1
        if removed:
            log.info("EMO: removed %d old clips from %s; %.2f GB are left", removed, self.folder, total / GB)


class Lease:
    """A file that its run keeps locked; the system lets go of it when the run's process ends, however it ends.

    While anyone holds it, no clip that was used since then is removed.
    """

    def __init__(self, folder: Path):
        self.name = secrets.token_hex(8)
        self.path = folder / f"{self.name}.lease"
        self.file = open(self.path, "w", encoding="utf-8")  # noqa: SIM115
        with contextlib.suppress(OSError):
            _lock(self.file, wait=False)
        self.file.write(f"process {os.getpid()}\n")
        self.file.flush()

    def close(self) -> None:
        if not self.file.closed:
            if os.name != "nt":
                self.path.unlink(missing_ok=True)
            self.file.close()
            self.path.unlink(missing_ok=True)

    def __del__(self):
        with contextlib.suppress(Exception):
            self.close()


class SpoolRun:
    """One run on a spool: `generate_clips` finds clips here and saves them here. keys: those so far, from the first clip."""

    def __init__(self, spool: Spool, lease: Lease, weights: str | None, renewal: str):
        self.spool, self.lease, self.weights, self.renewal = spool, lease, weights, renewal
        self.keys: list[str] = []
        self.rendered = 0

    def start(self) -> None:
        """Begin to count clips from the first again."""
        self.keys.clear()

    def find(self, key: str) -> Tensor | None:
        """The clip's latents (1, C, F, h, w) float32, or None. A file that is not as it was written is removed."""
        path = self.spool.folder / f"{key}.safetensors"
        with _locked(self.spool.folder / LOCK):
            try:
                os.utime(path)  # now no one removes it any more
            except FileNotFoundError:
                return None
            except PermissionError:  # another user's; it can be read
                pass
        latents = _read(path)
        if latents is None:
            log.warning("EMO: %s is damaged; its clip is rendered again", path)
            _remove(path)
            return None
        self.keys.append(key)
        return latents

    def save(self, key: str, latents: Tensor) -> None:
        """Returns when the clip is on the disk, whole. Raises OSError with what is kept and what helps."""
        path = self.spool.folder / f"{key}.safetensors"
        beside = self.spool.folder / f"{key}.{self.lease.name}.part"
        latents = latents.detach().float().cpu().contiguous()
        data = save({"latents": latents}, {"format": FORMAT, "key": key, "content": content_of(latents)})
        try:
            with open(beside, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
            _sync_folder(self.spool.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            if _read(path) is not None:  # another run saved it meanwhile; Windows lets no one replace a file that is being read
                self.keys.append(key)
                return
            free = shutil.disk_usage(self.spool.folder).free if self.spool.folder.is_dir() else 0
            raise type(error)(
                error.errno, f"clip {len(self.keys) + 1} could not be kept in {self.spool.folder}: {error.strerror}; "
                f"{free / GB:.2f} GB are free there. The {len(self.keys)} clips before it are kept: make room and start "
                "again, and it goes on from there") from error
        self.keys.append(key)
        self.rendered += 1

    def clips(self, *, wanted: int, fps: float, config: ModelConfig) -> SpooledClips:
        """The video so far; wanted: frames of the whole."""
        return SpooledClips(self.spool.folder, tuple(self.keys), min(wanted, len(self.keys) * config.clip_frames), wanted, fps,
                            config, self.lease)

    def __enter__(self) -> SpoolRun:
        return self

    def __exit__(self, *_) -> None:
        self.lease.close()


@dataclass(frozen=True, eq=False)
class SpooledClips:
    """A video as clips on the disk: a small value, whatever the length.

    keys: the names of its clips in `folder`; frames: how many it has, wanted: how many the voice has; fps: frames per second;
    config: of the model that made it; lease: as long as it is held, no other run removes the clips.
    """

    folder: Path
    keys: tuple[str, ...]
    frames: int
    wanted: int
    fps: float
    config: ModelConfig
    lease: Lease | None = field(default=None, repr=False)

    def __iter__(self) -> Iterator[Tensor]:
        """Scaled latents (1, C, F, h, w) float32, clip by clip, the last cut to the video's frames.

        Raises FileNotFoundError where a clip is gone or damaged.
        """
        for number in range(len(self.keys)):
            yield self.clip(number)[:, :, :self.frames - number * self.config.clip_frames]

    def clip(self, number: int) -> Tensor:
        """One clip whole, frames beyond the end of the video too."""
        latents = _read(self.folder / f"{self.keys[number]}.safetensors")
        if latents is None:
            with contextlib.suppress(OSError):
                os.utime(self.folder / LOCK)  # changes `Spool.mark`
            raise FileNotFoundError(f"clip {number + 1} of {len(self.keys)} is gone from {self.folder}, or damaged: render the "
                                    "video again, the other clips are still there")
        return latents

    def last(self, count: int) -> Tensor:
        """The last `count` frames (1, C, count, h, w). Raises ValueError if there are fewer."""
        if self.frames < count:
            raise ValueError(f"the video has {self.frames} frames, and {count} are needed to continue it")
        size, parts, end = self.config.clip_frames, [], self.frames
        while end > self.frames - count:
            number = (end - 1) // size
            parts.insert(0, self.clip(number)[:, :, max(0, self.frames - count - number * size):end - number * size])
            end = number * size
        return torch.cat(parts, dim=2)

    @property
    def latent_bytes(self) -> int:
        """Memory that all latents together would take."""
        return self.frames * self.config.latent_channels * self.config.latent_size**2 * 4

    @property
    def picture_bytes(self) -> int:
        """Memory that all frames together would take as float32 pictures."""
        return self.frames * self.config.image_size**2 * 3 * 4


def _read(path: Path) -> Tensor | None:
    """The latents of a file that is whole; None for any other."""
    try:
        with safe_open(path, "pt") as file:
            metadata, latents = file.metadata() or {}, file.get_tensor("latents")
    except (OSError, SafetensorError):
        return None
    expected = {"format": FORMAT, "key": path.stem, "content": content_of(latents)}
    return latents if metadata == expected else None


# ---- the system ---------------------------------------------------------------------------------------------------------


def _remove(path: Path) -> bool:
    """Whether a file is gone; another user's is not, nor, on Windows, one that any program has open."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename last; Windows has no such call and does not need one."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(file, *, wait: bool) -> None:
    """Lock an open file for this process alone. Raises BlockingIOError where another holds it and `wait` is off, and OSError
    where the file system knows no locks.
    """
    if os.name == "nt":
        import msvcrt

        while True:
            file.seek(0)
            try:
                return msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if not wait:
                    raise BlockingIOError(error.errno, error.strerror) from error
                time.sleep(0.01)
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One at a time, over all processes; where the file system knows no locks, as many as come."""
    with open(path, "a+", encoding="utf-8") as file:
        with contextlib.suppress(OSError):
            _lock(file, wait=True)
        yield


def _is_held(path: Path) -> bool:
    """Whether a lease's run lives; the file of a dead one is removed. Without locks, a young lease counts as a living one."""
    try:
        with open(path, "a+", encoding="utf-8") as file:
            _lock(file, wait=False)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return time.time() - path.stat().st_mtime < LONGEST_RUN
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    return False
