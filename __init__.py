"""ComfyUI-EMO: ComfyUI loads this package from custom_nodes and asks it for its nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes import EmoExtension  # inside: pytest imports this file too, where no ComfyUI is

    return EmoExtension()
