"""Programs of torch.export that PyTorch wrote, where it is not installed; and hostile ones."""

from __future__ import annotations

import copy
import functools
import io
import json
import random
import re
import sys
import tracemalloc
from contextlib import suppress

import good_files
import numpy as np
import pytest
import weight_files as wf
from good_files import PROGRAMS, program_file

import tinyrnn as tr

pytestmark = pytest.mark.filterwarnings("ignore:load. PyTorch runs this program")
NAMES = ["chain", "heads", "free"]


def graph_of(name):
    return json.loads(good_files.program_members(name)["models/model.json"])


def changed(name="heads", **more):
    """A file whose program is changed at dotted places."""
    whole = graph_of(name)
    for path, value in more.items():
        *steps, last = path.split("__")
        own = whole
        for step in steps:
            own = own[int(step) if isinstance(own, list) else step]
        if value is None:
            del own[last]
        else:
            own[int(last) if isinstance(own, list) else last] = value
    return program_file(name, json.dumps(whole).encode())


def refused(file, *words):
    with pytest.raises(tr.LoadError) as caught:
        tr.load(io.BytesIO(file))
    text = str(caught.value)
    assert text.startswith("<BytesIO>: ") and all(word in text for word in words), text


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_program(name, tmp_path):
    net = tr.load(io.BytesIO(PROGRAMS[f"{name}/file"].tobytes())).eval()
    net.save(tmp_path / "net.safetensors")
    for one in (net, tr.load(tmp_path / "net.safetensors")):
        got = one(PROGRAMS[f"{name}/x"])
        wanted = {
            key.partition("/")[2]: array
            for key, array in PROGRAMS.items()
            if key.startswith(f"{name}/") and key[len(name) + 1 :] not in ("file", "x")
        }
        assert list(got) == list(wanted)
        for key, array in wanted.items():
            np.testing.assert_allclose(got[key], array, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_before_2_8(name):
    """Four members without a folder; tensors are archives of torch.save."""
    members = good_files.program_members(name)
    storages, state = {}, {}
    for i, (key, entry) in enumerate(
        json.loads(members["data/weights/model_weights_config.json"])["config"].items()
    ):
        shape = tuple(size["as_int"] for size in entry["tensor_meta"]["sizes"])
        data = members["data/weights/" + entry["path_name"]]
        kind = "float32" if entry["tensor_meta"]["dtype"] == 7 else "int64"
        storages[str(i)] = data
        size = np.dtype(kind).itemsize
        state[key] = wf.tensor(shape, wf.row_major(shape), dtype=kind, key=str(i), count=len(data) // size)
    whole = graph_of(name)
    for node in whole["graph_module"]["graph"]["nodes"]:
        for one in node["inputs"]:
            if one["name"] not in ("alpha", "scale"):
                del one["kind"]
    json_text = json.dumps(whole).encode()
    file = wf.zipped(
        wf.Member("serialized_exported_program.json", json_text),
        wf.Member("serialized_state_dict.pt", wf.pt(state, storages)),
        wf.Member("serialized_constants.pt", wf.pt({})),
        wf.Member("serialized_example_inputs.pt", b""),
        wf.Member("version", b"8.1"),
    )
    assert set(tr.load_weights(io.BytesIO(file))) == set(state)
    net = tr.load(io.BytesIO(file)).eval()
    other = tr.load(io.BytesIO(PROGRAMS[f"{name}/file"].tobytes())).eval()
    x = PROGRAMS[f"{name}/x"]
    for key, array in other(x).items():
        np.testing.assert_array_equal(net(x)[key], array)


NODE = "graph_module__graph__nodes__{}__{}".format


def place_of(name, op):
    nodes = graph_of(name)["graph_module"]["graph"]["nodes"]
    return next(i for i, node in enumerate(nodes) if op in node["target"])


def test_an_operation_that_is_no_layer_is_named_with_its_line():
    i = place_of("heads", "softmax")
    refused(
        changed(**{NODE(i, "target"): "torch.ops.aten.erfinv.default"}),
        "record_programs.py:",
        "erfinv",
        "not known",
    )
    refused(
        changed(**{NODE(i, "target"): "torch.ops.mine.op.default"}), "torch.ops.mine.op.default", "not known"
    )
    refused(changed(**{NODE(i, "target"): "torch.ops.higher_order.cond"}), "not known")
    refused(changed(**{NODE(i, "target"): "a\n\x1b[2Jb"}), r"'a\n\x1b[2Jb'", "not known")


def test_what_a_program_lacks_is_an_error():
    refused(program_file("heads", b"[]"), "the program begins with")
    refused(program_file("heads", b"{}"), "lacks", "graph_module")
    refused(changed(schema_version={"major": 9, "minor": 0}), "schema version", "at most 8")
    refused(changed(graph_module__signature={}), "schema version")
    refused(changed(graph_module__graph__nodes=3), "the program")
    refused(changed(**{NODE(0, "target"): 3}), "node 0", "expected a name")
    i = place_of("heads", "lstm")
    refused(changed(**{NODE(i, "inputs"): None}), f"node {i}", "lacks", "inputs")
    refused(changed(**{NODE(i, "outputs"): [{}]}), f"node {i}")
    refused(changed(**{NODE(i, "outputs"): [{"as_tensor": {"name": "nobody"}}]}), f"node {i}", "nobody")
    refused(changed(graph_module__graph__tensor_values={}), "input x is no tensor")


def test_names_and_tags_are_checked():
    i = place_of("heads", "softmax")
    whole = NODE(i, "inputs__0__arg")
    refused(changed(**{whole: {"as_tensor": {"name": "later"}}}), "later", "nothing writes before")
    refused(changed(**{whole: {"as_tensor": {"name": [1]}}}), "expected a name")
    refused(changed(**{whole: {"as_what": 1}}), "as_what")
    refused(changed(**{whole: {"as_int": "x"}}), "as_int")
    refused(changed(**{whole: {"as_int": 1, "as_float": 1.0}}), f"node {i}")
    refused(changed(**{whole: {"as_graph": {"name": "g", "graph": {}}}}), "as_graph")
    refused(changed(**{whole: {"as_custom_obj": {"name": "g"}}}), "as_custom_obj")
    first = "graph_module__signature__input_specs__0__parameter__parameter_name"
    refused(changed(**{first: "nobody"}), "nobody", "does not have")
    out = "graph_module__module_call_graph__0__signature__out_spec"
    refused(changed(**{out: '[1, {"type": null, "context": null, "children_spec": []}]'}), "outputs")
    refused(changed(**{out: "[1, " + "[" * 100_000}), "nested too deeply")


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"as_int": 1 << 50}, []),
        ({"as_int": -3}, []),
        ({"as_int": 1e3}, []),
        ({"as_expr": {"expr_str": "Pow(Integer(10), Pow(Integer(10), Integer(3)))"}}, []),
        ({"as_expr": {"expr_str": "10 ** 10 ** 10"}}, []),
        ({"as_expr": {"expr_str": "__import__('os').abort()"}}, []),
        ({"as_expr": {"expr_str": "FloorDiv(s0, 0)"}}, []),
        ({"as_expr": {"expr_str": "(" * 1900}}, ["expected an expression"]),
        ({"as_expr": {"expr_str": "-" * 1900 + "1"}}, ["expected an expression"]),
        ({"as_expr": {"expr_str": "1+" * 99 + "1"}}, ["expected an expression"]),
        ({"as_expr": {"expr_str": "1+" * 5000 + "1"}}, ["at most 2000"]),
        ({"as_expr": {"expr_str": "nobody"}}, []),
        ({"as_expr": 7}, []),
        ({"as_what": 7}, []),
        (7, []),
    ],
)
@pytest.mark.parametrize("limit", [1000, 20_000])
def test_sizes_that_cannot_be(size, words, limit, request):
    request.addfinalizer(functools.partial(sys.setrecursionlimit, sys.getrecursionlimit()))
    sys.setrecursionlimit(limit)
    values = graph_of("heads")["graph_module"]["graph"]["tensor_values"]
    for name in ("x", next(one for one in values if one.startswith("zeros"))):
        path = f"graph_module__graph__tensor_values__{name}__sizes__2"
        refused(changed(**{path: size}), *words)


def test_a_large_size_takes_no_memory():
    file = io.BytesIO(changed(graph_module__graph__tensor_values__x__sizes__1={"as_int": 1 << 24}))
    tracemalloc.start()
    try:
        with suppress(tr.LoadError):
            tr.load(file)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_constants_take_no_more_memory_than_the_file_may():
    i = place_of("heads", "zeros")
    name = graph_of("heads")["graph_module"]["graph"]["nodes"][i]["outputs"][0]["as_tensor"]["name"]
    path = f"graph_module__graph__tensor_values__{name}__sizes__2"
    refused(changed(**{path: {"as_int": 1 << 30}}), "memory")


def test_writes_into_tensors_are_followed_or_refused():
    i = place_of("heads", "softmax")
    nodes = graph_of("heads")["graph_module"]["graph"]["nodes"]
    own = nodes[i]["inputs"][0]["arg"]
    refused(
        changed(
            **{
                NODE(i, "target"): "torch.ops.aten.softmax_.int",
                NODE(i, "inputs__0__arg"): {"as_tensor": {"name": "x"}},
            }
        ),
        "changes x",
    )
    outputs = graph_of("heads")["graph_module"]["signature"]["output_specs"]
    outputs.append({"buffer_mutation": {"arg": own["as_tensor"], "buffer_name": "h"}})
    refused(changed(graph_module__signature__output_specs=outputs), "buffer_mutation", "states as inputs")


@pytest.mark.filterwarnings("default:load")
def test_a_warning_names_the_line_that_calls():
    with pytest.warns(UserWarning, match=r"x.shape\[1\] == 6 alone") as caught:
        tr.load(io.BytesIO(PROGRAMS["heads/file"].tobytes()))
    assert caught[0].filename == __file__


def test_axes_may_be_told():
    file = PROGRAMS["heads/file"].tobytes()
    net = tr.load(io.BytesIO(file), axes="BTF")
    assert net(PROGRAMS["heads/x"])["steps"].shape == (3, 6, 2)
    with pytest.raises(TypeError, match="axes"):
        tr.load(io.BytesIO(file), axes="BT")
    with pytest.raises(TypeError, match="states"):
        tr.load(io.BytesIO(file), states=True)


def test_weights_stay_those_of_the_state_dict():
    file = io.BytesIO(PROGRAMS["free/file"].tobytes())
    assert re.match(r"conv\.weight", next(iter(tr.load_weights(file))))


ODD = [
    None,
    True,
    -1,
    0,
    3,
    1 << 40,
    2.5,
    "",
    "x",
    "linear",
    [],
    [0],
    {},
    {"as_int": 5},
    {"as_tensor": {"name": "x"}},
]


def mutated(rng, whole):
    """JSON with some parts replaced: by others of it, or by odd ones."""
    found = copy.deepcopy(whole)  # all that is put in is a copy: no part is in itself
    for _ in range(rng.choice((1, 1, 2, 5))):
        places = []
        for _ in range(2):
            own, last = {"program": found}, "program"
            while isinstance(own[last], (list, dict)) and own[last] and (rng.random() < 0.9 or not places):
                own = own[last]
                last = rng.choice(list(own) if isinstance(own, dict) else range(len(own)))
            places.append((own, last))
        (own, last), (other, place) = places
        own[last] = copy.deepcopy(rng.choice(ODD) if rng.random() < 0.5 else other[place])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_mutated_programs_are_nets_or_errors(name):
    rng, whole = random.Random(name), graph_of(name)
    for _ in range(150):
        file = program_file(name, json.dumps(mutated(rng, whole)).encode())
        try:
            assert isinstance(tr.load(io.BytesIO(file)), tr.Net)
        except tr.LoadError as error:
            assert str(error).startswith("<BytesIO>: ") and len(str(error)) < 5000
