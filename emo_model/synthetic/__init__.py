"""Puppets and synthetic speech: training data whose mouth, pose, gaze and lids are known in every frame.

`identities`, `renderer`: drawn heads; `puppets`, `motion`: pictures that move; `speech`, `visemes`: voices, mouths;
`engines`: what speaks.
"""
