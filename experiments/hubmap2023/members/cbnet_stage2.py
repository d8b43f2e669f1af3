# CBNetV2, second stage.
from hubmap_ml.spec.augmentation_sets import square_test_pipeline, square_train_pipeline

_base_ = "base/cbnet.py"

train_pipeline = square_train_pipeline(1600, "medium_holes")
test_pipeline = square_test_pipeline(1600)
runner = dict(max_epochs=22)
