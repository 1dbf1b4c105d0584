"""Cellar: files of weights. Every foreign name ends here."""
