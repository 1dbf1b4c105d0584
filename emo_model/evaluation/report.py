"""From records (numbers of each clip) to rows (numbers with intervals), and rows as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from .metrics import eyes, picture
from .statistics import Estimate, bootstrap, bootstrap_mean, mean


@dataclass(frozen=True)
class Row:
    """One line of the table; nan: does not exist.

    value: with its 95 % interval over `count` clips; ceiling: the same of the truth after the autoencoder; control: of videos
    that heard another clip's voice; goal: what the built-in model should reach.
    """

    key: str
    what: str
    value: float
    low: float = math.nan
    high: float = math.nan
    count: int = 0
    ceiling: float = math.nan
    control: float = math.nan
    goal: str = ""
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the value reaches the goal; None without a goal."""
        if not self.goal or math.isnan(self.value):
            return None
        words = self.goal.split()
        if words[0] == ">=":
            return self.value >= float(words[1])
        if words[0] == "<=":
            return self.value <= float(words[1])
        if words[0] == "size":  # "size <= 0.1"
            return abs(self.value) <= float(words[2])
        return float(words[0]) <= self.value <= float(words[2])  # "0.9 to 1.15"


def rows(records: dict) -> list[Row]:
    """Every row that these records can fill."""
    made: list[Row] = []
    if "main" in records:
        made += _mouth_rows(records["main"], records.get("control"))
        made += _person_rows(records["main"]) + _eye_rows(records["main"]) + _second_rows(records["main"])
        made += _movement_rows(records["main"])
    if "speed" in records:
        made += _speed_rows(records["speed"])
    if "long" in records:
        made += _long_rows(records["long"])
    if "main" in records:
        made += _style_rows(records["main"])
    if "autoencoder" in records:
        made += _autoencoder_rows(records["autoencoder"])
    if "steps" in records:
        made += _step_rows(records["steps"])
    if records.get("recordings"):
        made += _recording_rows(records["recordings"])
    if "main" in records:
        per_frame = [clip["seconds_of_work"] / clip["frames"] for clip in records["main"]]
        made.append(_row("seconds_per_frame", "time, all included", bootstrap_mean(per_frame), unit="s a frame", goal="<= 0.5"))
    return made


def _row(key: str, what: str, estimate: Estimate, **more) -> Row:
    return Row(key, what, estimate.value, estimate.low, estimate.high, estimate.count, **more)


def _mouth_rows(clips: list[dict], control: list[dict] | None) -> list[Row]:
    def of(name: str) -> Estimate:
        return bootstrap_mean(_all(clips, "generated", name))

    def ceiling(name: str) -> float:
        return mean(_all(clips, "ceiling", name))

    def controlled(name: str) -> float:
        return mean([clip[name] for clip in control]) if control else math.nan

    opening = _all(clips, "generated", "opening_r")
    foreign = [clip["generated"]["opening_r"] for clip in clips if clip["is_foreign"]]
    made = [
        _row("opening_r", "mouth opening, r with the truth", of("opening_r"), ceiling=ceiling("opening_r"),
             control=controlled("opening_r"), goal=">= 0.86"),
        Row("opening_r_worst", "mouth opening, worst clip", min(opening), count=len(opening),
            ceiling=min(_all(clips, "ceiling", "opening_r")), goal=">= 0.68"),
        _row("opening_r_foreign", "mouth opening, a language never trained on", bootstrap_mean(foreign), goal=">= 0.8"),
        _row("heard_opening_r", "mouth opening as the audio encoder hears it",
             bootstrap_mean([clip["heard_opening_r"] for clip in clips])),
        _row("darkness_r", "darkness of the mouth, r with the opening (no instrument)", of("darkness_r"),
             ceiling=ceiling("darkness_r"), control=controlled("darkness_r")),
        _row("width_r", "mouth width, r", of("width_r"), ceiling=ceiling("width_r"), control=controlled("width_r"),
             goal=">= 0.58"),
        _row("closure_r", "lip closure, r", of("closure_r"), ceiling=ceiling("closure_r"), control=controlled("closure_r"),
             goal=">= 0.6"),
        _row("opening_gain", "opening, movement against the truth", of("opening_gain"), ceiling=ceiling("opening_gain"), unit="x",
             goal="0.9 to 1.15"),
        _row("lag", "delay of the mouth", of("lag"), ceiling=ceiling("lag"), unit="frames", goal="size <= 0.3")]
    if control:
        pairs = [(clip["generated"]["opening_r"], other["opening_r"]) for clip, other in zip(clips, control, strict=True)]
        made += [
            _row("control_r", "another clip's voice: opening r with the truth",
                 bootstrap_mean([clip["opening_r"] for clip in control]), goal="size <= 0.1"),
            _row("control_other_r", "another clip's voice: opening r with that clip",
                 bootstrap_mean([clip["other_opening_r"] for clip in control]), goal=">= 0.83"),
            _row("above_control", "mouth opening, r above the control's", bootstrap_mean([own - other for own, other in pairs]))]
    return made


def _person_rows(clips: list[dict]) -> list[Row]:
    def against_ceiling(key: str, what: str, name: str, goal: str) -> Row:
        return _row(key, what, _ratio(clips, name, name, below="ceiling"), unit="x ceiling", goal=goal)

    return [against_ceiling("identity", "person, error of likeness", "identity_error", "<= 1.1"),
            _row("identity_found", "person recognised among 430", bootstrap_mean(_all(clips, "generated", "identity_found")),
                 ceiling=mean(_all(clips, "ceiling", "identity_found")), unit="of frames"),
            against_ceiling("sharpness", "sharpness, whole", "sharpness", ">= 0.94"),
            against_ceiling("sharpness_eyes", "sharpness, eyes", "sharpness_eyes", ">= 0.92")]


def _eye_rows(clips: list[dict]) -> list[Row]:
    def both(name: str, which: str) -> Callable[[Sequence[dict]], float]:
        return lambda some: eyes.together([clip["tracks"][which] for clip in some])[name]

    few = {"draws": 300}
    return [
        _row("disagreeing_eyes", "frames whose eyes disagree", bootstrap_mean(_all(clips, "generated", "disagreeing")),
             ceiling=mean(_all(clips, "ceiling", "disagreeing")), goal="<= 0.06"),
        _row("blink_left_right_r", "left and right lids, r", bootstrap(clips, both("blink_r", "generated"), **few),
             ceiling=both("blink_r", "ceiling")(clips), goal=">= 0.85"),
        _row("gaze_left_right_r", "left and right gaze, r", bootstrap(clips, both("gaze_r", "generated"), **few),
             ceiling=both("gaze_r", "ceiling")(clips), goal=">= 0.6"),
        _row("blinks", "frames with shut eyes", _ratio(clips, "blink_share", "blink_share", below="truth"), unit="x truth",
             ceiling=_ratio(clips, "blink_share", "blink_share", above="ceiling", below="truth").value, goal="0.8 to 1.2"),
        _row("iris_error", "iris colour, error", bootstrap_mean(_all(clips, "generated", "iris_error")),
             ceiling=mean(_all(clips, "ceiling", "iris_error")), unit="of 1")]


def _second_rows(clips: list[dict]) -> list[Row]:
    """The first second of a video against the seconds after it; videos of one second say nothing."""
    longer = [clip for clip in clips if len(clip["generated"]["by_second"]["sharpness"]) > 1]

    def against_rest(name: str) -> Callable[[Sequence[dict]], float]:
        def ratio(some: Sequence[dict]) -> float:
            first = mean([clip["generated"]["by_second"][name][0] for clip in some])
            rest = mean([value for clip in some for value in clip["generated"]["by_second"][name][1:]])
            return first / rest if rest else math.nan
        return ratio

    names = {"opening_r": "mouth opening r", "identity_error": "error of likeness", "sharpness": "sharpness"}
    return [_row(f"first_second_{name}", f"first second: {what}", bootstrap(longer, against_rest(name), draws=300),
                 unit="x the rest", goal="0.9 to 1.1")
            for name, what in names.items()]


def _movement_rows(clips: list[dict]) -> list[Row]:
    joined = [clip for clip in clips if not math.isnan(_number(clip["generated"]["joins"]))]
    return [
        _row("flicker", "background, change from frame to frame", bootstrap_mean(_all(clips, "generated", "flicker")),
             ceiling=mean(_all(clips, "ceiling", "flicker")), unit="of 255", goal="<= 0.4"),
        _row("shimmer", "second difference over frames", _ratio(clips, "shimmer", "shimmer", below="truth"), unit="x truth",
             ceiling=_ratio(clips, "shimmer", "shimmer", above="ceiling", below="truth").value, goal="<= 1.5"),
        _row("joins", "head speed across clip joins", _ratio(joined, "joins", "inside", below="generated"), unit="x inside",
             ceiling=_ratio(joined, "joins", "inside", above="ceiling", below="ceiling").value, goal="<= 1.12"),
        _row("change_joins", "change of the picture across clip joins",
             _ratio(joined, "change_joins", "change_inside", below="generated"), unit="x inside",
             ceiling=_ratio(joined, "change_joins", "change_inside", above="ceiling", below="ceiling").value),
        _row("speed", "head speed", bootstrap_mean(_all(clips, "generated", "speed")),
             ceiling=mean(_all(clips, "ceiling", "speed")), unit="degrees a second")]


def _speed_rows(by_speed: dict[str, list[dict]]) -> list[Row]:
    ordered = sorted(by_speed, key=float)
    means = {speed: bootstrap_mean([clip["speed"] for clip in by_speed[speed]]) for speed in ordered}
    pairs = list(zip(by_speed[ordered[0]], by_speed[ordered[-1]], strict=True))
    ratio = bootstrap(pairs, lambda some: mean([fast["speed"] for _, fast in some]) / mean([slow["speed"] for slow, _ in some]))
    rising = sum(means[low].value < means[high].value for low, high in zip(ordered, ordered[1:], strict=False))
    return [_row("speed_range", f"head speed, {ordered[-1]} asked against {ordered[0]}", ratio, unit="x", goal=">= 2.2"),
            Row("speed_rises", f"head speed rises with what is asked, steps of {len(ordered) - 1}", rising, count=len(pairs),
                goal=f">= {len(ordered) - 1}"),
            *(_row(f"speed_at_{speed}", f"head speed, {speed} degrees a second asked", estimate, unit="degrees a second")
              for speed, estimate in means.items())]


def _long_rows(clips: list[dict]) -> list[Row]:
    def last_against_first(name: str, compare: Callable[[float, float], float]) -> Estimate:
        def statistic(some: Sequence[dict]) -> float:
            return compare(mean([clip[name][-1] for clip in some]), mean([clip[name][0] for clip in some]))
        return bootstrap(clips, statistic)

    what = f"last sixth of {clips[0]['frames']} frames against the first"
    return [_row("long_opening", f"{what}: mouth opening r", last_against_first("opening_r", lambda last, first: last - first),
                 goal=">= -0.05", unit="more"),
            _row("long_identity", f"{what}: error of likeness", last_against_first("identity_error", _divide), goal="<= 1.04",
                 unit="x"),
            _row("long_sharpness", f"{what}: sharpness", last_against_first("sharpness", _divide), goal="0.98 to 1.02", unit="x")]


def _style_rows(clips: list[dict]) -> list[Row]:
    return [_row(f"style_{style}", f"mouth opening r, {style}",
                 bootstrap_mean([clip["generated"]["opening_r"] for clip in clips if clip["style"] == style]),
                 ceiling=mean([clip["ceiling"]["opening_r"] for clip in clips if clip["style"] == style]), goal=">= 0.85")
            for style in sorted({clip["style"] for clip in clips})]


def _autoencoder_rows(stills: list[dict]) -> list[Row]:
    def quality(part: str) -> Callable[[Sequence[dict]], float]:
        return lambda some: picture.decibels(mean([still[part] for still in some]))

    return [_row(f"autoencoder_{part}", f"autoencoder, {part}", bootstrap(stills, quality(part), draws=300), unit="dB",
                 goal=f">= {goal}")
            for part, goal in (("whole", 35), ("mouth", 31), ("eyes", 27))]


def _step_rows(by_steps: dict[str, list[dict]]) -> list[Row]:
    few, many = (sorted(by_steps, key=int)[end] for end in (0, -1))
    pairs = [(less["opening_r"], more["opening_r"]) for less, more in zip(by_steps[few], by_steps[many], strict=True)]
    return [_row("few_steps", f"mouth opening r, {few} steps against {many}",
                 bootstrap_mean([less - more for less, more in pairs]), goal=">= -0.01", unit="more")]


def _recording_rows(videos: list[dict]) -> list[Row]:
    return [_row(f"recordings_{portrait}", f"real speech on {portrait}: opening r with what the audio encoder hears",
                 bootstrap_mean([video["opening_r"] for video in videos if video["portrait"] == portrait]), goal=">= 0.92")
            for portrait in sorted({video["portrait"] for video in videos})]


def _number(value: float | None) -> float:
    """JSON has no nan: it reads as None."""
    return math.nan if value is None else value


def _all(clips: Sequence[dict], kind: str, name: str) -> list[float]:
    return [_number(clip[kind][name]) for clip in clips]


def _ratio(clips: list[dict], name: str, by: str, *, above: str = "generated", below: str) -> Estimate:
    """Ratio of two means over clips."""
    return bootstrap(clips, lambda some: _divide(mean(_all(some, above, name)), mean(_all(some, below, by))))


def _divide(one: float, by: float) -> float:
    return one / by if by else math.nan


def table(made: Sequence[Row]) -> str:
    """Rows as Markdown, readable as plain text."""
    lines = [("", "value", "95 % interval", "ceiling", "control", "goal", "", "n")]
    for row in made:
        interval = "" if math.isnan(row.low) else f"{_digits(row.low)} to {_digits(row.high)}"
        met = {None: "", True: "met", False: "missed"}[row.met]
        value = f"{_digits(row.value)} {row.unit}".strip()
        lines.append((row.what, value, interval, _digits(row.ceiling), _digits(row.control), row.goal, met, str(row.count)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([text[0], "| " + " | ".join("-" * width for width in widths) + " |", *text[1:]]) + "\n"


def _digits(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def plain(value):
    """The same without nan and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(made: Sequence[Row]) -> list[dict]:
    return [plain(asdict(row) | {"met": row.met}) for row in made]
