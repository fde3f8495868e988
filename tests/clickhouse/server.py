#!/usr/bin/env python3
"""ClickHouse's HTTP interface over the engine in the `chdb-core` wheel, for tests only.

No ClickHouse server package can be assumed on a developer's machine, the wheel can: it holds the whole engine, as a
library. This file puts in front of it what our clients use of https://clickhouse.com/docs/interfaces/http:

- `GET /ping`; queries by `?query=`, by body, or both; chunked and multipart/form-data bodies (`param_*` fields);
- `database`, `default_format` and `query_id` as parameters, every other parameter as a setting of that one query;
- an INSERT with its data in the body, in any input format;
- a second query of an id that still runs is refused;
- errors as HTTP status, `X-ClickHouse-Exception-Code` and the text `Code: N. DB::Exception: ...`;
- one user with a password, by headers, parameters or basic authentication.

Not covered: compression, sessions, roles, progress headers, refusal of several statements in one request. Queries run
one at a time. The first line on stdout is `listening on 127.0.0.1:PORT`. It stops at SIGTERM, SIGINT, or, with
`--until-eof`, at the end of its stdin: so it never outlives the test that started it, however that ends.
"""

import argparse
import base64
import contextlib
import email.parser
import email.policy
import hmac
import os
import re
import signal
import sys
import tempfile
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

from chdb.session import Session

# Parameters that steer the request itself. Everything else is a setting.
NOT_SETTINGS = {"query", "database", "default_format", "query_id", "session_id", "user", "password", "role"}

# HTTP statuses of the real server for the errors that tests look at; 500 for the rest.
STATUS = {
    400: {6, 26, 27, 33, 36, 38, 41, 43, 53, 62, 69, 70, 72, 117, 130, 131, 386, 456, 457},
    401: {194},
    403: {192, 193, 497, 516},
    404: {16, 46, 47, 50, 56, 60, 81, 115},
    501: {48},
}

# `INSERT INTO t (a, b) SETTINGS x = 1 FORMAT Native`, then one white space, then data.
INSERT_WITH_DATA = re.compile(rb"\s*(INSERT\s+INTO\s.+?)\s+FORMAT\s+(\w+)(?:\s|$)(.*)", re.IGNORECASE | re.DOTALL)
NO_DATA_FOLLOWS = re.compile(rb"\b(VALUES|SELECT|INFILE)\b", re.IGNORECASE)


class QueryError(Exception):
    """An error as ClickHouse words it: `Code: N. DB::Exception: ...`."""

    @property
    def code(self):
        found = re.search(r"Code: (\d+)", str(self))
        return int(found.group(1)) if found else 1001  # STD_EXCEPTION

    @property
    def status(self):
        return next((status for status, codes in STATUS.items() if self.code in codes), 500)


def quoted(text):
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Engine:
    """The one session that a process can have, behind a lock."""

    def __init__(self, directory, slow=None, grants=None):
        self.directory = directory
        self.slow = slow
        self.lock = threading.Lock()
        self.names = threading.Lock()
        self.running = set()
        self.session = Session(os.path.join(directory, "store") + self.restricted(grants))
        self.version = self.run("SELECT version()", "TabSeparated").decode().strip()

    def restricted(self, grants):
        """What makes the engine's own user have these rights and no others."""
        if not grants:
            return ""
        # Data come through files here, on the real server through the connection, and every query begins with USE.
        own = ["GRANT FILE ON *.*", "GRANT SHOW DATABASES ON default.*"]
        queries = "".join(f"<query>{escape(grant)}</query>" for grant in [*grants, *own])
        users = os.path.join(self.directory, "users.xml")
        with open(users, "w", encoding="utf-8") as file:
            file.write(
                "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default><password/>"
                "<networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>"
                f"<grants>{queries}</grants></default></users></clickhouse>"
            )
        config = os.path.join(self.directory, "config.xml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"<clickhouse><users_config>{escape(users)}</users_config></clickhouse>")
        return f"?config-file={config}"

    def run(self, sql, output_format, params=None):
        try:
            return self.session.query(sql, output_format, params=params or {}).bytes()
        except Exception as error:  # chDB raises types of its own and RuntimeError alike
            raise QueryError(str(error)) from None

    def query(self, sql, body, database, output_format, settings, params):
        """Runs one statement; `settings` hold for it alone."""
        with self.slowly(sql, body), self.lock:
            self.run(f"USE `{database or 'default'}`", "Null")
            if settings:
                # In one statement, of which a fault changes nothing: the engine takes half a millisecond for each.
                self.run("SET " + ", ".join(f"{name} = {quoted(value)}" for name, value in settings), "Null")
            try:
                return self.statement(sql, body, output_format, params)
            finally:
                if settings:
                    self.run("SET " + ", ".join(f"{name} = DEFAULT" for name, _ in settings), "Null")

    @contextlib.contextmanager
    def named(self, query_id):
        """Refuses a query whose id another one has that runs, or waits to be run, as the server does."""
        with self.names:
            if query_id in self.running:
                raise QueryError(
                    f"Code: 216. DB::Exception: Query with id = {query_id} is already running. "
                    "(QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING)"
                )
            self.running.add(query_id)
        try:
            yield
        finally:
            self.running.discard(query_id)

    @contextlib.contextmanager
    def slowly(self, sql, body):
        """Makes an INSERT wait, if the file of `--slow` says so: `before 2.5` or `after 2.5`, in seconds. Nothing else waits."""
        order = []
        if self.slow and (sql or body).lstrip()[:6].upper() == b"INSERT":
            with contextlib.suppress(FileNotFoundError), open(self.slow, encoding="ascii") as file:
                order = file.read().split()
        if order[:1] == ["before"]:
            time.sleep(float(order[1]))
        yield
        if order[:1] == ["after"]:
            time.sleep(float(order[1]))

    def statement(self, sql, body, output_format, params):
        text = sql.rstrip() + b"\n" + body if sql and body else sql or body
        insert = INSERT_WITH_DATA.fullmatch(text)
        if insert is None or NO_DATA_FOLLOWS.search(insert.group(1)):
            return self.run(text.decode(), output_format, params)
        head, input_format, data = insert.groups()
        # SETTINGS stand behind the file's name in this form of INSERT.
        head, _, settings = re.sub(rb"\s+SETTINGS\s", b"\0", head, count=1).decode().partition("\0")
        settings = f"SETTINGS {settings}" if settings else ""
        with tempfile.NamedTemporaryFile(dir=self.directory, suffix=".data") as file:
            file.write(data)
            file.flush()
            infile = quoted(file.name)
            return self.run(f"{head} FROM INFILE {infile} {settings} FORMAT {input_format.decode()}", "Null", params)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small answers in one segment, at once.
    wbufsize = -1
    disable_nagle_algorithm = True

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # The client went away: a test's business.

    def log_message(self, *_):
        """Silence: the test's own output says what went wrong."""

    def do_GET(self):
        self.respond(self.body())

    do_POST = do_GET

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while True:
            line = self.rfile.readline()
            if not line:
                # The client went away in the middle: the real server inserts nothing of it either.
                raise ConnectionAbortedError("the request's body ended early")
            size = int(line.split(b";")[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return bytes(body)

    def respond(self, body):
        address = urlsplit(self.path)
        if address.path == "/ping":
            return self.send(200, b"Ok.\n", {})
        parameters = dict(parse_qsl(address.query, keep_blank_values=True))
        content_type = self.headers.get("Content-Type", "")
        if content_type.startswith("multipart/form-data"):
            fields = form_fields(content_type, body)
            body = b""
            parameters.update(fields)
        query_id = parameters.get("query_id") or str(uuid.uuid4())
        output_format = parameters.get("default_format") or "TabSeparated"
        headers = {"X-ClickHouse-Query-Id": query_id}
        try:
            self.authenticate(parameters)
            with self.server.engine.named(query_id):
                answer = self.server.engine.query(
                    parameters.get("query", "").encode(),
                    body,
                    parameters.get("database"),
                    output_format,
                    [(n, v) for n, v in parameters.items() if n not in NOT_SETTINGS and not n.startswith("param_")],
                    {n.removeprefix("param_"): v for n, v in parameters.items() if n.startswith("param_")},
                )
            self.send(200, answer, headers | {"X-ClickHouse-Format": output_format})
        except QueryError as error:
            text = f"{error} (version {self.server.engine.version} (official build))\n"
            self.send(error.status, text.encode(), headers | {"X-ClickHouse-Exception-Code": str(error.code)})

    def authenticate(self, parameters):
        if self.server.user is None:
            return
        user = self.headers.get("X-ClickHouse-User") or parameters.get("user")
        password = self.headers.get("X-ClickHouse-Key") or parameters.get("password")
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            user, _, password = base64.b64decode(credentials).decode().partition(":")
        user = user or "default"
        right = hmac.compare_digest((password or "").encode(), self.server.password.encode())
        if user != self.server.user or not right:
            raise QueryError(
                f"Code: 516. DB::Exception: {user}: Authentication failed: password is incorrect, or there is no "
                "user with such name. (AUTHENTICATION_FAILED)"
            )

    def send(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def form_fields(content_type, body):
    """The fields of a multipart/form-data body, in which clients put queries with parameters."""
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True).decode()
        for part in message.iter_parts()
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", help="folder for the tables (default: a temporary one, removed at the end)")
    arguments.add_argument("--port", type=int, default=0, help="0 takes a free port")
    arguments.add_argument("--user", help="the only user that may log in (default: no authentication)")
    arguments.add_argument("--password", default="", help="the user's password")
    arguments.add_argument("--slow", help="a file that, while it is there, says how long an INSERT waits")
    arguments.add_argument("--grant", action="append", help="a GRANT without TO: the engine may do only what these allow")
    arguments.add_argument("--until-eof", action="store_true", help="stop when stdin ends")
    arguments = arguments.parse_args()

    with tempfile.TemporaryDirectory(prefix="clickhouse-test-") as temporary:
        server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
        server.daemon_threads = True
        server.user, server.password = arguments.user, arguments.password
        server.engine = Engine(arguments.data or temporary, arguments.slow, arguments.grant)

        # `shutdown` waits for `serve_forever`, so it can't be called from the thread that runs it.
        def stop(*_):
            threading.Thread(target=server.shutdown).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        if arguments.until_eof:
            threading.Thread(target=lambda: (sys.stdin.buffer.read(), stop()), daemon=True).start()
        print(f"listening on 127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()
        with server.engine.lock:
            server.engine.session.close()


if __name__ == "__main__":
    main()
