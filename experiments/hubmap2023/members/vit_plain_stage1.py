# ViT-Adapter-L whose predictions became pseudo-labels, first stage: as the SGD member's, without any itself.
_base_ = "vit_ps50_stage1.py"
