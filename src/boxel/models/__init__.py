"""Models: one file per paper, each a configuration registered under a name and the model it builds."""

from boxel.models.base import Model, ModelConfig
from boxel.models.retina_net import RetinaNetConfig
from boxel.models.retina_unet import RetinaUNetConfig

__all__ = ["Model", "ModelConfig", "RetinaNetConfig", "RetinaUNetConfig"]
