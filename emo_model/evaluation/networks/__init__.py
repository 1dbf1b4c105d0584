"""Networks that others trained to judge pictures, for weights that the user has; none is shipped or downloaded."""
