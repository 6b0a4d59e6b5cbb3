"""`docs/first-referral.md` does what it says: its own lines and programs, in its order, in a real sandbox.

Rules:

* A line of a console block that begins with `curl` or `exchange client` is run as it stands, in a shell in which the
  page's variables are set. `NAME=…` takes its value from the answer before it.
* Every answer has to be a success, unless the line's comment begins with a status (`# 410: …`). What only reads is
  asked again until it says so: the other node may not have heard yet.
* A Python block is run with the sandbox's address and folder in place of the invented ones.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from support.node_processes import ROOT, until

PAGE: Final = (ROOT / "docs" / "first-referral.md").read_text("utf-8")
EXCHANGE: Final = "from exchange.cli import main; main()"
ASSIGNED: Final[Mapping[str, Callable[[Any], str]]] = {
    "REFERRAL": lambda answer: str(answer["id"]),
    "ITEM": lambda answer: str(answer["items"][-1]["id"]),
    "CURSOR": lambda answer: str(answer["next_cursor"]),
    "DISCLOSURE": lambda answer: str(answer["items"][-1]["id"]),
}
LATEST_S: Final = 60
GIVEN: Final = frozenset({"S", "HELPLINE", "SHELTER"})


def curl_knows_json() -> bool:
    """Whether there is a curl, and not one from before 7.82."""
    if shutil.which("curl") is None:
        return False
    return b"--json" in subprocess.run(["curl", "--help", "all"], capture_output=True, check=True).stdout


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def lines() -> Iterator[tuple[str, str]]:
    """Every line to type, and its comment."""
    for block in blocks("console"):
        for typed in re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.MULTILINE):
            command, _, comment = typed.partition("  #")
            yield command.strip(), comment.strip()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The page's variables, while `exchange sandbox` runs; a command `exchange` stands on the path."""
    folder = tmp_path_factory.mktemp("page")
    programs = folder / "bin"
    programs.mkdir()
    command = programs / "exchange"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{EXCHANGE}" "$@"\n')
    command.chmod(0o700)
    outside = {name: value for name, value in os.environ.items() if not name.startswith("EXCHANGE_")}
    shell = outside | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    shell |= {"TMPDIR": str(folder)}
    with subprocess.Popen([command, "sandbox"], env=shell, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            told = ""
            while "Stop with Ctrl-C" not in told:
                line = running.stdout.readline()
                assert line, f"The sandbox ended: {told}"
                told += line
            yield shell | said(told)
        finally:
            running.send_signal(signal.SIGINT)


def said(text: str) -> dict[str, str]:
    """What a reader takes from the printed lines."""
    addresses = re.search(r"helpline (\S+)/docs +shelter (\S+)/docs", text)
    folder = re.search(r"-K (\S+)/helpline\.curl", text)
    assert addresses is not None, text
    assert folder is not None, text
    return {"S": folder[1], "HELPLINE": addresses[1], "SHELTER": addresses[2]}


def asked(command: str, shell: Mapping[str, str], folder: Path) -> tuple[int, Any]:
    """The status and the answer of a curl line."""
    done = subprocess.run(
        ["bash", "-c", f"{command} -w '\\n%{{http_code}}'"], env=shell, cwd=folder, capture_output=True, check=True
    )
    body, _, status = done.stdout.decode().rpartition("\n")
    return int(status), json.loads(body)


def expected(command: str, comment: str, shell: Mapping[str, str], folder: Path) -> Any:
    """The answer of a curl line, which has to be the one that the page promises."""
    status = re.match(r"\d{3}\b", comment)
    reads = "--json" not in command
    seen: list[int] = []

    def once() -> tuple[Any] | None:
        code, answer = asked(command, shell, folder)
        seen.append(code)
        if code == int(status[0]) if status else 200 <= code < 300:
            return (answer,)
        assert reads, (command, code, answer)
        return None

    return until(once, f"{command}: {status[0] if status else 'a success'}")[0]


@pytest.mark.skipif(not curl_knows_json(), reason="needs curl 7.82 or newer")
@pytest.mark.timeout(180)
def test_the_page_does_what_it_says(sandbox: dict[str, str], tmp_path: Path) -> None:
    shell, answer, ran = dict(sandbox), None, 0
    for command, comment in lines():
        name, assigned, _ = command.partition("=…")
        if command.startswith("curl"):
            answer = expected(command, comment, shell, tmp_path)
            ran += 1
        elif command.startswith("exchange client"):
            subprocess.run(["bash", "-c", command], env=shell, cwd=tmp_path, check=True)
        elif assigned and name not in GIVEN:
            shell[name] = ASSIGNED[name](answer)
    assert ran >= 14
    assert {entry["party"] for entry in answer["attestations"]} == {"own-node", "peer-node", "peer-agency"}

    sdk, token = (adapted(block, shell) for block in blocks("python"))
    got = subprocess.run([sys.executable, "-c", token], env=shell, cwd=tmp_path, capture_output=True, check=True)
    assert len(got.stdout.decode().split(".")) == 3
    assert " answer due " in printed_until("disclosure", sdk, shell)[0]


def printed_until(word: str, program: str, shell: Mapping[str, str]) -> list[str]:
    """What a program that goes on until Ctrl-C prints, up to the line that begins with this word."""
    printed: list[str] = []
    with subprocess.Popen([sys.executable, "-c", program], env=shell, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        late = threading.Timer(LATEST_S, running.kill)
        late.start()
        try:
            for line in running.stdout:
                printed.append(line)
                if line.startswith(word):
                    return printed
        finally:
            late.cancel()
            # Not as Ctrl-C: a shell lets what it starts in the background ignore that.
            running.terminate()
    raise AssertionError(f"It ended, or was ended, before it said {word}: {printed}")


def adapted(program: str, shell: Mapping[str, str]) -> str:
    """A program of the page, for this sandbox."""
    invented = {"http://127.0.0.1:36553": "HELPLINE", "http://127.0.0.1:54123": "SHELTER"}
    for value, name in ({"/tmp/exchange-sandbox-…": "S"} | invented).items():  # noqa: S108 - as the page says it
        program = program.replace(f'"{value}"', f'"{shell[name]}"')
    assert "127.0.0.1:36553" not in program
    return program
