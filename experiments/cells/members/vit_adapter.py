# The cascade on a small ViT-Adapter: BEiT blocks beside a convolutional pyramid.
_base_ = "htc.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="BEiTAdapter",
        img_size=192,
        embed_dim=96,
        depth=4,
        num_heads=4,
        qkv_bias=True,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
        init_values=1.0,
        conv_inplane=32,
        n_points=4,
        deform_num_heads=4,
        deform_ratio=0.5,
        window_attn=[True] * 4,
        window_size=[12, 12, 12, 12],
        interaction_indexes=[[0, 0], [1, 1], [2, 2], [3, 3]],
    ),
    neck=[
        dict(type="ExtraAttention", in_channels=[96, 96, 96, 96], num_head=4),
        dict(type="FPN", in_channels=[96, 96, 96, 96], out_channels=64, num_outs=4),
    ],
)

# Slower than the others from random weights.
optimizer = dict(lr=6e-4)
runner = dict(max_epochs=5)
