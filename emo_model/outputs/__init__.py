"""What goes out: frames of the whole picture from motion latents."""
