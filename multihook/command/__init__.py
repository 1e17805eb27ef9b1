"""The console command: one module for each sub-command, imported only when it is the one asked for."""

import os
import sys
from importlib import import_module

import click

from multihook import __version__

# In the order in which --help shows them: the name, its module, its function, its line of help.
_COMMANDS = {
    "status": ("status", "status", "Show each link, and whether the kernel agrees."),
    "sync": ("sync", "sync", "Bring everything in line, or print what that would change."),
    "up": ("hands", "up", "Look at an interface that no hook announces."),
    "down": ("hands", "down", "Take a link's rules and routes out although its address is there."),
    "flush": ("flush", "flush", "Take all of multihook's out of the kernel, and leave it out."),
    "doctor": ("doctor", "doctor", "Say what on this machine defeats multihook, and what to do about it."),
    "check-config": ("check_config", "check_config", "Say whether the configuration is right."),
}


class _Lazy(click.Group):
    """A group whose members are imported when they are called: `status` must be quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, function, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"multihook.command.{module}"), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="multihook")
def group() -> None:
    """Keep each internet link of this machine right: its routing table, its rules, its next hop.

    The hooks do that by themselves at each event of pppd, dhclient, dhcpcd and ifupdown; this
    command shows it, repeats it, and undoes it.  See multihook(8) and multihook.toml(5).
    """


def main() -> None:
    """Run the command; a closed pipe or Ctrl-C ends it without a word, a full disk with one line."""
    # None when they were closed from the beginning.
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    try:
        try:
            group.main(prog_name="multihook", standalone_mode=True)
        finally:
            sys.stdout.flush()
    except OSError as error:
        # What is still in the buffer would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not isinstance(error, BrokenPipeError):
            click.echo(f"multihook: the output cannot be written: {error.strerror}", err=True)
        sys.exit(1)
