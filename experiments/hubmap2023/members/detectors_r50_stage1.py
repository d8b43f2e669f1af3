# DetectoRS on ResNet-50, first stage: batches half as large again.
from hubmap_ml.spec.augmentation_sets import square_test_pipeline, square_train_pipeline

_base_ = "base/detectors.py"

train_pipeline = square_train_pipeline(2048, "light_rotated")
test_pipeline = square_test_pipeline(2048)
optimizer = dict(lr=0.03)
lr_config = dict(min_lr=0.025)
runner = dict(max_epochs=8)
batch = {"global": 9}
