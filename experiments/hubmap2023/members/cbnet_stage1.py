# CBNetV2, first stage: two slides of the second data set.
from hubmap_ml.spec.augmentation_sets import square_test_pipeline, square_train_pipeline

_base_ = "base/cbnet.py"

train_pipeline = square_train_pipeline(1600, "light")
test_pipeline = square_test_pipeline(1600)
optimizer = dict(lr=0.025)
lr_config = dict(min_lr=0.015)
runner = dict(max_epochs=10)
