"""``tinyrnn completion``: a script that lets a shell complete commands, options and names of files.

It is made from the parsers, and has all that it needs, so a press of Tab runs no Python.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from shlex import quote

from tinyrnn.cli.console import say


def command(args: Namespace) -> None:
    """Print the script of a shell."""
    (commands,) = (one for one in args.parser._actions if isinstance(one, argparse._SubParsersAction))
    write = _fish if args.shell == "fish" else _bash
    for line in write(
        {one.dest: (one.help, commands.choices[one.dest]) for one in commands._choices_actions}
    ):
        say(line)


def _bash(commands: dict[str, tuple[str | None, argparse.ArgumentParser]]) -> list[str]:
    """Lines for bash, and for zsh, which can run them. Where no word fits, names of files are offered."""
    takes: set[str] = set()
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
            elif action.nargs != 0:
                takes |= set(action.option_strings)
        cases.append(f"{name}:*) words='{own}'; [[ $cur != -* ]] || words='{' '.join(listed)}' ;;")
    return [
        "_tinyrnn() {",
        "local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} name= words=",
        "if [[ $cur == = ]]; then cur=; elif [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi",
        "if ((COMP_CWORD > 1)); then name=${COMP_WORDS[1]}; fi",
        "case $name:$before in",
        f":*) words='{' '.join(commands)} --help --version' ;;",
        *(case for case in cases if ":*)" not in case),
        f"{'|'.join(f'*:{one}' for one in sorted(takes))}) ;;",
        *(case for case in cases if ":*)" in case),
        "esac",
        'COMPREPLY=($(compgen -W "$words" -- "$cur"))',
        "}",
        'if [ -n "$ZSH_VERSION" ]; then autoload -U +X bashcompinit && bashcompinit; fi',
        "complete -o default -F _tinyrnn tinyrnn",
    ]


def _fish(commands: dict[str, tuple[str | None, argparse.ArgumentParser]]) -> list[str]:
    lines = ["complete -c tinyrnn -n __fish_use_subcommand -f -l version -l help"]
    for name, (about, parser) in commands.items():
        lines.append(f"complete -c tinyrnn -n __fish_use_subcommand -f -a {name} -d {quote(about or '')}")
        for action in parser._actions:
            line = f"complete -c tinyrnn -n '__fish_seen_subcommand_from {name}'"
            for one in action.option_strings:
                line += f" -l {one[2:]}" if one[:2] == "--" else f" -s {one[1:]}"
            if action.option_strings:
                line += " -r" * (action.nargs != 0) + f" -d {quote(action.help or '')}"
            if action.choices:
                line += f" -f -a {quote(' '.join(map(str, action.choices)))}"
            lines.append(line)
    return lines
