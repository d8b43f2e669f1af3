# DetectoRS on ResNeXt-101 32x4d.
_base_ = "detectors.py"

_backbone = dict(type="DetectoRS_ResNeXt", depth=101, groups=32, base_width=4)

model = dict(backbone=_backbone, neck=dict(rfp_backbone=_backbone))
lr_config = dict(warmup_iters=200)
