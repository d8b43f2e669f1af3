# DetectoRS on ResNet-50, second stage.
from hubmap_ml.spec.augmentation_sets import square_test_pipeline, square_train_pipeline

_base_ = "base/detectors.py"

train_pipeline = square_train_pipeline(2048, "medium_calm")
test_pipeline = square_test_pipeline(2048)
optimizer = dict(lr=0.0125)
lr_config = dict(warmup_iters=200)
runner = dict(max_epochs=23)
