"""Makes the table of compiled code (codetable): `python3 -m multihook.codemaker`, run when the package is configured.

Left out is what a hook never reads: docstrings, line numbers, annotations, what is for the type
checker.
"""

import ast
import sys
from marshal import dumps
from pathlib import Path
from types import CodeType

from multihook import codetable, files

# What every event needs, each module behind what it imports.
CORE = (
    "", "paths", "address", "files", "journal", "repeats", "spool", "lock", "kind", "view", "oldvalues", "departed",
    "kernel", "kernel.rtnetlink", "kernel.fib", "kernel.interfaces", "kernel.routes", "kernel.rules",
    "kernel.addresses", "kernel.facts", "kernel.precedence", "kernel.nftables", "kernel.ruleset", "kernel.nfttable",
    "kernel.sysctl", "kernel.conntrack", "kernel.stale", "sources", "sources.event", "config", "config.listing",
    "config.compiled", "leases", "links", "features", "features.snat", "features.routing", "features.sysctls",
    "features.connections", "record", "engine", "front", "survey", "scope", "account", "run", "intake", "hook",
)  # fmt: skip
# What some events need.
REST = (
    "config.tables", "discovery", "census", "multilink", "edits", "blocks", "features.glftpd", "kernel.nft",
    "kernel.words", "kernel.swaps", "kernel.tables", "names", "news", "sources.dhcp", "sources.dhclient",
    "sources.dhcpcd", "sources.ifupdown", "sources.pppd",
)  # fmt: skip


def make() -> None:
    """Make the table anew; raises OSError where it cannot be written."""
    folder = Path(codetable.PACKAGE)
    packages = {"multihook", *(f"multihook.{path.parent.name}" for path in folder.glob("*/__init__.py"))}
    core = {_name(module): _code(folder, module) for module in CORE}
    rest = {_name(module): dumps(_code(folder, module)) for module in REST}
    files.folder(codetable.FILE.rpartition("/")[0], 0o755)
    files.replace(codetable.FILE, codetable.head() + dumps((tuple(sorted(packages)), core, rest)))


def _name(module: str) -> str:
    return f"multihook.{module}" if module else "multihook"


def _code(folder: Path, module: str) -> CodeType:
    path = folder.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = _Plain().visit(ast.parse(path.read_bytes(), str(path)))
    return _without_lines(compile(ast.fix_missing_locations(tree), str(path), "exec", dont_inherit=True, optimize=2))


class _Plain(ast.NodeTransformer):
    """Takes annotations and `if TYPE_CHECKING:` out of a module."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        assigned = ast.Assign([node.target], node.value) if node.value else ast.Pass()
        return ast.copy_location(assigned, node)

    def visit_If(self, node: ast.If) -> ast.AST:
        is_for_checker = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return ast.copy_location(ast.Pass(), node) if is_for_checker else self.generic_visit(node)


def _without_lines(code: CodeType) -> CodeType:
    """The same code without line numbers, a quarter of all: where a traceback is logged, it has no lines."""
    constants = tuple(_without_lines(one) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_linetable=b"", co_consts=constants)


def renew() -> None:
    """Make the table anew where it does not hold, or a source has changed since.

    One that cannot be written is done without: then hooks import everything as ever.
    """
    try:
        if not _is_current():
            make()
    except (OSError, SyntaxError, ValueError):
        return  # a read-only /usr, or dpkg at work


def _is_current() -> bool:
    try:
        holds = codetable.trusted().startswith(codetable.head())
        made = Path(codetable.FILE).stat().st_ctime_ns
    except (OSError, ValueError):
        return False
    return holds and all(path.stat().st_ctime_ns < made for path in Path(codetable.PACKAGE).rglob("*.py"))


if __name__ == "__main__":
    try:
        make()
    except OSError as error:
        sys.exit(files.explain(error))
