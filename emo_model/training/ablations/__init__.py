"""The paper's claims, small: puppets with and without each of EMO's parts, and what leaving it out changes."""
