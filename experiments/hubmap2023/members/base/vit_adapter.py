# ViT-Adapter-L on BEiT v2, in single precision. Every sixth block looks at windows of 56 tokens, the others at 14.
_base_ = ["htc.py", "training.py"]

_box_head = dict(
    type="Shared4Conv1FCBBoxHead",
    reg_decoded_bbox=True,
    norm_cfg=dict(type="SyncBN", requires_grad=True),
    loss_bbox=dict(type="GIoULoss", loss_weight=10.0),
)

model = dict(
    backbone=dict(
        type="BEiTAdapter",
        img_size=224,
        patch_size=16,
        embed_dim=1024,
        depth=24,
        num_heads=16,
        mlp_ratio=4,
        qkv_bias=True,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
        init_values=1e-06,
        drop_path_rate=0.0,
        conv_inplane=64,
        n_points=4,
        deform_num_heads=16,
        cffn_ratio=0.25,
        deform_ratio=0.5,
        with_cp=True,
        window_attn=[True] * 24,
        window_size=[14, 14, 14, 14, 14, 56] * 4,
        interaction_indexes=[[0, 5], [6, 11], [12, 17], [18, 23]],
    ),
    neck=[
        dict(
            type="ExtraAttention",
            in_channels=[1024, 1024, 1024, 1024],
            num_head=32,
            with_ffn=True,
            with_cp=True,
            ffn_ratio=4.0,
            drop_path=0.0,
        ),
        dict(
            type="FPN",
            in_channels=[1024, 1024, 1024, 1024],
            norm_cfg=dict(type="GN", num_groups=32),
            out_channels=256,
            num_outs=5,
        ),
    ],
    roi_head=dict(bbox_head={0: _box_head, 1: _box_head, 2: _box_head}),
    test_cfg=dict(rcnn=dict(nms=dict(type="soft_nms"))),
)
