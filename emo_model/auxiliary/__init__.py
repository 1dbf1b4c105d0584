"""Networks around EMO: the audio encoder, face detector and mesh encode the inputs, the motion decoder makes frames."""
