# The first stage with as many steps as a student takes that learns from eighty more tiles, labelled by a teacher.
_base_ = "maskrcnn_stage1.py"

runner = dict(max_epochs=24)
