"""Entrance: media in, conditions out."""
