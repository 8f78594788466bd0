"""Tasks with an answer for each pixel: classes (semantic segmentation) and metres (depth).

label_styles       where data sets keep their label maps, and what the numbers in them mean
class_maps         step: the classes of all pixels, from label maps or from the masks of objects
depth_maps         measured depth, from 16-bit PNG or .npy files
crops              random scale, crop and flip of a photo together with its map
segmentation_data  photos with their class maps, to train and to test on
depth_data         the same with depth
fcn                the fully convolutional network of MoCo and BYOL
up_projection      the depth network of Laina et al., and its reverse Huber loss
examples           a picture of some test photos with what was predicted
"""
