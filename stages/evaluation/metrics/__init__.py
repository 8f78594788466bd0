"""What the protocols measure by: each file one measure, a pure function of predictions and truth.

coco_ap       average precision of boxes and masks, by COCO's and LVIS' rules
voc_ap        average precision of boxes, by PASCAL VOC's rules
mean_iou      overlap of label maps
depth_errors  errors of depth maps
best_overlap  how well segments cover objects
"""
