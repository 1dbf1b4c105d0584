"""The folder of clips: find, save, clean up; and a video of cached clips as a small value."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..config import ModelConfig
from ..inputs.files import reason_of
from ..sampling.direction import Direction
from ..types import MotionFrames, is_finite
from .keys import content_of
from .locks import Lease, is_held, locked, open_private

log = logging.getLogger("emo")
FORMAT = "comfyui-emo clip 1"
CLIP = re.compile(r"[0-9a-f]{64}\.safetensors")  # nothing else in the folder is ours to delete
PART = re.compile(
    r"[0-9a-f]{64}\.([0-9a-f]{16})\.part"
)  # half written; named after the lease of the run that writes it
LEASE = re.compile(r"([0-9a-f]{16})\.lease")
LOCK = (
    "spool.lock"  # held while the folder is read or cleaned; a new file, or a new time of it, tells that clips are gone
)
GB = 1e9


@dataclass(frozen=True)
class CacheLimits:
    """What is kept between runs; clips that a living run has used are never removed."""

    max_gb: float = 20.0  # of 10^9 bytes; beyond, the least recently used clips are removed first
    max_days: float = 14.0  # since a clip was last used

    @classmethod
    def from_environment(cls) -> CacheLimits:
        """Limits from EMO_CACHE_GB and EMO_CACHE_DAYS, if set. Raises ValueError unless they are numbers >= 0."""
        given = {}
        for variable, name in (("EMO_CACHE_GB", "max_gb"), ("EMO_CACHE_DAYS", "max_days")):
            if text := os.environ.get(variable, "").strip():
                try:
                    given[name] = float(text)
                except ValueError:
                    given[name] = -1.0
                if not given[name] >= 0:
                    raise ValueError(
                        f"the environment variable {variable} is '{text}', but must be a number >= 0; "
                        "correct or unset it"
                    )
        return cls(**given)


class ClipCache:
    """A folder of clips, shared by all runs that name it, also at the same time."""

    def __init__(self, folder: str | Path, limits: CacheLimits = CacheLimits()):
        self.folder, self.limits = Path(folder), limits

    def run(self) -> CacheRun:
        """Clean up, and hold all clips that are found or saved from now on. Raises OSError where no file can be
        written."""
        make_private(self.folder)
        with locked(self.folder / LOCK):
            self._clean()
            lease = Lease(self.folder)
        return CacheRun(self, lease)

    @property
    def revision(self) -> str:
        """Changes when the folder was removed, or a clip was found missing: what was made from it may lack clips."""
        make_private(self.folder)
        with open_private(self.folder / LOCK, "a") as file:
            state = os.fstat(file.fileno())
        return f"{self.folder} {state.st_ino} {state.st_mtime_ns}"

    @property
    def bytes(self) -> int:
        """What the clips take on the disk."""
        return sum(size for _, size, _ in self._clips())

    @property
    def summary(self) -> str:
        return (
            f"Clips are kept in {self.folder}: {self.bytes / GB:.2f} GB now, at most {self.limits.max_gb:g} GB "
            f"between runs, each for {self.limits.max_days:g} days after its last use."
        )

    def _clips(self) -> list[tuple[float, int, Path]]:
        """(last used, bytes, path), the least recently used first."""
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if CLIP.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((entry.stat().st_mtime, entry.stat().st_size, Path(entry.path)))
        return sorted(found)

    def _clean(self) -> None:
        """Remove what exceeds the limits, and what dead runs left half written. Called with the folder locked."""
        leases = (path for path in self.folder.iterdir() if LEASE.fullmatch(path.name))
        alive = {path.stem: path.stat().st_mtime for path in leases if is_held(path)}
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


class CacheRun:
    """One run on a cache. keys: of the clips found or saved so far, from the first; rendered: how many were saved."""

    def __init__(self, cache: ClipCache, lease: Lease):
        self.cache, self.lease = cache, lease
        self.keys: list[str] = []
        self.rendered = 0

    def restart(self) -> None:
        """Begin again with the first clip."""
        self.keys.clear()

    def find(self, key: str, shape: tuple[int, ...] | None = None) -> Tensor | None:
        """The clip's latents (1, C, F, h, w) float32, or None. A damaged file, or one of another shape, is removed."""
        path = self.cache.folder / f"{key}.safetensors"
        with locked(self.cache.folder / LOCK):
            try:
                self._use(path)  # from now on nothing removes it
            except FileNotFoundError:
                return None
            except PermissionError:  # another user's; it can be read
                pass
        latents = read_clip(path)
        if latents is None or shape not in (None, tuple(latents.shape)):
            log.warning("EMO: %s is damaged; its clip is rendered again", path)
            _remove(path)
            return None
        self.keys.append(key)
        return latents

    def _use(self, path: Path) -> None:
        """Mark a clip as used now, and in any case after this run began: clocks go back."""
        now = max(time.time(), self.lease.began)
        os.utime(path, (now, now))

    def save(self, key: str, latents: Tensor) -> None:
        """Returns when the whole clip is on the disk. Raises OSError with what is kept and what helps.

        NaN and infinity are never kept: they raise ValueError.
        """
        if not is_finite(latents):
            raise ValueError(
                f"clip {len(self.keys) + 1} has NaN or infinite values and is not kept; render it again "
                "with other settings"
            )
        path = self.cache.folder / f"{key}.safetensors"
        part = self.cache.folder / f"{key}.{self.lease.name}.part"
        latents = latents.detach().float().cpu().contiguous()
        data = save({"latents": latents}, {"format": FORMAT, "key": key, "content": content_of(latents)})
        try:
            with open_private(part, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._use(part)
            os.replace(part, path)
            _sync_folder(self.cache.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            if read_clip(path) is not None:  # another run saved it meanwhile; Windows cannot replace an open file
                self.keys.append(key)
                return
            free = shutil.disk_usage(self.cache.folder).free if self.cache.folder.is_dir() else 0
            failure = OSError(
                f"clip {len(self.keys) + 1} could not be kept in {self.cache.folder}: {reason_of(error)}; "
                f"{free / GB:.2f} GB are free there. The {len(self.keys)} clips before it are kept: make "
                "room and start again, and it goes on from there"
            )
            failure.errno = error.errno
            raise failure from error
        self.keys.append(key)
        self.rendered += 1

    def clips(
        self,
        *,
        wanted: int,
        fps: float,
        config: ModelConfig,
        direction: Direction = Direction(),
        heard: Tensor | None = None,
    ) -> CachedClips:
        """The video so far; wanted: frames that are sampled for the whole. One that is not complete does not loop."""
        sampled = min(wanted, len(self.keys) * config.clip_frames)
        direction = direction if sampled == wanted else replace(direction, fade=0)
        frames, wanted = sampled - direction.fade, wanted - direction.fade
        folder, keys = self.cache.folder, tuple(self.keys)
        return CachedClips(folder, keys, frames, wanted, fps, config, self.lease, direction, heard)

    def __enter__(self) -> CacheRun:
        return self

    def __exit__(self, *_) -> None:
        self.lease.close()


@dataclass(frozen=True, eq=False)
class CachedClips:
    """A video as clips on the disk: a small value, whatever the length.

    keys: the names of its clips in `folder`; frames: how many it has, wanted: how many the audio has; fps: frames per
    second;
    config: of the model that made it; lease: as long as it is held, no other run removes the clips; direction: what is
    done to the clips when they are read; heard: (F,) see `inputs.audio.heard_opening`.
    """

    folder: Path
    keys: tuple[str, ...]
    frames: int
    wanted: int
    fps: float
    config: ModelConfig
    lease: Lease | None = field(default=None, repr=False)
    direction: Direction = Direction()
    heard: Tensor | None = field(default=None, repr=False)

    def __iter__(self) -> Iterator[Tensor]:
        """Scaled latents (1, C, F, h, w) float32, or with dials (1, C + D, F, h, w), clip by clip, the last cut to the
        video's frames.

        Raises FileNotFoundError where a clip is gone or damaged.
        """
        return self.direction.of(self._sampled(), sampled=self.frames + self.direction.fade)

    def _sampled(self) -> Iterator[Tensor]:
        for number in range(len(self.keys)):
            yield self.clip(number)[:, :, : self.frames + self.direction.fade - number * self.config.clip_frames]

    def clip(self, number: int) -> Tensor:
        """One whole clip, frames beyond the end of the video too."""
        latents = read_clip(self.folder / f"{self.keys[number]}.safetensors")
        if latents is None:
            with contextlib.suppress(OSError):
                os.utime(self.folder / LOCK)  # changes `ClipCache.revision`
            raise FileNotFoundError(
                f"clip {number + 1} of {len(self.keys)} is gone from {self.folder}, or damaged: "
                "render the video again, the other clips are still there"
            )
        return latents

    def last(self, count: int, *, with_dials: bool = False) -> Tensor:
        """The last `count` frames (1, C, count, h, w), with dials (1, C + D, count, h, w) where there are any.

        Raises ValueError if there are fewer.
        """
        if self.frames < count:
            raise ValueError(
                f"the video has {self.frames} frames, and {count} are needed to continue it; use a longer one"
            )
        if self.direction.fade:
            latents = None
            for clip in self:
                latents = MotionFrames.after(latents, clip, count)
            return latents if with_dials else latents[:, : self.config.latent_channels]
        size, parts, end = self.config.clip_frames, [], self.frames
        while end > self.frames - count:
            number = (end - 1) // size
            parts.insert(0, self.clip(number)[:, :, max(0, self.frames - count - number * size) : end - number * size])
            end = number * size
        latents = torch.cat(parts, dim=2)
        return self.direction.dialled(latents, self.frames - count, total=self.frames) if with_dials else latents

    @property
    def latent_bytes(self) -> int:
        """Memory that all latents together would take."""
        return self.frames * self.config.latent_channels * self.config.latent_size**2 * 4

    @property
    def picture_bytes(self) -> int:
        """Memory that all frames together would take as float32 pictures."""
        return self.frames * self.config.image_size**2 * 3 * 4


def read_clip(path: Path) -> Tensor | None:
    """The latents of an undamaged file; None for any other, and for one with NaN or infinite values.

    Another kind of file under such a name, a pipe for example, is not opened.
    """
    try:
        if not path.is_file():
            return None
        with safe_open(path, "pt") as file:
            metadata, latents = file.metadata() or {}, file.get_tensor("latents")
    except (OSError, SafetensorError):
        return None
    expected = {"format": FORMAT, "key": path.stem, "content": content_of(latents)}
    is_clip = metadata == expected and latents.dtype == torch.float32 and latents.ndim == 5
    return latents if is_clip and is_finite(latents) else None


def make_private(folder: Path) -> None:
    """Create the folder for its owner alone, whatever the umask; one that holds nothing but our files becomes so.

    Clips show how a person's face moves. A folder that a user named and that holds other files is left as it is; its
    clips are readable by their owner alone in any case.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if os.name == "nt" or not folder.is_dir():
            folder.mkdir(exist_ok=True)  # raises if it is no folder
            return
        state = folder.stat()
        if state.st_uid != os.getuid() or not state.st_mode & 0o077:
            return
        names = os.listdir(folder)
        if not names or not all(
            name == LOCK or any(kind.fullmatch(name) for kind in (CLIP, PART, LEASE)) for name in names
        ):
            return
        for name in names:
            with contextlib.suppress(OSError):
                os.chmod(folder / name, 0o600)
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)


def _remove(path: Path) -> bool:
    """Whether a file is gone; another user's is not, nor, on Windows, one that any program has open."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows has no such call and does not need one."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
