"""Puppets and synthetic speech: training data whose mouth, pose, gaze and lids are known in every frame.

`identities`, `renderer`: drawn heads; `puppets`: pictures that move; `motion`: how; `speech`, `visemes`: what is said.
"""
