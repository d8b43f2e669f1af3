# What the demo's members share: a ResNet-18 from random weights and a pyramid of 64 channels, so that a training takes
# about a minute on one core.
_strides = [4, 8, 16, 32]
_normalise = dict(type="Normalize", mean=[190.0, 140.0, 180.0], std=[45.0, 50.0, 40.0], to_rgb=True)

model = dict(
    backbone=dict(
        type="ResNet",
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
    ),
    neck=dict(type="FPN", in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4),
    rpn_head=dict(
        type="RPNHead",
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(type="AnchorGenerator", scales=[4], ratios=[0.5, 1.0, 2.0], strides=_strides),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[1.0, 1.0, 1.0, 1.0]
        ),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    ),
)

train_pipeline = [
    dict(type="Resize", img_scale=(128, 128), keep_ratio=True),
    dict(type="RandomFlip", flip_ratio=[0.25, 0.25, 0.25], direction=["horizontal", "vertical", "diagonal"]),
    dict(
        type="Albu",
        transforms=[
            dict(type="RandomBrightnessContrast", brightness_limit=0.15, contrast_limit=0.15, p=0.5),
            dict(type="HueSaturationValue", hue_shift_limit=8, sat_shift_limit=15, val_shift_limit=0, p=0.5),
        ],
        # Without these mmdet's Albu loses the masks' type, even where nothing moves.
        bbox_params=dict(
            type="BboxParams", format="pascal_voc", label_fields=["gt_labels"], filter_lost_elements=True
        ),
    ),
    _normalise,
    dict(type="Pad", size_divisor=32),
]
test_pipeline = [
    dict(type="Resize", img_scale=(128, 128), keep_ratio=True),
    _normalise,
    dict(type="Pad", size_divisor=32),
]

optimizer = dict(type="AdamW", lr=1e-3, weight_decay=0.01, fused=True)
optimizer_config = dict(grad_clip=dict(max_norm=10.0))
lr_config = dict(
    policy="CosineAnnealing",
    by_epoch=False,
    min_lr_ratio=0.02,
    warmup="linear",
    warmup_iters=15,
    warmup_ratio=0.05,
)
batch = {"global": 4}
