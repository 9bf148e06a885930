from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flyweight.core.errors import InputError
from flyweight.training.recipe import Recipe, ssd_sgd_recipe, ssdlite_recipe


def test_round_trip_through_yaml() -> None:
    recipe = Recipe(epochs=7, optimizer="sgd", step_epochs=(0.5, 0.75), workers=2)
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


def test_a_teacher_given_as_a_path() -> None:
    recipe = Recipe(teacher=Path("runs") / "large.safetensors")
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "adamm"),
        ("schedule", "cosin"),
        ("precision", "16-true"),
        ("epochs", 0),
        ("batch_size", -1),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("ema_decay", 1.0),
        ("warmup_epochs", -0.5),
        ("workers", -1),
    ],
)
def test_a_value_out_of_range_names_its_field(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        Recipe.from_dict({field: value})


def test_unknown_field() -> None:
    with pytest.raises(InputError, match="learning_rate"):
        Recipe.from_dict({"learning_rate": 0.1})


def test_presets_take_changes() -> None:
    assert ssdlite_recipe(epochs=3).epochs == 3
    assert ssd_sgd_recipe().optimizer == "sgd"
    assert ssd_sgd_recipe(lr=1.0).lr == 1.0


def test_evaluation_takes_a_tenth_of_the_time() -> None:
    recipe = Recipe(epochs=100)
    assert recipe.evaluation_period(train_images=1000, val_images=100) == 1
    assert recipe.evaluation_period(train_images=205, val_images=87) == 2
    # a validation set larger than the training set, but ten evaluations at least
    assert recipe.evaluation_period(train_images=100, val_images=10_000) == 10
    assert Recipe(epochs=3).evaluation_period(train_images=100, val_images=10_000) == 1
    assert Recipe(eval_every=7).evaluation_period(train_images=1, val_images=1) == 7
