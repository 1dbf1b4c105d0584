"""EMO's networks. Only nn.Modules: no files, no loops, no devices."""
