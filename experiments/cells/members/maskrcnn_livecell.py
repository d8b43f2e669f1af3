# The Mask R-CNN's first stage: LIVECell's phase contrast, all of it one type.
_base_ = "maskrcnn.py"

runner = dict(max_epochs=25)
