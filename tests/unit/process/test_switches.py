"""What a worker that starts later is sent."""

import pytest

from gmproxy.process.switches import Switches


def test_all_are_on_at_first():
    assert Switches().commands() == [] and Switches().is_on("fills") and Switches().is_on("journal")


def test_a_new_worker_gets_what_is_off():
    switches = Switches()
    switches.follow_command("journal", ["off"])
    switches.follow_command("fills", ["off"])
    assert switches.commands() == [("fills", ["off"]), ("journal", ["off"])]
    assert not switches.is_on("fills")
    switches.follow_command("fills", ["on"])
    assert switches.commands() == [("journal", ["off"])]


@pytest.mark.parametrize("name, arguments", [("fills", []), ("fills", ["of"]), ("drain", ["off"]), ("eject", ["fills"])])
def test_other_commands_switch_nothing(name, arguments):
    switches = Switches()
    switches.follow_command("fills", ["off"])
    switches.follow_command(name, arguments)
    assert switches.commands() == [("fills", ["off"])]
