"""The workflows in API form, as ComfyUI's page would queue them: `python workflows/to_api.py` writes
workflows/api/*.json."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
NOTES = {"Note", "MarkdownNote"}  # only the page knows them
MUTED, BYPASSED = 2, 4
BUTTONS = {"upload", "audioUI"}  # of core's loaders: the page keeps them among the widgets, and does not queue them
AFTER_GENERATE = {"fixed", "increment", "decrement", "randomize"}  # a value of the page beside each seed


def to_api(workflow: dict) -> dict:
    """A workflow as the page saves it -> {node id: {class_type, inputs}}; muted and bypassed nodes are left out."""
    nodes = {
        node["id"]: node
        for node in workflow["nodes"]
        if node["type"] not in NOTES and node.get("mode", 0) not in (MUTED, BYPASSED)
    }
    origins = {link[0]: [str(link[1]), link[2]] for link in workflow["links"] if link[1] in nodes}
    prompt = {}
    for number, node in sorted(nodes.items()):
        inputs = {}
        values = iter(node.get("widgets_values", []))
        for socket in node["inputs"]:
            if "widget" in socket:
                value = next(values)
                if socket["name"] not in BUTTONS:
                    inputs[socket["name"]] = value
                if socket["name"] in ("seed", "noise_seed"):
                    assert next(values) in AFTER_GENERATE, f"node {number}: a seed without its control"
            if socket["link"] in origins:
                inputs[socket["name"]] = origins[socket["link"]]
        prompt[str(number)] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def main() -> None:
    for file in sorted(HERE.glob("*.json")):
        prompt = to_api(json.loads(file.read_text(encoding="utf-8")))
        (HERE / "api" / file.name).write_text(json.dumps(prompt, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
