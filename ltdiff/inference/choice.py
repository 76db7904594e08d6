"""Which of several models a series is for, by its kernel and manufacturer, and what speaks against it."""

from collections.abc import Sequence

from ltdiff.data.scope import Scope, name_kernel
from ltdiff.data.traits import Traits
from ltdiff.dicom.faults import printable
from ltdiff.inference.recipe import Recipe


def choose_recipe(traits: Traits, recipes: Sequence[Recipe]) -> Recipe:
    """The recipe whose model was trained for the kernel; of several, by the manufacturer; then by grid and noise.

    Where no model knows the kernel, the other traits decide: what is then made is for the caller to refuse or to mark.

    Raises:
        ValueError: several are equally near; they are named.
    """
    ranks = [_rank(traits, recipe.scope) for recipe in recipes]
    nearest = [recipe for recipe, rank in zip(recipes, ranks, strict=True) if rank == min(ranks)]
    if len(nearest) == 1:
        return nearest[0]
    names = ", ".join(printable(recipe.model) for recipe in nearest)
    if traits.kernel in nearest[0].scope.source_kernels:
        raise ValueError(f"fits several models equally well: name one of {names} with --model")
    kernel = name_kernel(traits.kernel)
    raise ValueError(f"has {kernel}, for which no model was trained: name one of {names} with --model and --force true")


def _rank(traits: Traits, scope: Scope) -> tuple[bool, int, bool]:
    """Smaller is nearer. A manufacturer that is not known is nearer than another one."""
    by_manufacturer = {True: 0, None: 1, False: 2}[scope.fits_manufacturer(traits)]
    return traits.kernel not in scope.source_kernels, by_manufacturer, bool(scope.range_objections(traits))
