"""Claims about programs that write samples: arguments, limits, failures, and that clients never choose one."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evalsvc.builtin.generators.command import CommandSamples
from evalsvc.core.errors import ForbiddenError, InputError, ModelError
from evalsvc.evaluation.client_rules import ClientRules
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.conformance import check_generator
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.samples import Audio, Images, MixedImages, SampleRequest, Texts, Videos

CPU = torch.device("cpu")
ECHO = ["sh", "-c", 'shift; printf "%s|" "${@}" > "$0"', "{output}", "--"]


def asked(*prompts: str) -> SampleRequest:
    return SampleRequest.of(1, 0, len(prompts), CPU, prompts)


@pytest.fixture
def make(tmp_path):
    def make(*command: str, file: bool = False, **options):
        given = {"command": list(command), "suffix": ".txt", **options}
        path = tmp_path / ("program.yaml" if file else "weights.bin")
        path.write_text(json.dumps(given) if file else "weights")
        return CommandSamples(Checkpoint.open(path, "m", 1), CPU, **({} if file else given))

    return make


def test_placeholders_are_replaced_once_and_no_shell_reads_them(make, tmp_path):
    generator = make(*ECHO, "{prompt}", "x={index}", "{checkpoint}")
    prompts = ("plain", "$(touch x) `ls`; rm {seed} {output}", "two\nlines '\"", "-v --help")
    drawn = generator.sample(asked(*prompts))
    assert drawn.samples.items == tuple(f"{p}|x={i}|{tmp_path}/weights.bin|" for i, p in enumerate(prompts))
    assert not drawn.failures
    assert bool((drawn.usage.seconds > 0).all())
    assert (generator.info.takes, generator.info.modality) == ({"prompt"}, "text")


def test_a_seed_is_that_of_the_sample_and_fits_any_integer(make):
    generator, request = make(*ECHO, "{seed}"), asked(*"abcd")
    seeds = [int(text[:-1]) for text in generator.sample(request).samples.items]
    assert seeds == [int(seed) % 2**31 for seed in request.seeds]
    assert generator.sample(request.take([2])).samples.items == (f"{seeds[2]}|",)


def test_a_prompt_cannot_become_an_option(make):
    echo = ["sh", "-c", 'printf "%s|" "${@}" > "$0"', "{output}"]
    drawn = make(*echo, "{prompt}", "--text={prompt}").sample(asked("fine", "--version"))
    assert drawn.samples.items == ("fine|--text=fine|", "")
    assert drawn.failures == {
        1: "{prompt} begins with '-', which the program could read as an option: put '--' before it in the command"
    }
    assert make(*echo, "--", "{prompt}").sample(asked("-x")).samples.items == ("--|-x|",)


def test_one_failure_is_one_sample_and_all_are_an_error(make):
    program = 'echo "trace\n$1 is wrong" >&2; [ "$1" = bad ] && exit 3; [ "$1" = silent ] || echo "$1" > "$0"'
    generator = make("sh", "-c", program, "{output}", "{prompt}", parallel=2)
    with pytest.raises(ModelError, match=r"failed for all 1 samples of a batch: sh exited with code 3: bad is wrong"):
        generator.sample(asked("bad"))
    drawn = generator.sample(asked("good", "bad", "silent", "\0", "x" * 200_000))
    assert drawn.samples.items == ("good", "", "", "", "")
    assert [drawn.failures[row].partition(" ")[2] for row in (1, 2)] == [
        "exited with code 3: bad is wrong",
        "wrote no {output}",
    ]
    assert all("could not be started" in drawn.failures[row] for row in (3, 4))
    assert generator.sample(asked("bad")).failures.keys() == {0}


def test_a_slow_program_is_ended_with_all_that_it_started(make, tmp_path):
    started = tmp_path / "started"
    command = ["sh", "-c", 'sleep 600 & echo $! > "$1"; sleep 600', "{output}", str(started)]
    with pytest.raises(ModelError, match="failed for all 1 samples of a batch: sh took longer than 0.5 s"):
        make(*command, timeout=0.5).sample(asked("a"))
    status = Path(f"/proc/{int(started.read_text())}/stat")
    while status.exists() and status.read_text().split()[2] not in "ZX":  # a signal needs a moment
        time.sleep(0.01)


def test_each_run_has_a_folder_of_its_own_without_our_settings(make, tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSVC_DATABASE_URL", "postgresql://user:secret@host/db")
    drawn = make("sh", "-c", 'ls > "$0"; pwd >> "$0"; env >> "$0"', "{output}").sample(asked("a", "b"))
    (one, two) = (text.splitlines() for text in drawn.samples.items)
    assert one[:2] == ["output.txt", "stderr"]
    assert one[2] != two[2]
    assert not Path(one[2]).exists()
    assert not any("secret" in line for line in (*one, *two))


def test_sources_are_files(make):
    copy = ["sh", "-c", 'cp "$1" "$0"', "{output}", "{source}"]
    pixels = torch.randint(0, 256, (3, 3, 4, 5), dtype=torch.uint8)
    for suffix, sources in (
        (".png", Images(pixels)),
        (".png", Images(pixels[:, :1])),
        (".txt", Texts(("a", "b", "ä"))),
        (".npy", Videos(pixels[:, None])),
    ):
        drawn = make(*copy, suffix=suffix).sample(replace(asked(*"abc"), sources=sources)).samples
        assert drawn == sources if suffix == ".txt" else torch.equal(drawn.pixels, sources.pixels)
    several = MixedImages((pixels[0], pixels[1, :, :2]))
    drawn = make(*copy, suffix=".png").sample(replace(asked(*"ab"), sources=several)).samples
    assert all(torch.equal(a, b) for a, b in zip(drawn.items, several.items, strict=True))
    waves = Audio((torch.tensor([0.5, -0.25]),), 8000)
    drawn = make(*copy, suffix=".wav").sample(replace(asked("a"), sources=waves)).samples
    assert (drawn.rate, drawn.waves[0].tolist()) == (8000, [0.5, -0.25])


def test_speech_of_espeak_is_scored_from_a_file_of_its_command(make):
    generator = make("espeak-ng", "-w", "{output}", "--", "{prompt}", file=True, suffix=".wav")
    assert (generator.info.family, generator.info.modality, generator.info.needs) == ("espeak-ng", "audio", {"prompt"})
    assert generator.info.weights.startswith("program ")
    speech = generator.sample(asked("one", "-one", "one two three")).samples
    assert speech.rate == 22050
    assert len(speech.waves[0]) < len(speech.waves[2])


def test_a_program_conforms(make):
    generator = make(*ECHO, "{seed}", "{prompt}", parallel=4)
    assert [each for each in check_generator(generator, CPU) if not each.ok] == []


def test_another_program_or_file_of_it_is_another_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "draw.py").write_text("1")
    options = {"command": [sys.executable, "draw.py", "{output}", "slt"], "suffix": ".txt"}
    pinned = Plugins().pinned("command", options)
    assert pinned["command"][1] == f"{tmp_path}/draw.py"
    (tmp_path / "slt").write_text("an argument is a file if it looks like one")
    assert Plugins().pinned("command", pinned) == pinned
    (tmp_path / "draw.py").write_text("22")
    with pytest.raises(InputError, match="option command of generator 'command' names content that has changed"):
        Plugins().pinned("command", pinned)
    assert Plugins().pinned("command", {"suffix": ".txt"}) == {"suffix": ".txt"}


@pytest.mark.parametrize(
    ("command", "options", "complaint"),
    [
        (["no-such-program", "{output}"], {}, "program 'no-such-program' of .* does not exist .*: install it, or give"),
        (["sh", "{promt}", "{output}"], {}, r"contains \{promt\}: use \{prompt\}, \{label\}"),
        (
            ["sh", "-c", "say {prompt} > {output}"],
            {},
            "has a value in the script 'say {prompt} .* would run it: put the",
        ),
        (["env", "A=1", "/bin/bash", "-ec", "{prompt}", "{output}"], {}, "which would run it"),
        (["sh", "{prompt}"], {}, r"does not say where the sample is written: add \{output\}"),
        ([], {}, "invalid option command=.* of generator 'command': tuple should have at least 1 item"),
        (["sh", "{output}"], {"suffix": ".exe"}, "invalid option suffix='.exe' of .*: use one of .*.png"),
        (["sh", "{output}"], {"suffix": 3}, "invalid option suffix=3 of .*: input should be a valid string"),
        (["sh", "{output}"], {"timeout": 0}, "invalid option timeout=0 of .*greater than 0"),
        (["sh", "{output}"], {"shell": True}, "unknown option shell of .*: use command, suffix, timeout, parallel"),
        (
            ["sh", "{output}", "{checkpoint}"],
            {"file": True},
            "is the command itself: give the command as option command",
        ),
    ],
)
def test_each_mistake_is_one_sentence_with_the_way_out(make, command, options, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        make(*command, **options)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_a_command_says_what_to_give(tmp_path):
    for name, text, complaint in (
        ("a.pt", "x", "needs option command, or a .yaml or .json file with command and suffix"),
        ("a.yaml", "[1", "cannot be read as YAML"),
        ("c.yaml", "command: [sh, '{output}']", "generator 'command' needs option suffix: add it"),
        ("b.yaml", "hello", "does not contain options: write command and suffix"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=complaint):
            CommandSamples(Checkpoint.open(tmp_path / name, "m", 1), CPU)


def test_clients_never_use_it_even_if_the_server_file_lists_it(tmp_path, monkeypatch):
    (tmp_path / "server.yaml").write_text("clients: {generators: {command: [command, suffix]}}\n")
    monkeypatch.setenv("EVALSVC_SERVER_FILE", str(tmp_path / "server.yaml"))
    rules = ClientRules(Plugins())
    with pytest.raises(ForbiddenError, match="generator 'command' is for operators only: score it on the command line"):
        rules.require_confined("command", tmp_path / "program.yaml")
    assert not hasattr(Plugins().get(PluginKind.GENERATOR, "command").load(), "client_options")
