"""What stands in front of our rules: a foreign rule that takes (nearly) every packet before ours see it.

wg-quick gives its rule no priority, and the kernel then takes that of the second rule of all minus
1: started after us it lands directly in front of ours.  A Tailscale exit node has 5270.  Nothing
foreign is ever changed, so all we can do is to say so, once, and in `status`.
"""

from multihook import repeats
from multihook.address import FAMILIES, FAMILY_NAMES, INET
from multihook.features import routing
from multihook.files import folder, read, remove, replace
from multihook.journal import foreign
from multihook.kernel import precedence, routes, rules
from multihook.kernel.fib import MAIN
from multihook.kernel.rules import Rule
from multihook.paths import FRONT, PRIVATE, RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multihook.view import View

# Our priorities are rule_base .. rule_base + 999.
BAND = 1000


def rules_in_front(view: "View") -> list[Rule]:
    """The foreign rules that take every packet before the last of ours; raises Refused and OSError.

    A rule whose table has no default route takes nothing away (Tailscale without an exit node).
    """
    found = []
    limit = view.config["rule_base"] + BAND
    for family in FAMILIES:
        for rule in precedence.before(rules.dump_of(view, family), view.config["rt_proto"], limit):
            if not precedence.catches_everything(rule):
                continue
            if not rule.looks_up or routes.has_default(view.door, family, rule.table):
                found.append(rule)
    return found


def rules_to_segments(view: "View") -> list[Rule]:
    """The foreign rules in front of ours by which a route of main by one link takes what has another link's address.

    wg-quick's second rule is one, `lookup main suppress_prefixlength 0`: ours for main leave out
    whatever leaves by a link.  Raises Refused and OSError.
    """
    up = [path for link in view.links if not link.lan for path in link.paths.values() if path.is_up]
    longest = max((route.prefixlen for path in up for route in path.mains), default=0)
    if len({link.name for link in view.links if link.has_address}) < 2:
        return []
    limit, group = view.config["rule_base"] + routing.SOURCE_RULE, view.config["group"]
    return [
        rule
        for rule in precedence.before(rules.dump_of(view, INET), view.config["rt_proto"], limit)
        if rule.looks_up and rule.table == MAIN and precedence.fits_everything(rule)
        and rule.suppress_prefixlen < longest and rule.suppress_ifgroup != group
    ]  # fmt: skip


def shown(rule: Rule) -> str:
    """A rule as `ip rule` shows it."""
    return f"{rule.priority}: {foreign(rule.text().partition(' priority ')[0])}"


def line(rule: Rule) -> str:
    """What is said of such a rule."""
    family = "" if rule.family == INET else f" ({FAMILY_NAMES[rule.family]})"
    return f"a foreign rule takes precedence over all links{family}: {shown(rule)}"


def line_to_segments(rule: Rule) -> str:
    """What is said of one of rules_to_segments()."""
    return f"a foreign rule lets a link's address reach another link's network by that link: {shown(rule)}"


def lines(view: "View") -> list[str]:
    """What is to be said; nothing while there is nothing of ours behind it."""
    return [line(rule) for rule in rules_in_front(view)] if view.links else []


def known() -> list[str]:
    """What was said of it last."""
    try:
        return read(FRONT, 1 << 16).decode("ascii", "replace").splitlines()
    except OSError:
        return []


def tell(said: list[str], before: list[str]) -> None:
    """Log what is new of it."""
    for one in said:
        if one not in before:
            repeats.warn(f"{one}; `multihook doctor` says what to do")


def keep(said: list[str]) -> None:
    """Remember it, so that what goes on standing there is said no more; raises OSError."""
    if not said:
        remove(FRONT)
        return
    folder(RUN, 0o755)
    folder(PRIVATE, 0o700)
    replace(FRONT, "".join(f"{one}\n" for one in said).encode("ascii", "replace"), 0o600)
