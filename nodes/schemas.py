"""What newer versions of ComfyUI know of a node and 0.3.64 does not: it leaves these out, and works without them.

Checks before a run: ComfyUI repeats the answer of `validate_inputs` for each input that it names, and does not check
the range or the list of these itself. So one input is named at most; `execute` checks all of them, for links carry any
value and 0.3.64 leaves lists unchecked.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TypeVar

from comfy_api.latest import io

KNOWN = {field.name for field in dataclasses.fields(io.Schema)}
ALIASES = json.loads((Path(__file__).parents[1] / "locales" / "aliases.json").read_text(encoding="utf-8"))
"""By node id: other words that the search box finds a node by, in English and Chinese."""
Widget = TypeVar("Widget", bound=io.Input)


def schema(node_id: str, **fields) -> io.Schema:
    """io.Schema of the category EMO, without the fields that this ComfyUI does not know."""
    fields = {"node_id": node_id, "category": "EMO", "search_aliases": ALIASES[node_id], **fields}
    return io.Schema(**{name: value for name, value in fields.items() if name in KNOWN})


def as_link(socket: Widget) -> Widget:
    """Hand the node the link itself, [node id, output], in place of what it carries; for nodes that expand."""
    socket.extra_dict = {**socket.extra_dict, "rawLink": True}  # no argument of it in 0.3.64
    return socket


def advanced(widget: Widget) -> Widget:
    """Fold a widget away until the user asks for the node's advanced ones."""
    widget.extra_dict = {**widget.extra_dict, "advanced": True}  # no argument of it in 0.3.64
    return widget
