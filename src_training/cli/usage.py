"""Messages for invalid command lines, and the exit codes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError
from rich.text import Text

if TYPE_CHECKING:
    from cyclopts import Argument
    from cyclopts.completion import CompletionContext

EXIT_CODES = {
    0: "done",
    1: "a part failed (a case, a file, a run), or the system refused (disk full, no permission)",
    2: "the command line, or a file that it names, cannot be used",
    130: "stopped by Ctrl+C or a signal; the same command goes on",
}
"""Exit code -> its meaning."""

EPILOGUE = "Exit codes: " + "; ".join(f"{code} {when}" for code, when in EXIT_CODES.items()) + ".\n"


@dataclass(frozen=True)
class Choices:
    """Possible values of an option, for completion in the shell and for error messages.

    Attributes
    ----------
    names
        Function that returns the names.
    suffix
        Suffix of files that are possible as well; empty if only names are.
    """

    names: Callable[[], Iterable[str]]
    suffix: str = ""

    def __call__(self, context: "CompletionContext") -> list[str]:
        """Return the completions of the word at the cursor."""
        return [*self.names(), *(_paths(context.incomplete, self.suffix) if self.suffix else ())]


def _paths(incomplete: str, suffix: str) -> list[str]:
    parent = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    paths = [path for path in parent.glob("[!.]*") if path.is_dir() or path.suffix == suffix]
    return [f"{path}/" if path.is_dir() else str(path) for path in sorted(paths)]


def describe(error: CycloptsError) -> Text:
    """Format an error of a command line; lists all missing options with their values."""
    return Text(_sentence(error), "red")


def _sentence(error: CycloptsError) -> str:
    command = " ".join(["msankd", *(error.command_chain or ())])
    argument = error.argument
    if isinstance(error, UnusedCliTokensError):
        return (
            f"{command}: no option takes {', '.join(error.unused_tokens or ())}; expected an "
            "option before each value, as in --domain A --domain B"
        )
    if not isinstance(error, MissingArgumentError) or argument is None:
        return f"{command}: {error}"
    if error.keyword or argument.tokens:
        return f"{command}: {argument.name} has no value; expected {_takes(argument)}"
    missing = _missing(error, argument)
    width = max(len(_name(each)) for each in missing)
    lines = [f"  {_name(each):{width}}  {_takes(each)}" for each in missing]
    what = "is 1 argument" if len(missing) == 1 else f"are {len(missing)} arguments"
    head = f"{command}: there {what} missing; {command} --help shows all options"
    return "\n".join([head, *lines])


def _missing(error: CycloptsError, first: "Argument") -> list["Argument"]:
    """The first missing required argument, and further missing ones."""
    assert error.app is not None
    given = {token.partition("=")[0] for token in error.root_input_tokens or ()}
    required = [each for each in error.app.assemble_argument_collection() if each.required]
    names = [each.name for each in required]
    return [each for each in required[names.index(first.name) :] if not given & {*each.names}]


def _name(argument: "Argument") -> str:
    return argument.name if argument.index is None else argument.name.strip("-").upper()


def _takes(argument: "Argument") -> str:
    """Description of an argument's value, with its choices if there are any."""
    text = (argument.parameter.help or "").rstrip(".")
    completer = argument.parameter.completer
    choices = argument.get_choices() or ()
    if isinstance(completer, Choices):
        choices = tuple(completer.names())
    return f"{text}: {', '.join(choices)}" if choices else text
