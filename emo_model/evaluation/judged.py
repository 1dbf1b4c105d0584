"""Judgements as files: results.json, report.md, a contact sheet, and a figure where matplotlib is installed."""

from __future__ import annotations

import collections
import json
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..statistics import bootstrap_mean, correlation
from .builtin import plain
from .judges import LEAST_CLIPS, LEAST_FRAMES
from .judging import METRICS, SET_METRICS, Judgement
from .report import Row, beside

COLUMNS, GAP = 8, 4  # of the contact sheet: frames of a video, and pixels between them
LEAST = {"fid": LEAST_FRAMES, "efid": LEAST_FRAMES, "fvd": LEAST_CLIPS}
Set = tuple[Sequence[Judgement], dict[str, float], dict[str, str]]  # as `judging.Bench.judge_set` gives it


def rows(found: Set) -> list[Row]:
    """A row for every metric: the mean over the videos that have it, or the most common reason why none has."""
    judgements, whole, why = found
    made = []
    for key, metric in METRICS.items():
        values = [one.values[key] for one in judgements if key in one.values]
        reasons = collections.Counter(one.skipped[key] for one in judgements if key in one.skipped)
        note = "" if values or not reasons else f"skipped: {reasons.most_common(1)[0][0]}"
        estimate = bootstrap_mean(values)
        low, high = (estimate.low, estimate.high) if len(values) > 1 else (math.nan, math.nan)
        made.append(
            Row(
                key, metric.what, estimate.value, low, high, len(values), aim=metric.better, unit=metric.unit, note=note
            )
        )
    for key, metric in SET_METRICS.items():
        if key not in whole:
            made.append(Row(key, metric.what, math.nan, aim=metric.better, note=f"skipped: {why.get(key, '')}"))
            continue
        count, unit = int(whole[f"{key}_count"]), "clips" if key == "fvd" else "frames"
        few = f"only {count} {unit}: below {LEAST[key]} the number is mostly that of the small sample"
        made.append(Row(key, metric.what, whole[key], count=count, aim=metric.better, note=few * (count < LEAST[key])))
    return made


def write(folder: Path, sets: dict[str, Set], about: dict) -> str:
    """FOLDER/results.json, report.md, contact.jpg and, with matplotlib, tracks.png; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: rows(found) for name, found in sets.items()}
    text = markdown(made, sets, about)
    content = {
        "about": about,
        "sets": {
            name: {
                "rows": [
                    {
                        "key": row.key,
                        "value": row.value,
                        "low": row.low,
                        "high": row.high,
                        "n": row.count,
                        "note": row.note,
                    }
                    for row in made[name]
                ],
                "videos": [
                    {"about": one.about, "values": one.values, "skipped": one.skipped, "tracks": one.tracks}
                    for one in found[0]
                ],
            }
            for name, found in sets.items()
        },
    }
    (folder / "results.json").write_text(json.dumps(plain(content), indent=1) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(text, encoding="utf-8")
    sheet = contact_sheet({name: found[0] for name, found in sets.items()})
    if sheet is not None:
        sheet.save(folder / "contact.jpg", quality=88)
    if find_spec("matplotlib") is not None:
        draw_tracks(folder / "tracks.png", [(name, one) for name, found in sets.items() for one in found[0]])
    return text


def markdown(made: dict[str, Sequence[Row]], sets: dict[str, Set], about: dict) -> str:
    lines = ["# Judged videos", "", f"`{about['command']}`", "", beside(made), "", "## Videos", ""]
    lines += [
        "| set | video | frames | fps | r | delay, ms | note |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, (judgements, *_) in sets.items():
        for one in judgements:
            values, file = one.values, one.about
            r, delay = (
                f"{values[key]:.{digits}f}" if key in values else "" for key, digits in (("sync", 2), ("delay", 0))
            )
            notes = [] if "frames" in file else [next(iter(one.skipped.values()))]
            notes += [f"{file[key]} {what}" for key, what in _COUNTS if file.get(key)]
            cells = (name, file["file"], file.get("frames", ""), file.get("fps", ""), r, delay, "; ".join(notes))
            lines.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
    rates = {one.about["fps"] for judgements, *_ in sets.values() for one in judgements if "fps" in one.about}
    if len(rates) > 1:
        lines += [
            "",
            f"Frame rates differ ({', '.join(f'{rate:g}' for rate in sorted(rates))}): trembling is of frames.",
        ]
    return "\n".join(lines) + "\n"


_COUNTS = (("frames_before_the_face", "frames before a face"), ("frames_without_a_face", "frames without a face"))


def contact_sheet(sets: dict[str, Sequence[Judgement]]) -> Image.Image | None:
    """A row of frames for every video, with its name; None without frames."""
    strips = []
    for name, judgements in sets.items():
        for one in judgements:
            if not one.thumbnails:
                continue
            count = min(COLUMNS, len(one.thumbnails))
            chosen = [one.thumbnails[round(k)] for k in np.linspace(0, len(one.thumbnails) - 1, count)]
            strips.append((f"{name}: {one.about['file']}", chosen))
    if not strips:
        return None
    text = 14
    widths = [sum(picture.shape[1] + GAP for picture in chosen) for _, chosen in strips]
    heights = [max(picture.shape[0] for picture in chosen) + GAP + text for _, chosen in strips]
    sheet = Image.new("RGB", (max(widths) + GAP, sum(heights) + GAP), "white")
    pen, top = ImageDraw.Draw(sheet), GAP
    for (title, chosen), height in zip(strips, heights, strict=True):
        pen.text((GAP, top - 2), title.encode("latin-1", "replace").decode("latin-1"), fill="black")
        left = GAP
        for picture in chosen:
            sheet.paste(Image.fromarray(picture), (left, top + text))
            left += picture.shape[1] + GAP
        top += height
    return sheet


def draw_tracks(path: Path, judgements: Sequence[tuple[str, Judgement]], *, most: int = 24) -> None:
    """Opening and voice over time, and their correlation over the delay, of the first `most` videos."""
    from matplotlib.figure import Figure

    shown = [(name, one) for name, one in judgements if "loudness" in one.tracks][:most]
    if not shown:
        return
    figure = Figure(figsize=(11, 1.9 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 2, squeeze=False, width_ratios=(3, 1))
    for (along, over), (name, one) in zip(axes, shown, strict=True):
        fps = one.about["fps"]
        opening = torch.tensor(one.tracks["opening"])
        wanted = torch.tensor(one.tracks.get("voice", one.tracks["loudness"]))
        for track, label in ((opening, "opening"), (wanted, "voice")):
            track = (track - track.mean()) / track.std().clamp(min=1e-9)
            along.plot(torch.arange(len(track)) / fps, track, label=label, linewidth=1)
        along.set(title=f"{name}: {one.about['file']}", xlabel="s", ylabel="in its own spread")
        reach = min(round(0.6 * fps), len(opening) // 3)
        shifts = range(-reach, reach + 1)
        middle = wanted[reach : len(wanted) - reach]
        over.plot(
            [1000 * shift / fps for shift in shifts],
            [correlation(opening[reach + shift : len(opening) - reach + shift], middle) for shift in shifts],
        )
        over.axvline(0, color="grey", linewidth=0.5)
        over.set(xlabel="mouth later, ms", ylabel="r", ylim=(-1, 1))
    axes[0][0].legend(loc="upper right", fontsize=7)
    figure.savefig(path, dpi=90)
