"""insert_bam: where BAMs go, that they act there and nowhere else, and that a refusal leaves the model as it was."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bam_fused import BAM, insert_bam, models
from bam_fused.surgery import InsertReport


class Residual(nn.Module):
    """Ends in an addition; strided or wider it has a convolution on its shortcut."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, stride, 1)
        self.bn = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = None if stride == 1 and channels == out else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn(self.conv(x))
        out += x if self.shortcut is None else self.shortcut(x)
        return self.relu(out)


class Walker(nn.Module):
    """Runs through its children, whatever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x


class Growing(nn.ModuleDict):
    """Its children see everything before them, as in torchvision's dense blocks."""

    def forward(self, x: Tensor) -> Tensor:
        for _, layer in self.items():
            x = torch.cat((x, layer(x)), 1)
        return x


class Reversed(nn.Sequential):
    """A Sequential with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        for child in reversed(list(self)):
            x = child(x)
        return x


class Net(nn.Module):
    """One module of each kind that a BAM can be attached to."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.stage = nn.Sequential(Residual(16, 16), Residual(16, 16))
        self.walker = Walker()
        self.growing = Growing({"a": nn.Conv2d(16, 8, 1), "b": nn.Conv2d(24, 8, 1)})
        self.reversed = Reversed(nn.Conv2d(16, 16, 1), nn.Conv2d(32, 16, 1))
        self.down = Residual(16, 32, 2)
        self.twice = nn.ReLU()
        self.never = nn.ReLU()
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.walker(self.stage(self.stem(x)))
        x = self.twice(self.down(self.twice(self.reversed(self.growing(x)))))
        return self.fc(x.mean((2, 3)))


ATTACHABLE = ("stem", "stage", "walker", "growing", "reversed", "down", "stage.0.bn")


def state(model: nn.Module) -> tuple[Any, Any]:
    """Everything an insertion could change in a model."""
    modules = [(name, type(module), module.training, set(vars(module))) for name, module in model.named_modules()]
    tensors = {key: (tensor.data_ptr(), tensor._version) for key, tensor in model.state_dict(keep_vars=True).items()}
    return modules, tensors


def small() -> Net:
    torch.manual_seed(1)
    return Net().double()


def randomised(model: nn.Module) -> nn.Module:
    """The model with BAMs that do something: every parameter and running statistic drawn."""
    for module in model.modules():
        if isinstance(module, BAM):
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.is_floating_point():
                    tensor.data.uniform_(0.2, 1.0)
    return model


PLACES = [(name, position) for name in ATTACHABLE for position in ("after", "before")]


@pytest.mark.parametrize(("name", "position"), [place for place in PLACES if place != ("walker", "before")])
def test_a_bam_acts_on_the_output_or_input_of_its_module_alone(name: str, position: str) -> None:
    plain, attended = small().eval(), small().eval()
    report = insert_bam(attended, at=[name], position=position, reduction=2, dilation=2)
    randomised(attended)
    bam = attended.get_submodule(f"{name}.bam")
    assert isinstance(bam, BAM) and [entry.name for entry in report] == [f"{name}.bam"]
    module = plain.get_submodule(name)
    if position == "after":
        module.register_forward_hook(lambda _, inputs, output: bam(output))
    else:
        module.register_forward_pre_hook(lambda _, inputs: (bam(inputs[0]),))
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(attended(x), plain(x), rtol=0, atol=0)


def test_nothing_that_existed_changes() -> None:
    model = small()
    model.stage.eval()
    before, tensors = state(model), {key: tensor.clone() for key, tensor in model.state_dict().items()}
    names = [name for name, _ in model.named_parameters()]
    insert_bam(model, at=list(ATTACHABLE), reduction=4)
    after = state(model)
    assert {key: value for key, value in after[1].items() if ".bam." not in key} == before[1]
    assert [name for name, _ in model.named_parameters() if ".bam." not in name] == names
    assert [entry[2] for entry in after[0] if ".bam" not in entry[0]] == [entry[2] for entry in before[0]]
    assert not model.stage.bam.training and model.walker.bam.training
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in tensors.items())
    assert isinstance(model.growing, Growing) and isinstance(model.down, Residual)
    assert list(model.growing) == ["a", "b"] and len(model.growing) == 2 and len(model.reversed) == 2
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}


def test_identity_start_leaves_outputs_and_trains() -> None:
    plain, attended = small(), small()
    insert_bam(attended, at=list(ATTACHABLE), reduction=4, identity_start=True)
    x = torch.randn(3, 3, 12, 12, dtype=torch.float64)
    assert torch.equal(attended(x), plain(x))
    attended(x).square().sum().backward()
    scales = [module.residual_scale for module in attended.modules() if isinstance(module, BAM)]
    assert len(scales) == len(ATTACHABLE) and all(scale.grad.abs() > 0 for scale in scales)


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "data_parallel", "compile", "export", "trace", "fx"])
def test_an_attended_network_survives(way: str) -> None:
    model = small().eval()
    insert_bam(model, at=list(ATTACHABLE), reduction=4)
    insert_bam(model, at=["reversed.0", "stage.1"], position="before", reduction=4)
    randomised(model)
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    expected = model(x)
    torch.compiler.reset()
    other: Any = {
        "deepcopy": lambda: copy.deepcopy(model),
        "pickle": lambda: pickle.loads(pickle.dumps(model)),
        "data_parallel": lambda: nn.DataParallel(model),
        "compile": lambda: torch.compile(model, backend="aot_eager", fullgraph=True),
        "fx": lambda: torch.fx.symbolic_trace(model),
        "trace": lambda: torch.jit.trace(model, x),
        "export": lambda: torch.export.export(model, (x,)).module(),
    }[way]()
    torch.testing.assert_close(other(x), expected)
    if way in ("deepcopy", "pickle"):
        assert all(a is not b for a, b in zip(other.parameters(), model.parameters(), strict=True))
        other.stem.weight.data.zero_()
        assert torch.equal(model(x), expected) and not torch.equal(other(x), expected)


def test_wrapped_models_are_seen_through() -> None:
    """A model that has been compiled and run follows the insertion."""
    torch.compiler.reset()
    inner = small().eval()
    compiled, x = torch.compile(inner, backend="eager"), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    plain = compiled(x)
    report = insert_bam(nn.DataParallel(compiled), at=list(ATTACHABLE), reduction=4)
    assert [entry.name for entry in report] == [f"{name}.bam" for name in ATTACHABLE]
    randomised(inner)
    assert not torch.allclose(compiled(x), plain)
    torch.testing.assert_close(compiled(x), inner(x))


def test_distributed_wrappers_are_refused() -> None:
    wrapped = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(wrapped)
    with pytest.raises(ValueError, match="wrap last"):
        insert_bam(wrapped)


class Undecided(nn.Module):
    """Asks for a value, which the meta device does not have, and takes one image size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2)
        self.head = nn.Linear(16 * 16 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(self.pool(x if x.isfinite().all() else x * 0).flatten(1))


def test_a_model_that_needs_values_is_run_where_it_is() -> None:
    assert [(entry.name, entry.height) for entry in insert_bam(Undecided())] == [("conv.bam", 32)]


CHANNELS = {
    "resnet18": [64, 128, 256],
    "resnet50": [256, 512, 1024],
    "mobilenet": [128, 256, 512],
    "squeezenet": [128, 256],
    "cifar_resnet50": [256, 512, 1024],
    "cifar_preresnet110": [64, 128],
    "cifar_wideresnet28": [128, 256],
    "cifar_resnext29": [256, 512],
}


@pytest.mark.parametrize("name", CHANNELS)
def test_auto_finds_the_papers_bottlenecks(name: str) -> None:
    with torch.device("meta"):
        model, paper = getattr(models, name)(), getattr(models, name)(attention="bam")
    added = sum(p.numel() for p in paper.parameters()) - sum(p.numel() for p in model.parameters())
    report = insert_bam(model)
    assert [entry.channels for entry in report] == CHANNELS[name]
    assert report.parameters == added


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "squeezenet", "cifar_preresnet110", "cifar_wideresnet28"])
def test_every_block_is_the_papers_bam_c(name: str) -> None:
    with torch.device("meta"):
        model, paper = getattr(models, name)(), getattr(models, name)(attention="bam-c")
    report = insert_bam(model, at="every-block")
    assert [entry.channels for entry in report] == [m.channels for m in paper.modules() if isinstance(m, BAM)]
    blocks = {
        name for name, m in model.named_modules() if isinstance(m, (models.resnet.BasicBlock, models.resnet.Bottleneck))
    }
    assert not blocks & {entry.name.removesuffix(".bam") for entry in report}, "a BAM belongs before the addition"


def test_plain_sequential_models_of_their_own_size() -> None:
    def stage(channels: int, out: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))

    layers = [nn.Conv2d(1, 16, 3, padding=1), stage(16, 32), stage(32, 64), nn.Flatten(), nn.Linear(64 * 7 * 7, 10)]
    model = nn.Sequential(*layers)
    report = insert_bam(model)
    assert [(entry.name, entry.channels, entry.height) for entry in report] == [
        ("1.1.bam", 32, 28),
        ("2.1.bam", 64, 14),
    ]
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_images_need_not_have_the_first_convolutions_channels() -> None:
    stem = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 16, 3, padding=1))
    report = insert_bam(nn.Sequential(stem, Residual(16, 16), Residual(16, 32, 2), Residual(32, 64, 2)))
    assert [(entry.name, entry.channels) for entry in report] == [("1.bam", 16), ("2.bam", 32)]


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Sequential(nn.Conv2d(c, 2 * c, 3, padding=1), nn.ReLU()) for c in (16, 32, 64))
        self.stem, self.head = nn.Conv2d(3, 16, 1), nn.Conv2d(32, 2, 1)
        self.up = nn.ModuleList([Up(128, 64), Up(64, 32)])

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        x = self.stem(x)
        for index, stage in enumerate(self.down):
            x = stage(x if index == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for stage, skip in zip(self.up, (kept[1], kept[0]), strict=True):
            x = stage(x, skip)
        return self.head(x)


class Up(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.reduce, self.mix = nn.Conv2d(channels, out, 1), nn.Conv2d(2 * out, out, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.mix(torch.cat((nn.functional.interpolate(self.reduce(x), scale_factor=2), skip), 1))


def test_a_u_net_gets_them_in_its_encoder() -> None:
    assert [(entry.name, entry.channels) for entry in insert_bam(UNet())] == [("down.0.bam", 32), ("down.1.bam", 64)]


def test_an_example_replaces_the_drawn_images() -> None:
    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.MaxPool2d(2))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.net(torch.cat((x, y), 1))

    image = torch.randn(1, 2, 20, 30)
    with pytest.raises(ValueError, match="example"):
        insert_bam(TwoInputs())
    report = insert_bam(TwoInputs(), example=(image, image))
    assert [(entry.name, entry.height, entry.width) for entry in report] == [("net.0.bam", 20, 30)]


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 16, 16)
        self.mix = nn.TransformerEncoderLayer(32, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.patch(x).flatten(2).mT).mean(1)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), x


REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (Net, {"at": ["stage", "stagge"]}, ValueError, "'stagge'.*stage"),
    (Net, {"at": ["stage", "stage"]}, ValueError, "twice"),
    (Net, {"at": ["stage", "twice"]}, ValueError, "called 2 times"),
    (Net, {"at": ["stage", "never"]}, ValueError, "does not call"),
    (Net, {"at": ["stage", "fc"]}, ValueError, "'fc' is no feature map"),
    (Net, {"at": ["stage", ""]}, ValueError, "no module"),
    (Net, {"at": []}, ValueError, "empty"),
    (Net, {"at": 3}, TypeError, "at must be"),
    (Net, {"at": "everywhere"}, ValueError, "everywhere"),
    (Net, {"at": "classifiers"}, ValueError, "SSD"),
    (Net, {"position": "inside"}, ValueError, "position"),
    (Net, {"at": ["stage", "down"], "reduction": 0}, ValueError, "'stage'.*reduction"),
    (Net, {"at": ["stage", "down"], "reduction": 17, "min_hidden": None}, ValueError, "'stage'.*reduction"),
    (Net, {"at": ["stage"], "dilation": 0}, ValueError, "dilation"),
    (Net, {"at": ["stage"], "combine": "mean"}, ValueError, "combine"),
    (Net, {"at": ["stage", "walker"], "position": "before", "reduction": 4}, ValueError, "'walker' would be called 2"),
    (Net, {"at": ["stage"], "depth": 3}, TypeError, "depth"),
    (Tokens, {}, ValueError, "no downsampling"),
    (Tokens, {"at": "every-block"}, ValueError, "no module"),
    (Tokens, {"at": ["mix"]}, ValueError, "no feature map"),
    (nn.Identity, {}, ValueError, "no downsampling"),
    (lambda: nn.Sequential(Pair()), {"at": ["0"]}, ValueError, "'0' is no feature map .* tuple"),
]


@pytest.mark.parametrize(("make", "arguments", "error", "match"), REFUSED)
def test_a_refusal_leaves_the_model_as_it_was(
    make: Any, arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    model = make()
    before = state(model)
    with pytest.raises(error, match=match):
        insert_bam(model, **arguments)
    assert state(model) == before


def test_a_module_that_has_a_bam_is_refused() -> None:
    model = small()
    insert_bam(model, at=["stage"], reduction=4)
    before = state(model)
    with pytest.raises(ValueError, match="already has"):
        insert_bam(model, at=["down", "stage"], reduction=4)
    assert state(model) == before


def test_what_is_no_python_module_is_refused() -> None:
    model = nn.Sequential(torch.jit.script(nn.Conv2d(3, 16, 3)), nn.ReLU())
    with pytest.raises(ValueError, match="scripted"):
        insert_bam(model, at=["0"], example=torch.zeros(1, 3, 8, 8))
    with pytest.raises(TypeError, match="model must be"):
        insert_bam("resnet50")  # type: ignore[arg-type]


def test_batchnorm_with_a_bam_can_not_be_converted_unnoticed() -> None:
    model = small()
    insert_bam(model, at="every-block", reduction=4)
    with pytest.raises(RuntimeError, match="convert_sync_batchnorm first"):
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def test_bams_of_a_synchronised_network_are_synchronised() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(small())
    insert_bam(model, at="every-block", reduction=4)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 3 and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


def test_the_report_prints_as_a_table() -> None:
    with torch.device("meta"):
        report = insert_bam(models.resnet50())
    assert isinstance(report, InsertReport) and report.parameters == 360_761
    lines = str(report).splitlines()
    assert lines[2].split() == ["layer1.bam", "after", "256", "56", "x", "56", "17,747"]
    assert lines[-1].split() == ["3", "modules", "360,761"]


TORCHVISION = {
    "resnet18": [("layer1", 64), ("layer2", 128), ("layer3", 256)],
    "resnext50_32x4d": [("layer1", 256), ("layer2", 512), ("layer3", 1024)],
    "wide_resnet50_2": [("layer1", 256), ("layer2", 512), ("layer3", 1024)],
    "mobilenet_v2": [("features.3", 24), ("features.6", 32), ("features.13", 96)],
    "mobilenet_v3_large": [("features.3", 24), ("features.6", 40), ("features.12", 112)],
    "squeezenet1_1": [("features.4", 128), ("features.7", 256)],
    "vgg11_bn": [("features.13", 256), ("features.20", 512), ("features.27", 512)],
    "densenet121": [
        ("features.denseblock1", 256),
        ("features.transition1", 128),
        ("features.denseblock2", 512),
        ("features.transition2", 256),
        ("features.denseblock3", 1024),
        ("features.transition3", 512),
    ],
}
BLOCKS = {"resnet18": 8, "resnext50_32x4d": 16, "mobilenet_v2": 17, "mobilenet_v3_large": 15}
BLOCKS |= {"squeezenet1_1": 8, "densenet121": 58}


def check_network(plain: nn.Module, places: list[tuple[str, int]], blocks: int | None) -> None:
    """The places are as given, the weights still fit, and an identity start leaves the outputs unchanged."""
    plain.eval()
    attended = copy.deepcopy(plain)
    report = insert_bam(attended, identity_start=True)
    assert [(entry.name.removesuffix(".bam"), entry.channels) for entry in report] == places
    missing, unexpected = attended.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(".bam." in key for key in missing)
    networks = [attended]
    if blocks is not None:
        networks.append(copy.deepcopy(plain))
        assert len(insert_bam(networks[-1], at="every-block", identity_start=True)) == blocks
    x = torch.randn(1, 3, 64, 64)
    expected = plain(x)
    for network in networks:
        assert torch.equal(network(x), expected)


@pytest.mark.models
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    zoo = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    check_network(getattr(zoo, name)(weights=None), TORCHVISION[name], BLOCKS.get(name))


TIMM = {
    "resnet10t": ([("layer1", 64), ("layer2", 128), ("layer3", 256)], 4),
    "seresnet18": ([("layer1", 64), ("layer2", 128), ("layer3", 256)], 8),
    "regnetx_002": ([("s1", 24), ("s2", 56), ("s3", 152)], 13),
    "convnext_atto": ([("stages.0", 40), ("stages.1", 80), ("stages.2", 160)], 12),
    "efficientnet_lite0": ([("blocks.1", 24), ("blocks.2", 40), ("blocks.4", 112)], 15),
    "mobilenetv1_100": ([("blocks.1", 128), ("blocks.2", 256), ("blocks.3", 512)], None),
    "convnextv2_atto": ([("stages.0", 40), ("stages.1", 80), ("stages.2", 160)], 12),
    "mobilenetv4_conv_small": ([("blocks.0", 32), ("blocks.1", 64), ("blocks.2", 96)], 12),
    "ghostnet_050": ([("blocks.2", 12), ("blocks.4", 20), ("blocks.6", 56)], 16),
}


@pytest.mark.models
@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    check_network(timm.create_model(name, pretrained=False), *TIMM[name])


@pytest.mark.models
def test_networks_of_tokens_are_refused() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    before = state(model)
    with pytest.raises(ValueError, match="no downsampling between feature maps"):
        insert_bam(model)
    assert state(model) == before


@pytest.mark.models
def test_faster_rcnn_with_resnet101() -> None:
    """The paper, section 4.5: a BAM after each of the backbone's first three stages."""
    detection = pytest.importorskip("torchvision.models.detection", reason="torchvision is not installed")
    utils = pytest.importorskip("torchvision.models.detection.backbone_utils")
    backbone = utils.resnet_fpn_backbone(backbone_name="resnet101", weights=None, norm_layer=nn.BatchNorm2d)
    model = detection.FasterRCNN(backbone, 5, min_size=64, max_size=96).eval()
    images = [torch.rand(3, 64, 90), torch.rand(3, 50, 64)]
    keys, expected = set(model.state_dict()), model.backbone(torch.zeros(1, 3, 64, 96))
    report = insert_bam(model, identity_start=True)
    assert [entry.name for entry in report] == [f"backbone.body.layer{stage}.bam" for stage in (1, 2, 3)]
    assert report.parameters == 360_761 + 3 and keys < set(model.state_dict())
    found = model.backbone(torch.zeros(1, 3, 64, 96))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    targets = [{"boxes": torch.tensor([[5.0, 5.0, 40.0, 40.0]]), "labels": torch.tensor([1])} for _ in images]
    sum(model.train()(images, targets).values()).backward()
    assert model.backbone.body.layer3.bam.residual_scale.grad is not None
    assert len(model.eval()(images)) == 2


@pytest.mark.models
def test_ssd_with_a_bam_before_every_classifier() -> None:
    """The paper, section 4.6."""
    detection = pytest.importorskip("torchvision.models.detection", reason="torchvision is not installed")
    model = detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4).eval()
    keys = set(model.state_dict())
    report = insert_bam(model, at="classifiers")
    assert [entry.channels for entry in report] == [512, 1024, 512, 256, 256, 256]
    assert {entry.position for entry in report} == {"before"} and keys < set(model.state_dict())
    head = model.head.classification_head.module_list[1]
    x = torch.randn(1, 1024, 3, 3)
    expected = nn.functional.conv2d(head.bam(x), head.weight, head.bias, padding=1)
    torch.testing.assert_close(head(x), expected)
