"""What became of the videos: JSON for programs, Markdown and HTML with small pictures for people."""

from __future__ import annotations

import collections
import html
import json
from pathlib import Path

from . import shards
from .settings import REASONS


def write_report(folder: Path) -> dict:
    """Write report.json, report.md and report.html of all finished videos; returns what report.json holds."""
    rows = list(shards.rows_of(folder))
    rejected: collections.Counter[str] = collections.Counter()
    refused: collections.Counter[str] = collections.Counter()
    for row in rows:
        rejected.update(row["rejected"])
        if row["status"] == "refused":
            refused[row["reason"]] += 1
    result = {
        "videos": len(rows),
        "prepared": sum(row["status"] == "prepared" for row in rows),
        "clips": sum(row["clips"] for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 2),
        "kept_seconds": round(sum(row["kept_seconds"] for row in rows), 2),
        "rejected_seconds": {reason: round(rejected[reason], 2) for reason in REASONS if rejected[reason]},
        "refused_videos": {reason: refused[reason] for reason in REASONS if refused[reason]},
        "rows": rows,
    }
    shards.write_atomically(folder / "report.json", json.dumps(result, indent=1, ensure_ascii=False, sort_keys=True))
    shards.write_atomically(folder / "report.md", _markdown(result))
    shards.write_atomically(folder / "report.html", _html(result))
    return result


def _summary(result: dict) -> str:
    return (
        f"{result['prepared']} of {result['videos']} videos gave {result['clips']} clips: {result['kept_seconds']:.0f} "
        f"of {result['seconds']:.0f} s."
    )


def _reasons(result: dict) -> list[tuple[str, str, str, str]]:
    names = [name for name in REASONS if name in result["rejected_seconds"] or name in result["refused_videos"]]
    return [
        (
            name,
            f"{result['rejected_seconds'].get(name, 0):.1f}",
            str(result["refused_videos"].get(name, 0)),
            REASONS[name],
        )
        for name in names
    ]


def _about(row: dict) -> str:
    """One cell: why, what was found, by how much the sound was moved."""
    parts = [row["reason"] + (f": {row['message']}" if row["message"] else "")] if row["reason"] else []
    if row["offset_seconds"] is not None and row["status"] == "prepared":
        parts.append(f"sound moved by {-row['offset_seconds']:+.3f} s, r {row['agreement']:.2f}")
    parts += [f"{name} {seconds:.1f} s" for name, seconds in row["rejected"].items()]
    return "; ".join([*parts, *row["notes"]])


def _markdown(result: dict) -> str:
    lines = ["# Prepared footage", "", _summary(result), "", "| left out because | s | whole videos | meaning |"]
    lines += ["| --- | ---: | ---: | --- |", *(f"| {' | '.join(row)} |" for row in _reasons(result)), ""]
    lines += ["| video | clips | kept s | of s | |", "| --- | ---: | ---: | ---: | --- |"]
    for row in result["rows"]:
        name, about = (text.replace("|", "\\|").replace("\n", " ") for text in (row["video"], _about(row)))
        lines.append(f"| {name} | {row['clips']} | {row['kept_seconds']:.1f} | {row['seconds']:.1f} | {about} |")
    return "\n".join(lines) + "\n"


def _html(result: dict) -> str:
    def cells(values, tag: str = "td") -> str:
        return "<tr>" + "".join(f"<{tag}>{value}</{tag}>" for value in values) + "</tr>"

    reasons = "".join(cells(map(html.escape, row)) for row in _reasons(result))
    videos = ""
    for row in result["rows"]:
        pictures = "".join(
            f'<figure><img src="{shards.PICTURES}/{html.escape(name)}" alt=""><figcaption>{html.escape(what)}'
            "</figcaption></figure>"
            for what, name in sorted(row["pictures"].items(), key=lambda item: (item[0] != "clip", item[0]))
        )
        numbers = row["clips"], f"{row['kept_seconds']:.1f}", f"{row['seconds']:.1f}"
        videos += cells([html.escape(row["video"]), *numbers, html.escape(_about(row)), pictures])
    return (
        '<!doctype html><meta charset="utf-8"><title>Prepared footage</title><style>body{font:15px sans-serif;'
        "margin:2em}table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.3em .7em;"
        "text-align:left;vertical-align:top}figure{display:inline-block;margin:0 .4em}figcaption{font-size:12px}"
        f"</style><h1>Prepared footage</h1><p>{html.escape(_summary(result))}</p><table>"
        f"{cells(('left out because', 's', 'whole videos', 'meaning'), 'th')}{reasons}</table><br><table>"
        f"{cells(('video', 'clips', 'kept s', 'of s', '', 'pictures'), 'th')}{videos}</table>\n"
    )
