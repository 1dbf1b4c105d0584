"""Files of weights; names of foreign layouts end here."""
