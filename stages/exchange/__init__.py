"""The JSON files of ORL's official code (github.com/Jiahao000/ORL): read into our artifacts, and written from them.

| file | content |
|---|---|
| neighbours | info: {knn_image_num}, images: {file_name: [N], id: [N]}, pseudo_annotations: {image_id: [N], knn_image_id: [N][K]} |
| proposals | bbox: [N][n][4], of selective search, not filtered |
| correspondence | as neighbours; info also has the settings of filter and pairs; pseudo_annotations also bbox: [N][B][4], filtered, and knn_bbox_pair: [N][K][P][8] |

All lists of a file are parallel. `knn_image_id` are places in these lists, from 0; `image_id` and `images.id` are the
ids of COCO, which nothing reads. Boxes are x, y, width, height in whole pixels; a pair is the photo's box and the
neighbour's. The proposals of COCO are 3 GB of text, 20 GB as Python lists: files are only ever streamed here.
"""  # noqa: E501
