"""The network of a checkpoint for programs without this project: .pt2 of torch.export, or .onnx.

python -m tools.export --checkpoint C --output model.pt2 [--size 384 640] [--objects 1]

What a tracker asks of its network for each frame is exported, part by part; the files of several parts are
named model.<part>.pt2. Every file is read back and compared with the network; one that disagrees is not kept.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from copy import copy
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import run_check, run_command
from configs.export import parse_args

if __name__ == "__main__":  # help and mistakes come before torch is loaded, which takes seconds
    run_check(parse_args)

import torch
from torch import Tensor, nn

from common.errors import UserError, is_out_of_memory, require
from common.files import atomic_write
from common.progress import say
from inference import load_network
from systems.siammask.crops import SEARCH, TEMPLATE
from systems.siammask.modules import Kernels, Response
from systems.stcn.modules import KeyFeatures, others_of
from systems.xmem.modules import KeyFeatures as XMemFeatures

TOLERANCE = 1e-4  # difference from the network, relative to its largest output, that rounding explains
Tensors = dict[str, Tensor]


class Part(nn.Module):
    """A function of a network, of tensors by name, as a module: what is exported.

    name: of the part, empty where the network has one alone
    example: inputs, whose sizes are those of the export; outputs have other names
    uses: the children of the network that the function needs, whose weights are exported; none: all
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        function: Callable[..., Tensors],
        example: Tensors,
        uses: Sequence[str] = (),
    ):
        super().__init__()
        self.name, self.function, self.example = name, function, example
        self.network = copy(network)  # without the weights
        self.network._modules = {x: child for x, child in network.named_children() if x in (uses or (x,))}
        self.training = False  # as the network's parts are

    def forward(self, **inputs: Tensor) -> Tensors:
        return self.function(self.network, **inputs)


class Sizes(NamedTuple):
    """Of what is exported: height and width of a frame as the network sees it, and the number of objects."""

    H: int
    W: int
    K: int


# ------------------------------------------------------------------------------------------------ the parts


def _vita_frame(network: nn.Module, frame: Tensor, queries: Tensor | None = None) -> Tensors:
    outputs = network(frame[None], queries=queries)
    predicted = {name: outputs[name][0] for name in ("class_logits", "mask_logits", "embeddings")}
    return predicted if queries is None else predicted | {"next_queries": outputs["queries"]}


def vita_tcovis_parts(network: nn.Module, sizes: Sizes) -> Iterator[Part]:
    """The whole network; what follows are NMS and the memory bank of inference.py."""
    example = {"frame": torch.rand(1, 3, sizes.H, sizes.W)}
    if network.config.propagate:  # all zero for the first frame
        example["queries"] = torch.rand(1, *network.tokens.shape)
    yield Part("", network, _vita_frame, example)


def _encode_key(network: nn.Module, frame: Tensor) -> Tensors:
    return network.encode_key(frame)._asdict()


def _encode_value(network: nn.Module, frame: Tensor, f16: Tensor, masks: Tensor) -> Tensors:
    return {"values": network.encode_value(frame, f16, masks, others_of(masks))}


def _encoders(network: nn.Module, sizes: Sizes) -> tuple[Part, Part, Tensors]:
    """Those of STCN and XMem, and what the first makes of its example."""
    uses = [name for name, _ in network.named_children() if name.startswith("key_")]
    keys = Part("encode_key", network, _encode_key, {"frame": torch.rand(1, 3, sizes.H, sizes.W)}, uses)
    features, masks = keys(**keys.example), torch.rand(1, sizes.K, sizes.H, sizes.W)
    example = {**keys.example, "f16": features["f16"], "masks": masks}
    return keys, Part("encode_value", network, _encode_value, example, ["value_encoder"]), features


def stcn_parts(network: nn.Module, sizes: Sizes) -> Iterator[Part]:
    """The encoders and the decoder."""

    def decode(network: nn.Module, readout: Tensor, f16_thin: Tensor, f8: Tensor, f4: Tensor) -> Tensors:
        return {"logits": network.decode(readout, KeyFeatures(None, f16_thin, None, f8, f4))}

    keys, values, features = _encoders(network, sizes)
    yield from (keys, values)
    example = {"readout": values(**values.example)["values"]}
    example |= {name: features[name] for name in ("f16_thin", "f8", "f4")}
    yield Part("decode", network, decode, example, ["decoder"])


def xmem_parts(network: nn.Module, sizes: Sizes) -> Iterator[Part]:
    """The encoders, the deep update of the sensory memory, and the decoder with its update."""

    def deep_update(network: nn.Module, values: Tensor, hidden: Tensor) -> Tensors:
        return {"next_hidden": network.deep_update(values, hidden)}

    def decode(
        network: nn.Module, readout: Tensor, hidden: Tensor, f16: Tensor, f8: Tensor, f4: Tensor
    ) -> Tensors:
        logits, state = network.decode(readout, hidden, XMemFeatures(None, None, None, f16, f8, f4))
        return {"logits": logits, "next_hidden": state}

    keys, values, features = _encoders(network, sizes)
    yield from (keys, values)
    value = values(**values.example)["values"]
    hidden = torch.rand_like(network.initial_hidden(features["key"], sizes.K))
    if network.config.hidden_dim:
        yield Part(
            "deep_update", network, deep_update, {"values": value, "hidden": hidden}, ["value_encoder"]
        )
    example = {"readout": value, "hidden": hidden} | {name: features[name] for name in ("f16", "f8", "f4")}
    yield Part("decode", network, decode, example, ["decoder"])


def siammask_parts(network: nn.Module, sizes: Sizes) -> Iterator[Part]:
    """A template's kernels, the answer of a search crop, and the mask of one place of it."""

    def template(network: nn.Module, crop: Tensor) -> Tensors:
        kernels = network.encode_template(crop)[0]
        return {f"{branch}_kernel": kernel for branch, kernel in kernels._asdict().items()}

    def search(network: nn.Module, crop: Tensor, **kernels: Tensor) -> Tensors:
        answer = network.search(Kernels(*kernels.values()), crop)
        levels = dict(zip(("p0", "p1", "p2"), answer.levels, strict=True))
        return {"cls": answer.cls, "loc": answer.loc, "row": answer.row, **levels}

    def mask(network: nn.Module, places: Tensor, row: Tensor, **levels: Tensor) -> Tensors:
        response = Response(None, None, row, tuple(levels.values()))
        return {"mask_logits": network.masks_at(response, places, refined=network.config.refine)}

    crops = {side: 255 * torch.rand(sizes.K, 3, side, side) for side in (TEMPLATE, SEARCH)}
    first = Part("template", network, template, {"crop": crops[TEMPLATE]})
    second = Part("search", network, search, {"crop": crops[SEARCH], **first(**first.example)})
    yield from (first, second)
    answer = second(**second.example)
    names = ("row", "p0", "p1", "p2") if network.config.refine else ("row",)
    places = torch.full((sizes.K, 2), answer["row"].shape[-1] - 1)
    example = {"places": places} | {name: answer[name] for name in names}
    yield Part("mask", network, mask, example, ["mask_model", "refine_model"])


def sam_track_parts(network: nn.Module, sizes: Sizes) -> Iterator[Part]:
    """The image encoder, and the decoder that a template of each object tells what to cut out."""

    def encode(network: nn.Module, image: Tensor) -> Tensors:
        return {"embedding": network.encode(image)}

    def track(network: nn.Module, embedding: Tensor, templates: Tensor, shares: Tensor, **padding) -> Tensors:
        logits, iou = network.track(embedding, templates, shares, **padding)
        return {"logits": logits, "iou": iou}

    side = network.config.image_size
    first = Part("encode", network, encode, {"image": torch.rand(1, 3, side, side)}, ["image_encoder"])
    yield first
    embedding = first(**first.example)["embedding"]
    templates = embedding[None].repeat(sizes.K, 1, 1, 1, 1)
    shares = torch.rand(sizes.K, 1, *embedding.shape[-2:])
    example = {"embedding": embedding, "templates": templates, "shares": shares}
    if not network.config.attn_padding:
        example["padding"] = torch.arange(shares.numel()).view(shares.shape) % 5 == 0
    yield Part("track", network, track, example, ["prompt_encoder", "mask_decoder"])


PARTS: dict[str, Callable[[Any, Sizes], Iterator[Part]]] = {
    "vita_tcovis": vita_tcovis_parts,
    "stcn": stcn_parts,
    "xmem": xmem_parts,
    "siammask": siammask_parts,
    "sam_track": sam_track_parts,
}
LEFT_OUT = {  # what a tracker does between the parts
    "vita_tcovis": "non-maximum suppression and identities",
    "stcn": "the memory, from values to a readout",
    "xmem": "the memory, from values to a readout",
    "siammask": "the choice of the best window, and cutting out crops",
    "sam_track": "the choice of templates, and bringing frames and masks to their sizes",
}


# ------------------------------------------------------------------------------------------------ the files


def write_pt2(part: Part, path: Path) -> None:
    with open(path, "wb") as file:
        torch.export.save(torch.export.export(part, (), part.example), file)


def run_pt2(path: Path, inputs: Tensors) -> Tensors:
    with open(path, "rb") as file:
        return torch.export.load(file).module()(**inputs)


def write_onnx(part: Part, path: Path) -> None:
    names = {"input_names": [*part.example], "output_names": [*part(**part.example)]}
    program = torch.onnx.export(part, (), kwargs=part.example, dynamo=True, verbose=False, **names)
    program.save(path)


def run_onnx(path: Path, inputs: Tensors) -> Tensors:
    session = require("onnxruntime", "--output *.onnx").InferenceSession(path)
    values = session.run(None, {name: x.numpy() for name, x in inputs.items()})
    names = (output.name for output in session.get_outputs())
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


FORMATS = {".pt2": (write_pt2, run_pt2), ".onnx": (write_onnx, run_onnx)}


def other_inputs(example: Tensors) -> Tensors:
    """Other values of the same sizes and ranges: what an export took for a constant shows by them."""
    other = {name: x.flip(-1) if x.dtype == torch.bool else x // 2 for name, x in example.items()}
    floats = {name: x for name, x in example.items() if x.is_floating_point()}
    return other | {name: torch.rand_like(x) * x.max() for name, x in floats.items()}


def differences(expected: Tensors, outputs: Tensors) -> tuple[float, bool]:
    """The largest difference of any output, and whether all are within the tolerance."""
    largest, agree = 0.0, expected.keys() == outputs.keys()
    for name in expected.keys() & outputs.keys():
        difference = float((expected[name] - outputs[name]).abs().max())
        agree &= difference <= TOLERANCE * max(1.0, float(expected[name].abs().max()))
        largest = max(largest, difference)
    return largest, agree


def _shapes(tensors: Tensors) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, x.shape))}" for name, x in tensors.items())


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Inside, torch and onnxscript do not tell how they trace, where they stop, what they do not optimise."""
    former = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(former)


class Disagreement(Exception):
    """What was exported does not say what the network says."""


def export_part(part: Part, path: Path) -> str:
    """Write one part, read it back and compare it; returns a line on it.

    Raises Disagreement, and leaves no file, where its outputs are not the network's.
    """
    write, run = FORMATS[path.suffix]
    inputs = other_inputs(part.example)
    expected = part(**inputs)
    with atomic_write(path) as temporary, _without_warnings():
        write(part, temporary)
        largest, agree = differences(expected, run(temporary, inputs))
        if not agree:
            raise Disagreement(f"{path} is not kept: it differs from the network by up to {largest:.2g}")
    shapes = f"{_shapes(inputs)} -> {_shapes(expected)}"
    return f"{path}: {shapes}; largest difference from the network {largest:.2g}"


def _is_written(part: Part, output: Path) -> bool:
    """Export a part and report it in one line; returns whether its file is there."""
    path = output.with_name(f"{output.stem}.{part.name}{output.suffix}") if part.name else output
    try:
        say(export_part(part, path))
    except Disagreement as error:
        say(str(error), error=True)
        return False
    except Exception as error:  # what torch does not export it says in a dozen ways
        if isinstance(error, UserError | OSError) or is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        say(f"{part.name or 'the network'} cannot be exported: {type(error).__name__}: {reason}", error=True)
        return False
    return True


def export(checkpoint: Path, output: Path, sizes: Sizes) -> bool:
    """Export every part of a checkpoint's network, a line on each; returns whether all were.

    Raises UserError for what `load_network` refuses, a size that cannot be, absent packages.
    """
    if output.suffix == ".onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            require(package, f"--output {output}")
    network, config = load_network(checkpoint)
    system, complete = config["system"], True
    if sizes.H % network.stride or sizes.W % network.stride:
        size = f"--size {sizes.H} {sizes.W}"
        raise UserError(f"{size}: frames of {system} are padded to multiples of {network.stride}: give these")
    with torch.no_grad():
        for part in PARTS[system](network, sizes):
            complete &= _is_written(part, output)
    say(f"not in it, because it has no weights: {LEFT_OUT[system]}")
    return complete


def main() -> None:
    args = parse_args()
    if not export(args.checkpoint, args.output, Sizes(*args.size, args.objects)):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
