"""EMO's networks, and the audio encoder. Only nn.Modules: no files, no loops, no devices."""
