"""From recorded videos to training clips: shots, one face, speech that fits the lips; crops, latents, features."""
