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


def file_names(folder: str) -> list[str]:
    """Files of one of ComfyUI's own folders of models; [] where this ComfyUI has no such folder."""
    return folder_paths.get_filename_list(folder) if folder in folder_paths.folder_names_and_paths else []


def missing_files(model: str | None, parts: dict[str, str]) -> str | None:
    """One sentence for all files that are not there, or None; model: the loader's option, None if it is not known yet;
    parts: file by ComfyUI's folder."""
    missing = [
        f"'{name}' in models/{folder}" for folder, name in parts.items() if not folder_paths.get_full_path(folder, name)
    ]
    try:
        if model is not None:
            model_path(model)
    except FileNotFoundError as error:
        if not missing:
            return str(error)
        missing = [f"'{model}' in models/{FOLDER}", *missing]
    if not missing:
        return None
    listed = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
    return (
        f"Missing: {listed}. Put {'it' if len(missing) == 1 else 'them'} there and press R to refresh the lists, or "
        f"choose '{BUILT_IN}' and \"model's own\"."
    )


def part_path(folder: str, name: str) -> str:
    """The file of a part that `missing_files` does not list."""
    return folder_paths.get_full_path_or_raise(folder, name)


def fingerprint(name: str, parts: dict[str, str] | None = None) -> str:
    """Changes with the file and those of `parts` (file by folder). Stored in videos' metadata, so it contains no
    path."""
    paths = [model_path(name), *(Path(part_path(folder, file)) for folder, file in (parts or {}).items())]
    return without_paths(" ".join(f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}" for path in paths))


def without_paths(text: str) -> str:
    """A hash of a text that contains paths."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_face(pixels: Tensor) -> identity.FoundFace:
    """insightface with the models in ComfyUI's models/insightface, as other packs use them; see `inputs.identity`."""
    return identity.find_face(pixels, folder=Path(folder_paths.models_dir) / "insightface")
