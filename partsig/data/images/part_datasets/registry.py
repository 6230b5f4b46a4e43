"""The part data sets by name; what opens each is loaded where it is read."""

_HERE = "partsig.data.images.part_datasets"
PART_DATASETS = {
    "cub200": f"{_HERE}.cub200:open_cub200",
    "pets": f"{_HERE}.pets:open_pets",
    "pascal-part": f"{_HERE}.pascal_part:open_pascal_part",
    "coco-keypoints": f"{_HERE}.coco_keypoints:open_coco_keypoints",
    "ade20k-part": f"{_HERE}.ade20k_part:open_ade20k_part",
    "lip": f"{_HERE}.lip:open_lip",
    "cihp": f"{_HERE}.cihp:open_cihp",
    "celebamask": f"{_HERE}.celebamask:open_celebamask",
    "deepfashion": f"{_HERE}.deepfashion:open_deepfashion",
}
