"""From records (tracks and numbers of each clip) to rows (numbers with intervals and bars)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..statistics import Estimate, bootstrap, bootstrap_mean, correlation, mean, slope
from .compared import READABLE, Clip
from .reading import Reading
from .report import Row

MOST_APART = 0.4  # dlib distance from the portrait, above which a picture has not passed
MOST_TORN = 0.01  # share of the square that may be stretched more than threefold
WINDOW_SECONDS = 10  # of the long videos


def rows(groups: dict, ceilings: dict, about: dict) -> list[Row]:
    """Every row that these records can fill."""
    maker = _Maker(groups, ceilings, about)
    main = (maker.mouth, maker.others, maker.pauses, maker.eyes_and_head, maker.speeds, maker.identity, maker.picture)
    more = (maker.over_time, maker.looks, maker.times, maker.fast, maker.decoder)
    return [row for make in (*main, *more) for row in make()]


class _Maker:
    def __init__(self, groups: dict, ceilings: dict, about: dict):
        self.groups, self.ceilings, self.about = groups, ceilings, about
        self._made: dict[str, list[Clip]] = {}

    def clips(self, group: str) -> list[Clip]:
        if group not in self._made:
            records = [record for record in self.groups.get(group, {}).values() if "scene" in record]
            self._made[group] = [Clip(record, self.ceilings[record["scene"]]) for record in records]
        return self._made[group]

    def skipped(self, group: str, key: str, what: str, bar: str = "", aim: str = "") -> list[Row]:
        """A row without a value and with the reason, if the group was selected."""
        reason = self.groups.get(group, {}).get("skipped")
        return [Row(key, what, math.nan, bar=bar, aim=aim, note=f"skipped: {reason['reason']}")] if reason else []

    def mouth(self) -> list[Row]:
        clips = self.clips("main")
        if not clips:
            return []
        readable = [clip.r[0] for clip in clips if clip.r[1] > READABLE]
        what = f"the same, worst clip whose ceiling is above {READABLE:g}"
        worst = min(readable, default=math.nan)
        widths = "weak: read the ceiling in its column"
        closed = _sums([clip.closed[1:] for clip in clips])
        lag = bootstrap_mean([clip.lag for clip in clips])
        return [
            _mean("opening_r", "mouth opening against the voice, r", clips, "r"),
            _share("opening_share", "the same as a share of the ceiling's", clips, "r", bar=">= 0.93", aim="0.97"),
            Row("opening_worst", what, worst, count=len(readable), bar=">= 0.65", aim="0.80"),
            *self._control(clips),
            _share(
                "width_share",
                "mouth width, r as a share of the ceiling's",
                clips,
                "width_r",
                bar=">= 0.65",
                ceiling=_ceiling(clips, "width_r"),
                note=widths,
            ),
            _share(
                "closures",
                "lips shut at p, b, m, share of the puppets'",
                clips,
                "closed",
                bar=">= 0.8",
                aim="0.9",
                ceiling=closed,
                note=self._chance(),
            ),
            _share(
                "amplitude",
                "opening, how far it moves against the puppets'",
                clips,
                "moves",
                bar="0.9 to 1.15",
                unit="x",
            ),
            _row("lag", "mouth later than the puppets'", lag, bar="size <= 0.5", unit="frames"),
        ]

    def _control(self, clips: list[Clip]) -> list[Row]:
        records = [record for record in self.groups.get("control", {}).values() if "voice_of" in record]
        if not records:
            return []
        own, other = [], []
        for record in records:
            opening = Reading.from_lists(record["reading"]).opening
            for found, scene in ((own, record["scene"]), (other, record["voice_of"])):
                found.append(correlation(opening, torch.tensor(self.ceilings[scene]["truth"]["opening"])))
        apart = mean(other) - mean([clip.r[0] for clip in clips])
        what = "control: another clip's voice, r with the truth"
        return [
            _row("control_r", what, bootstrap_mean(own), bar="size <= 0.1"),
            _row("control_other_r", "the same frames against that voice, r", bootstrap_mean(other)),
            Row("control_apart", "that, minus the first row", apart, count=len(records), bar="size <= 0.02"),
        ]

    def _chance(self) -> str:
        """How many closures the frames of another voice reach."""
        reached = counted = 0
        for record in self.groups.get("control", {}).values():
            if "scene" in record:
                clip = Clip(record, self.ceilings[record["scene"]])
                if clip.closed[2]:
                    reached, counted = reached + clip.closed[0], counted + clip.closed[2]
        chance = f"; another clip's voice reaches {reached / counted:.2f}" if counted else ""
        return f"ceiling: share of all{chance}"

    def others(self) -> list[Row]:
        made = []
        for group, key, what, bar, aim in (
            ("language", "language_share", "a language never trained on (Finnish)", ">= 0.92", ""),
            ("sung", "sung_share", "singing", ">= 0.75", "0.9"),
            ("music", "music_share", "speech over music at 5 dB", ">= 0.75", "0.9"),
        ):
            what = f"{what}: opening r, share of the ceiling's"
            clips = self.clips(group)
            if clips:
                made.append(_share(key, what, clips, "r", bar=bar, aim=aim, ceiling=_ceiling(clips, "r")))
            else:
                made += self.skipped(group, key, what, bar, aim)
        what, clips = "real speech: opening against the audio encoder's own track, r", self.clips("recordings")
        if clips:
            return [*made, _mean("recordings_r", what, clips, "r", bar=">= 0.85")]
        return made + self.skipped("recordings", "recordings_r", what, ">= 0.85")

    def pauses(self) -> list[Row]:
        clips = [clip for clip in self.clips("pauses") if "held" in clip.record]
        what = "mouth in pauses as shut as the portrait's"
        return [_mean("pauses_shut", what, clips, "shut", bar=">= 0.97", unit="of frames")] if clips else []

    def eyes_and_head(self) -> list[Row]:
        clips = self.clips("main")
        if not clips:
            return []
        spread = {"bar": "0.8 to 1.2", "aim": "1.0", "unit": "x"}
        blinks = {"ceiling": _ceiling(clips, "blinks"), "note": "weak: read from the change of the eyes' pictures"}
        shake = {"ceiling": _ceiling(clips, "shake"), "note": "ceiling: px at 256"}
        trembling = "trembling (second difference of mesh points) against the puppets'"
        what = "frames with shut eyes against the puppets'"
        return [
            _share("blinks", what, clips, "blinks", bar="0.6 to 1.4", unit="x", **blinks),
            _mean("lids_agree", "frames whose lids agree", clips, "agreement", bar=">= 0.97"),
            _share("pose_spread", "head pose, spread against the puppets'", clips, "turn", **spread),
            _share("place_spread", "head position, spread against the puppets'", clips, "place", **spread),
            _share("trembling", trembling, clips, "shake", bar="<= 1.15", unit="x", **shake),
        ]

    def speeds(self) -> list[Row]:
        fps, what = self.about["fps"], "head speed, highest against lowest setting"
        found = {
            float(name.removeprefix("speed ")): [
                Reading.from_lists(record["reading"]).speed(fps).mean().item() for record in records.values()
            ]
            for name, records in self.groups.items()
            if name.startswith("speed ")
        }
        if len(found) < 2:
            return self.skipped("speed", "head_speed", what, ">= 2.5", "4")
        ordered = [found[speed] for speed in sorted(found)]
        pairs = [(high, low) for low, high in zip(ordered[0], ordered[-1], strict=False)]
        means = [mean(values) for values in ordered]
        rises = float(all(low < high for low, high in zip(means, means[1:], strict=False)))
        note = ", ".join(f"{speed:g}: {value:.1f}" for speed, value in zip(sorted(found), means, strict=True))
        note += " degrees a second"
        return [
            _row("head_speed", what, bootstrap(pairs, _sums), bar=">= 2.5", aim="4", unit="x", note=note),
            Row("head_speed_monotone", "head speed rises with the setting", rises, count=len(pairs), bar=">= 1"),
        ]

    def identity(self) -> list[Row]:
        pictures = self._pictures()
        found = [record["identity"] for record in pictures.values() if record.get("identity")]
        every = sorted(value for some in found for value in some)
        names = (
            ("identity_median", "likeness: dlib distance from real portraits, median", "<= 0.25", "0.20"),
            ("identity_worst", "likeness, worst frame", "<= 0.42", "0.35"),
        )
        if not every:
            reason = "needs dlib" if pictures else self.groups.get("portraits", {}).get("skipped", {}).get("reason", "")
            note = f"skipped: {reason}"
            return [Row(key, what, math.nan, bar=bar, aim=aim, note=note) for key, what, bar, aim in names if reason]
        worst = max((max(record["identity"]), name) for name, record in pictures.items() if record.get("identity"))
        middle = bootstrap(found, lambda some: torch.tensor([x for values in some for x in values]).median().item())
        return [
            _row(*names[0][:2], middle, bar=names[0][2], aim=names[0][3]),
            Row(*names[1][:2], every[-1], count=len(found), bar=names[1][2], aim=names[1][3], note=worst[1]),
        ]

    def _pictures(self) -> dict[str, dict]:
        return {name: record for name, record in self.groups.get("portraits", {}).items() if name != "skipped"}

    def picture(self) -> list[Row]:
        pictures = {name: record for name, record in self._pictures().items() if "refused" not in record}
        clips = self.clips("main")
        made = []
        if pictures:
            outside = sum(record["outside"] for record in pictures.values())
            what = "pixels outside the head square that changed, before encoding"
            made.append(Row("outside", what, float(outside), count=len(pictures), bar="<= 0"))
        groups = ("main", "portraits", "looks", "drawn", "language")
        records = [record for group in groups for record in self.groups.get(group, {}).values()]
        if moving := [record["folds"] for record in records if "folds" in record]:
            unfolded = bootstrap(moving, lambda some: mean([float(x >= 0) for folds in some for x in folds]), draws=300)
            made.append(_row("unfolded", "frames without a fold", unfolded, bar=">= 0.999"))
        for key, what, some in (
            ("sharp_face", "sharpness of the moving face against the portrait", self.groups.get("main", {})),
            ("sharp_face_real", "the same (sharpness of the face) in real pictures", pictures),
        ):
            values = [_known(record["sharp_face"]) for record in some.values() if "sharp_face" in record]
            made += [_row(key, what, bootstrap_mean(values), bar=">= 0.95", unit="x")] if values else []
        if clips:
            what = "sharpness of the mouth's inside against the puppets'"
            made.append(_share("sharp_mouth", what, clips, "sharp_mouth", bar=">= 0.8", unit="x"))
        return made + self._passes()

    def _passes(self) -> list[Row]:
        pictures = self._pictures()
        if not pictures:
            return []
        failed = {name: reason for name, record in pictures.items() if (reason := _fails(record))}
        passed = bootstrap_mean([float(name not in failed) for name in pictures])
        what = "pictures that pass: face found, likeness < 0.4, nothing torn"
        note = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        return [_row("passes", what, passed, bar=">= 0.95", aim="0.99", note=note)]

    def over_time(self) -> list[Row]:
        clips, fps = self.clips("main"), self.about["fps"]
        made = []
        longer = [seconds for clip in clips if len(seconds := clip.by_second(fps)) > 1]
        if longer:
            share = bootstrap([(values[0], mean(values[1:])) for values in longer], _sums)
            what = "first second: mouth opening r against the rest"
            made.append(_row("first_second", what, share, unit="x", bar="0.9 to 1.1"))
        if clips and len(clips[0].generated) > self.about["clip_frames"]:
            jumps = bootstrap([clip.jumps(self.about["clip_frames"]) for clip in clips], _sums)
            what = "joins of clips: head speed across against inside"
            made.append(_row("joins", what, jumps, unit="x", bar="<= 1.12"))

        def opening(clip: Clip, at: int, to: int) -> float:
            return correlation(clip.generated.opening[at:to], clip.truth["opening"][at:to])

        def place(clip: Clip, at: int, to: int) -> float:
            return clip.generated.place[at:to].mean(0).norm().item()

        def shake(clip: Clip, at: int, to: int) -> float:
            return clip.generated.shake[at : to - 2].mean().item()

        for key, what, value in (
            ("drift_opening", "a minute: change of the opening's r", opening),
            ("drift_place", "a minute: change of the head's place, px at 256", place),
            ("drift_shake", "a minute: change of the trembling, px", shake),
        ):
            window = round(WINDOW_SECONDS * fps)
            runs = [
                [
                    ((at + window / 2) / fps / 60, value(clip, at, at + window))
                    for at in range(0, len(clip.generated) - window + 1, window)
                ]
                for clip in self.clips("long")
            ]
            if runs:
                made.append(_row(key, what, slope(runs, block=1), unit="a minute"))
        drifting = [record["identity"] for record in self.groups.get("long", {}).values() if record.get("identity")]
        if drifting:
            runs = [[(index / (len(values) - 1), value) for index, value in enumerate(values)] for values in drifting]
            what = "a minute: change of the likeness from first to last"
            made.append(_row("drift_identity", what, slope(runs, block=1)))
        return made

    def looks(self) -> list[Row]:
        base = _ratio(self.clips("main"), "r").value if self.clips("main") else math.nan
        made = []
        for group, what in (("looks", "paintings, drawings and other looks"), ("drawn", "drawn heads")):
            what, clips = f"{what}: opening's share of the ceiling, over that of photographs", self.clips(group)
            if clips:
                share = _ratio(clips, "r")
                share = Estimate(share.value / base, share.low / base, share.high / base, share.count)
                made.append(_row(f"{group}_share", what, share, ceiling=_ceiling(clips, "r"), bar=">= 0.9"))
            else:
                made += self.skipped(group, f"{group}_share", what, ">= 0.9")
        return made

    def times(self) -> list[Row]:
        made, threads = [], self.about["threads"]
        for name, bar, aim in (("default", "<= 0.07", "0.05"), ("fast", "<= 0.04", "0.025")):
            record = self.groups.get("time", {}).get(name)
            if record:
                what = f"{name}: 512x512 out, everything included"
                note = f"{record['threads']} threads; first clip after {record['first_clip_seconds']:.1f} s"
                seconds, count = record["seconds_per_frame"], record["frames"]
                more = {"bar": bar, "aim": aim, "unit": "s a frame", "note": note}
                made.append(Row(f"seconds_{name}", what, seconds, count=count, **more))
        return made if threads else []

    def fast(self) -> list[Row]:
        fast, main = self.groups.get("fast", {}), self.groups.get("main", {})
        shared = [key for key in fast if key in main and "scene" in fast[key]]
        if not shared:
            return self.skipped("fast", "fast_opening", "fast against default: opening r", ">= 0.96")
        quick, usual = ([Clip(some[key], self.ceilings[some[key]["scene"]]) for key in shared] for some in (fast, main))

        def against(name: str) -> Estimate:
            pairs = zip(quick, usual, strict=True)
            return bootstrap([(getattr(one, name)[0], getattr(other, name)[0]) for one, other in pairs], _sums)

        made = [
            _row("fast_opening", "fast against default: opening r", against("r"), bar=">= 0.96", unit="x"),
            _row("fast_trembling", "fast against default: trembling", against("shake"), bar="<= 1.05", unit="x"),
        ]
        known = [key for key in shared if fast[key].get("identity") and main[key].get("identity")]
        if known:
            pairs = [(mean(fast[key]["identity"]), mean(main[key]["identity"])) for key in known]
            what = "fast against default: dlib distance"
            made.append(_row("fast_identity", what, bootstrap(pairs, _sums), bar="<= 1.05", unit="x"))
        return made

    def decoder(self) -> list[Row]:
        clips, records = self.clips("decoder"), list(self.groups.get("decoder", {}).values())
        if not clips:
            return []
        of = "true latents through the decoder: "
        sharp = bootstrap_mean([_known(record["sharp_face"]) for record in records])
        unfolded = bootstrap_mean([mean([float(value >= 0) for value in record["folds"]]) for record in records])
        torn = bootstrap_mean([max(record["torn"]) for record in records])
        made = [
            _share(f"decoder_{key}", of + what, clips, name, ceiling=_ceiling(clips, name))
            for key, what, name in (
                ("opening", "opening r, share of the ceiling's", "r"),
                ("width", "width r, share", "width_r"),
            )
        ]
        made += [
            _share("decoder_amplitude", of + "amplitude", clips, "moves", unit="x"),
            _share("decoder_closures", of + "closures, share", clips, "closed"),
            _share("decoder_blinks", of + "shut eyes", clips, "blinks", unit="x"),
            _mean("decoder_lids", of + "lids agree", clips, "agreement"),
            _share("decoder_pose", of + "pose spread", clips, "turn", unit="x"),
            _share("decoder_trembling", of + "trembling", clips, "shake", unit="x"),
            _row("decoder_sharp_face", of + "sharpness of the face", sharp, unit="x"),
            _share("decoder_sharp_mouth", of + "sharpness of the mouth's inside", clips, "sharp_mouth", unit="x"),
            _row("decoder_unfolded", of + "frames without a fold", unfolded),
            _row("decoder_torn", of + "share of the square stretched threefold, worst frame", torn),
        ]
        for key, base, what in (
            ("psnr", "psnr_still", "whole picture"),
            ("psnr_mouth", "psnr_still_mouth", "mouth and lips"),
        ):
            more = {"unit": "dB", "ceiling": mean([record[base] for record in records])}
            value = bootstrap_mean([record[key] for record in records])
            made.append(_row(f"decoder_{key}", of + what, value, note="ceiling column: a picture that rests", **more))
        apart = [mean(record["identity"]) for record in records if record.get("identity")]
        return made + ([_row("decoder_identity", of + "dlib distance", bootstrap_mean(apart))] if apart else [])


def _fails(record: dict) -> str:
    """Why a picture has not passed; empty if it has."""
    if "refused" in record:
        return record["refused"].split(". ")[0]
    if record.get("identity") and max(record["identity"]) >= MOST_APART:
        return f"likeness {max(record['identity']):.2f}"
    if min(record["folds"]) < 0:
        return f"{sum(value < 0 for value in record['folds'])} frames fold"
    return f"torn {max(record['torn']):.3f}" if max(record["torn"]) > MOST_TORN else ""


def _row(key: str, what: str, estimate: Estimate, **more) -> Row:
    return Row(key, what, estimate.value, estimate.low, estimate.high, estimate.count, **more)


def _mean(key: str, what: str, clips: Sequence[Clip], name: str, **more) -> Row:
    """The mean over clips of a number of the model's frames, and of the puppets' own as the ceiling."""
    estimate = bootstrap_mean([getattr(clip, name)[0] for clip in clips])
    return _row(key, what, estimate, ceiling=_ceiling(clips, name), **more)


def _share(key: str, what: str, clips: Sequence[Clip], name: str, **more) -> Row:
    return _row(key, what, _ratio(clips, name), **more)


def _ceiling(clips: Sequence[Clip], name: str) -> float:
    return mean([getattr(clip, name)[1] for clip in clips])


def _sums(pairs: Sequence[tuple[float, ...]]) -> float:
    """Sum of the first over sum of the second numbers; pairs without a number are left out."""
    known = [pair for pair in pairs if not any(math.isnan(value) for value in pair[:2])]
    below = sum(pair[1] for pair in known)
    return sum(pair[0] for pair in known) / below if below else math.nan


def _ratio(clips: Sequence[Clip], name: str) -> Estimate:
    """What the model's frames reach of what the puppets' reach, over all clips that have both."""
    pairs = [getattr(clip, name) for clip in clips]
    return bootstrap([pair for pair in pairs if not any(math.isnan(value) for value in pair[:2])], _sums)


def _known(values: Sequence[float | None]) -> float:
    """Mean of the numbers among them."""
    return mean([value for value in values if value is not None])
