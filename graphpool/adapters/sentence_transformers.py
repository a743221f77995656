"""A pool as the pooling of sentence-transformers: tokens of a sentence are a bag."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool import _optional
from graphpool.aggr.pyg import pool, pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.segments import Segments

_modules: Any = _optional.require(
    "sentence_transformers.base.modules.module", "graphpool.adapters.sentence_transformers"
)


class BagPooling(_modules.Module):
    """Any pool over the tokens of a sentence.

    ``SentenceTransformer(modules=[Transformer(...), BagPooling(384)])``; padding is no token.

    Args:
        embedding_dimension: Width of the tokens.
        pool: A name, or a list of names, so that the configuration says it.
        include_prompt: Whether the tokens of a prompt belong to the bag.

    Raises:
        TypeError: ``pool`` is neither.
    """

    config_keys = ["embedding_dimension", "pool", "include_prompt"]

    def __init__(
        self, embedding_dimension: int, pool: str | list[str] = "gnp", include_prompt: bool = True
    ) -> None:
        super().__init__()
        names = pool if isinstance(pool, list) else [pool]
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"`pool` must be a name or a list of names; got {pool!r}.")
        self.embedding_dimension, self.pool = embedding_dimension, pool
        self.include_prompt = include_prompt
        self.pooling = resolve_pool(pool, embedding_dimension)

    def get_embedding_dimension(self) -> int:
        """Width of the sentences."""
        return pooled_width(self.pooling, self.embedding_dimension)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        tokens: Tensor = features["token_embeddings"]
        prompt = 0 if self.include_prompt else features.get("prompt_length", 0)
        prompt = int(prompt.reshape(-1)[0]) if isinstance(prompt, Tensor) else int(prompt)
        if "cu_seq_lens_q" in features:
            # One row of all sentences, end to end.
            ptr = features["cu_seq_lens_q"].long()
            sentence = Segments(ptr=ptr).index
            place = torch.arange(sentence.numel(), device=sentence.device) - ptr[sentence]
            kept = (place >= prompt).nonzero().squeeze(1)
            elements, index, count = tokens[0, kept], sentence[kept], ptr.numel() - 1
        else:
            mask = features.get("attention_mask")
            if mask is None or mask.size(-1) != tokens.size(1):
                mask = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
            # The first tokens that are none of padding, on whichever side that stands.
            mask = (mask > 0) & (mask.cumsum(1) > prompt)
            elements, index, count = tokens[mask], mask.nonzero()[:, 0], tokens.size(0)
        bags = Segments(index=index, num_segments=count, is_sorted=True)
        features["sentence_embedding"] = pool(self.pooling, elements, bags)
        return features

    def save(
        self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, **kwargs: Any) -> BagPooling:
        hub = {
            k: v
            for k, v in kwargs.items()
            if k in ("subfolder", "token", "cache_folder", "revision", "local_files_only")
        }
        made = cls(**cls.load_config(model_name_or_path, **hub))
        return cls.load_torch_weights(model_name_or_path, model=made, **hub)
