"""What to look at and what to learn from: photographs, handwritten digits, the reader's own pictures."""

from .digits import Digits, digits
from .folder import ImageFolder, Skipped, image_folder
from .image_set import ImageSet
from .images import model_input, read_image, square
from .long_range import LongRangeTask, long_range_task
from .photographs import Photograph, Photographs, photograph, photographs
from .recall import RecallTask, recall_task
from .text import Characters, TextWindows, poems, verse

__all__ = [
    "Characters",
    "Digits",
    "ImageFolder",
    "ImageSet",
    "LongRangeTask",
    "Photograph",
    "Photographs",
    "RecallTask",
    "Skipped",
    "TextWindows",
    "digits",
    "image_folder",
    "long_range_task",
    "model_input",
    "photograph",
    "photographs",
    "poems",
    "read_image",
    "recall_task",
    "square",
    "verse",
]
