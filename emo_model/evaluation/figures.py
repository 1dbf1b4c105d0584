"""Drawing only: figures from the JSON of builtin and of long (matplotlib), and the README's strip of frames (Pillow)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .long_report import curves

STRIP_GAP = 6  # pixels between pictures


def draw_figure(results: dict, path: Path) -> None:
    """How the mouth follows: every clip's correlation beside ceiling and control, by style, and the tracks of a middling clip.

    Raises ModuleNotFoundError with what to install where matplotlib is missing, ValueError if the results hold no clips.
    """
    pyplot = _pyplot()
    clips = results.get("records", {}).get("main")
    if not clips:
        raise ValueError("these results hold no clips; make them with `python -m emo_model.evaluation builtin --json FILE`")
    control = results["records"].get("control") or []
    rows = {row["key"]: row for row in results["rows"]}
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 3.8), width_ratios=(1, 1, 1.6), constrained_layout=True)

    groups = [("truth through\nautoencoder", [clip["ceiling"]["opening_r"] for clip in clips]),
              ("generated", [clip["generated"]["opening_r"] for clip in clips])]
    if control:
        groups += [("another\nclip's voice", [clip["opening_r"] for clip in control])]
    for place, (_, values) in enumerate(groups):
        spread = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        left.scatter(place + spread, values, s=12, alpha=0.6)
        left.hlines(np.mean(values), place - 0.28, place + 0.28, colors="black")
    left.set_xticks(range(len(groups)), [name for name, _ in groups])
    left.set_ylabel("mouth opening, correlation with the truth")
    left.set_ylim(min(-0.3, left.get_ylim()[0]), 1.02)
    left.axhline(0, color="grey", linewidth=0.5)

    styles = [row for key, row in rows.items() if key.startswith("style_")]
    for place, row in enumerate(styles):
        low, high = (row[end] if row[end] is not None else row["value"] for end in ("low", "high"))
        middle.errorbar(place, row["value"], [[row["value"] - low], [high - row["value"]]], fmt="o", color="black", capsize=3)
    middle.set_xticks(range(len(styles)), [row["key"].removeprefix("style_") for row in styles], rotation=30)
    middle.set_ylabel("mouth opening, correlation (95 % interval)")
    middle.set_ylim(left.get_ylim())

    chosen = sorted(clips, key=lambda clip: clip["generated"]["opening_r"])[len(clips) // 2]
    seconds = np.arange(chosen["frames"]) / results["model"]["config"]["fps"]
    right.plot(seconds, chosen["tracks"]["known"]["opening"], color="black", label="truth")
    right.plot(seconds, chosen["tracks"]["generated"]["opening"], label=f"generated, r = {chosen['generated']['opening_r']:.2f}")
    right.set_xlabel("seconds")
    right.set_ylabel("mouth opening, 0 shut to 1")
    right.legend(frameon=False)
    figure.suptitle(f"{len(clips)} clips of {chosen['frames']} frames, people and voices never trained on; higher is better; "
                    "right: the clip in the middle of all", fontsize=9)
    _save(figure, path)


def draw_drift(results: dict, path: Path) -> None:
    """Colour, person, lips and sharpness by window of minutes of speech, a line a run; in grey the truth after the autoencoder.

    Raises ModuleNotFoundError with what to install where matplotlib is missing, ValueError if the results hold no runs.
    """
    pyplot = _pyplot()
    runs = results.get("records", {}).get("drift")
    if not runs:
        raise ValueError("these results hold no minutes of speech; make them with "
                         "`python -m emo_model.evaluation long --json FILE`")
    rows = {row["key"]: row for row in results["rows"]}
    panels = (("from_portrait", "picture, mean colour:\ndistance from the portrait, L*a*b*"),
              ("face_from_portrait", "face, mean colour:\ndistance from the portrait, L*a*b*"),
              ("identity_error", "person: error of likeness,\nstandard deviations between people"),
              ("opening_r", "mouth opening,\ncorrelation with the truth"), ("sharpness", "sharpness,\nof 255"))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(3.1 * len(panels), 3.2), constrained_layout=True)
    for (name, label), axis in zip(panels, axes, strict=True):
        for run in runs:
            for kind, style in (("ceiling", {"color": "0.65", "linewidth": 1}), ("generated", {"linewidth": 1.4})):
                values = curves(run, kind)[name]
                axis.plot((np.arange(len(values)) + 0.5) * run["window_seconds"] / 60, values, **style)
        low, high = axis.get_ylim()
        axis.set_ylim(min(0, low), 1.15 * high)
        axis.set_ylabel(label, fontsize=8)
        axis.set_xlabel("minutes")
        slope = rows[f"slope_{name}"]
        if slope["low"] is not None:
            axis.set_title(f"{slope['value']:+.3f} a minute ({slope['low']:+.3f} to {slope['high']:+.3f})", fontsize=8)
    minutes = runs[0]["frames"] / results["model"]["config"]["fps"] / 60
    figure.suptitle(f"{len(runs)} {'video' if len(runs) == 1 else 'videos'} of {minutes:g} minutes, by "
                    f"{runs[0]['window_seconds']:g} s; grey: the drawn truth after the autoencoder; above: slope with its "
                    "95 % interval", fontsize=9)
    _save(figure, path)


def _pyplot():
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise ModuleNotFoundError("drawing figures needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot
    return pyplot


def _save(figure, path: Path) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    figure.clear()


def draw_strip(portrait: np.ndarray, frames: np.ndarray, path: Path, *, count: int, height: int) -> None:
    """The portrait (H, W, 3) uint8, a gap, and `count` of the frames (F, H, W, 3), evenly apart, in a row of that height."""
    if len(frames) < count:
        raise ValueError(f"{count} pictures asked of a video of {len(frames)} frames; ask for fewer, or for more seconds")
    chosen = [frames[round((index + 0.5) * len(frames) / count - 0.5)] for index in range(count)]
    pictures = [Image.fromarray(picture).resize((height, height), Image.Resampling.LANCZOS) for picture in [portrait, *chosen]]
    whole = Image.new("RGB", (len(pictures) * (height + STRIP_GAP) + STRIP_GAP, height), "white")
    for place, picture in enumerate(pictures):
        whole.paste(picture, (place * (height + STRIP_GAP) + (2 * STRIP_GAP if place else 0), 0))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    whole.save(path, **({"quality": 90} if Path(path).suffix.lower() in (".jpg", ".jpeg") else {}))
