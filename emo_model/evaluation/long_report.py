"""From records of long videos (numbers by window) to rows and curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from .metrics import colour, seams
from .report import Row
from .statistics import Estimate, bootstrap, bootstrap_mean, mean, slope


def rows(records: dict) -> list[Row]:
    """Every row that these records can fill."""
    made: list[Row] = []
    if records.get("drift"):
        made += _drift_rows(records["drift"])
    if records.get("pauses"):
        made += _pause_rows(records["pauses"])
    if records.get("seams"):
        made += _seam_rows(records["seams"])
    return made


def curves(run: dict, kind: str = "generated") -> dict[str, list[float]]:
    """A number for each window: colour and face_colour are distances from the first window's, portrait that from the portrait."""
    found = run[kind]
    lab, face = torch.tensor(found["lab"]), torch.tensor(found["face_lab"])
    made = {"colour": colour.distance(lab, lab[:1]).tolist(), "face_colour": colour.distance(face, face[:1]).tolist(),
            "from_portrait": colour.distance(lab, torch.tensor(run["portrait"]["lab"])).tolist(),
            "face_from_portrait": colour.distance(face, torch.tensor(run["portrait"]["face_lab"])).tolist()}
    for name, values in (("", lab), ("face_", face)):
        made |= {f"{name}{axis}": values[:, place].tolist() for place, axis in enumerate(("lightness", "a", "b"))}
    made["spread"] = [standard for _, standard in found["latents"]]
    return made | {name: found[name] for name in ("identity_error", "sharpness", "opening_r", "background", "head_speed")}


_SLOPES = {"lightness": ("lightness L* of the picture", "a minute"), "a": ("green to red a*", "a minute"),
           "b": ("blue to yellow b*", "a minute"), "face_lightness": ("lightness L* of the face", "a minute"),
           "face_a": ("face, a*", "a minute"), "face_b": ("face, b*", "a minute"),
           "from_portrait": ("picture, colour distance from the portrait", "a minute"),
           "face_from_portrait": ("face, colour distance from the portrait", "a minute"),
           "identity_error": ("person, error of likeness", "a minute"), "sharpness": ("sharpness", "of 255 a minute"),
           "background": ("background, change from frame to frame", "of 255 a minute"),
           "opening_r": ("mouth opening r", "a minute"), "head_speed": ("head speed", "degrees a second, a minute")}
_OF_MOVEMENT = ("background", "head_speed")  # have no ceiling: of the truth only every fifth frame was looked at


def _drift_rows(runs: list[dict]) -> list[Row]:
    made, best = ([curves(run, kind) for run in runs] for kind in ("generated", "ceiling"))
    seconds = [run["window_seconds"] for run in runs]

    def by_minute(some: list[dict], name: str) -> list[list[tuple[float, float]]]:
        return [[((place + 0.5) * window / 60, value) for place, value in enumerate(run[name])]
                for run, window in zip(some, seconds, strict=True)]

    rows = []
    for name, (what, unit) in _SLOPES.items():
        truth = math.nan if name in _OF_MOVEMENT else slope(by_minute(best, name), draws=0).value
        rows.append(_row(f"slope_{name}", f"{what}: slope", slope(by_minute(made, name)), unit=unit, ceiling=truth))
    for name, what in (("colour", "picture"), ("face_colour", "face")):
        rows.append(_row(f"last_{name}", f"{what}, colour of the last sixth against the first window",
                         bootstrap_mean([_late(run[name]) for run in made]), unit="L*a*b*",
                         ceiling=mean([_late(run[name]) for run in best])))
    for name, what in (("identity_error", "error of likeness"), ("sharpness", "sharpness"), ("spread", "spread of the latents")):
        ends = [(_early(run[name]), _late(run[name])) for run in made]
        rows.append(_row(f"ratio_{name}", f"{what}, last sixth against the first", bootstrap(ends, _late_to_early), unit="x"))
    return rows


def _early(values: Sequence[float]) -> float:
    return mean(values[:max(1, len(values) // 6)])


def _late(values: Sequence[float]) -> float:
    return mean(values[-max(1, len(values) // 6):])


def _late_to_early(ends: Sequence[tuple[float, float]]) -> float:
    early, late = (mean(values) for values in zip(*ends, strict=True))
    return late / early if early else math.nan


def _pause_rows(scenes: list[dict]) -> list[Row]:
    made = []
    for room, said in (("silent", "silent pauses"), ("noisy", "pauses with the noise of a room")):
        some = [scene for scene in scenes if scene["room"] == room and scene["silent_frames"]]

        def row(name: str, what: str, unit: str, some: list[dict] = some, room: str = room) -> Row:
            return _row(f"{name}_{room}", what, bootstrap_mean([scene["generated"][name] for scene in some]), unit=unit,
                        ceiling=mean([scene["ceiling"][name] for scene in some]))

        made += [row("opening_pause", f"{said}: mouth opening", "of 1"),
                 row("opening_speech", "between them: mouth opening", "of 1"),
                 row("shut_pause", f"{said}: lips shut", "of frames"),
                 row("shut_speech", "between them: lips shut", "of frames"),
                 row("speed_pause", f"{said}: head speed", "degrees a second"),
                 row("speed_speech", "between them: head speed", "degrees a second")]
    return made


def _seam_rows(videos: list[dict]) -> list[Row]:
    def ratio(kind: str, above: tuple[str, str], below: tuple[str, str]) -> Estimate:
        def statistic(some: Sequence[dict]) -> float:
            over, under = (mean([video["changes"][way][kind][place] for video in some]) for way, place in (above, below))
            return over / under if under else math.nan
        return bootstrap(videos, statistic)

    made = []
    for kind in seams.KINDS:
        inside, border = ("whole", "inside"), ("whole", "middle")
        made.append(_row(f"border_{kind}", f"{kind}: jump between clips of one run", ratio(kind, border, inside),
                         unit="x inside"))
        for way, what in (("latents", "a second run continues from latents"), ("pixels", "it continues from pixels"),
                          ("video", "it continues from the pictures of a video file"),
                          ("alone", "it hears its own sound alone"), ("nothing", "it continues no one (for comparison)")):
            made.append(_row(f"{way}_{kind}", f"{kind}: jump where {what}", ratio(kind, (way, "middle"), border),
                             unit="x between clips"))
    return made


def _row(key: str, what: str, estimate: Estimate, **more) -> Row:
    if estimate.count < 2:
        estimate = replace(estimate, low=math.nan, high=math.nan)
    return Row(key, what, estimate.value, estimate.low, estimate.high, estimate.count, **more)
