"""Face embeddings for models with identity tokens (Hallo), by insightface if it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .faces import NoFaceError

PACK = "antelopev2"  # contains glintr100, the recogniser that Hallo was trained with
MOUTH_WIDTHS = (2.0, 0.9)  # width and height of Hallo's lip box (twice the mouth), in distances of the mouth's corners


@dataclass(frozen=True, eq=False)
class FoundFace:
    """The largest face. embedding: (1, 512), not normalised; boxes: left, top, right, bottom in pixels."""

    embedding: Tensor
    box: tuple[float, float, float, float]
    lip_box: tuple[float, float, float, float]


def find_face(pixels: Tensor, *, folder: Path) -> FoundFace:
    """pixels (1, 3, H, W) in [-1, 1] -> the largest face of the picture.

    folder: insightface's root, which contains models/antelopev2; nothing is downloaded. Raises NoFaceError if the
    package or the models are missing, or no face is detected.
    """
    try:
        import numpy as np
        from insightface.app import FaceAnalysis
    except ImportError:
        raise NoFaceError("insightface is not installed ('pip install insightface onnxruntime').") from None
    models = folder / "models" / PACK
    if not any(models.glob("*.onnx")):
        raise NoFaceError(
            f"There are no insightface models in {models}. Put the files of '{PACK}' there "
            "(glintr100.onnx, scrfd_10g_bnkps.onnx)."
        )
    analysis = FaceAnalysis(
        name=PACK, root=str(folder), allowed_modules=["detection", "recognition"], providers=["CPUExecutionProvider"]
    )
    analysis.prepare(ctx_id=-1, det_size=(640, 640))
    picture = ((pixels[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    faces = analysis.get(np.ascontiguousarray(picture[:, :, ::-1]))  # insightface expects BGR
    if not faces:
        raise NoFaceError(f"insightface detects no face in the picture ({picture.shape[1]}x{picture.shape[0]}).")
    face = max(faces, key=lambda face: (face["bbox"][2] - face["bbox"][0]) * (face["bbox"][3] - face["bbox"][1]))
    embedding = torch.as_tensor(np.asarray(face["embedding"], dtype=np.float32))[None]
    return FoundFace(embedding, tuple(float(edge) for edge in face["bbox"]), _lip_box(*face["kps"][3:5]))


def _lip_box(left, right) -> tuple[float, float, float, float]:
    """The lip box around the corners of a mouth, each (x, y)."""
    x, y = (float(left[0]) + float(right[0])) / 2, (float(left[1]) + float(right[1])) / 2
    width = max(((float(left[0]) - float(right[0])) ** 2 + (float(left[1]) - float(right[1])) ** 2) ** 0.5, 1.0)
    half_width, half_height = (times * width / 2 for times in MOUTH_WIDTHS)
    return x - half_width, y - half_height, x + half_width, y + half_height
