"""`torch.compile` of network and criterion: a step leaves the graph at the places named here alone."""

from pathlib import Path

import pytest
import torch

import main
from annotated.videos import VOSFolder
from inference import SYSTEMS
from tests.support.commands import ROOT, SMALL
from training.loader import make_loader
from video.transforms import upload

BREAKS = {  # the functions in which values are needed on the CPU, or Python's own draws are made
    "vita_tcovis": {
        ("utils.py", "_solve"),  # the Hungarian algorithm, which is SciPy's
        ("utils.py", "__call__"),  # its costs reach the CPU, its matches the GPU
        ("utils.py", "object_identities"),  # hashes of the names of videos
    },
    "stcn": {("systems/stcn/criterion.py", "_fetch")},  # numbers of pixels and the iteration
    "xmem": {("systems/stcn/criterion.py", "_fetch"), ("systems/xmem/modules.py", "_draw_deep_updates")},
    "siammask": {("systems/siammask/criterion.py", "forward")},  # which windows show the object
    "sam_track": set(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_step_leaves_the_graph_where_it_must_and_nowhere_else(name, small_data):
    system, plan = SYSTEMS[name], SYSTEMS[name].plan(main.parse_args(["--system", name, *SMALL[name]])[0])
    torch.manual_seed(0)
    objective = main.Objective(plan.make_network(), system.criterion(plan.configs["criterion"])).train()
    clips = system.dataset(VOSFolder(small_data / "train"), plan.configs["data"], training=True)
    batch = next(iter(make_loader(clips, [[(0, 0), (0, 1)]], num_workers=0, pin_memory=False)))
    torch._dynamo.reset()
    explained = torch._dynamo.explain(objective)(upload(batch, "cpu"))
    assert explained.graph_count
    assert {place(reason.user_stack) for reason in explained.break_reasons} == BREAKS[name]


def place(stack: list) -> tuple[str, str]:
    """The file and the function of this project that a break of the graph is in."""
    frames = [frame for frame in stack if Path(frame.filename).is_relative_to(ROOT) and frame.name[0] != "<"]
    return str(Path(frames[-1].filename).relative_to(ROOT)), frames[-1].name
