"""Pictures, faces, masks and sound to conditions."""
