# Hybrid Task Cascade without its semantic branch, first stage: many tiles with careless outlines.
_base_ = "base.py"

_sampler = dict(type="RandomSampler", num=48, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True)


def _box_head(stds):
    return dict(
        type="Shared2FCBBoxHead",
        in_channels=64,
        fc_out_channels=256,
        roi_feat_size=7,
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=stds),
        reg_class_agnostic=True,
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
    )


def _mask_head(with_conv_res):
    return dict(
        type="HTCMaskHead",
        with_conv_res=with_conv_res,
        num_convs=1,
        in_channels=64,
        conv_out_channels=64,
        loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
    )


def _extractor(size):
    return dict(
        type="SingleRoIExtractor",
        roi_layer=dict(type="RoIAlign", output_size=size, sampling_ratio=1),
        out_channels=64,
        featmap_strides=[4, 8, 16, 32],
        finest_scale=28,
    )


def _rcnn(iou):
    return dict(
        assigner=dict(
            type="MaxIoUAssigner",
            pos_iou_thr=iou,
            neg_iou_thr=iou,
            min_pos_iou=iou,
            match_low_quality=False,
            ignore_iof_thr=-1,
        ),
        sampler=_sampler,
        mask_size=28,
        pos_weight=-1,
        debug=False,
    )


model = dict(
    type="HybridTaskCascade",
    roi_head=dict(
        type="HybridTaskCascadeRoIHead",
        interleaved=True,
        mask_info_flow=True,
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_roi_extractor=_extractor(7),
        bbox_head=[
            _box_head([0.1, 0.1, 0.2, 0.2]),
            _box_head([0.05, 0.05, 0.1, 0.1]),
            _box_head([0.033, 0.033, 0.067, 0.067]),
        ],
        mask_roi_extractor=_extractor(14),
        mask_head=[_mask_head(False), _mask_head(True), _mask_head(True)],
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="RandomSampler", num=64, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=400, max_per_img=100, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0
        ),
        rcnn=[_rcnn(0.5), _rcnn(0.6), _rcnn(0.7)],
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=300, max_per_img=60, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(
            score_thr=0.001, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100, mask_thr_binary=0.5
        ),
    ),
)
runner = dict(type="EpochBasedRunner", max_epochs=8)
