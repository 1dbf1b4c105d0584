"""What newer versions of ComfyUI know of a node and 0.3.64 does not: it leaves these out, and works without them."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from comfy_api.latest import io

KNOWN = {field.name for field in dataclasses.fields(io.Schema)}
Widget = TypeVar("Widget", bound=io.Input)


def schema(**fields) -> io.Schema:
    """io.Schema of the category EMO, without the fields that this ComfyUI does not know."""
    return io.Schema(**{name: value for name, value in {"category": "EMO", **fields}.items() if name in KNOWN})


def as_link(socket: Widget) -> Widget:
    """Hand the node the link itself, [node id, output], in place of what it carries; for nodes that expand."""
    socket.extra_dict = {**socket.extra_dict, "rawLink": True}  # no argument of it in 0.3.64
    return socket


def advanced(widget: Widget) -> Widget:
    """Fold a widget away until the user asks for the node's advanced ones."""
    widget.extra_dict = {**widget.extra_dict, "advanced": True}  # no argument of it in 0.3.64
    return widget
