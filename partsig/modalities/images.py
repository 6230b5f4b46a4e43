"""Images as a modality: what they are called, trained with and opened by. Needs no torch."""

from partsig.modalities import image_card
from partsig.modalities.image_settings import ImageFinetuneConfig, ImagePretrainConfig
from partsig.modalities.modality import Modality

IMAGES = Modality(
    name="image",
    axes=("row", "column"),
    unit="px",
    plural="images",
    n_patches=64,  # PART paper, appendix: CIFAR, ViT-S/4, as many patches as the grid has
    default_source="cifar100",
    dataset="partsig.modalities.image_dataset:open_dataset",
    preprocess="partsig.data.images.settings:ImagePreprocessConfig",
    pretrain=ImagePretrainConfig,
    finetune=ImageFinetuneConfig,
    amplitude="0 to 255",
    usual_task="classification",
    looks="partsig.data.images.looks:ImageLooks",
    marked="partsig.modalities.image_parts:judged",
    draw_inspection="partsig.figures.inspection_2d:draw",
    training_facts=image_card.training_facts,
    card=image_card.CARD,
    usual_configs=dict.fromkeys(("part-segmentation", "object-segmentation"), "image-segmentation"),
)
