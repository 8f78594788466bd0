"""Detection and instance segmentation: torchvision's detectors on a pretrained backbone.

objects    the labels of photos, laid out so that any photo's are there at once
photos     what the detector is shown: photos at several sizes, flipped, with their boxes and masks
pyramids   the maps that detectors stand on: FPN, and the C4 trunk of ResNets
detectors  Faster and Mask R-CNN (FPN and C4) and FCOS, as modules with one interface
inference  the detections of all test photos, as a table
batch_norm its statistics, measured again after training
lvis       which categories the annotators of LVIS have looked for
"""
