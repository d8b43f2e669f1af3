# The same Mask R-CNN on a deeper network that learns more slowly.
_base_ = "maskrcnn.py"

model = dict(backbone=dict(depth=34))
optimizer = dict(lr=7e-4)
