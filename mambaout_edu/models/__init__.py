"""Vision models, their published variants, their weights and their cost.

>>> model = create_model("mambaout_femto", num_classes=10)
>>> profile(model, 224).parameters
6163066
"""

from mambaout_edu.models.isotropic import COMPARED, PixelClassifier, compared_model
from mambaout_edu.models.mambaout import MambaOut, stage_shapes
from mambaout_edu.models.matching import WidthMatch, match_width
from mambaout_edu.models.metaformer_like import IsotropicMambaOut, metaformer_like
from mambaout_edu.models.outline import differences, outline
from mambaout_edu.models.plain_cnn import PlainCNN, plain_cnn_of_size
from mambaout_edu.models.profile import Profile, profile
from mambaout_edu.models.registry import MODELS, create_model, list_models
from mambaout_edu.models.res_vmamba import ResVMamba
from mambaout_edu.models.residual_swin import ResidualSwin
from mambaout_edu.models.sequence_model import SequenceModel, sequence_model
from mambaout_edu.models.vim import Vim
from mambaout_edu.models.vmamba import VMamba
from mambaout_edu.models.weights import export_state_dict, load_official

__all__ = [
    "COMPARED",
    "MODELS",
    "IsotropicMambaOut",
    "MambaOut",
    "PixelClassifier",
    "PlainCNN",
    "Profile",
    "ResVMamba",
    "ResidualSwin",
    "SequenceModel",
    "VMamba",
    "Vim",
    "WidthMatch",
    "compared_model",
    "create_model",
    "differences",
    "export_state_dict",
    "list_models",
    "load_official",
    "match_width",
    "metaformer_like",
    "outline",
    "plain_cnn_of_size",
    "profile",
    "sequence_model",
    "stage_shapes",
]
