"""``tinyrnn completion``: a script that lets a shell complete commands, options and names of files.

The parsers are the one list of both; the script has all that it needs, so a press of Tab runs no Python.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from shlex import quote
from typing import NamedTuple

from tinyrnn.cli.console import say

# An argument with one of these names is a file's.
FILES = ("FILE", "MODEL", "INPUT", "OUT")


class Option(NamedTuple):
    """An option of a command: its names, and what completes the word behind it."""

    names: list[str]
    help: str
    takes: bool  # a word behind it
    words: list[str]
    file: bool


# Of each command its help, its options, and its own words.
Table = dict[str, tuple[str, list[Option], list[str] | None]]


def command(args: Namespace) -> None:
    """Print the script of a shell."""
    (commands,) = (
        action for action in args.parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    table: Table = {}
    for listed in commands._choices_actions:
        parser = commands.choices[listed.dest]
        table[listed.dest] = listed.help or "", _options(parser), _words(parser)
    say({"bash": _bash, "zsh": _zsh, "fish": _fish}[args.shell](table))


def _options(parser: argparse.ArgumentParser) -> list[Option]:
    return [
        Option(
            list(action.option_strings),
            (action.help or "").replace("%%", "%"),
            action.nargs != 0,
            [*map(str, action.choices or ())],
            action.metavar in FILES,
        )
        for action in parser._actions
        if action.option_strings
    ]


def _words(parser: argparse.ArgumentParser) -> list[str] | None:
    """The words that a command's own arguments may be; None for names of files, [] for none."""
    own = [action for action in parser._actions if not action.option_strings]
    if any(action.metavar in FILES for action in own):
        return None
    return [str(choice) for action in own for choice in action.choices or ()]


def _offered(words: list[str] | None) -> str:
    """The command of bash that offers these words, or names of files."""
    return "compopt -o default" if words is None else f"words='{' '.join(words)}'"


def _bash(table: Table) -> str:
    cases = []
    for name, (_, options, words) in table.items():
        behind: dict[str, list[str]] = {}
        for option in options:
            if option.takes:
                names = [f"{name}:{one}" for one in option.names]
                behind.setdefault(_offered(None if option.file else option.words), []).extend(names)
        cases += [f"        {'|'.join(names)}) {then} ;;" for then, names in behind.items()]
        listed = " ".join(one for option in options for one in option.names)
        cases.append(
            f"        {name}:*) if [[ $cur == -* ]]; then words='{listed}'; else {_offered(words)}; fi ;;"
        )
    return "\n".join(
        [
            "_tinyrnn() {",
            "    local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} name= words=",
            "    if [[ $cur == = ]]; then cur=",  # --to=int8 is three words
            "    elif [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi",
            "    ((COMP_CWORD > 1)) && name=${COMP_WORDS[1]}",
            "    case $name:$before in",
            *cases,
            f"        :*) words='{' '.join(table)} --help --version' ;;",
            "    esac",
            '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")',
            "}",
            "complete -F _tinyrnn tinyrnn",
        ]
    )


def _zsh(table: Table) -> str:
    lines = ["#compdef tinyrnn", "_tinyrnn() {", "    local -a commands=("]
    lines += [f"        {quote(f'{name}:{about}')}" for name, (about, _, _) in table.items()]
    lines += [
        "    )",
        "    if ((CURRENT == 2)); then",
        "        _describe command commands",
        "        return",
        "    fi",
        "    shift words",
        "    ((CURRENT--))",
        "    case $words[1] in",
    ]
    for name, (_, options, words) in table.items():
        lines.append(f"        {name}) _arguments \\")
        for option in options:
            about = option.help.translate({ord(mark): f"\\{mark}" for mark in "[]:\\"})
            then = "_files" if option.file else f"({' '.join(option.words)})" if option.words else " "
            behind = f":value:{then}" if option.takes else ""
            for one in option.names:
                joined = "=" if option.takes and one[:2] == "--" else ""
                lines.append(f"            {quote(f'*{one}{joined}[{about}]{behind}')} \\")
        then = "_files" if words is None else f"({' '.join(words)})" if words else " "
        lines.append(f"            {quote(f'*:argument:{then}')} ;;")
    lines += [
        "    esac",
        "}",
        'if [[ $funcstack[1] == _tinyrnn ]]; then _tinyrnn "$@"; else compdef _tinyrnn tinyrnn; fi',
    ]
    return "\n".join(lines)


def _fish(table: Table) -> str:
    lines = ["complete -c tinyrnn -f", "complete -c tinyrnn -n __fish_use_subcommand -l version -l help"]
    for name, (about, options, words) in table.items():
        lines.append(f"complete -c tinyrnn -n __fish_use_subcommand -a {name} -d {quote(about)}")
        head = f"complete -c tinyrnn -n '__fish_seen_subcommand_from {name}'"
        if words is None:
            lines.append(f"{head} -F")
        elif words:
            lines.append(f"{head} -a {quote(' '.join(words))}")
        for option in options:
            names = " ".join(f"-l {one[2:]}" if one[:2] == "--" else f"-s {one[1:]}" for one in option.names)
            takes = " -r -F" if option.file else " -x" if option.takes else ""
            takes += f" -a {quote(' '.join(option.words))}" if option.words else ""
            lines.append(f"{head} {names}{takes} -d {quote(option.help)}")
    return "\n".join(lines)
