# The cascade on CBNetV2: two small Swins, of which the first assists the second.
_base_ = "htc.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="CBSwinTransformer",
        embed_dim=32,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 4, 8],
        window_size=8,
        mlp_ratio=4.0,
        drop_path_rate=0.1,
    ),
    neck=dict(_delete_=True, type="CBFPN", in_channels=[32, 64, 128, 256], out_channels=64, num_outs=4),
)

# Transformers without published weights need more epochs.
optimizer = dict(lr=6e-4)
runner = dict(max_epochs=8)
