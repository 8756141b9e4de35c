"""flowray.yaml to `Settings`; every mistake is one line: file, place, what was found, what is
allowed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flowray.errors import ConfigError
from flowray.settings.base import MISPLACED
from flowray.settings.model import Settings


class _Loader(yaml.SafeLoader):
    """YAML in which a key that is given twice is a mistake: the first one would go unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                problem = f"{key.value!r} for the second time"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_settings(path: Path) -> Settings:
    """Read a configuration file; relative paths in it are relative to the working directory. Raises
    ConfigError.
    """
    try:
        # A loader of safe types alone, as safe_load has.
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506
    except FileNotFoundError:
        raise ConfigError(str(path), "file", "nothing", "a configuration file") from None
    except OSError as error:
        found = error.strerror or str(error)
        raise ConfigError(str(path), "file", found, "a readable text file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "file", str(error), "a readable text file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "file"
        problem = getattr(error, "problem", None) or "no YAML"
        raise ConfigError(str(path), place, problem, "YAML") from None
    return parse_settings(content, str(path))


def parse_settings(content: Any, file: str) -> Settings:
    """Validate a configuration. Raises ConfigError for the first mistake."""
    if not isinstance(content, dict):
        raise ConfigError(file, "file", _shown(content), "a mapping with views")
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise _config_error(error.errors()[0], file) from None


_KINDS = {
    "model_type": "a mapping of options",
    "dict_type": "a mapping",
    "list_type": "a list, such as [one, two]",
    "string_type": "text",
    "too_short": "a list that is not empty",
}
"""What pydantic says in the words of Python, in those of YAML."""


def _config_error(detail: ErrorDetails, file: str) -> ConfigError:
    place = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]
    ).lstrip(".")
    allowed = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    allowed = _KINDS.get(detail["type"], allowed)
    match detail["type"]:
        case "extra_forbidden":
            return ConfigError(file, place, "an option that does not exist", _options_at(detail))
        case "missing":
            return ConfigError(file, place, "nothing", "this option is required")
        case type_ if type_ == MISPLACED:
            told = detail["ctx"]
            return ConfigError(
                file, f"{place}.{told['place']}".lstrip("."), told["found"], told["allowed"]
            )
    return ConfigError(file, place or "file", _shown(detail["input"]), allowed)


def _options_at(detail: ErrorDetails) -> str:
    """The options of the model that an unknown one was given to."""
    model: Any = Settings
    for part in detail["loc"][:-1]:
        if isinstance(part, str) and hasattr(model, "model_fields") and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation)
    names = getattr(model, "model_fields", {})
    return ", ".join(names)


def _model_in(annotation: Any) -> Any:
    """The model that a type names, alone, in a list or mapping, or where it may be left out."""
    if hasattr(annotation, "model_fields"):
        return annotation
    inner = map(_model_in, getattr(annotation, "__args__", ()))
    return next((model for model in inner if model is not None), None)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
