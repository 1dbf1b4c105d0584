"""The English texts of the nodes, as translations start from: `python locales/from_schemas.py http://127.0.0.1:8188`
writes locales/en/nodeDefs.json from the schemas of a running ComfyUI. Standard library only.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

EN = Path(__file__).parent / "en" / "nodeDefs.json"


def texts(schemas: dict) -> dict:
    """/object_info of a server -> what ComfyUI's page reads of a pack's nodeDefs.json."""
    return {name: _node(schema) for name, schema in sorted(schemas.items()) if schema["category"] == "EMO"}


def _node(schema: dict) -> dict:
    inputs = {**schema["input"].get("required", {}), **schema["input"].get("optional", {})}
    outputs = zip(schema["output_name"], schema["output_tooltips"], strict=True)
    return {
        "display_name": schema["display_name"],
        "description": schema["description"],
        "inputs": {
            name: {"name": options.get("display_name", name), "tooltip": options["tooltip"]}
            for name, (_, options, *_) in sorted(inputs.items())
        },
        "outputs": {str(place): {"name": name, "tooltip": tip} for place, (name, tip) in enumerate(outputs)},
    }


def write(made: dict) -> None:
    EN.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with urllib.request.urlopen(f"{sys.argv[1]}/object_info") as answer:
        write(texts(json.loads(answer.read())))
