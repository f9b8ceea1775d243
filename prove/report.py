"""What was found, in lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prove.mutants import Caught
    from prove.search import Searched, Setting

SCENES_HEAD = (
    "the shipped code, simulated: every interleaving within bounds, then walks at random\n"
    f"{'scene':<28}{'processes':>9}{'states':>10}{'moves':>10}{'depth':>6}{'ends':>7}{'looks':>7}{'walks':>7}"
    f"{'moves':>9}  violations"
)
MUTANTS_HEAD = "mutants of the shipped code, and what each one broke in which scene"
_WIDTH = 150


def scene(found: Searched) -> list[str]:
    """One scene: its figures, and how a promise was broken."""
    explored = found.explored
    line = (
        f"{explored.name:<28}{found.processes:>9}{explored.states:>10}{explored.moves:>10}{explored.depth:>6}"
        f"{explored.ends:>7}{explored.looks:>7}{found.walks:>7}{found.walked:>9}  {int(bool(found.violation))}"
        f"{', all there is' if explored.whole else ''}"
    )
    if not found.violation:
        return [line]
    again = f"    the same walk again: --scene '{explored.name}' --seed N --walks 1" if found.walks else ""
    return [line, f"    {found.violation}", *filter(None, [again]), *(f"      {each[:_WIDTH]}" for each in found.trail)]


def scenes_sum(found: Sequence[Searched], setting: Setting) -> list[str]:
    """All of them together."""
    states = sum(each.explored.states for each in found)
    three = sum(each.explored.states for each in found if each.processes > 2)  # noqa: PLR2004  # as it is printed
    walks, walked = sum(each.walks for each in found), sum(each.walked for each in found)
    violations = sum(bool(each.violation) for each in found)
    seeds = f"seeds {setting.seed} to {setting.seed + setting.walks - 1} in each scene" if setting.walks else "none"
    return [
        f"{states} states, {three} of them of three processes; {violations} violations",
        f"{walks} walks at random ({seeds}), {walked} moves",
    ]


def mutant(one: Caught) -> str:
    """One mutant: how it was caught, or that it was not."""
    return f"{one.mutant:<66}{one.how[:_WIDTH]}" if one.how else f"{one.mutant:<66}SURVIVED: {one.why}"
