# ViT-Adapter-L trained with AdamW, second stage: as the first, larger, more augmented, without stochastic depth.
from hubmap_ml.spec.augmentation_sets import square_test_pipeline, square_train_pipeline

_base_ = "vit_ps60_stage1.py"

model = dict(backbone=dict(drop_path_rate=0.0), neck={0: dict(drop_path=0.0)})
train_pipeline = square_train_pipeline(1400, "heavy")
test_pipeline = square_test_pipeline(1400)
optimizer = dict(lr=0.0001)
lr_config = dict(warmup_iters=100, min_lr=1e-06)
runner = dict(max_epochs=18)
