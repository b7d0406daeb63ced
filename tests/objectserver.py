"""An S3 that misbehaves as it is told: moto behind a proxy, in a process of its own that ends with its parent.

The parent writes one line of JSON to its standard input for each command, and reads one line back; see `ObjectServer`.
The process ends when its standard input does, and after ten minutes whatever happens.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field

SECRETS = {"access_key_id": "AKIAmarked0secret1", "secret_access_key": "marked/secret/2", "token": "marked-secret-3"}

_LIFETIME = 600  # seconds

_THROTTLED = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class ObjectServer:
    """The parent's side.

    Attributes:
        endpoint: The proxy's address, as S3 clients want it.
        direct: That of moto itself.
    """

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        ports = json.loads(self._process.stdout.readline())
        self.endpoint, self.direct = (f"http://127.0.0.1:{port}" for port in ports)

    def rules(self, *rules):
        """Misbehave from now on as these say, the first that fits a request, and forget what was seen.

        Args:
            rules: Each a dict. `kind` is "delay", "status", "stall", "stall_body", "reset", "cut" or "short"; `value`
                the seconds or the status; `match` what the key contains; `times` how often; `every` each how manieth;
                `method` GET unless it says otherwise; `text` what comes with a status.
        """
        self._ask({"rules": rules})

    def seen(self):
        """Return what came since the rules.

        `requests` is a list of dicts with method, key, kind, range, and `left` where the client went away before it was
        answered; `most` is how many were under way at once.
        """
        return self._ask({"seen": True})

    def gets(self):
        """Return the GETs of objects alone."""
        return [request for request in self.seen()["requests"] if request["method"] == "GET" and request["key"]]

    def close(self):
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _ask(self, command):
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def served(tree):
    """A server with a folder's files in its bucket, as `s3://bucket/train`."""
    asyncio.run(_first_read())
    server = ObjectServer()
    try:
        _put(server, "")
        for path in sorted(tree.rglob("*.*")):
            _put(server, f"train/{path.relative_to(tree)}", path.read_bytes())
        yield server
    finally:
        server.close()


def options(server, **more):
    """Return what clients of it are told."""
    return {**SECRETS, "region": "us-east-1", "endpoint": server.endpoint, **more}


async def _first_read():
    """Let obstore open its runtime, which it does once for the process, with descriptors of its own."""
    import obstore
    import obstore.store

    store = obstore.store.MemoryStore()
    await obstore.put_async(store, "key", b"1")
    await obstore.get_async(store, "key")


def _put(server, key, data=None):
    address = f"{server.direct}/bucket/{urllib.parse.quote(key)}".rstrip("/")
    headers = {"Content-Type": "image/png"}
    request = urllib.request.Request(address, data=data, method="PUT", headers=headers)  # noqa: S310 - loopback
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()


@dataclass
class Rule:
    kind: str
    value: float = 0
    match: str = ""
    times: int = 1 << 30
    every: int = 1
    method: str = "GET"
    text: str = ""
    seen: int = 0

    def fits(self, method, key):
        if method != self.method or not key or self.match not in key or self.times <= 0:
            return False
        self.seen += 1
        if self.seen % self.every:
            return False
        self.times -= 1
        return True


@dataclass
class Proxy:
    """Hands requests on to `upstream`, a port, unless a rule says otherwise."""

    upstream: int
    rules: list[Rule] = field(default_factory=list)
    requests: list[dict] = field(default_factory=list)
    active: int = 0
    most: int = 0

    async def serve(self, reader, writer):
        try:
            while head := await _head(reader):
                length = int(_header(head, b"content-length") or 0)
                await self._answer(head, await reader.readexactly(length), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, head, body, reader, writer):
        method, target = head.split(b" ", 2)[:2]
        method, key = method.decode(), _key(target.decode())
        rule = next((rule for rule in self.rules if rule.fits(method, key)), Rule("fine"))
        request = {"method": method, "key": key, "kind": rule.kind, "range": (_header(head, b"range") or b"").decode()}
        self.requests.append(request)
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            await self._carry_out(rule, head, body, reader, writer)
        except ConnectionError:
            request["left"] = True
            raise
        finally:
            self.active -= 1

    async def _carry_out(self, rule, head, body, reader, writer):
        if rule.kind == "reset":
            raise asyncio.IncompleteReadError(b"", None)
        if rule.kind == "status":
            content = b"" if head.startswith(b"HEAD") else rule.text.encode() or _THROTTLED
            writer.write(f"HTTP/1.1 {rule.value} X\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
            return
        if rule.kind in ("delay", "stall"):
            await _wait(rule.value if rule.kind == "delay" else _LIFETIME, reader)
        answer, content = await self._forward(head, body)
        if rule.kind in ("cut", "stall_body", "short"):
            if rule.kind == "short":
                answer = _with_length(answer, len(content) // 2)
            writer.write(answer + content[: len(content) // 2])
            await writer.drain()
            if rule.kind == "short":
                return
            await asyncio.sleep(0.05)  # let it reach the client, rather than be thrown away with the connection
            if rule.kind == "stall_body":
                await _wait(_LIFETIME, reader)
            raise asyncio.IncompleteReadError(b"", None)
        writer.write(answer + content)
        await writer.drain()

    async def _forward(self, head, body):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            writer.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
            answer = await _head(reader)
            content = b"" if head.startswith(b"HEAD") else await reader.read()
        finally:
            writer.close()
        lines = [line for line in answer.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        answer = b"\r\n".join(lines)
        return answer if head.startswith(b"HEAD") else _with_length(answer, len(content)), content


async def _wait(seconds, reader):
    """Wait, and raise ConnectionError when the client goes away meanwhile."""
    try:
        await asyncio.wait_for(reader.read(1), seconds)
    except TimeoutError:
        return
    raise ConnectionError


async def _head(reader):
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _header(head, name):
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return next((value.strip() for key, _, value in lines if key.lower() == name), None)


def _with_length(answer, length):
    replaced = (b"content-length:", b"transfer-encoding:")
    lines = [line for line in answer.split(b"\r\n") if line and not line.lower().startswith(replaced)]
    return b"\r\n".join([*lines, f"Content-Length: {length}".encode(), b"", b""])


def _key(target):
    """Return the key of "/bucket/key"; nothing for listings."""
    path, _, query = target.partition("?")
    return "" if query else urllib.parse.unquote(path).lstrip("/").partition("/")[2]


def _tell(reply):
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def _obey(proxy):
    """Carry out the parent's commands until there is no parent any more."""
    for line in sys.stdin:
        command = json.loads(line)
        if "rules" in command:
            proxy.rules = [Rule(**rule) for rule in command["rules"]]
            proxy.requests, proxy.most = [], 0
            reply = True
        else:
            reply = {"requests": proxy.requests, "most": proxy.most}
        _tell(reply)


def main():
    signal.alarm(_LIFETIME)
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    _, upstream = moto.get_host_and_port()
    proxy = Proxy(upstream)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(proxy.serve, "127.0.0.1", 0))
    _tell([server.sockets[0].getsockname()[1], upstream])

    def obey():
        _obey(proxy)
        loop.call_soon_threadsafe(loop.stop)

    threading.Thread(target=obey, daemon=True).start()
    loop.run_forever()


if __name__ == "__main__":
    main()
