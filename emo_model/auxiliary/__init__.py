"""Networks around EMO: face detector and face mesh read the portrait, the motion decoder turns latents into frames."""
