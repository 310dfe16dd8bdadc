"""Turns a goal into steps. `Planner` is where a model would stand."""

from dataclasses import asdict, dataclass
from typing import Protocol

from agent.library import Document, Library


@dataclass(frozen=True)
class Step:
    skill: str
    operation: str
    input: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class Planner(Protocol):
    """Plans the steps towards a goal.

    An implementation may call a model with the prompt; it must return at
    least one step, each naming one of the skills, and must not keep the goal.
    """

    def plan(self, prompt: str, goal: str, skills: dict[str, Document]) -> list[Step]: ...


class RulePlanner:
    """Plans without a model: skills whose triggers the goal mentions, in the
    order in which it mentions them. The same goal gives the same plan."""

    def __init__(self, fallback: str, most: int):
        self._fallback = fallback
        self._most = most

    def plan(self, prompt: str, goal: str, skills: dict[str, Document]) -> list[Step]:
        words = goal.lower().split()
        found = []
        for skill in skills.values():
            triggers = {t.strip() for t in skill.header.get("triggers", "").split(",")}
            places = [i for i, word in enumerate(words) if word.strip(".,:;!?") in triggers]
            if places:
                found.append((places[0], skill))
        chosen = [skill for _, skill in sorted(found, key=lambda f: (f[0], f[1].name))]
        chosen = chosen[: self._most] or [skills[self._fallback]]
        return [Step(s.name, s.header["operation"], goal) for s in chosen]


def make(library: Library, model: str) -> Planner:
    """Gives the planner for a model's name; raises ValueError for an unknown one."""
    if model != "rules-1":
        raise ValueError(f"LLM_MODEL is {model!r}: this example only has rules-1")
    header = library.prompts["plan"].header
    fallback = header.get("fallback", "")
    if fallback not in library.skills:
        raise ValueError(f"plan.md: fallback {fallback!r} is not a skill")
    return RulePlanner(fallback, int(header.get("steps", "3")))


def prompt(library: Library, goal: str) -> str:
    """Renders what a model would be asked."""
    names = ", ".join(library.skills)
    return library.prompts["plan"].body.replace("{skills}", names).replace("{goal}", goal)
