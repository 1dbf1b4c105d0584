"""Finished clips on the disk: each is durable before the next begins, and found again by what it was made from.

A cache is a folder with one safetensors file per clip. A file's name is a hash of everything that shaped the clip, the
motion frames before it among them: to resume is to look up, and a change renders anew only what it reaches.
`CachedRenderer` wraps a `sampling.clips.ClipRenderer`; `sampling` knows nothing of disks.
"""
