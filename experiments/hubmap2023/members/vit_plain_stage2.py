# ViT-Adapter-L whose predictions became pseudo-labels, second stage.
from hubmap_ml.spec.augmentation_sets import square_test_pipeline, square_train_pipeline

_base_ = "base/vit_adapter.py"

model = dict(backbone=dict(drop_path_rate=0.2), neck={0: dict(drop_path=0.2)})
train_pipeline = square_train_pipeline(1400, "medium")
test_pipeline = square_test_pipeline(1400)
optimizer = dict(lr=0.0125, weight_decay=0.001)
lr_config = dict(warmup_iters=100)
runner = dict(max_epochs=23)
