# Mask R-CNN, second stage: clean outlines, from the first stage's weights.
_base_ = "maskrcnn_stage1.py"

optimizer = dict(lr=6e-4)
batch = {"repeat": 6}
runner = dict(max_epochs=6)
