"""Says in a line why a class that a setting names cannot be used; the parser says it among much else."""

from __future__ import annotations

import re
import sys

from tts_train.configuration.values import nearest

_CANNOT = re.compile(r"Problem with given class_path '(?P<path>[^']+)':\s*(?P<why>[^\n]+)")
_NO_PATH = re.compile(r"Expected a dot import path string: (?P<name>\S+)")
_NO_SUBCLASS = re.compile(
    r"does not correspond to a subclass of (?P<base>\w+).*Given value: (?P<path>[\w.]+)$", re.DOTALL
)
_NO_SETTING = re.compile(r"Option '(?P<name>[^']+)' is not accepted")
_NEEDS = re.compile(r"the following arguments are required: (?P<names>[^.\n]+)")
_CLASS = re.compile(r"class_path'?[=:] ?'(?P<path>[\w.]+)'")
_REMOVED = {
    "tts_train.loggers.TrackioLogger": "was removed, as trackio reads TensorBoard's files. Leave out --trainer.logger"
    ' and its settings: TensorBoard is the default. Then type: pip install trackio tbparse; python -c "import trackio;'
    " trackio.import_tf_events('RUN/logs', 'PROJECT')\"",
}
"""Classes that recipes and runs of earlier versions may name, and what to do without them."""
_BEHIND = " Give a class by its module and name, as in lightning.pytorch.callbacks.EarlyStopping."


def about_class(why: str) -> str | None:
    """Return what is wrong with a class or its settings; None where the parser's reasons are about something else.

    Args:
        why: The reasons of jsonargparse for refusing a value whose type is a class.
    """
    for path, advice in _REMOVED.items():
        if path in why:
            return f"{path} {advice}"
    found = _CANNOT.search(why)
    if found is not None:
        module, _, name = found["path"].rpartition(".")
        if module not in sys.modules:
            return f"{found['path']} cannot be imported: {found['why'].strip()}. Install its package, or mend the name."
        return f"the module {module} has no {name}.{nearest(name, _classes(module))}"
    found = _NO_PATH.search(why)
    if found is not None:
        near = nearest(found["name"], _classes("lightning.pytorch.callbacks"))
        return f"there is no class {found['name']}.{near or _BEHIND}"
    found = _NO_SUBCLASS.search(why)
    if found is not None:
        return f"{found['path']} is no {found['base']}.{_BEHIND}"
    classes = [each["path"].rpartition(".")[2] for each in _CLASS.finditer(why)]
    which = classes[0] if len(classes) == 1 else "the class"
    found = _NO_SETTING.search(why)
    if found is not None:
        given_first = "" if classes else " Name the class before its settings: --trainer.callbacks+=EarlyStopping."
        return f"{which} has no setting {found['name']}.{given_first}"
    found = _NEEDS.search(why)
    return f"{which} needs the setting {found['names'].strip()}." if found is not None else None


def _classes(module: str) -> list[str]:
    return [name for name in dir(sys.modules.get(module)) if name[0].isupper()]
