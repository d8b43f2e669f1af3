# Hybrid Task Cascade without its semantic branch on dark grey tiles with many small objects, from random weights.
_base_ = "../../demo/members/htc_stage1.py"

_normalise = dict(type="Normalize", mean=[12.0, 12.0, 12.0], std=[18.0, 18.0, 18.0], to_rgb=True)

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[3])),
    train_cfg=dict(rpn=dict(sampler=dict(num=128)), rpn_proposal=dict(nms_pre=1000, max_per_img=200)),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=200), rcnn=dict(max_per_img=300)),
)
train_pipeline = [
    dict(type="RandomCrop", crop_size=(192, 192), allow_negative_crop=False),
    dict(type="Resize", img_scale=(192, 192), keep_ratio=True),
    dict(type="RandomFlip", flip_ratio=[0.25, 0.25, 0.25], direction=["horizontal", "vertical", "diagonal"]),
    dict(
        type="Albu",
        transforms=[dict(type="RandomGamma", gamma_limit=(60, 140), p=0.5)],
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

batch = {"global": 4}
runner = dict(max_epochs=6)
