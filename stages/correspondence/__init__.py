"""Stage 3: from similar photos to similar regions (ORL, section 3.2, "region-level correspondence").

Its steps, one file each: `regions` (proposals and the ORL filter), `roi_features` (one embedding a region) and `pairs`
(which region of a photo corresponds to which of its neighbours).
"""
