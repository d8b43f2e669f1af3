# Hybrid Task Cascade, second stage: fewer tiles, outlined with care, from the first stage's weights.
_base_ = "htc_stage1.py"

optimizer = dict(lr=6e-4)
runner = dict(max_epochs=8)
