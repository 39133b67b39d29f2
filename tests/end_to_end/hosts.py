"""Several machines on one: hosts on a network of their own, by Linux namespaces.

A host has its own address, name, processes, temporary folder, shared memory and home. All hosts
see one file system in common, as machines with a network disk do, and the software that is
installed. Neither the network nor the processes nor the mounts reach the machine outside, and
all of them end with the process that made them, however it ends.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SHARED = "/mnt/data"
"""The file system that all hosts share."""
SECRETS = "/run/secrets"
"""Where all hosts find the secrets."""
HOME, WORK = "/mnt/home", "/mnt/work"
NETWORK = "10.77.0"
_START_S = 60.0
_TOOLS = ("unshare", "nsenter", "setpriv", "ip")
_NAMESPACES = ("--mount", "--net", "--uts", "--pid", "--fork", "--mount-proc")

# Run as the first process of a host, which takes up orphans and ends all others with it.
_FIRST = f"""
set -e
own=$1 shared=$2 names=$3 secrets=$4 name=$5
mount --bind "$own" /mnt
mkdir -p {HOME} {WORK} {SHARED} /mnt/tmp
chmod 1777 /mnt/tmp
mount --bind "$shared" {SHARED}
mount --bind "$names" /etc/hosts
mount -t tmpfs tmpfs /run
mkdir {SECRETS}
mount --bind "$secrets" {SECRETS}
mount -t tmpfs tmpfs /dev/shm
mount --bind /mnt/tmp /tmp
hostname "$name"
ip link set lo up
touch /mnt/.ready
set +e
sleep infinity &
while :; do wait; done
"""


@dataclass(frozen=True)
class Host:
    """One machine.

    Attributes:
        name: resolved by all hosts.
        address: IPv4.
        folder: its own part of the disk, as the machine outside sees it; ``/mnt`` inside.
        process: outside, that holds its namespaces.
        environment: of everything that runs on it.
        servers: that were started.
    """

    name: str
    address: str
    folder: Path
    process: int
    environment: dict[str, str] = field(default_factory=dict)
    servers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def run(
        self, *words: str, environment: Mapping[str, str] | None = None, timeout_s: float = 120
    ) -> str:
        """Run a command to its end, and return what it prints on its standard output.

        Raises:
            AssertionError: it fails; with all that it printed.
        """
        done = subprocess.run(
            self._words(words, environment or {}), capture_output=True, text=True, timeout=timeout_s
        )
        said = f"{self.name}: {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said
        return done.stdout

    def start(self, *words: str, log: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a server, whose output goes to the file ``log`` in the host's folder."""
        with (self.folder / log).open("ab") as file:
            server = subprocess.Popen(
                self._words(words, environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.servers.append(server)

    def wait_for(self, port: int, address: str = "127.0.0.1") -> None:
        """Wait until something listens."""
        look = f"until (exec 3<>/dev/tcp/{address}/{port}) 2>/dev/null; do sleep 0.2; done"
        self.run("timeout", f"{_START_S:.0f}", "bash", "-c", look)

    def _words(self, words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        place = f"/proc/{self.process}/ns"
        values = {
            "HOME": HOME,
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin",
        }
        values |= {**self.environment, **environment}
        return [
            *("nsenter", f"--target={self.process}", "--mount", "--net", "--uts"),
            *(f"--pid={place}/pid_for_children", "env", "-i", f"--chdir={WORK}"),
            *(f"{name}={value}" for name, value in values.items()),
            *words,
        ]


def missing() -> str | None:
    """What this machine lacks for hosts; None where it has all."""
    lacks = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if lacks:
        return f"no {', '.join(lacks)}"
    try:
        subprocess.run(["unshare", *_NAMESPACES, "true"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        return "no right to make namespaces"
    if Path(sys.executable).is_relative_to("/tmp"):
        return "the environment lies in /tmp, of which each host has its own"
    return None


@contextmanager
def network(names: Sequence[str], folder: Path) -> Iterator[dict[str, Host]]:
    """Have hosts on one network.

    Args:
        names: of the hosts.
        folder: empty; gets a folder for each host, and ``shared`` and ``secrets`` of all.
    """
    addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, start=11)}
    table = folder / "hosts"
    lines = ["127.0.0.1 localhost", *(f"{addresses[name]} {name}" for name in names)]
    table.write_text("\n".join(lines) + "\n")
    for common in ("shared", "secrets"):
        (folder / common).mkdir()
    found: dict[str, Host] = {}
    with ExitStack() as stack:
        stack.callback(_end_servers, found)
        switch = stack.enter_context(_held(["unshare", "--net", "sleep", "infinity"]))
        _eventually(lambda: _differs(switch))
        _ip(switch, "link", "add", "switch", "type", "bridge")
        _ip(switch, "address", "add", f"{NETWORK}.1/24", "dev", "switch")
        _ip(switch, "link", "set", "switch", "up")
        for name in names:
            own = folder / name
            own.mkdir()
            places = [str(place) for place in (own, folder / "shared", table, folder / "secrets")]
            first = ["bash", "-c", _FIRST, "bash", *places, name]
            process = stack.enter_context(
                _held(["unshare", *_NAMESPACES, "--kill-child=KILL", *first])
            )
            _eventually((own / ".ready").exists)
            _plug(switch, process, name, addresses[name])
            found[name] = Host(name, addresses[name], own, process)
        yield found


@contextmanager
def _held(words: Sequence[str]) -> Iterator[int]:
    """A process that lives as long as the block, and no longer than this process."""
    process = subprocess.Popen(["setpriv", "--pdeathsig=KILL", *words])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _end_servers(hosts: Mapping[str, Host]) -> None:
    """They have ended with their hosts, and are taken off the list of processes."""
    for host in hosts.values():
        for server in host.servers:
            server.wait(_START_S)


def _plug(switch: int, host: int, name: str, address: str) -> None:
    """Join a host to the switch."""
    peer = ("peer", "name", "eth0", "netns", str(host))
    _ip(switch, "link", "add", name[:15], "type", "veth", *peer)
    _ip(switch, "link", "set", name[:15], "master", "switch", "up")
    _ip(host, "address", "add", f"{address}/24", "dev", "eth0")
    _ip(host, "link", "set", "eth0", "up")
    # By the default route Ray tells which of its addresses others reach.
    _ip(host, "route", "add", "default", "via", f"{NETWORK}.1")


def _ip(process: int, *words: str) -> None:
    enter = ["nsenter", f"--target={process}", "--net"]
    subprocess.run([*enter, "ip", *words], check=True, capture_output=True)


def _differs(process: int) -> bool:
    return Path(f"/proc/{process}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_S
    while not holds():
        assert time.monotonic() < deadline, "a host does not start"
        time.sleep(0.02)
