"""A route never uses the private attributes of other objects, and the fields of a request that it changes are listed here."""

import ast
from pathlib import Path

import pytest

import gmproxy

ROUTING = Path(gmproxy.__file__).parent / "routing"

#: The fields that the creator of a request sets.
OF_A_NEW_REQUEST = {"sink", "keys", "connection_index", "role"}

#: Field of a request that was made elsewhere -> where it is set, and why.
CHANGED = {
    "sink": {
        "step.py Step.step_in": "a route puts its own in the place of the sink",
        "step.py Step.step_out": "and gives it back",
        "sources.py Lookup._go_on": "it stays on a lookup that is sent to the next set",
    },
    "line": {
        "failover.py BackupAsPrimary.send": "a cas number is sent as the backup counts them",
        "router.py Router._release": "a gat that was held is split by server again",
        "stand_in.py HomeRing._note_stand_in": "a value lives no longer than it may on a server that is not its own",
    },
    "role": {
        "failover.py BackupAsPrimary.send": "the backup is asked in the place of the primary",
        "router.py Router.send_to_own": "we are the backup of another gmproxy",
    },
    "reply": {
        "failover.py FailoverReply.on_reply": "what the backups answer for several keys",
        "failover.py FailoverReply.on_failure": "what some of the backups answered",
        "failover.py reply_exists": "the cas number is of the other set",
        "fetch.py FetchForRead.done": "what the primary had, and what the backups had",
        "fetch.py FetchForMetaGet.on_reply": "what the backup had",
        "gather.py Gather._finish": "the answers to the parts",
        "gather.py FanOut._count_part": "the answers of all servers",
        "sources.py Lookup._go_on": "a set lacks the key: the next one is asked",
        "replicated_write.py ReplicatedWrite._fail_for_acks": "the client is not told what too few servers have done",
        "replicated_write.py ReplicatedWrite._reply": "what the backup answers to the copy",
        "replicated_write.py ReplicatedWrite.on_internal_error": "a fault of our own in the copy of a change that is still under way",
    },
    "error": {"replicate.py Replicate.send": "the error for the client if no other server can make the write"},
    "failed_server": {"replicate.py Replicate.send": "the error for the client if no other server can make the write"},
    "made": {
        "replicated_write.py ReplicatedWrite._fail_for_acks": "the gutter must not make it as well",
        "change.py AnswerOfBackup.on_reply": "the gutter must not make it as well",
        "change.py AnswerOfActing.on_reply": "the gutter must not make it as well",
    },
    "result": {
        f"replicated_write.py ReplicatedWrite.{method}": "what it knows of its parts"
        for method in ("wait_for", "replicate", "on_reply", "on_failure", "_compare", "_end_part_of")
    },
    "has_value_offsets": {
        "failover.py FailoverReply.on_reply": "the reply is not as one server gave it",
        "fetch.py FetchForRead.done": "the reply was pieced together",
    },
}


def functions_in(tree, prefix=""):
    """(qualified name, node) of each function. Code in nested functions belongs to the innermost."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            name = f"{prefix}{node.name}"
            if isinstance(node, ast.FunctionDef):
                yield name, node
            yield from functions_in(node, f"{name}.")


def targets_in(function):
    """The attributes that `function` sets or deletes."""
    return [node for node in ast.walk(function) if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del))]


def made_in(function):
    """The names of the variables in which `function` has requests that it made."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)]
    return {
        target.id
        for node in calls
        if getattr(node.value.func, "id", "") in ("new_request", "Request")
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def is_self(node):
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def looked_into(source):
    """The places in `source` that use private attributes of another object."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__") and not is_self(node.value)
    ]


def set_by(source, fields):
    """{(function, field, whether the request was made there)} of the fields of requests that `source` sets."""
    found = set()
    for name, function in functions_in(ast.parse(source)):
        made = made_in(function)
        for target in targets_in(function):
            if target.attr in fields and not is_self(target.value):
                found.add((name, target.attr, isinstance(target.value, ast.Name) and target.value.id in made))
    return found


def request_fields():
    """Read from the source; a compiled class does not show all of them."""
    tree = ast.parse((ROUTING.parent / "protocol" / "request.py").read_text())
    (request,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Request"]
    (slots,) = [node.value for node in request.body if isinstance(node, ast.Assign) and node.targets[0].id == "__slots__"]
    return set(ast.literal_eval(slots))


SOURCES = {path.name: path.read_text() for path in sorted(ROUTING.glob("*.py"))}


@pytest.mark.parametrize("module", SOURCES)
def test_no_route_looks_into_another_object(module):
    assert looked_into(SOURCES[module]) == []


@pytest.mark.parametrize("module", SOURCES)
def test_what_a_route_changes_of_a_request_is_written_down(module):
    found = set_by(SOURCES[module], request_fields())
    unknown = {
        f"{function}: {field}"
        for function, field, made in found
        if (field not in OF_A_NEW_REQUEST if made else f"{module} {function}" not in CHANGED.get(field, {}))
    }
    assert unknown == set()


def test_what_is_written_down_is_so():
    found = {
        (field, f"{module} {function}")
        for module, source in SOURCES.items()
        for function, field, made in set_by(source, request_fields())
        if not made
    }
    assert found == {(field, place) for field, places in CHANGED.items() for place in places}
    assert all(CHANGED.values()) and all(reason for places in CHANGED.values() for reason in places.values())


def test_no_field_is_set_by_its_name():
    assert [module for module, source in SOURCES.items() if "setattr" in source] == []


# -- tests of these checks


@pytest.mark.parametrize(
    "line, seen", [("request._x", 1), ("self._x._y = 1", 1), ("self._x.y", 0), ("a.__new__(a)", 0), ("del other.x._y", 1)]
)
def test_what_is_looked_into_is_seen(line, seen):
    assert len(looked_into(line)) == seen


@pytest.mark.parametrize(
    "line, found",
    [
        ("request.line = b''", {("C.f", "line", False)}),
        ("self.request.reply = b''", {("C.f", "reply", False)}),
        ("reply, request.reply = request.reply, None", {("C.f", "reply", False)}),
        ("request.values_found += 1", {("C.f", "values_found", False)}),
        ("copy = new_request(command, b'', b''); copy.sink = self", {("C.f", "sink", True)}),
        ("self.sink = request.sink", set()),
        ("outcome.superseded = True", set()),
    ],
)
def test_what_is_set_is_seen(line, found):
    assert set_by(f"class C:\n    def f(self, request):\n        {line}\n", request_fields()) == found
