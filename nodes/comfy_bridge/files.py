"""Model files: ComfyUI's folder for them, and the built-in ones."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import folder_paths
from torch import Tensor

from ...emo_model.checkpoints import native
from ...emo_model.checkpoints.load import SUFFIXES
from ...emo_model.inputs import identity

FOLDER = "emo"
BUILT_IN = "built-in default"
SHIPPED = {BUILT_IN: native.DEFAULT_WEIGHTS, "built-in fast": native.FAST_WEIGHTS}


def register_model_folder() -> None:
    """Add models/emo to the folders of extra_model_paths.yaml."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, set(SUFFIXES))


register_model_folder()


def offer_as_inputs(files: Iterable[Path]) -> None:
    """Copy files to ComfyUI's input folder where nothing has their name, so that the templates' loaders find them."""
    folder = Path(folder_paths.get_input_directory())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            if not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)
    except OSError as error:
        logging.warning("EMO: the templates' portrait and voice could not be put into %s: %s", folder, error.strerror)


def model_names() -> list[str]:
    """Options of the loader: the built-in models, then the files of models/emo."""
    return [*SHIPPED, *folder_paths.get_filename_list(FOLDER)]


def model_path(name: str) -> Path:
    """The file of an option. Raises FileNotFoundError with the searched folders."""
    if name in SHIPPED:
        if not SHIPPED[name].is_file():
            raise FileNotFoundError(
                f"The built-in model is missing: {SHIPPED[name]} does not exist. Reinstall ComfyUI-EMO."
            )
        return SHIPPED[name]
    path = folder_paths.get_full_path(FOLDER, str(name))  # the HTTP API accepts any value
    if path is None:
        folders = ", ".join(folder_paths.get_folder_paths(FOLDER))
        raise FileNotFoundError(
            f"There is no model '{name}' in {folders}. Put the file there and press R to refresh "
            f"the list, or choose '{BUILT_IN}'."
        )
    return Path(path)


def fingerprint(name: str) -> str:
    """Changes with the file. Stored in videos' metadata, so it contains no path."""
    path = model_path(name)
    return without_paths(f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}")


def without_paths(text: str) -> str:
    """A hash of a text that contains paths."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_face(pixels: Tensor) -> identity.FoundFace:
    """insightface with the models in ComfyUI's models/insightface, as other packs use them; see `inputs.identity`."""
    return identity.find_face(pixels, folder=Path(folder_paths.models_dir) / "insightface")
