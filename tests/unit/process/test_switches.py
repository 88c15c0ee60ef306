"""What a worker that starts later is sent."""

from types import SimpleNamespace

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


def pool(name, *replicas):
    return SimpleNamespace(name=name, replicas=[SimpleNamespace(name=replica) for replica in replicas])


def test_replicas_are_switched_in_the_pools_that_have_them():
    configs = [pool("", "far", "near"), pool("beta", "far"), pool("gamma")]
    switches = Switches()
    switches.follow_command("replica", ["far", "off"], configs)
    assert switches.replicas_off() == {("default", "far"), ("beta", "far")}
    switches.follow_command("replica", ["far", "on", "beta"], configs)
    switches.follow_command("replica", ["near", "off", "default"], configs)
    assert switches.commands() == [("replica", ["far", "off", "default"]), ("replica", ["near", "off", "default"])]
    assert Switches(switches.kept()).replicas_off() == switches.replicas_off() == {("default", "far"), ("default", "near")}


@pytest.mark.parametrize("arguments", [[], ["far"], ["far", "of"], ["other", "off"], ["far", "off", "gamma"]])
def test_a_replica_that_is_not_there_is_not_remembered(arguments):
    switches = Switches()
    switches.follow_command("replica", arguments, [pool("", "far"), pool("gamma")])
    assert switches.commands() == []
