"""Our networks against the original interpreter, on a folder of pictures; skipped without the originals.

    pip install ai-edge-litert EMO_TFLITE=<folder with the .tflite files> EMO_PICTURES=<folder> pytest
    tests/emo_model/inputs/test_faces_against_litert.py

Run as a script with a folder, it writes meshes.safetensors there, which `test_faces.py` compares with.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from emo_model.checkpoints.mediapipe import SOURCES, load_face_finder
from emo_model.inputs.faces import FaceFinder, NoFaceError

ORIGINALS, PICTURES = os.environ.get("EMO_TFLITE"), os.environ.get("EMO_PICTURES")
needs_originals = pytest.mark.skipif(not (ORIGINALS and PICTURES), reason="EMO_TFLITE and EMO_PICTURES are not set")


class Original(nn.Module):
    """A .tflite file, in the place of one of our networks."""

    def __init__(self, name: str):
        super().__init__()
        from ai_edge_litert.interpreter import Interpreter

        self.place = nn.Parameter(torch.zeros(1))  # tells device and number type
        self.interpreter = Interpreter(str(next(Path(ORIGINALS).rglob(SOURCES[name]))), num_threads=1)
        self.interpreter.allocate_tensors()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        smaller, larger = [], []
        for one in pixels:
            self.interpreter.set_tensor(
                self.interpreter.get_input_details()[0]["index"], one.permute(1, 2, 0)[None].numpy()
            )
            self.interpreter.invoke()
            found = [
                self.interpreter.get_tensor(output["index"])[0] for output in self.interpreter.get_output_details()
            ]
            for values, value in zip((smaller, larger), sorted(found, key=np.size), strict=True):
                values.append(torch.from_numpy(value.copy()))
        smaller, larger = torch.stack(smaller), torch.stack(larger)
        if larger.shape[-1] == 16:  # detector
            return smaller[..., 0].clamp(-80, 80).sigmoid(), larger
        return larger.view(-1, 468, 3), smaller.flatten().sigmoid()


def original_finder() -> FaceFinder:
    return FaceFinder(Original("detector"), Original("mesh"))


def pictures(folder: str | Path) -> list[Path]:
    return sorted(path for path in Path(folder).iterdir() if path.suffix in (".jpg", ".jpeg", ".png"))


def read_picture(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1


@needs_originals
@pytest.mark.parametrize("path", pictures(PICTURES) if PICTURES else [], ids=lambda path: path.name)
def test_finds_the_faces_of_the_original_interpreter_to_a_tenth_of_a_pixel(path):
    picture, found = read_picture(path), []
    for finder in (load_face_finder(), original_finder()):
        try:
            found.append(finder.find(picture))
        except NoFaceError:
            found.append([])
    ours, theirs = found
    assert [face.is_sure for face in ours] == [face.is_sure for face in theirs]
    for face, other in zip(ours, theirs, strict=True):
        assert (face.mesh - other.mesh).abs().max() < 0.1
        assert abs(face.score - other.score) < 1e-3 and abs(face.presence - other.presence) < 1e-3


if __name__ == "__main__":
    folder, meshes = Path(sys.argv[1]), {}
    for path in pictures(folder):
        meshes[path.name] = original_finder().find(read_picture(path))[0].mesh
    save_file(
        {"meshes": torch.stack(list(meshes.values()))},
        folder / "meshes.safetensors",
        metadata={"names": json.dumps(list(meshes))},
    )
