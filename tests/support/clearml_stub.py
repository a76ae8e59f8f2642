"""A FAKE ClearML server for tests: the API and the file server in memory, on one loopback port.

It stores what the client sends and answers as the client expects, no more: it checks no access rights, no
types and no states. Passing against it does not prove that a real server is content.
"""

import base64
import copy
import hashlib
import json
import re
import threading
import uuid
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = ".".join(
    base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    for part in (
        {"alg": "HS256", "typ": "JWT"},
        {"exp": 4_000_000_000, "api_version": "2.30", "server_version": "2.0.0"},
        "none",
    )
)
STATUSES = {"started": "in_progress", "stopped": "stopped", "completed": "completed", "failed": "failed"}
COLLECTIONS = {"tasks": "task", "projects": "project", "models": "model", "queues": "queue"}


class ClearMLStub:
    """The server; use it as a context manager.

    tasks, projects, models, queues: what was created, {id: fields}
    events: the reported events, in order; one replaces a former of the same task, iteration and name, as on a
        server
    statuses: {task: every status that it was given, in order}
    files: {path: bytes} uploaded
    calls: the names of all calls, such as `tasks.create`, in order
    refuses_logins: whether the credentials are wrong
    """

    def __init__(self) -> None:
        self.tasks: dict[str, dict] = {}
        self.projects: dict[str, dict] = {}
        self.models: dict[str, dict] = {}
        self.queues: dict[str, dict] = {"q": {"id": "q", "name": "default"}}
        self._events: dict[Any, dict] = {}
        self.statuses: dict[str, list[str]] = {}
        self.files: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.refuses_logins = False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "ClearMLStub":
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def events(self) -> list[dict]:
        return list(self._events.values())

    def add_events(self, lines: list[str]) -> None:
        """Take the lines of `events.add_batch`; of the console's there may be several in an iteration."""
        for event in (json.loads(line) for line in lines if line.startswith("{")):
            if event["type"] == "training_stats_scalar" and event["task"] in self.tasks:
                self._keep_last(event)
            name = tuple(event.get(part) for part in ("task", "iter", "metric", "variant", "key"))
            self._events[uuid.uuid4() if event["type"] == "log" else name] = event

    def _keep_last(self, event: dict[str, Any]) -> None:
        """Put a scalar among the last ones of its task, under the digests of its names."""
        metrics, value = self.tasks[event["task"]].setdefault("last_metrics", {}), event["value"]
        metric, variant = (hashlib.md5(event[part].encode()).hexdigest() for part in ("metric", "variant"))
        names = {part: event[part] for part in ("metric", "variant")}
        numbers = dict.fromkeys(("value", "min_value", "max_value"), value)
        metrics.setdefault(metric, {})[variant] = names | numbers

    @property
    def environment(self) -> dict[str, str]:
        """What points a client here."""
        hosts = {f"CLEARML_{kind}_HOST": self.url for kind in ("API", "WEB", "FILES")}
        return hosts | {"CLEARML_API_ACCESS_KEY": "access", "CLEARML_API_SECRET_KEY": "secret"}

    def answer(self, call: str, sent: dict[str, Any]) -> dict[str, Any]:
        """The data with which a call such as `tasks.create` is answered."""
        service, _, action = call.partition(".")
        if call == "auth.login":
            return {"token": TOKEN}
        if service not in COLLECTIONS:
            return {"workers": []} if service == "workers" else {}
        return self._answer_collection(service, action, sent)

    def _answer_collection(self, service: str, action: str, sent: dict[str, Any]) -> dict[str, Any]:
        items, name = getattr(self, service), COLLECTIONS[service]
        if action in ("create", "create_many"):
            empty = {part: {} for part in ("output", "models", "script", "runtime")}
            item = {"id": uuid.uuid4().hex, "status": "created", **empty, **sent}
            items[item["id"]] = item
            return {"id": item["id"]}
        if action == "clone":
            changes = {key.removeprefix("new_task_"): value for key, value in sent.items() if key != "task"}
            new = {"id": uuid.uuid4().hex, "status": "created", "last_metrics": {}, "tags": []}
            items[new["id"]] = copy.deepcopy(items[sent["task"]]) | changes | new
            return {"id": new["id"]}
        if action.startswith("get_all"):
            return {service: [item for item in items.values() if _fits(item, sent)]}
        if action == "get_by_id":
            return {name: items.get(sent[name])}
        item = items.get(sent.get(name, ""), {})
        if action == "add_or_update_artifacts":
            execution = item.setdefault("execution", {})
            kept = {artifact["key"]: artifact for artifact in execution.get("artifacts") or []}
            kept |= {artifact["key"]: artifact for artifact in sent["artifacts"]}
            execution["artifacts"] = list(kept.values())
        elif action == "edit_hyper_params":
            for parameter in sent["hyperparams"]:
                section = item.setdefault("hyperparams", {}).setdefault(parameter["section"], {})
                section[parameter["name"]] = parameter
        elif action in ("edit", "update"):
            item.update({key: value for key, value in sent.items() if key != name})
        elif action in STATUSES:
            item.update(status=STATUSES[action], status_reason=sent.get("status_reason"))
            self.statuses.setdefault(item.get("id", ""), []).append(STATUSES[action])
        elif action == "enqueue":
            item.update(status="queued", queue=sent.get("queue") or sent.get("queue_name"))
        return {"updated": 1, "fields": {}, "queued": 1}


def _fits(item: dict[str, Any], sent: dict[str, Any]) -> bool:
    """Whether a filter of `get_all` lets something through: by its name, id, parent and status."""
    wanted = {key: sent[key] for key in ("id", "parent", "status") if sent.get(key)}
    sets = {key: value if isinstance(value, list) else [value] for key, value in wanted.items()}
    pattern = sent.get("name") or ".*"
    return re.search(pattern, item.get("name", "")) is not None and all(
        item.get(key) in values for key, values in sets.items()
    )


def _handler(stub: ClearMLStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = self.headers.get("Content-Type", "")
            if kind.startswith("multipart/"):
                return self._reply(self._store(kind, body))
            if self.path in stub.files:
                return self._reply(stub.files[self.path])
            call = self.path.partition("?")[0].rsplit("/", 1)[-1]
            stub.calls.append(call)
            refused = call == "auth.login" and stub.refuses_logins
            if call == "events.add_batch":
                stub.add_events(body.decode().splitlines())
                data = {"added": 1, "errors": 0}
            else:
                data = stub.answer(call, json.loads(body or b"{}"))
            status, message = (401, "Unauthorized") if refused else (200, "OK")
            meta = {"id": "0", "trx": "0", "result_code": status, "result_subcode": 0, "result_msg": message}
            meta["endpoint"] = {"name": call, "requested_version": "2.30", "actual_version": "2.30"}
            self._reply(json.dumps({"meta": meta, "data": data}).encode(), status)

        do_POST = do_PUT = do_HEAD = do_GET

        def _store(self, kind: str, body: bytes) -> bytes:
            form = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
            for part in form.get_payload():
                path = part.get_param("name", header="Content-Disposition") or self.path
                stub.files["/" + path.lstrip("/")] = part.get_payload(decode=True)
            return b"{}"

        def _reply(self, content: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing on the console."""

    return Handler
