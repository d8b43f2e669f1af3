# DetectoRS: a backbone that is run twice, the second time with the pyramid fed back (RFP), of switchable atrous
# convolutions.
_base_ = ["htc.py", "training.py"]

_backbone = dict(
    type="DetectoRS_ResNet",
    depth=50,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    frozen_stages=1,
    norm_cfg=dict(type="BN", requires_grad=True),
    norm_eval=True,
    style="pytorch",
    conv_cfg=dict(type="ConvAWS"),
    sac=dict(type="SAC", use_deform=True),
    stage_with_sac=(False, True, True, True),
)
_box_head = dict(type="Shared2FCBBoxHead", loss_bbox=dict(type="SmoothL1Loss", beta=1, loss_weight=1.0))

model = dict(
    backbone=dict(output_img=True, **_backbone),
    neck=dict(
        type="RFP",
        rfp_steps=2,
        aspp_out_channels=64,
        aspp_dilations=(1, 3, 6, 1),
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        num_outs=5,
        rfp_backbone=dict(rfp_inplanes=256, **_backbone),
    ),
    roi_head=dict(bbox_head={0: _box_head, 1: _box_head, 2: _box_head}),
)
fp16 = dict(loss_scale=dict(init_scale=512))
