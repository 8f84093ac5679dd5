"""torch.jit.script on the paper's networks."""

import pytest
from implementations import feature_map, randomise
from scripted import scripted
from torch.testing import assert_close

from bam_fused import models
from bam_fused.models.attention import Attention
from bam_fused.models.densenet import DenseNet
from bam_fused.models.preresnet import PreActivationNet
from bam_fused.models.resnet import BasicBlock, Bottleneck, ResNet

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*jit.* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*jit.* is deprecated:FutureWarning"),
]


def small_resnet(block, stages, attention):
    planes = [16, 32, 64, 64][:stages]
    return ResNet(block, [1] * stages, planes, num_classes=4, stem="cifar", attention=Attention(attention, {}))


NETWORKS = {
    "basic": lambda: small_resnet(BasicBlock, 4, "bam"),
    "bottleneck": lambda: small_resnet(Bottleneck, 3, "bam-c"),
    "densenet": lambda: DenseNet(2, 16, num_classes=4, attention=Attention("bam", {})),
    "preresnet": lambda: PreActivationNet(
        1, ((16, 64), (32, 128), (64, 256)), (1, 3), num_classes=4, attention=Attention("bam", {})
    ),
    "mobilenet": lambda: models.mobilenet(4, alpha=0.5, attention="bam-c"),
    "squeezenet": lambda: models.squeezenet(4, attention="se"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    network = randomise(NETWORKS[name]()).double().eval()
    x = feature_map(1, 3, 32, 32)
    assert_close(scripted(network)(x), network(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stages", [2, 5])
def test_a_resnet_has_three_or_four_stages(stages):
    with pytest.raises(ValueError, match=f"depths must be those of three or four stages, got {stages}"):
        ResNet(BasicBlock, [1] * stages, [16] * stages, num_classes=4, stem="cifar", attention=Attention(None, {}))
