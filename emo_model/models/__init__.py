"""Workshop: the networks. Only nn.Modules: no files, no loops, no devices."""
