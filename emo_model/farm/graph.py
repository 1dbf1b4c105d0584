"""A workflow in API form: which of its inputs take the portrait, the voice and the seed, and overrides by name."""

from __future__ import annotations

import copy
import difflib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
SEEDS = ("seed", "noise_seed")
MODELS = {"EmoTalkingPortrait": "model", "EmoLoadModel": "model_name"}
FILES = {
    "portrait": ("LoadImage", "image", {"EmoTalkingPortrait": "portrait", "EmoReferenceEncoder": "image"}),
    "voice": ("LoadAudio", "audio", {"EmoTalkingPortrait": "voice", "EmoAudioEncoder": "audio"}),
}
"""Column -> class of the loader, its input, and the inputs of this pack's nodes that the loader leads to."""


@dataclass(frozen=True)
class Slot:
    """An input that each job sets. template: text in which {column} stands for the job's value."""

    node: str
    input: str
    template: str


def read_workflow(path: Path) -> dict:
    """{node id: {class_type, inputs}} of a file. Raises OSError and ValueError with a message for the user."""
    try:
        read = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a workflow: it is not JSON ({error})") from None
    if isinstance(read, dict) and isinstance(read.get("prompt"), dict):
        read = read["prompt"]
    if isinstance(read, dict) and isinstance(read.get("nodes"), list):
        raise ValueError(
            f"{path} is a workflow as ComfyUI's page saves it. Export it in API form (menu Workflow > Export (API)), "
            "and give that file"
        )
    is_node = [
        isinstance(node, dict) and isinstance(node.get("inputs"), dict) for node in getattr(read, "values", dict)()
    ]
    if not is_node or not all(is_node) or not all(isinstance(node.get("class_type"), str) for node in read.values()):
        raise ValueError(f"{path} is not a workflow in API form: each entry needs 'class_type' and 'inputs'")
    return read


def resolve(workflow: dict, columns: list[str], sets: list[str]) -> tuple[dict, list[Slot]]:
    """The workflow, with a loader added where one is missing, and what each job sets in it.

    columns: header of the table. sets: 'NODE.input=text with {column}'. Raises ValueError for names that are not there
    or not unique.
    """
    workflow = copy.deepcopy(workflow)
    slots = []
    for text in sets:
        target, equals, template = text.partition("=")
        if not equals:
            raise ValueError(f'--set "{text}" has no "="; write --set "12.image={{portrait}}"')
        node, name = find_input(workflow, target.strip())
        slots.append(Slot(node, name, template))
    used = {column for slot in slots for column in PLACEHOLDER.findall(slot.template)}
    if unknown := sorted(used - set(columns)):
        raise ValueError(f"--set uses {{{unknown[0]}}}, but the table has no column of that name: {', '.join(columns)}")
    for column in columns:
        if column in used or column == "out":
            continue
        if column in FILES:
            slots.append(_file_slot(workflow, column))
        elif column == "seed":
            seeds = [
                (number, name)
                for number, node in workflow.items()
                for name, value in node["inputs"].items()
                if name in SEEDS and not isinstance(value, list)
            ]
            if not seeds:
                raise ValueError("column 'seed': no node of the workflow has an input 'seed'; remove the column")
            slots += [Slot(number, name, "{seed}") for number, name in seeds]
        elif column == "model":
            models = [(number, MODELS[kind]) for number, kind in _kinds(workflow) if kind in MODELS]
            if not models:
                raise ValueError(
                    "column 'model': the workflow has neither EMO Talking Portrait nor Load EMO Model; name the input "
                    "itself, such as '4.ckpt_name'"
                )
            slots += [Slot(number, name, "{model}") for number, name in models]
        elif "." in column:
            node, name = find_input(workflow, column)
            slots.append(Slot(node, name, f"{{{column}}}"))
        else:
            known = ["portrait", "voice", "out", "seed", "model"]
            near = difflib.get_close_matches(column, known, 1)
            raise ValueError(
                f"column '{column}' is unknown"
                + (f"; is '{near[0]}' meant?" if near else f"; known are {', '.join(known)} and 'NODE.input'")
            )
    taken = {}
    for slot in slots:
        if taken.setdefault((slot.node, slot.input), slot) is not slot:
            raise ValueError(f"input '{slot.input}' of node {slot.node} is set twice; remove a column or a --set")
    return workflow, slots


def find_input(workflow: dict, target: str) -> tuple[str, str]:
    """(node id, input) of 'NODE.input'; NODE is an id, a title or a class. Raises ValueError."""
    name, _, wanted = target.rpartition(".")
    name, wanted = name.strip(), wanted.strip()
    if not name or not wanted:
        raise ValueError(f"'{target}' names no input; write NODE.input, such as 12.image")
    found = [name] if name in workflow else [one for one, node in workflow.items() if _title(node) == name.lower()]
    found = found or [one for one, kind in _kinds(workflow) if kind.lower() == name.lower()]
    if len(found) > 1:
        raise ValueError(f"'{target}': nodes {', '.join(found)} are all called '{name}'; give a number")
    if not found:
        names = [*workflow, *(kind for _, kind in _kinds(workflow)), *filter(None, map(_title, workflow.values()))]
        near = difflib.get_close_matches(name, names, 1)
        raise ValueError(
            f"'{target}': the workflow has no node '{name}'"
            + (f"; is '{near[0]}' meant?" if near else f". It has {_listed(workflow)}")
        )
    inputs = workflow[found[0]]["inputs"]
    if wanted not in inputs:
        free = [one for one, value in inputs.items() if not isinstance(value, list)]
        raise ValueError(
            f"'{target}': node {found[0]} has no input '{wanted}'; it has {', '.join(free) or 'none to set'}"
        )
    if isinstance(inputs[wanted], list):
        raise ValueError(f"'{target}' is connected to node {inputs[wanted][0]}; set an input of that node")
    return found[0], wanted


def fill(workflow: dict, slots: list[Slot], values: dict[str, str]) -> dict:
    """The workflow of one job. values: by column; an empty one leaves the workflow's own value. Raises ValueError."""
    made = copy.deepcopy(workflow)
    for slot in slots:
        columns = PLACEHOLDER.findall(slot.template)
        if columns and not any(values[column] for column in columns):
            continue
        text = PLACEHOLDER.sub(lambda match: values[match[1]], slot.template)
        try:
            made[slot.node]["inputs"][slot.input] = convert(text, workflow[slot.node]["inputs"][slot.input])
        except ValueError as error:
            source = f"'{columns[0]}'" if columns else f"--set {slot.node}.{slot.input}"
            raise ValueError(f"{source}: {error}") from None
    return made


def convert(text: str, current: object) -> object:
    """The text as a value of the same type as the workflow's own. Raises ValueError."""
    if isinstance(current, bool):
        try:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        except KeyError:
            raise ValueError(f"'{text}' is neither true nor false") from None
    if isinstance(current, int | float):
        try:
            return int(text)
        except ValueError:
            pass
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"'{text}' is not a number") from None
        if not math.isfinite(number):
            raise ValueError(f"'{text}' is not a finite number")
        return int(number) if number.is_integer() and isinstance(current, int) else number
    return text


def _kinds(workflow: dict) -> list[tuple[str, str]]:
    return [(number, node["class_type"]) for number, node in workflow.items()]


def _title(node: dict) -> str:
    return str((node.get("_meta") or {}).get("title", "")).strip().lower()


def _listed(workflow: dict) -> str:
    return ", ".join(f"{number} ({kind})" for number, kind in _kinds(workflow)[:20])


def _file_slot(workflow: dict, column: str) -> Slot:
    """Where the loader's file name goes; adds a loader to the workflow if this pack's node has none before it."""
    kind, name, takers = FILES[column]
    ours = [(number, takers[node]) for number, node in _kinds(workflow) if node in takers]
    if ours:
        found = {loader for number, taken in ours for loader in _upstream(workflow, number, taken, kind)}
    else:
        found = {number for number, node in _kinds(workflow) if node == kind}
    if len(found) > 1:
        titled = [one for one in found if column in _title(workflow[one])]
        found = set(titled) if len(titled) == 1 else found
    if len(found) == 1:
        (number,) = found
        return Slot(number, name, f"{{{column}}}")
    if found:
        raise ValueError(
            f"column '{column}': the workflow has {len(found)} nodes {kind}: {', '.join(sorted(found))}; say which "
            f'with --set "{min(found)}.{name}={{{column}}}"'
        )
    if not ours:
        raise ValueError(
            f"column '{column}': the workflow has no node {kind}; say where the name of the file goes with "
            f'--set "NODE.input={{{column}}}", or remove the column'
        )
    added = f"farm_{column}"
    workflow[added] = {"class_type": kind, "inputs": {name: ""}}
    for number, taken in ours:
        workflow[number]["inputs"][taken] = [added, 0]
    return Slot(added, name, f"{{{column}}}")


def _upstream(workflow: dict, number: str, taken: str, kind: str) -> set[str]:
    """Nodes of a class from which an input is reached."""
    found, seen = set(), set()
    heads = [workflow[number]["inputs"].get(taken)]
    while heads:
        link = heads.pop()
        if not isinstance(link, list) or not link or link[0] in seen or link[0] not in workflow:
            continue
        seen.add(link[0])
        if workflow[link[0]]["class_type"] == kind:
            found.add(link[0])
        else:
            heads += workflow[link[0]]["inputs"].values()
    return found
