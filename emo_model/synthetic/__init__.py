"""Talking heads that are drawn and voices that are made, so that mouth, pose, gaze and lids of every frame are known.

`identities` draws people from seeds, `motion` moves them, `renderer` paints them; `speech` speaks, `visemes` shapes the
mouth. `python -m emo_model.synthetic --help` shows them.
"""
