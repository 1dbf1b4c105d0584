"""What makes a given `Emo` faster, applied from outside: the networks know nothing of it, and compute the same up to
rounding."""
