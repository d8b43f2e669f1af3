# Hybrid Task Cascade without its semantic branch: what all members share.
_means = [0.0, 0.0, 0.0, 0.0]


def _roi_extractor(size):
    return dict(
        type="SingleRoIExtractor",
        roi_layer=dict(type="RoIAlign", output_size=size, sampling_ratio=0),
        out_channels=256,
        featmap_strides=[4, 8, 16, 32],
    )


def _box_head(stds):
    return dict(
        in_channels=256,
        fc_out_channels=1024,
        roi_feat_size=7,
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=_means, target_stds=stds),
        reg_class_agnostic=True,
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    )


def _mask_head(**first):
    return dict(
        type="HTCMaskHead",
        num_convs=4,
        in_channels=256,
        conv_out_channels=256,
        loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
        **first,
    )


def _assigner(positive, negative, least):
    return dict(
        type="MaxIoUAssigner",
        pos_iou_thr=positive,
        neg_iou_thr=negative,
        min_pos_iou=least,
        ignore_iof_thr=-1,
    )


def _sampler(number, positives, with_truth):
    return dict(
        type="RandomSampler",
        num=number,
        pos_fraction=positives,
        neg_pos_ub=-1,
        add_gt_as_proposals=with_truth,
    )


def _proposals(number):
    return dict(nms_pre=number, max_per_img=number, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)


model = dict(
    type="HybridTaskCascade",
    rpn_head=dict(
        type="RPNHead",
        in_channels=256,
        feat_channels=256,
        anchor_generator=dict(
            type="AnchorGenerator", scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]
        ),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=_means, target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="SmoothL1Loss", beta=1 / 9, loss_weight=1.0),
    ),
    roi_head=dict(
        type="HybridTaskCascadeRoIHead",
        interleaved=True,
        mask_info_flow=True,
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_roi_extractor=_roi_extractor(7),
        bbox_head=[
            _box_head([0.1, 0.1, 0.2, 0.2]),
            _box_head([0.05, 0.05, 0.1, 0.1]),
            _box_head([0.033, 0.033, 0.067, 0.067]),
        ],
        mask_roi_extractor=_roi_extractor(14),
        mask_head=[_mask_head(with_conv_res=False), _mask_head(), _mask_head()],
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=_assigner(0.7, 0.3, 0.3),
            sampler=_sampler(256, 0.5, False),
            allowed_border=0,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=_proposals(2000),
        rcnn=[
            dict(
                assigner=_assigner(iou, iou, iou),
                sampler=_sampler(512, 0.25, True),
                mask_size=28,
                pos_weight=-1,
                debug=False,
            )
            for iou in (0.5, 0.6, 0.7)
        ],
    ),
    test_cfg=dict(
        rpn=_proposals(1000),
        rcnn=dict(
            score_thr=0.001, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100, mask_thr_binary=0.5
        ),
    ),
)
