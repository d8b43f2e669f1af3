# The demo's Mask R-CNN with half of its channels on 96 px tiles: for tests, seconds to train, and it learns a little.
_base_ = "../../demo/members/maskrcnn_stage1.py"
_normalise = dict(type="Normalize", mean=[190.0, 140.0, 180.0], std=[45.0, 50.0, 40.0], to_rgb=True)
_extractor = dict(out_channels=32)

model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=_extractor,
        bbox_head=dict(in_channels=32, fc_out_channels=64),
        mask_roi_extractor=_extractor,
        mask_head=dict(num_convs=1, in_channels=32, conv_out_channels=32),
    ),
    train_cfg=dict(rpn=dict(sampler=dict(num=32)), rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=20)),
)
train_pipeline = [
    dict(type="Resize", img_scale=(96, 96), keep_ratio=True),
    dict(type="RandomFlip", flip_ratio=0.5, direction=["horizontal", "vertical"]),
    _normalise,
    dict(type="Pad", size_divisor=32),
]
test_pipeline = [
    dict(type="Resize", img_scale=(96, 96), keep_ratio=True),
    _normalise,
    dict(type="Pad", size_divisor=32),
]
optimizer = dict(lr=2e-3)
batch = {"global": 2, "repeat": 10}
runner = dict(max_epochs=2)
