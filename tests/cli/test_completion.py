"""Completion, in the shells themselves: keys typed into a terminal, and the words that Tab makes of them."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from tinyrnn import cli

# What each shell runs first. `tinyrnn` writes the words that it was given into a file; no Python runs.
SETUP = {
    "bash": "unset HISTFILE; source ./script; ",
    "zsh": "RPROMPT=; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; source ./script; ",
}
COMMAND_OF_TEST = 'tinyrnn() { printf "%s\\n" "$@" >new; mv new words; }\n'
PROMPT = "@@> "
COMMAND = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "speech model.safetensors").touch()
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "noise.wav").touch()
    return tmp_path


def script(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    text, problems = capsys.readouterr()
    assert not problems
    return text


class Terminal:
    """A shell in a terminal of its own."""

    def __init__(self, shell, folder):
        self.pid, self.end = pty.fork()
        if not self.pid:
            os.environ |= {"PS1": PROMPT, "TERM": "xterm", "HOME": str(folder), "COLUMNS": "500"}
            os.execvp(COMMAND[shell][0], COMMAND[shell])
        self.folder = folder
        self.until(PROMPT)
        self.type(SETUP[shell] + COMMAND_OF_TEST)
        self.until(PROMPT)

    def type(self, keys):
        os.write(self.end, keys.encode())

    def until(self, mark):
        """Read until the mark comes, for a minute at most."""
        text, last = "", time.monotonic() + 60
        while mark not in text:
            assert select.select([self.end], [], [], max(0, last - time.monotonic()))[0], text
            text += os.read(self.end, 4096).decode(errors="replace")
        return text

    def completed(self, keys):
        """The words that the command gets when these keys, with Tabs in them, and Enter are typed."""
        words = self.folder / "words"
        words.unlink(missing_ok=True)
        self.type(keys + "\n")
        while not words.exists():  # a shell may draw its prompt again before
            self.until(PROMPT)
        return words.read_text().splitlines()

    def close(self):
        os.close(self.end)
        os.waitpid(self.pid, 0)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_terminal_completes(shell, folder, capsys):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    (folder / "script").write_text(script(shell, capsys))
    terminal = Terminal(shell, folder)
    try:
        for keys, words in {
            "tinyrnn qu\t": ["quantize"],
            "tinyrnn run --ba\t": ["run", "--batch-first"],
            "tinyrnn run spee\t": ["run", "speech model.safetensors"],
            "tinyrnn run x sou\tn\t -o y.csv": ["run", "x", "sounds/noise.wav", "-o", "y.csv"],
            "tinyrnn quantize --to flo\t": ["quantize", "--to", "float16"],
            "tinyrnn bench --json sou\tn\t": ["bench", "--json", "sounds/noise.wav"],
            "tinyrnn completion fi\t": ["completion", "fish"],
        }.items():
            assert terminal.completed(keys) == words, keys
    finally:
        terminal.close()


def test_fish_completes(folder, capsys):
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    (folder / "script").write_text(script("fish", capsys))

    def completed(line):
        code = f"source script; complete --do-complete '{line}'"
        done = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True, check=True)
        assert not done.stderr
        return [one.partition("\t")[0] for one in done.stdout.splitlines()]

    assert completed("tinyrnn qu") == ["quantize"]
    assert completed("tinyrnn run --ba") == ["--batch-first"]
    assert completed("tinyrnn run spee") == ["speech model.safetensors"]
    assert completed("tinyrnn quantize --to flo") == ["float16"]
    assert completed("tinyrnn bench --json sou") == ["sounds/"]
    assert completed("tinyrnn completion ") == ["bash", "fish", "zsh"]


def test_every_option_is_in_every_script(capsys):
    """The scripts are made of the parsers, so all that --help names is there."""
    helped = {}
    for command in ("info", "run", "quantize", "convert", "verify", "bench", "doctor", "completion"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        helped[command] = set(re.findall(r"--[a-z][\w-]+", capsys.readouterr().out))
    for shell in cli.SHELLS:
        text = script(shell, capsys)
        for command, options in helped.items():
            assert re.search(rf"\b{command}\b", text)
            for option in options:
                assert re.search(rf"(--|-l ){option[2:]}\b", text), (shell, command, option)
