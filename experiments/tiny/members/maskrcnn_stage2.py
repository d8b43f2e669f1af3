# From the first stage's weights.
_base_ = "maskrcnn_stage1.py"

optimizer = dict(lr=1e-3)
runner = dict(max_epochs=2)
