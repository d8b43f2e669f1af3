# ViT-Adapter-L trained with SGD, first stage: the second data set with pseudo-labels of at least .5.
from hubmap_ml.spec.augmentation_sets import square_test_pipeline, square_train_pipeline

_base_ = "base/vit_adapter.py"

model = dict(backbone=dict(drop_path_rate=0.3), neck={0: dict(drop_path=0.3)})
train_pipeline = square_train_pipeline(1200, "light_equalize")
test_pipeline = square_test_pipeline(1200)
optimizer = dict(lr=0.03)
lr_config = dict(min_lr=0.02)
runner = dict(max_epochs=8)
