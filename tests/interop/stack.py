"""Processes, and the ways from a client to a server: direct, sealed, and sealed through nginx."""

import contextlib
import hashlib
import os
import pathlib
import queue
import re
import signal
import socket
import subprocess
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("INTEROP_DIR", HERE.parents[1] / "target" / "interop")).resolve()
NODE = TARGET / "node_modules" / ".bin" / "node"
PACKAGES = TARGET / "node_modules" / "@modelcontextprotocol"
BOUND = 120  # seconds that anything here may take to begin, or to end


class Failure(Exception):
    """A sentence about what went wrong."""


class Processes:
    """Starts processes, each the leader of its group, and ends them all."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        self.ended = {}  # by name, with which exit status
        self.upstream = None  # a tap in front of the server, where a suite wants one
        self.reserved = contextlib.ExitStack()  # ports that nobody else is to get

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(BOUND)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it started and left
            process.reader.join(BOUND)
            self.ended[process.name] = process.returncode
        self.reserved.close()

    def start(self, name, *argv, until=None, **env):
        """Returns the match of `until`, once a line of the output has it."""
        process = subprocess.Popen(
            [str(arg) for arg in argv],
            env=os.environ | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        process.name = name
        self.started.append(process)
        lines = queue.Queue()
        log = self.folder / f"{len(self.started):02}-{name}.log"

        def read():
            with log.open("w") as file, process.stdout:
                for line in process.stdout:
                    file.write(line)
                    file.flush()
                    lines.put(line)
            lines.put(None)

        process.reader = threading.Thread(target=read, daemon=True)
        process.reader.start()
        deadline = time.monotonic() + BOUND
        while until:
            try:
                line = lines.get(timeout=deadline - time.monotonic())
            except (queue.Empty, ValueError):
                raise Failure(f"{name} did not print {until!r} within {BOUND} s; see {log}") from None
            if line is None:
                raise Failure(f"{name} ended early: {log.read_text().strip()[-500:]}")
            if found := re.search(until, line):
                return found
        return process


def eventually(what, condition):
    """Waits for `condition` to hold: it is asked again and again, and the outcome does not depend on when."""
    deadline = time.monotonic() + BOUND
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {BOUND} s")
        time.sleep(0.02)
    return value


def children(pid):
    """The processes that this one has started, and that are not gone."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True, timeout=BOUND
    ).stdout
    pairs = (line.split() for line in listed.splitlines())
    return {int(child) for child, parent in pairs if int(parent) == pid}


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True


# Servers.

LISTENING = r"listening on ((?:http|ws)://127\.0\.0\.1:\d+)"


def everything(processes):
    """The reference server of the MCP project, on the TypeScript SDK: up to 2025-11-25."""
    index = PACKAGES / "server-everything" / "dist" / "index.js"
    argv = [NODE, "--import", HERE / "loopback.mjs", index, "streamableHttp"]
    return processes.start("everything", *argv, until=LISTENING, PORT="0")[1]


def python(processes):
    """`server.py`, on the Python SDK: both eras."""
    return processes.start("python", TARGET / "venv" / "bin" / "python", HERE / "server.py", until=LISTENING)[1]


class Program:
    """A stdio server, which its client starts: a command, and what it finds in its environment. `root` is the
    folder that the client shows the server as its own."""

    def __init__(self, argv, root, **env):
        self.argv, self.root, self.env = [str(arg) for arg in argv], root, env


def npm(name, *argv, folder, **env):
    """One of the reference servers, which on stdin and stdout all speak 2025-11-25."""
    root = folder / "root"
    root.mkdir()
    return Program([NODE, PACKAGES / name / "dist" / "index.js", *argv], root, **env)


def everything_stdio(processes):
    return npm("server-everything", "stdio", folder=processes.folder)


def filesystem(processes):
    """Begins with one folder, and then takes the client's roots for it."""
    given = processes.folder / "given"
    given.mkdir()
    program = npm("server-filesystem", given, folder=processes.folder)
    (program.root / "picture.png").write_bytes(bytes(range(256)) * 1024)
    return program


def memory(processes):
    """All that it knows is in one file, which it reads anew each time."""
    graph = processes.folder / "graph.jsonl"
    return npm("server-memory", folder=processes.folder, MEMORY_FILE_PATH=str(graph))


def written(folder):
    """What stdio servers have left on disk."""
    files = [*(folder / "root").glob("**/*"), *(folder / "given").glob("**/*"), folder / "graph.jsonl"]
    return {
        f"on disk: {file.relative_to(folder)}": hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def tapped(server):
    """The same server, with a tap in front of it."""

    def start(processes):
        processes.upstream = Tap(server(processes))
        return processes.upstream.url

    return start


# Ways.


class Tap:
    """Passes bytes on, and keeps them: what somebody between the two ends reads."""

    def __init__(self, url):
        host, port = url.partition("://")[2].split(":")
        self.to = (host, int(port))
        self.seen = []  # two for each connection: what went there, and what came back
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.to)
                for pair in ((near, far), (far, near)):
                    self.seen.append(bytearray())
                    threading.Thread(target=self.copy, args=(*pair, self.seen[-1]), daemon=True).start()

    def copy(self, source, sink, seen):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                seen += data
                sink.sendall(data)
        for end in (source, sink):  # whichever way a connection ends, it ends on both sides
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def read(self):
        return b"\n".join(bytes(seen) for seen in self.seen)

    def answers(self):
        """Each kind of request that was answered, and how."""
        kinds = set()
        for there, back in zip(self.seen[::2], self.seen[1::2]):
            methods = re.findall(rb"([A-Z]+) /\S* HTTP/1\.1\r\n", bytes(there))
            kinds.update(zip(methods, re.findall(rb"HTTP/1\.1 (\d{3}) ", bytes(back))))
        return sorted(f"{method.decode()} {status.decode()}" for method, status in kinds)


class Way:
    """How a client reaches a server: `url` is what it is given, or `program` what it is to start; `tap` is there
    where something is sealed, with the process `serve`, and `layer` where a client may seal by itself: the URL, and
    what `driver.rs` wants to know of the seal."""

    def __init__(self, processes, url=None, program=None, tap=None, node=None, layer=None, serve=None):
        self.folder, self.upstream = processes.folder, processes.upstream
        self.url, self.program, self.tap, self.node, self.layer, self.serve = url, program, tap, node, layer, serve


def direct(processes, upstream):
    return Way(processes, program=upstream) if isinstance(upstream, Program) else Way(processes, upstream)


class Sealed:
    """client -> proxy -> [tap] -> serve -> server; or client -> proxy -> nginx -> [tap] -> serve -> server. In place
    of `proxy` a client may start `connect`, and in front of a stdio server there is nothing else."""

    def __init__(self, tool, *options, nginx=False):
        self.tool, self.options, self.nginx = tool, options, nginx

    def __call__(self, processes, upstream):
        stdio = isinstance(upstream, Program)
        keys = processes.folder
        near_key, serve_key = keys / "near.pem", keys / "serve.pem"
        node = re.search(r"\b[0-9a-f]{64}\b", self.run("id", "--identity", near_key))[0]
        serve = ["--listen", "127.0.0.1:0", "--allow", node, "--identity", serve_key]
        near = ["--identity", near_key, *self.options]
        serve += ["--strip-prefix", "/tools"] if self.nginx else []
        serve += ["--", *upstream.argv] if stdio else ["--upstream", upstream]
        env = upstream.env if stdio else {}
        first = processes.start("serve", self.tool, "serve", *serve, until=self.first("serve"), **env)
        serving = processes.started[-1].pid
        tap = Tap(first[2])
        url = tap.url
        if self.nginx:
            url, certificate = nginx(processes, tap.url, UPGRADE if stdio else "")
            near += ["--ca", certificate]
        near += ["--peer", first[1]]
        far = url.replace("http", "ws", 1) + "/" if stdio else f"{url}/mcp"
        program = Program([self.tool, "connect", *near, far], upstream.root if stdio else keys)
        if stdio:
            return Way(processes, program=program, tap=tap, node=node, serve=serving)
        # What the steps try on a server, the proxy would refuse by itself.
        proxy = ["--listen", "127.0.0.1:0", *near, "--allow-host", "evil.example.com"]
        proxy += ["--allow-origin", "http://evil.example", "--allow-origin", "http://evil.example.com"]
        last = processes.start("proxy", self.tool, "proxy", url, *proxy, until=self.first("proxy"))
        layer = (url, [near_key, first[1], "json" if "json" in self.options else "binary"])
        return Way(processes, last[2], program, tap, node, layer, serving)

    def run(self, *argv):
        return subprocess.run([self.tool, *argv], check=True, capture_output=True, text=True, timeout=BOUND).stdout

    @staticmethod
    def first(command):
        return rf"^tower-seal {command}: node ([0-9a-f]{{64}}) {LISTENING}$"


# What a WebSocket needs of nginx, in the README's words.
UPGRADE = 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'


def nginx(processes, upstream, more):
    """Ends TLS, takes the prefix /tools/ away and gives another Host; all else as nginx comes, but for `more`."""
    folder = processes.folder
    # nginx cannot be given port 0. This socket never listens, and so keeps the port from everybody else.
    reserved = processes.reserved.enter_context(socket.socket())
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    port = reserved.getsockname()[1]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        + ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "nginx.key", "-out", "nginx.crt"],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=BOUND,
    )
    template = (HERE / "nginx.conf").read_text()
    filled = template.replace("PORT", str(port)).replace("SERVE", upstream).replace("# MORE", more)
    (folder / "nginx.conf").write_text(filled)
    # Started by root, its worker would be another user, who may not be let into this folder.
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    processes.start("nginx", TARGET / "nginx", "-p", folder, "-c", "nginx.conf", "-e", "stderr", *user)
    eventually("nginx answers", lambda: answers(port))
    return f"https://localhost:{port}/tools", folder / "nginx.crt"
