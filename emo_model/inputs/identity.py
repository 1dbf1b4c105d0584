"""Who the portrait shows, for models with identity tokens (Hallo): a face embedding by insightface, where the user has it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

log = logging.getLogger(__name__)

PACK = "antelopev2"  # has glintr100, the recogniser that Hallo was trained with; embeddings of others mean something else
MOUTH_WIDTHS = (2.0, 0.9)  # of a lip box as large as Hallo's (twice a mouth), in distances between the mouth's corners


@dataclass(frozen=True, eq=False)
class FoundFace:
    """The largest face: embedding (1, 512), as it comes; boxes as left, top, right, bottom in pixels of the picture."""

    embedding: Tensor
    box: tuple[float, float, float, float]
    lip_box: tuple[float, float, float, float]


def find_face(pixels: Tensor, *, folder: Path) -> FoundFace | None:
    """pixels (1, 3, H, W) in [-1, 1] of the picture as the user gave it -> its largest face, or None if there is none.

    folder: insightface's root, which holds models/antelopev2; nothing is downloaded. Without the package or the models None too,
    and the log says what is missing: the model then gets zeros, as Hallo does for a picture without a face.
    """
    try:
        import numpy as np
        from insightface.app import FaceAnalysis
    except ImportError:
        log.info("No face embedding: insightface is not installed ('pip install insightface onnxruntime'). The model gets zeros, "
                 "which keeps the person less well.")
        return None
    models = folder / "models" / PACK
    if not any(models.glob("*.onnx")):
        log.info("No face embedding: there are no insightface models in %s. Put the files of '%s' there (glintr100.onnx, "
                 "scrfd_10g_bnkps.onnx). The model gets zeros, which keeps the person less well.", models, PACK)
        return None
    analysis = FaceAnalysis(name=PACK, root=str(folder), allowed_modules=["detection", "recognition"],
                            providers=["CPUExecutionProvider"])
    analysis.prepare(ctx_id=-1, det_size=(640, 640))
    picture = ((pixels[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    faces = analysis.get(np.ascontiguousarray(picture[:, :, ::-1]))  # it wants blue first
    if not faces:
        log.info("No face embedding: insightface finds no face in the picture (%dx%d). The model gets zeros, which keeps the "
                 "person less well.", picture.shape[1], picture.shape[0])
        return None
    face = max(faces, key=lambda face: (face["bbox"][2] - face["bbox"][0]) * (face["bbox"][3] - face["bbox"][1]))
    embedding = torch.as_tensor(np.asarray(face["embedding"], dtype=np.float32))[None]
    return FoundFace(embedding, tuple(float(edge) for edge in face["bbox"]), _lip_box(*face["kps"][3:5]))


def _lip_box(left, right) -> tuple[float, float, float, float]:
    """Around the corners of a mouth, each (x, y)."""
    x, y = (float(left[0]) + float(right[0])) / 2, (float(left[1]) + float(right[1])) / 2
    width = max(((float(left[0]) - float(right[0])) ** 2 + (float(left[1]) - float(right[1])) ** 2) ** 0.5, 1.0)
    half_width, half_height = (times * width / 2 for times in MOUTH_WIDTHS)
    return x - half_width, y - half_height, x + half_width, y + half_height
