# Mask R-CNN, first stage: tiles with disturbed outlines. The demo's network for objects that are smaller and
# many: smaller anchors, more proposals, crops of the tiles. The tiles are few: an epoch sees each several times.
_base_ = "../../demo/members/maskrcnn_stage1.py"

_normalise = dict(type="Normalize", mean=[172.0, 150.0, 199.0], std=[45.0, 58.0, 25.0], to_rgb=True)

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[3])),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=1000, max_per_img=300),
        rcnn=dict(sampler=dict(num=96)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=300), rcnn=dict(max_per_img=300)),
)
train_pipeline = [
    dict(type="RandomCrop", crop_size=(192, 192), allow_negative_crop=False),
    dict(type="Resize", img_scale=(192, 192), keep_ratio=True),
    dict(type="RandomFlip", flip_ratio=[0.25, 0.25, 0.25], direction=["horizontal", "vertical", "diagonal"]),
    dict(
        type="Albu",
        transforms=[
            dict(type="RandomRotate90", p=0.5),
            dict(type="RandomBrightnessContrast", brightness_limit=0.2, contrast_limit=0.2, p=0.5),
            dict(type="HueSaturationValue", hue_shift_limit=12, sat_shift_limit=25, val_shift_limit=0, p=0.5),
        ],
        bbox_params=dict(
            type="BboxParams", format="pascal_voc", label_fields=["gt_labels"], filter_lost_elements=True
        ),
    ),
    _normalise,
    dict(type="Pad", size_divisor=32),
]
test_pipeline = [
    dict(type="Resize", img_scale=(256, 256), keep_ratio=True),
    _normalise,
    dict(type="Pad", size_divisor=32),
]

batch = {"global": 4, "repeat": 4}
runner = dict(max_epochs=7)
