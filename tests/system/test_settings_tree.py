"""Settings of nested values: what is given, what is not, and how what is wrong is named."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from ltdiff.system.settings_tree import change_settings, list_settings, make_settings, read_configuration


@dataclass(frozen=True)
class Kernel:
    name: str
    window: tuple[float, float]


@dataclass(frozen=True)
class Length:
    """Length of a phase.

    Args:
        num_steps: steps of the optimizer.
    """

    num_steps: int
    rate: float = 1e-3


@dataclass(frozen=True)
class Part:
    """A section.

    Args:
        process: kind of process;
            one of two.
        level: how much noise.
    """

    process: Literal["bridge", "ddpm"] = "bridge"
    level: float = 0.1
    steps: int | None = None
    name: str = "a"
    ready: bool = False
    weights: tuple[float, ...] = (0.1, 1.0)
    kernels: tuple[Kernel, ...] = ()
    kernel: Kernel | None = None
    phase: Length = field(default_factory=lambda: Length(500))

    def __post_init__(self) -> None:
        if self.level < 0:
            raise ValueError(f"level must not be negative, got {self.level}")


@dataclass(frozen=True)
class Whole:
    part: Part = Part()
    other: Part = Part()


def test_what_is_not_given_has_its_default():
    assert make_settings(Whole, {}) == Whole()
    changed = make_settings(Whole, {"part": {"phase": {"rate": 0.5}, "level": 2}})
    assert changed == Whole(part=Part(level=2.0, phase=Length(500, 0.5)))
    assert isinstance(changed.part.level, float)


def test_values_may_be_nested_or_dotted_or_both():
    base = Whole(other=Part(name="kept"))
    assert change_settings(base, {"part": {"level": 3.0}, "part.phase.num_steps": 7, "part.ready": True}) == Whole(
        part=Part(level=3.0, ready=True, phase=Length(7)), other=Part(name="kept")
    )


def test_values_of_yaml_become_the_types_of_the_fields():
    values = {"level": "1e-4", "name": 64, "weights": [1, 2], "kernels": [{"name": "a", "window": [1, 0]}]}
    part = make_settings(Whole, {"part": {**values, "kernel": {"name": "b", "window": [1, 1]}}}).part
    assert part == Part(level=1e-4, name="64", weights=(1.0, 2.0), kernels=(Kernel("a", (1, 0)),), kernel=Kernel("b", (1, 1)))
    assert change_settings(Whole(part=part), {"part.kernel": None}).part.kernel is None


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"part": {"levle": 1}}, "there is no setting 'part.levle'; the nearest is 'part.level'"),
        ({"part.phase.num_step": 1}, "there is no setting 'part.phase.num_step'; the nearest is 'part.phase.num_steps'"),
        ({"prat": {}}, "there is no setting 'prat'"),
        ({"part": {"level": "much"}}, "part.level should be a valid number, unable to parse .*, got 'much'"),
        ({"part": {"level": -1}}, "part: level must not be negative, got -1"),
        ({"part": {"steps": 1.5}}, "part.steps should be a valid integer.*, got 1.5"),
        ({"part": {"process": "flow"}}, "part.process should be 'bridge' or 'ddpm', got 'flow'"),
        ({"part": {"ready": "perhaps"}}, "part.ready should be a valid boolean.*, got 'perhaps'"),
        ({"part": 3}, "part is a section and takes settings by their names, got 3"),
        ({"part": {"phase": {"num_steps": None}}}, "part.phase.num_steps should be a valid integer, got None"),
        ({"part": {"kernel": {"name": "a", "windw": [1, 0]}}}, "there is no setting 'part.kernel.windw'"),
        ({"part": {"kernels": [{"name": "a", "window": [1, 0], "x": 1}]}}, "there is no setting 'part.kernels.0.x'"),
    ],
)
def test_what_is_wrong_is_named_with_its_value(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_settings(Whole, values)


def test_settings_are_listed_with_type_default_and_meaning():
    listed = {setting.name: setting for setting in list_settings(Whole())}
    assert len(listed) == 20
    process, steps, weights = (listed[f"part.{name}"] for name in ("process", "steps", "weights"))
    assert (process.type, process.default) == ("bridge | ddpm", "bridge")
    assert process.meaning == "kind of process; one of two."
    assert (steps.type, steps.default) == ("int | null", "null")
    assert (weights.type, weights.default) == ("list of float", "[0.1, 1.0]")
    assert listed["part.ready"].default == "false"
    assert listed["other.phase.num_steps"].meaning == "steps of the optimizer."


def test_a_configuration_is_a_name_or_a_file(tmp_path):
    assert read_configuration("paper")["diffusion"]["process"] == "ddpm"
    (tmp_path / "mine.yaml").write_text("part: {level: 2}\n")
    assert read_configuration(str(tmp_path / "mine.yaml")) == {"part": {"level": 2}}
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_configuration(str(tmp_path / "empty.yaml")) == {}


@pytest.mark.parametrize("text", ["[1, 2]", "part: {level: ", "just words"])
def test_a_file_that_is_no_configuration_is_named(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"bad\.yaml is no configuration"):
        read_configuration(str(tmp_path / "bad.yaml"))
