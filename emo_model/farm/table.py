"""A table of jobs, as a spreadsheet writes it: read and checked whole before anything is sent."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..inputs.files import check_readable, sentence_of
from .graph import FILES, Slot, fill
from .host import DIGITS

VIDEOS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif", ".webp")
FIXED = (*FILES, "out", "seed", "model")
SHOWN = 20  # problems in one message


@dataclass(frozen=True)
class Job:
    """One video. row: as a spreadsheet counts, the header is 1. key: hash of everything that determines the video, and
    of its name. out: below the output folder, with '/'. files: name on the servers -> file here; `prompt` has names.
    """

    row: int
    key: str
    out: str
    prompt: dict
    files: dict[str, Path]


def read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """(columns, [(row, values by column)]); empty rows are left out. Raises OSError and ValueError."""
    data = check_readable(path, "the table of jobs").read_bytes()
    if data.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path} is a spreadsheet; save it as CSV (UTF-8), and give that file")
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("cp1252")  # spreadsheets on Windows
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not text in UTF-8; save it as CSV UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{path} is not a CSV file: it contains null characters")
    first = next((line for line in text.splitlines() if line.strip()), "")
    if re.fullmatch(r"sep=.", first.strip()):  # spreadsheets write the separator on a line of its own
        text = text.replace(first, "", 1)
        first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file: {error}; check its quotation marks") from None
    numbered = [(n, [cell.strip() for cell in row]) for n, row in enumerate(rows, 1) if any(map(str.strip, row))]
    if len(numbered) < 2:
        raise ValueError(f"{path} has no jobs; it needs a header (portrait,voice,out) and a row for each video")
    (top, columns), *body = numbered
    columns = [name.lower() if name.lower() in FIXED else name for name in columns]
    while columns and not columns[-1]:
        columns.pop()
    if "" in columns or len(set(columns)) < len(columns):
        raise ValueError(f"{path}, row {top}: a column has no name, or two have the same: {', '.join(columns)}")
    problems = []
    for row, cells in body:
        if any(cells[len(columns) :]):
            problems.append(
                f"row {row}: {len(cells)} cells, but {len(columns)} columns; put quotation marks around commas"
            )
    _raise(path, problems)
    return columns, [(row, dict(zip(columns, cells + [""] * len(columns), strict=False))) for row, cells in body]


def make_jobs(
    path: Path, columns: list[str], rows: list[tuple[int, dict]], workflow: dict, slots: list[Slot]
) -> list[Job]:
    """Files are sought from the table's folder. Raises ValueError with the rows of everything that is wrong."""
    jobs, problems = [], []
    names: dict[Path, str] = {}
    outs: dict[str, int] = {}
    for row, values in rows:
        try:
            files, filled = {}, dict(values)
            for column in FILES:
                if column in columns:
                    file = _find(path.parent, values[column], column)
                    if file not in names:
                        names[file] = _content_name(file)
                    files[names[file]] = file
                    filled[column] = names[file]
            if re.fullmatch(r"-?\d+", values.get("seed", "0") or "0") is None or int(values.get("seed") or 0) < 0:
                raise ValueError(f"seed '{values['seed']}' is not a whole number from 0 on")
            prompt = fill(workflow, slots, filled)
            out = _out(values)
            same = unicodedata.normalize("NFC", out).casefold()
            if same in outs:
                raise ValueError(
                    f"would write {out}, as row {outs[same]} does; give each row its own name in the column 'out'"
                )
            outs[same] = row
            determined = json.dumps([prompt, out], sort_keys=True).encode()
            jobs.append(Job(row, hashlib.sha256(determined).hexdigest()[:16], out, prompt, files))
        except (OSError, ValueError) as error:
            problems.append(f"row {row}: {sentence_of(error)}")
    _raise(path, problems)
    return jobs


def _raise(path: Path, problems: list[str]) -> None:
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise ValueError("\n".join([f"{path}: nothing was sent. Correct:", *problems[:SHOWN], *more]))


def _find(folder: Path, text: str, column: str) -> Path:
    if not text:
        raise ValueError(f"column '{column}' is empty")
    text = text.strip("\"'") if not (folder / text).exists() else text
    if os.name != "nt" and "\\" in text and not (folder / text).exists():
        if re.match(r"[A-Za-z]:\\|\\\\", text):
            raise ValueError(f"{column} {text} is a path of another computer (Windows); name a file that is here")
        text = text.replace("\\", "/")
    return check_readable((folder / Path(text).expanduser()).resolve(), f"the {column}")


def _content_name(file: Path) -> str:
    """A name that is the same on every server for the same content, and never another file's."""
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        while block := opened.read(1 << 20):
            digest.update(block)
        if not opened.tell():
            raise ValueError(f"{file} is empty")
    return f"emo-{digest.hexdigest()[:DIGITS]}{re.sub(r'[^a-z0-9.]', '', file.suffix.lower())[:8]}"


def _out(values: dict[str, str]) -> str:
    name = values.get("out", "")
    if not name:
        stems = [re.split(r"[\\/]", values[one])[-1].rsplit(".", 1)[0] for one in FILES if values.get(one)]
        name = "_".join([*stems, *([f"seed{values['seed']}"] if values.get("seed") else [])])
        name = re.sub(r'[<>:"|?*]', "_", name) or "video"
    name = name.replace("\\", "/")
    if any(ord(letter) < 32 for letter in name) or re.search(r'[<>:"|?*]', name):
        raise ValueError(f"out '{name}' contains a character that file names cannot have on every system")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"out '{name}' leads out of the output folder; give a name below it")
    if path.suffix.lower() not in VIDEOS:
        path = path.with_name(path.name + ".mp4")
    if any(len(os.fsencode(part)) > 200 for part in path.parts):
        raise ValueError(f"out '{name:.40}...' is longer than 200 bytes")
    if any(part.endswith((" ", ".")) for part in path.parts):
        raise ValueError(f"out '{name}': a folder or file name ends in a space or a dot")
    return str(path)
