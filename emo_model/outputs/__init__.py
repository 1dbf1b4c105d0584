"""Latents to frames, frames to files."""
