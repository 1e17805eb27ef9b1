"""The features: one module for each thing that is kept right for a link, and their contract.

A feature only says which objects should be there.  It is a module with
    NAME                 the word for it
    KINDS                the kinds of its objects (multihook.kind)
    is_wanted(config)    whether the configuration asks for it
    desired(view)        the objects that should be there; pure: the same view, the same objects
    remarks(view)        where a feature has them: one line for each thing that it leaves undone, and
                         why; for the log of a run over everything, and for `status`
and, where its objects stand in a routing table of its own, or depend on which links can carry traffic,
    FOLLOWS_STATE = True an event by which a link begins or ceases to carry traffic looks at everything

In an event's run `view.links` has the links of that event.  Objects of the machine (kind.MACHINE)
are compared in runs over everything only.  A new feature is one module and one line in KEYS.
"""

from sys import modules

# In the order in which the engine asks them, each with the key of the configuration without which it is not wanted:
# then an event does not even load it.
KEYS = {"snat": "snat", "routing": "", "sysctls": "links", "connections": "", "glftpd": "glftpd"}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from multihook.kind import Kind, Object
    from multihook.view import View

    class Feature(Protocol):
        """What a feature module gives; see the module's docstring."""

        NAME: str
        KINDS: "tuple[Kind, ...]"

        def is_wanted(self, config: "dict[str, Any]") -> bool: ...
        def desired(self, view: "View") -> "list[Object]": ...


def every() -> "list[Feature]":
    """All features, wanted or not."""
    return [_feature(name) for name in KEYS]


def _feature(name: str) -> "Feature":
    module = f"multihook.features.{name}"
    __import__(module)
    return modules[module]


def wanted(config: "dict[str, Any]") -> "list[Feature]":
    """The features that the configuration asks for."""
    found = [_feature(name) for name, key in KEYS.items() if not key or config[key]]
    return [feature for feature in found if feature.is_wanted(config)]
