import subprocess

import pytest

from tests.helpers.command import run

COMPLETE = """
eval "$1"
COMP_WORDS=(seg "${@:2}")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
$(complete -p seg | sed -E 's/.* -F ([^ ]+) .*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(["ev"], "evaluate"), (["evaluate", "--com"], "--compare"), (["data", "ch"], "check"), (["train", "sma"], "small.yaml")],
)
def test_bash_completes_verbs_options_and_files(place, capsys, words, wanted):
    code, script, _ = run(capsys, "completion", "bash")
    assert code == 0
    asked = ["bash", "-c", COMPLETE, "bash", script, *words]
    assert wanted in subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(capsys, shell):
    code, script, _ = run(capsys, "completion", shell)
    assert code == 0 and "evaluate" in script
