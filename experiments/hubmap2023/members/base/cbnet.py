# CBNetV2: two Swin-B, of which the first assists the second.
_base_ = ["htc.py", "training.py"]

_box_head = dict(
    type="ConvFCBBoxHead",
    num_shared_convs=4,
    num_shared_fcs=1,
    conv_out_channels=256,
    reg_decoded_bbox=True,
    norm_cfg=dict(type="SyncBN", requires_grad=True),
    loss_bbox=dict(type="GIoULoss", loss_weight=10.0),
)

model = dict(
    backbone=dict(
        type="CBSwinTransformer",
        embed_dim=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=7,
        mlp_ratio=4.0,
        qkv_bias=True,
        qk_scale=None,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=0.3,
        ape=False,
        patch_norm=True,
        out_indices=(0, 1, 2, 3),
        use_checkpoint=False,
    ),
    neck=dict(type="CBFPN", in_channels=[128, 256, 512, 1024], out_channels=256, num_outs=5),
    roi_head=dict(bbox_head={0: _box_head, 1: _box_head, 2: _box_head}),
)
fp16 = dict(loss_scale=dict(init_scale=512))
