# DetectoRS on ResNeXt-101, second stage: masks count twice.
from hubmap_ml.spec.augmentation_sets import square_test_pipeline, square_train_pipeline

_base_ = "base/detectors_x101.py"

_masks = dict(loss_mask=dict(loss_weight=2.0))

model = dict(roi_head=dict(mask_head={0: _masks, 1: _masks, 2: _masks}))
train_pipeline = square_train_pipeline(2048, "medium_calm")
test_pipeline = square_test_pipeline(2048)
runner = dict(max_epochs=21)
