"""``tinyrnn completion``: a script that lets a shell complete commands, options and names of files.

It is made from the parsers; a press of Tab runs no Python.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from shlex import quote

from tinyrnn.cli.console import say

Commands = dict[str, tuple[str | None, argparse.ArgumentParser]]  # the help of each, and its parser


def command(args: Namespace) -> None:
    """Print the script of a shell."""
    (commands,) = (one for one in args.parser._actions if isinstance(one, argparse._SubParsersAction))
    write = _fish if args.shell == "fish" else _bash
    for line in write(
        {one.dest: (one.help, commands.choices[one.dest]) for one in commands._choices_actions}
    ):
        say(line)


def _bash(commands: Commands) -> list[str]:
    """Lines for bash and zsh. Where no word fits, names of files are offered."""
    cases: list[str] = []
    for name, (_, parser) in commands.items():
        own, listed = "", list[str]()
        for action in parser._actions:
            words = " ".join(map(str, action.choices or ()))
            listed += action.option_strings
            if not action.option_strings:
                own = words
            elif words:
                cases.append(f"{name}:{'|'.join(action.option_strings)}) words='{words}' ;;")
        cases.append(f"{name}:*) words='{own}'; [[ $cur != -* ]] || words='{' '.join(listed)}' ;;")
    return [
        "_tinyrnn() {",
        "local cur=${COMP_WORDS[COMP_CWORD]} name= words=",
        "if ((COMP_CWORD > 1)); then name=${COMP_WORDS[1]}; fi",
        "case $name:${COMP_WORDS[COMP_CWORD-1]} in",
        f":*) words='{' '.join(commands)} --help --version' ;;",
        *cases,
        "esac",
        'COMPREPLY=($(compgen -W "$words" -- "$cur"))',
        "}",
        'if [ -n "$ZSH_VERSION" ]; then autoload -U +X bashcompinit && bashcompinit; fi',
        "complete -o default -F _tinyrnn tinyrnn",
    ]


def _fish(commands: Commands) -> list[str]:
    lines = ["complete -c tinyrnn -n __fish_use_subcommand -f -l version -l help"]
    for name, (about, parser) in commands.items():
        lines.append(f"complete -c tinyrnn -n __fish_use_subcommand -f -a {name} -d {quote(about or '')}")
        for action in parser._actions:
            line = f"complete -c tinyrnn -n '__fish_seen_subcommand_from {name}'"
            if action.option_strings:
                line += f" -l {action.option_strings[-1][2:]} -d {quote(action.help or '')}"
                line += " -r" * (action.nargs != 0)
            if action.choices:
                line += f" -f -a {quote(' '.join(map(str, action.choices)))}"
            lines.append(line)
    return lines
