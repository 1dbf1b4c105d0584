"""One person from minutes of video: the built-in model goes on learning on one talking person, on a CPU.

EMO's audio and temporal layers learn how this mouth moves, the painter's last layer its colours, and the mouth gets the
person's size by the scale of its latents; all else stays. The video's clips have three parts: on the first the model
trains, the second decides what of it is kept and when training ends, the last only judges what came out.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..checkpoints import native
from ..checkpoints.mediapipe import load_face_finder
from ..config import ModelConfig
from . import painter
from .footage import shards
from .footage.run import prepare
from .footage.settings import Limits, Settings
from .footage.store import Rescaled, ShardStore
from .held_out import MOST_SIZE, OPENING, WIDTH, Mouth, Spoken, fitted_size, mouth_in_frames, mouth_in_latents
from .loop import Plan, append_line
from .loss import EmoTask
from .prepared import FOOTAGE_WEIGHTS, load_to_train
from .stages import VIDEO, Stage
from .stopping import train_best

log = logging.getLogger(__name__)

FOOTAGE = Settings(limits=Limits(longest=5.0))  # short clips, so that the three parts can be fine
CHOOSING_SHARE, JUDGING_SHARE = 0.2, 0.2  # of the clips, the last ones of the video
LEAST_SECONDS, LEAST_CLIPS = 12.0, 3  # of usable footage
CHECK_EVERY, PATIENCE = 20, 3  # steps between two checks; checks without a better one that end the training
TOLERATED = 0.03  # of the shortfall on the few choosing clips, where the mouth's size lowers the error
SIZE_CLIPS, FITTING_CLIPS = 5, 3  # of those to train on: where the mouth's size is read in latents, and in frames
CHECK_SEED, JUDGE_SEED = 1, 2  # added to the seed, of the noise of videos that choose, and of those that judge
STAGE = replace(
    VIDEO,
    name="adapt",
    trains=("audio_projection.*", "*.attn_audio.*", "*.norm_audio.*", "*.motion_modules.*"),
    frozen=("*.attn_speed.*", "*.norm_speed.*"),
    has_speed=True,
    frame_references=False,
    steps=200,
    batch=4,
    learning_rate=1e-4,
    warmup_steps=20,
    channel_weights=FOOTAGE_WEIGHTS,
)


@dataclass(frozen=True)
class Parts:
    """Clips of one video: to train on, to choose by, to judge with."""

    training: Sequence[shards.Sample]
    choosing: Sequence[shards.Sample]
    judging: Sequence[shards.Sample]

    @classmethod
    def of(cls, samples: Sequence[shards.Sample]) -> Parts:
        """In the order of time, each clip in one part; at least three clips."""
        judging = max(1, round(JUDGING_SHARE * len(samples)))
        choosing = max(1, round(CHOOSING_SHARE * len(samples)))
        first = len(samples) - judging - choosing
        return cls(samples[:first], samples[first : first + choosing], samples[first + choosing :])


def with_sizes(config: ModelConfig, opening: float, width: float = 1.0) -> ModelConfig:
    """Of a model with the same weights, whose mouth opens and widens so many times as far: latents stand for more."""
    scale = list(config.latent_scale)
    scale[OPENING], scale[WIDTH] = scale[OPENING] / opening, scale[WIDTH] / width
    return replace(config, latent_scale=tuple(scale))


def configured(bundle: native.Bundle, config: ModelConfig) -> native.Bundle:
    """The same networks under another config."""
    bundle.emo.config = config
    return replace(bundle, config=config)


@dataclass
class _Person:
    """A model on the way to one person: `bundle`, as good as it is so far."""

    bundle: native.Bundle
    folder: Path
    parts: Parts
    seed: int

    def __post_init__(self):
        self.prepared, self.finder = self.bundle.config, load_face_finder()

    def store(self, some: Sequence[shards.Sample], config: ModelConfig) -> Rescaled:
        """The clips, as latents of the scales of `config`."""
        names, frames = {one.name for one in some}, self.prepared.motion_frames + self.prepared.clip_frames
        store = ShardStore(self.folder, self.prepared, names=names, frames=frames, held_out=None)
        return Rescaled(store, self.prepared, config)

    def few_to_train_on(self, count: int) -> Sequence[shards.Sample]:
        return self.parts.training[:: -(-len(self.parts.training) // count)]

    def mouth(self, some: Sequence[shards.Sample], seed: int) -> Mouth:
        """In motion latents."""
        return mouth_in_latents(self.bundle, self.store(some, self.bundle.config), some, seed=seed)

    def spoken(self, some: Sequence[shards.Sample], seed: int) -> list[Spoken]:
        store = self.store(some, self.bundle.config)
        return [Spoken.of(self.bundle, store, sample, self.finder, seed=seed) for sample in some]

    def mouth_frames(self, some: Sequence[shards.Sample]) -> list[painter.MouthFrames]:
        return [painter.MouthFrames.of(sample, self.prepared) for sample in some]

    def train(self, stage: Stage, work: Path, *, deadline: float, clock: Callable[[], float]) -> int:
        """Train EMO until the choosing clips get no better; returns the step whose weights were kept, 0 for none.

        The person's motion is given the spread that the model's has for the same voice: else most of what is learned
        is to move less.
        """
        sizes = tuple(
            min(max(size, 1 / MOST_SIZE), MOST_SIZE)
            for size in self.mouth(self.few_to_train_on(SIZE_CLIPS), self.seed).sizes
        )
        log.info("in motion latents the model's mouth opens %.2f times as far, and widens %.2f times", *sizes)
        as_large = with_sizes(self.bundle.config, *(1 / size for size in sizes))
        task = EmoTask(self.bundle.emo, stage, self.store(self.parts.training, as_large), seed=self.seed)
        plan = Plan(
            stage.name, stage.steps, stage.learning_rate, stage.warmup_steps, ema_decay=0.95, check_every=CHECK_EVERY
        )

        def score() -> float:
            found = self.mouth(self.parts.choosing, self.seed + CHECK_SEED)
            log.info("on the clips that choose: shortfall %.4f, %s", found.shortfall(sizes), found.values())
            return found.shortfall(sizes)

        how = {"start": score(), "score": score, "patience": PATIENCE, "deadline": deadline, "clock": clock}
        return train_best(task, plan, work, **how)[0]

    def paint(self, work: Path, *, scale: float, deadline: float, clock: Callable[[], float]) -> int:
        """Train the mouth's colours until the choosing clips get no better; returns the step that was kept."""
        training, choosing = map(self.mouth_frames, (self.parts.training, self.parts.choosing))
        task = painter.PainterTask(self.bundle.motion_decoder, self.prepared, training, seed=self.seed)
        plan = replace(painter.PLAN, steps=max(painter.PLAN.check_every, round(scale * painter.PLAN.steps)))

        def score() -> float:
            found = task.error(choosing)
            log.info("error of the mouth's pixels on the clips that choose: %.4f", found)
            return found

        how = {"start": score(), "score": score, "patience": PATIENCE, "deadline": deadline, "clock": clock}
        return train_best(task, plan, work, **how)[0]

    def resize(self) -> float:
        """Give the mouth the size at which finished frames open it as far as the video does; returns it, 1 where
        the choosing clips are no better with it: squared error lower, shortfall hardly higher.

        The size is not chosen for that error, so it cannot be one at which the mouth hardly moves. The shortfall
        refuses a smaller mouth that follows the voice less closely.
        """
        config = self.bundle.config
        some = self.spoken(self.few_to_train_on(FITTING_CLIPS), self.seed)
        size = fitted_size(lambda size: mouth_in_frames(some, with_sizes(config, size)).sizes[0])
        choosing = self.spoken(self.parts.choosing, self.seed + CHECK_SEED)
        before, after = (mouth_in_frames(choosing, one) for one in (config, with_sizes(config, size)))
        log.info(
            "on the clips that choose, finished frames: size 1 %s, size %.2f %s", before.values(), size, after.values()
        )
        if after.error >= before.error or after.shortfall() > before.shortfall() + TOLERATED:
            return 1.0
        self.bundle = configured(self.bundle, with_sizes(config, size))
        return size


def adapt(
    video: Path,
    out: Path,
    *,
    model: str | Path = "default",
    minutes: float = 45.0,
    scale: float = 1.0,
    settings: Settings = FOOTAGE,
    colours: bool = True,
    resume: bool = False,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, dict[str, float]]:
    """Write the model of the person in `video` to `out`; returns `judged` before and after.

    What does not help on the choosing clips is left out. colours: whether the mouth's inside trains, too. minutes:
    stops with OutOfTime when they are over, everything saved; call again with resume=True. Work is kept in OUT's name
    with '.adapt' until it is done: the prepared clips, the state and the log. Raises FileExistsError if there is
    unfinished work and `resume` is not set, ValueError if too little of the video can be used (report.html there says
    why).
    """
    work, deadline = out.with_name(f"{out.stem}.adapt"), clock() + 60 * minutes
    if (work / "log.jsonl").exists() and not resume:
        raise FileExistsError(f"{work} holds unfinished work; add --resume to go on with it, or remove it")
    bundle = load_to_train(model, device="cpu")
    if bundle.motion_decoder is None:
        raise ValueError(f"{Path(model).name} has no motion decoder; adapt the built-in model, or one trained from it")
    report = prepare([video], work / "data", model=str(model), settings=settings)
    row = report["rows"][0]
    if row["kept_seconds"] < LEAST_SECONDS or row["clips"] < LEAST_CLIPS:
        raise ValueError(
            f"{video.name} has {row['kept_seconds']:.1f} s of use in {row['clips']} clips, at least "
            f"{LEAST_SECONDS:.0f} s in {LEAST_CLIPS} are needed; {work / 'data' / 'report.html'} says what was left "
            "out and why"
        )
    person = _Person(bundle, work / "data", Parts.of(shards.read_index(work / "data")), seed)
    before = judged(person)
    log.info("before: %s", before)
    how = {"deadline": deadline, "clock": clock}
    steps = person.train(replace(STAGE, steps=max(CHECK_EVERY, round(scale * STAGE.steps))), work, **how)
    painted = person.paint(work, scale=scale, **how) if colours else 0
    size = person.resize()
    if steps or size != 1:  # the person's own mouth, which what is heard would draw to an average one
        person.bundle = configured(person.bundle, replace(person.bundle.config, heard_mouth=0.0))
    log.info("kept: EMO of step %d, the mouth's colours of step %d, its opening times %.2f", steps, painted, size)
    after = judged(person) if steps or painted or size != 1 else before
    log.info("after: %s", after)
    if doubt := doubts(before, after):
        log.warning("%s", doubt)
    with video.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    adapted = {
        "video_sha256": digest,
        "seconds": row["kept_seconds"],
        "steps": steps,
        "painter_steps": painted,
        "size": size,
    }
    card = bundle.card | {
        "made_by": f"python -m emo_model.training adapt --scale {scale:g} --seed {seed}",
        "adapted": adapted | {"before": before, "after": after},
        "permission": "likeness of one person: use it only as this person has agreed to",
    }
    native.save(out, replace(person.bundle, card=card))
    append_line(work / "log.jsonl", card["adapted"])
    (work / "log.jsonl").replace(work / "finished.jsonl")
    for left in (*work.glob("*.best.*"), *(work / "state").glob("*")):
        left.unlink()
    return {"before": before, "after": after}


def judged(person: _Person) -> dict[str, float]:
    """On the judging clips: `Mouth.values` of motion latents and of finished frames ('frames_'), and mouth_psnr: of the
    mouth's pixels where the video's own motion is drawn, dB."""
    samples, seed, bundle = person.parts.judging, person.seed + JUDGE_SEED, person.bundle
    found = person.mouth(samples, seed).values()
    found |= mouth_in_frames(person.spoken(samples, seed), bundle.config).values("frames_")
    return found | {"mouth_psnr": round(painter.mouth_psnr(bundle, person.mouth_frames(samples)), 2)}


def doubts(before: dict[str, float], after: dict[str, float]) -> str:
    """A sentence if nothing helped, or if the judging clips are not better in finished frames, else ""."""
    if after == before:
        return (
            "The model is the one it started from: on the clips that choose, neither training nor "
            "another size of the mouth was better. A longer video, or one with a larger and clearer face, may help"
        )
    if after["frames_opening_error"] < before["frames_opening_error"]:
        return ""
    return (
        "Compare the new model with the one it started from before you use it: on the seconds that only judge, the "
        "mouth of finished frames is no nearer to the person's than before (correlation of the opening "
        f"{before['frames_opening_r']:.2f} before, {after['frames_opening_r']:.2f} after; its size "
        f"{before['frames_opening_size']:.2f} and {after['frames_opening_size']:.2f} of the video's)"
    )
