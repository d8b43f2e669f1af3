# DetectoRS on ResNeXt-101, first stage.
from hubmap_ml.spec.augmentation_sets import square_test_pipeline, square_train_pipeline

_base_ = "base/detectors_x101.py"

train_pipeline = square_train_pipeline(2048, "light_turned")
test_pipeline = square_test_pipeline(2048)
optimizer = dict(lr=0.03)
lr_config = dict(min_lr=0.02)
runner = dict(max_epochs=8)
