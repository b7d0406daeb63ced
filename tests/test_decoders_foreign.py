"""Transforms of albumentations and torchvision in `ImageDecoder(transform=...)`, as they are, seeded by sample.

For these tests: pip install torch==2.13.0 albumentations && pip install --no-deps torchvision==0.28.0
"""

from __future__ import annotations

import copy
import os
import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import load_torchvision
from pictures import KINDS, encode, rgb

from asyncbatch import CenterCrop, ConfigError, ImageDecoder, RandomHorizontalFlip

SEEDS = [(1, epoch, index) for epoch in range(2) for index in range(12)]


def rows(decoder, seeds=SEEDS, data=None):
    return [decoder.decode(data or KINDS["jpeg 420"](), None, seed) for seed in seeds]


def assert_seeded(decoder):
    """Hold the promises on randomness: by sample only, the same on any thread and in any order, and truly random."""
    first = rows(decoder)
    assert all(map(np.array_equal, first, rows(decoder)))
    assert all(map(np.array_equal, first[::-1], rows(decoder, SEEDS[::-1])))
    with ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, first * 3, pool.map(lambda seed: rows(decoder, [seed])[0], SEEDS * 3)))
    assert len({row.tobytes() for row in first}) > 1
    again = pickle.loads(pickle.dumps(decoder))  # noqa: S301 - our own bytes
    for other in (copy.deepcopy(decoder), again):
        assert all(map(np.array_equal, first, rows(other)))


# -- plain functions ---------------------------------------------------------------------------------------------------


def with_default(image, rng=None):
    assert isinstance(rng, np.random.Generator)
    return image


def keyword_only(image, *, amount=1):
    return image


class Method:
    def flip(self, image):
        return image[::-1]

    def draw(self, image, generator):
        assert isinstance(generator, np.random.Generator)
        return image


def by_keyword(image, *, rng=None):
    return with_default(image, rng)


def any_number(*arguments):
    return with_default(*arguments)


@pytest.mark.parametrize("transform", [with_default, any_number, Method().draw])
def test_functions_with_a_generator(transform):
    """A function with two required arguments, or one called rng, gets image and generator."""
    assert np.array_equal(ImageDecoder(transform=transform)(KINDS["png"]()), rgb())


def test_a_generator_by_keyword_only():
    """A function that would take the generator only by name is an error rather than a transform without seed."""
    with pytest.raises(TypeError, match="positional argument"):
        ImageDecoder(transform=by_keyword)(KINDS["png"]())


@pytest.mark.parametrize("transform", [np.flipud, np.rot90, Method().flip, keyword_only, lambda image, k=1: image])
def test_functions_of_the_image_alone(transform):
    """A function with one required argument gets the image alone: np.rot90's second argument is no generator."""
    assert np.array_equal(ImageDecoder(transform=transform)(KINDS["png"]()), transform(rgb()))


def test_adapted_transforms_show_as_themselves():
    """In messages an adapted transform has its own name."""

    def my_own(image):
        return None

    with pytest.raises(ValueError, match=r"my_own.*NoneType"):
        ImageDecoder(transform=my_own)(KINDS["png"]())


def test_neither_library_is_imported_by_us():
    """Nobody pays for a library that they do not use."""
    import subprocess

    code = "import sys, asyncbatch; print([m for m in ('torch', 'torchvision', 'albumentations') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- albumentations ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def albumentations():
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or importing it asks the network for a newer one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("albumentations", reason="pip install albumentations")


def test_albumentations(albumentations):
    """A Compose is taken as it is and seeded by sample."""
    compose = albumentations.Compose([
        albumentations.RandomCrop(24, 32),
        albumentations.HorizontalFlip(p=0.5),
        albumentations.RandomBrightnessContrast(p=0.5),
    ])  # fmt: skip
    decoder = ImageDecoder((20, 30), transform=compose)
    assert_seeded(decoder)
    assert "RandomCrop" in repr(decoder)


def test_parts_of_an_albumentations_compose_are_independent(albumentations):
    """Parts with the same probability do not always happen together, as they would with one seed for each."""
    compose = albumentations.Compose([albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5)])
    decoder = ImageDecoder(transform=compose)
    image = ImageDecoder()(KINDS["jpeg 420"]())
    outcomes = {row.tobytes() for row in rows(decoder, [(3, 0, index) for index in range(60)])}
    assert outcomes == {image[::v, ::h].tobytes() for v in (1, -1) for h in (1, -1)}


def test_a_single_albumentations_transform(albumentations):
    """One transform without a Compose will do, in a list with others too."""
    decoder = ImageDecoder(24, transform=[CenterCrop(40), albumentations.RandomCrop(24, 24), RandomHorizontalFlip()])
    assert_seeded(decoder)


@pytest.mark.parametrize("channels", ["rgb", "gray"])
def test_albumentations_may_do_the_numbers(albumentations, channels):
    """Normalize returns floats, which are the row; grey pictures work too."""
    mean, std = (0.5,) * 3, (0.25,) * 3
    if channels == "gray":
        mean, std = mean[:1], std[:1]
    decoder = ImageDecoder(
        (10, 10), channels=channels, dtype="float32", transform=albumentations.Normalize(mean, std), layout="nchw"
    )
    own = ImageDecoder((10, 10), channels=channels, dtype="float32", scale=1 / 255, mean=mean, std=std, layout="nchw")
    data = encode(".png", np.full((20, 20, 3), 200, np.uint8))
    assert np.abs(decoder(data) - own(data)).max() < 1e-5


def test_albumentations_to_tensor(albumentations):
    """A tensor at the end, (C, H, W), becomes an array again."""
    pytest.importorskip("torch", reason="pip install torch==2.13.0")
    pytorch = pytest.importorskip("albumentations.pytorch", reason="pip install albumentations")
    compose = albumentations.Compose([albumentations.HorizontalFlip(p=1), pytorch.ToTensorV2()])
    assert np.array_equal(ImageDecoder(transform=compose)(KINDS["png"]()), rgb()[:, ::-1])


def test_an_albumentations_too_old_to_be_seeded():
    """A version that draws from Python's global generator is refused with the line that helps."""
    old = type("Flip", (), {"__module__": "albumentations.core.old", "__call__": lambda self, image: {"image": image}})
    with pytest.raises(ConfigError, match="cannot be seeded by sample; write pip install 'albumentations>=2'"):
        ImageDecoder(transform=old())


# -- torchvision -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def v2(torch):
    """Import torchvision.transforms.v2."""
    load_torchvision(torch)
    return pytest.importorskip("torchvision.transforms.v2", reason="pip install --no-deps torchvision==0.28.0")


def test_torchvision(v2):
    """A v2 Compose is taken as it is, given (C, H, W) uint8 tensors, and seeded by sample."""
    compose = v2.Compose([v2.RandomResizedCrop(32), v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3)])
    decoder = ImageDecoder((20, 30), transform=compose)
    assert_seeded(decoder)
    assert "RandomResizedCrop" in repr(decoder)


RANDOM = """
    AugMix()
    AutoAugment()
    ColorJitter(0.2, 0.2, 0.2, 0.1)
    Compose([v2.ToDtype(torch.float32, scale=True), v2.GaussianNoise()])
    ElasticTransform()
    GaussianBlur(3)
    RandAugment()
    RandomAffine(20)
    RandomApply([v2.RandomRotation(90)])
    RandomChannelPermutation()
    RandomChoice([v2.RandomGrayscale(1), v2.RandomInvert(1)])
    RandomCrop(24)
    RandomErasing(p=1)
    RandomHorizontalFlip()
    RandomOrder([v2.RandomGrayscale(1), v2.RandomPosterize(2)])
    RandomPerspective(p=1)
    RandomPhotometricDistort()
    RandomResizedCrop(32)
    RandomZoomOut(p=1)
    ScaleJitter((30, 30))
    TrivialAugmentWide()
"""


@pytest.mark.parametrize("name", RANDOM.split("\n")[1:-1])
def test_whatever_torchvision_draws(v2, torch, name):
    """Every random transform draws from the sample's generator; none touches torch's own, which the training uses."""
    transform = eval(f"v2.{name.strip()}", {"v2": v2, "torch": torch})  # noqa: S307 - our own words
    decoder = ImageDecoder(32, dtype="float32", transform=transform)
    seeds = SEEDS[:12]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = rows(decoder, seeds)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert all(map(np.array_equal, first, rows(decoder, seeds)))
    assert len({row.tobytes() for row in first}) > 1


def test_modules(v2, torch):
    """A single transform, and a Sequential of them, count as well."""
    assert_seeded(ImageDecoder(24, transform=v2.RandomCrop(24)))
    assert_seeded(ImageDecoder(24, transform=torch.nn.Sequential(v2.RandomCrop(30), v2.RandomHorizontalFlip())))


def test_the_older_torchvision(v2):
    """The transforms before v2 work too, as far as they take tensors."""
    import torchvision.transforms as v1

    assert_seeded(ImageDecoder(24, transform=v1.Compose([v1.RandomCrop(30), v1.RandomHorizontalFlip()])))


def test_torchvision_may_do_the_numbers(v2, torch):
    """Floats from torchvision are the row, like those of the decoder's own numbers."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    compose = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    own = ImageDecoder(dtype="float32", scale=1 / 255, mean=mean, std=std)
    assert np.abs(ImageDecoder(dtype="float32", transform=compose)(KINDS["png"]()) - own(KINDS["png"]())).max() < 1e-5


def test_torchvision_gets_the_channels_asked_for(v2):
    """Grey pictures arrive as (1, H, W)."""
    row = ImageDecoder(channels="gray", transform=v2.RandomHorizontalFlip(1))(KINDS["png"]())
    assert np.array_equal(row, ImageDecoder(channels="gray")(KINDS["png"]())[:, ::-1])


@pytest.mark.parametrize("shape", [(10, 10), (11, 14), (5, 30), (47, 61), (60, 20), (61, 70)])
def test_center_crop_is_torchvisions(v2, torch, shape):
    """The shipped CenterCrop cuts where torchvision's does."""
    theirs = v2.CenterCrop(list(shape))(torch.from_numpy(rgb()).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert np.array_equal(CenterCrop(shape)(rgb(), np.random.default_rng()), theirs)
