"""SAMTrack: SAM whose mask decoder gets a template frame and its mask as the prompt.

Kirillov et al., "Segment Anything", ICCV 2023, arXiv 2304.02643, extended by the template attention of
`mask_decoder.py`. The state dict has the names of the published weights.
"""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.device import without_gradient
from common.errors import UserError
from configs.sam_track import NetworkConfig
from systems.sam_track.embedding_cache import EmbeddingCache
from systems.sam_track.image_encoder import ImageEncoder
from systems.sam_track.images import Size, batch_on_grid, pad_to, padding_on_grid, prepare_frames, restore
from systems.sam_track.mask_decoder import MaskDecoder
from systems.sam_track.prompt_encoder import PositionsOnly, PromptEncoder

NOWHERE = -30.0  # the logit of an object that the prompt shows nowhere


class Templates(NamedTuple):
    """The prompt of a batch whose frames may have different sizes, and which may have been seen before.

    masks: (B, K, H, W) of the first frame
    sizes: of each clip the (H, W) that its frames fill; the rest is padding
    files: files[b][t] says where a frame comes from, as a key of the cache of embeddings; None: not known
    """

    masks: Tensor
    sizes: list[Size]
    files: list[list[str]] | None


def parse_blocks(text: str, depth: int) -> list[int]:
    """The places in a list such as `2,5,8,11`; UserError where one is not a block."""
    try:
        places = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        places = [-1]
    if any(not 0 <= place < depth for place in places):
        raise UserError(f"--global_blocks {text}: give places of the {depth} blocks, such as {depth - 1}")
    return places


def check_sizes(config: "SAMTrack.Config") -> None:
    """Raise UserError where sizes do not go together."""
    for name, value, of, divisor in (
        ("image_size", config.image_size, "patch_size", config.patch_size),
        ("embed_dim", config.embed_dim, "num_heads", config.num_heads),
        ("out_dim", config.out_dim, "decoder_heads", 2 * config.decoder_heads),
    ):
        if value % divisor:
            raise UserError(f"--{name} {value} must be a multiple of {divisor}, because of --{of}")
    if config.out_dim % 8:
        raise UserError(f"--out_dim {config.out_dim} must be a multiple of 8")


def make_decoder(config: "SAMTrack.Config") -> MaskDecoder:
    """The mask decoder of these options, with random weights."""
    return MaskDecoder(
        config.out_dim,
        config.decoder_heads,
        config.decoder_mlp_dim,
        config.decoder_depth,
        config.num_multimask,
        config.iou_hidden,
        config.iou_depth,
        attn_norm=config.attn_norm,
    )


class SAMTrack(nn.Module):
    """Masks of the first frame in, masks of all others out, each prompted by the frame before and its mask.

    Unless `train_encoder`, the image encoder is frozen, and what it makes of a known file is kept on disk.
    """

    stride = 1  # frames of any size
    takes_prompt = True
    backbone_parts = ()  # the encoder, where it is trained, learns as everything else
    recomputed_parts = ("image_encoder.blocks",)

    Config = NetworkConfig

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        check_sizes(config)
        self.image_encoder = ImageEncoder(
            config.image_size,
            config.patch_size,
            config.embed_dim,
            config.depth,
            config.num_heads,
            config.window_size,
            parse_blocks(config.global_blocks, config.depth),
            config.out_dim,
            round(config.mlp_ratio * config.embed_dim),
        )
        self.prompt_encoder = (PromptEncoder if config.prompt_encoder else PositionsOnly)(config.out_dim)
        self.mask_decoder = make_decoder(config)
        self.image_encoder.requires_grad_(config.train_encoder)
        self.prompt_encoder.requires_grad_(False)
        # Only the single mask is asked for: what makes the others, and the estimates, has no gradient.
        self.mask_decoder.iou_prediction_head.requires_grad_(False)
        self.mask_decoder.output_hypernetworks_mlps[1:].requires_grad_(False)
        kept = not config.train_encoder and config.embedding_cache != "none"
        self.cache = (
            EmbeddingCache(config.embedding_cache, config.cache_gb, config.cache_type) if kept else None
        )

    def set_epoch(self, epoch: int, epochs: int) -> bool:
        """Every epoch trains the same parameters."""
        return False

    def train(self, mode: bool = True) -> "SAMTrack":
        super().train(mode)
        self.image_encoder.train(mode and self.config.train_encoder)
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Prepared images (B, 3, I, I) to embeddings (B, C, g, g); without gradients where it is frozen."""
        with nullcontext() if self.config.train_encoder else without_gradient(images.device):
            return self.image_encoder(images)

    def track(
        self, image: Tensor, templates: Tensor, masks: Tensor, padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mask logits (N, 1, 4g, 4g) of N objects and their estimated IoU (N, 1).

        image: the embedding (1 or N, C, g, g); templates: (N, R, C, g, g), R for each object
        masks: of the templates, (N, R, g, g), the share of each cell that is the object's
        padding: (N, R, g, g) bool, the templates' cells that are not read; None: all are
        """
        return self.mask_decoder.track(
            image,
            self.prompt_encoder.pe_layer(*image.shape[-2:]),
            templates,
            masks,
            attn_positions=self.config.attn_pe,
            padding=padding,
        )

    def segment(
        self,
        image: Tensor,
        points: Tensor,
        labels: Tensor,
        boxes: Tensor | None,
        masks: Tensor | None,
        image_size: int,
    ) -> Tensor:
        """Mask logits (N, 1, 4g, 4g) of N objects that points, boxes and masks tell, as SAM was published.

        image: the embedding (1, C, g, g); points, labels, boxes: as of `PromptEncoder.sparse`
        masks: logits (N, 1, 4g, 4g) that are to be corrected; None: there are none
        A single click may mean an object or a part of it: of SAM's masks for that case the one of the best
        estimated IoU is taken. All else has the one mask that is made for it.
        """
        grid, encoder = image.shape[-1], self.prompt_encoder
        sparse = encoder.sparse(points, labels, boxes, image_size)
        dense = encoder.dense(masks, len(points), grid)
        is_ambiguous = points.shape[1] == 1 and boxes is None and masks is None
        logits, ious = self.mask_decoder(
            image,
            encoder.pe_layer(grid, grid),
            sparse,
            dense,
            multimask=is_ambiguous and self.config.num_multimask > 0,
        )
        return logits[torch.arange(len(ious)), ious.argmax(1)][:, None]

    def padding(self, sizes: list[Size], image_size: int, grid: int, objects: int) -> Tensor | None:
        """(B * objects, 1, grid, grid) bool: the cells of templates that are not read; None: all are.

        sizes: (H, W) of the B frames in squares of `image_size`
        """
        if self.config.attn_padding:
            return None
        device = self.mask_decoder.track_token.weight.device
        padding = torch.stack([padding_on_grid(size, image_size, grid) for size in sizes]).to(device)
        return padding.repeat_interleave(objects, 0)[:, None]

    def to_frame(self, logits: Tensor, size: Size, image_size: int) -> Tensor:
        """Mask logits (N, M, 4g, 4g) to probabilities (N, M, H, W) of a frame of that size."""
        if self.config.interpolate == "logits":
            return restore(logits.float(), size, image_size).sigmoid()
        return restore(logits.float().sigmoid(), size, image_size).clamp(0, 1)  # rounding may pass 1

    def forward(self, frames: Tensor, prompt: Tensor | Templates | None = None) -> dict[str, Tensor]:
        """frames (B, T, 3, H, W), normalised, and the masks (B, K, H, W) of the first, hard or soft.

        Returns, of all frames but the first, `logits` (B, T - 1, K, 4g, 4g) of SAM's square and the
        probabilities `probs` (B, T - 1, K, H, W). Each frame's template is the frame before it, with the
        probabilities that were found there. An object whose mask is empty is nowhere.
        """
        B, T, _, H, W = frames.shape
        if prompt is None:
            prompt = frames.new_zeros(B, 0, H, W)
        if isinstance(prompt, Tensor):
            prompt = Templates(prompt, [(H, W)] * B, None)
        masks, sizes = prompt.masks.to(frames.dtype), prompt.sizes
        K, side = masks.shape[1], self.config.image_size
        is_present = masks.flatten(2).any(-1)[..., None, None]  # (B, K, 1, 1)
        embeddings = self._embed(frames, prompt)
        grid = embeddings.shape[-1]
        padding = self.padding(sizes, side, grid, K)
        logits = [frames.new_zeros(B, 0, K, 4 * grid, 4 * grid)]
        probs = [frames.new_zeros(B, 0, K, H, W)]
        for t in range(1, T):
            image, template = (
                embeddings[:, at, None].expand(B, K, -1, grid, grid).flatten(0, 1) for at in (t, t - 1)
            )
            shares = batch_on_grid(masks, sizes, side, grid)
            x, _ = self.track(image, template[:, None], shares.flatten(0, 1)[:, None], padding)
            x = x[:, 0].float().unflatten(0, (B, K))  # (B, K, 4g, 4g)
            large = [self.to_frame(y[:, None], size, side)[:, 0] for y, size in zip(x, sizes, strict=True)]
            masks = torch.stack([pad_to(y, (H, W)) for y in large]) * is_present
            logits.append(x.masked_fill(~is_present, NOWHERE)[:, None])
            probs.append(masks[:, None])
        return {"logits": torch.cat(logits, 1), "probs": torch.cat(probs, 1)}

    def _embed(self, frames: Tensor, prompt: Templates) -> Tensor:
        """(B, T, 3, H, W) frames to embeddings (B, T, C, g, g), those of known files through the cache."""
        B, T = frames.shape[:2]

        def encode(places: list[tuple[int, int]]) -> Tensor:
            images = []
            for b, t in places:
                h, w = prompt.sizes[b]
                images.append(prepare_frames(frames[b, t, None, :, :h, :w], self.config.image_size))
            return self.encode(torch.cat(images))

        places = [(b, t) for b in range(B) for t in range(T)]
        if self.cache is None or prompt.files is None:
            return encode(places).unflatten(0, (B, T))
        names = [prompt.files[b][t] for b, t in places]
        embeddings = self.cache.through(
            self.image_encoder, names, lambda missing: encode([places[i] for i in missing])
        )
        return embeddings.unflatten(0, (B, T))
