"""What the protocols measure by: each file one measure, a pure function of predictions and truth.

average_precision  of a ranking, as the area under the curve or by 11 points
best_overlap       how well regions cover objects
coco_ap, voc_ap    average precision of boxes and masks, by the rules of COCO and LVIS, and of PASCAL VOC
depth_errors       errors of depth maps
hypersphere        alignment and uniformity of embeddings
mean_iou           overlap of label maps
retrieval_ap       average precision of what a query finds
shared_neighbors   how far two encoders name the same neighbours
"""
