# ViT-Adapter-L trained with AdamW, first stage: the second data set with pseudo-labels of at least .6; masks count
# twice in both stages.
from hubmap_ml.spec.augmentation_sets import square_test_pipeline, square_train_pipeline

_base_ = "base/vit_adapter.py"

_masks = dict(loss_mask=dict(loss_weight=2.0))

model = dict(
    backbone=dict(drop_path_rate=0.2),
    neck={0: dict(drop_path=0.2)},
    roi_head=dict(mask_head={0: _masks, 1: _masks, 2: _masks}),
)
train_pipeline = square_train_pipeline(1200, "light_colour")
test_pipeline = square_test_pipeline(1200)
optimizer = dict(_delete_=True, type="AdamW", lr=0.000225, weight_decay=0.05)
lr_config = dict(min_lr=0.00015)
runner = dict(max_epochs=10)
