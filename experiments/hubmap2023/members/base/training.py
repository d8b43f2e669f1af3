# How all members are trained: a cosine over all iterations down to a floor (min_lr), after a linear warm-up.
optimizer = dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(
    policy="CosineAnnealing",
    by_epoch=False,
    warmup="linear",
    warmup_iters=250,
    warmup_ratio=0.001,
    min_lr=1e-08,
)
runner = dict(type="EpochBasedRunner")
batch = {"global": 6}
