"""The label of a recorded run, from its config: what a table says of settings is what the run had."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from benchmark.errors import InputError
from benchmark.experiment.planning import section_types
from benchmark.experiment.presets import resolve_preset
from benchmark.experiment.request import Request
from benchmark.hashing import canonical_json
from benchmark.methods import METHODS
from benchmark.records.run_label import changed_settings, format_label, parse_label
from benchmark.records.schema import Record
from benchmark.settings import SECTIONS, build_settings
from protocols import PROTOCOLS

_RUN_SEED = "teacher.seed=run"


def label_of(record: Record) -> str:
    """Return the label of a record: the name of its preset, and the settings of its config that differ from it today.

    A preset that is not what it was when the run was measured shows as settings that differ from it. A record keeps its
    label if this version does not know its method, its protocol or one of its settings.
    """
    recorded = str(record["preset"])
    if "config" not in record:
        return recorded
    config = record["config"]
    name, named = parse_label(recorded)
    sections = {section: config[section] for section in SECTIONS if section in config}
    words = [name, str(record["protocol"]), str(record["method"]), str(record["dataset"])]
    changed = _changed(canonical_json([*words, sections]))
    if changed is None:
        return recorded
    if _RUN_SEED in named and sections.get("teacher", {}).get("seed") == record["seed"]:
        changed = (*(each for each in changed if not each.startswith("teacher.seed=")), _RUN_SEED)
    if "pretrained" in config:  # its own size is the default, which a config does not tell
        changed = (*changed, *(each for each in named if each.startswith("teacher.size=")))
    return format_label(name, changed)


@functools.lru_cache(maxsize=4096)
def _changed(identity: str) -> tuple[str, ...] | None:
    """Return the settings that differ from their preset; None if this version does not know what they are of."""
    name, protocol, method, dataset, sections = json.loads(identity)
    try:
        known = section_types(PROTOCOLS.get(protocol).entry, METHODS.get(method).entry)
        types = {section: cls for section, cls in known.items() if section in sections}
        preset = _preset(Request(protocol, method, dataset, name), sections)
        default = {s: build_settings(cls, preset.get(s, {}), s) for s, cls in types.items()}
        settings = {
            s: build_settings(cls, {**_earlier(cls, preset.get(s, {})), **_own(s, sections[s])}, s)
            for s, cls in types.items()
        }
    except InputError:
        return None
    return tuple(changed_settings(default, settings))


def _preset(request: Request, sections: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Return the values of the preset; none if the name is that of no preset for such a run."""
    networks = (sections.get(section, {}).get("backbone") for section in ("teacher", "student"))
    try:
        return resolve_preset(request, PROTOCOLS.get(request.protocol).entry, *networks).values
    except InputError:
        return {}


def _earlier(settings: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of fields that a config would hold even at their default."""
    added = {field.name for field in dataclasses.fields(settings) if field.metadata.get("added")}
    return {name: value for name, value in values.items() if name not in added}


def _own(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in a section of a config: no name of an entry, no size of a pretrained teacher."""
    other = {"protocol": "name", "method": "name", "teacher": "size"}.get(section)
    return {name: value for name, value in values.items() if name != other}
