from __future__ import annotations

from typing import Any

import pytest

from flyweight.core.errors import InputError
from flyweight.training.classification.recipe import ClassificationRecipe


def test_a_recipe_survives_its_dict() -> None:
    recipe = ClassificationRecipe(epochs=3, balanced=True, label_smoothing=0.2)
    assert ClassificationRecipe.from_dict(recipe.to_dict()) == recipe
    shared = recipe.optimisation
    assert (shared.epochs, shared.optimizer, shared.schedule) == (3, "adamw", "cosine")


@pytest.mark.parametrize(
    "change",
    [
        {"label_smoothing": 1.0},
        {"label_smoothing": -0.1},
        {"context": 1.5},
        {"min_area": 0.0},
        {"batch_size": 1},
        {"lr": 0.0},
        {"epochs": 0},
        {"precision": "fp8"},
        {"patience": 3},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        ClassificationRecipe.from_dict(change)
