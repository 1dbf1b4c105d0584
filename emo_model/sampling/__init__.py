"""Noise schedule, samplers, guidance, and the clip loop."""
