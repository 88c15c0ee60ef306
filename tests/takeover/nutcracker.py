"""The real nutcracker, as a process that a test starts."""

import shutil
import subprocess

import yaml
from support.servers import HOST, Process, free_port
from support.talk import Talk
from support.timing import eventually


def is_installed():
    return shutil.which("nutcracker") is not None


class Dumper(yaml.SafeDumper):
    """Writes YAML without anchors, which nutcracker cannot read."""

    def ignore_aliases(self, data):
        return True


def write_pools(path, pools, ports):
    """A nutcracker.yml with `pools` {name: keys}, each listening on its port in `ports`."""
    listening = {name: {"listen": f"{HOST}:{ports[name]}", **keys} for name, keys in pools.items()}
    path.write_text(yaml.dump(listening, Dumper=Dumper, sort_keys=False))
    return path


def free_ports(names):
    """{name: port}, all different."""
    ports = {}
    for name in names:
        port = free_port()
        while port in ports.values():
            port = free_port()
        ports[name] = port
    return ports


class Nutcracker(Process):
    """nutcracker, which serves `pools`. Its files are in `directory`."""

    def __init__(self, pools, directory):
        self.ports = free_ports([*pools, "stats"])
        self.log = directory / "nutcracker.log"
        file = write_pools(directory / "nutcracker.yml", pools, self.ports)
        super().__init__(
            ["nutcracker", "-c", file, "-o", self.log, "-p", directory / "nutcracker.pid", "-a", HOST, "-s", str(self.ports["stats"])],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._accepts, what="nutcracker accepts clients")

    def _accepts(self):
        assert self.is_running, f"nutcracker ended: {self.log.read_text()}"
        try:
            for name in self.ports:
                Talk(self.ports[name]).close()
        except OSError:
            return False
        return True

    def talk(self, pool):
        return Talk(self.ports[pool])
