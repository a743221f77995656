"""Arguments that no pool can work with are refused, with a message that says what to change."""

from __future__ import annotations

import pytest
import torch

from graphpool import Segments, aggr

CHANNELS = 8
DIVISORS = "These do: 1, 2, 4, 8"

REFUSED = [
    # what must divide the channels
    (
        "ggem",
        {"groups": 3},
        "`groups` must divide `channels`; got groups=3, channels=8. Choose a divisor of 8",
    ),
    (
        "powermean",
        {"groups": 3},
        "`groups` must divide `channels`; got groups=3, channels=8. Choose a divisor of 8",
    ),
    ("pma", {"heads": 3}, f"`heads` must divide the number of channels, 8; got 3. {DIVISORS}"),
    ("isab", {"heads": 3}, f"`heads` must divide the number of channels, 8; got 3. {DIVISORS}"),
    ("dsvt", {"heads": 3}, f"`heads` must divide the number of channels, 8; got 3. {DIVISORS}"),
    ("ponet", {"heads": 3}, f"`heads` must divide the number of channels, 8; got 3. {DIVISORS}"),
    ("latent_attention", {"heads": 5}, f"`heads` must divide .* 8; got 5. {DIVISORS}"),
    ("layer_attention", {"num_layers": 3}, f"`num_layers` must divide .* 8; got 3. {DIVISORS}"),
    ("layer_attention", {"num_layers": 2, "heads": 3}, "`heads` must divide .* 4; got 3"),
    # counts
    ("kmax", {"k": 0}, "`k` must be an int of at least 1; got 0"),
    ("dynamic_kmax", {"k": 0}, "`k` must be an int of at least 1; got 0"),
    ("dynamic_kmax", {"ratio": 0.0}, r"`ratio` must lie in \(0, 1\]; got 0.0"),
    ("poolformer", {"k": 0}, "`k` must be an int of at least 1; got 0"),
    ("ponet", {"k": -1}, "`k` must be an int of at least 1; got -1"),
    ("attsets", {"num_outputs": 0}, "`num_outputs` must be an int of at least 1; got 0"),
    ("pma", {"num_seeds": 0}, "`num_seeds` must be an int of at least 1; got 0"),
    ("isab", {"num_inducing": 0}, "`num_inducing` must be an int of at least 1; got 0"),
    ("slots", {"num_slots": 0}, "`num_slots` must be an int of at least 1; got 0"),
    ("slot_mixture", {"iterations": 0}, "`iterations` must be an int of at least 1; got 0"),
    ("latent_attention", {"num_latents": 0}, "`num_latents` must be an int of at least 1; got 0"),
    ("layer_attention", {"num_latents": 0}, "`num_latents` must be an int of at least 1; got 0"),
    ("mfb", {"factors": 0}, "`factors` must be an int of at least 1; got 0"),
    ("lowrank_bilinear", {"rank": 0}, "`rank` must be an int of at least 1; got 0"),
    ("compact_bilinear", {"out_channels": 0}, "`out_channels` must be an int of at least 1; got 0"),
    ("isqrt_cov", {"iterations": 0}, "`iterations` must be an int of at least 1; got 0"),
    ("deepsets", {"hidden": 0}, "`hidden` must be an int of at least 1; got 0"),
    ("delf", {"hidden": 0}, "`hidden` must be an int of at least 1; got 0"),
    ("inset", {"hidden": 0}, "`hidden` must be an int of at least 1; got 0"),
    ("midam_attention", {"num_outputs": 0}, "`num_outputs` must be an int of at least 1; got 0"),
    ("midam_lse", {"num_segments": -1}, "`num_segments` must be an int of at least 0; got -1"),
    ("pyramid", {"pos_dim": 2, "levels": 0}, "`levels` must be an int of at least 1; got 0"),
    ("fsw", {"out_channels": 1}, "`out_channels` must be an int of at least 2; got 1"),
    ("gated_attention", {"hidden": 0}, "`hidden` must be an int of at least 1; got 0"),
    ("dsmil", {"num_outputs": 0}, "`num_outputs` must be an int of at least 1; got 0"),
    ("conjunctive", {"hidden": 0}, "`hidden` must be an int of at least 1; got 0"),
    ("set2set", {"processing_steps": 0}, "`processing_steps` must be an int of at least 1; got 0"),
    ("fishnets", {"parameters": 0}, "`parameters` must be an int of at least 1; got 0"),
    ("otke", {"num_references": 0}, "`num_references` must be an int of at least 1; got 0"),
    ("geometric_median", {"steps": 0}, "`steps` must be an int of at least 1; got 0"),
    ("moments", {"order": 0}, "`order` must be an int of at least 1; got 0"),
    # numbers out of range
    ("trimmed_mean", {"trim": 0.5}, r"`trim` must lie in \[0, 1/2\); got 0.5"),
    ("soft_median", {"temperature": 0.0}, "`temperature` must be positive and finite; got 0.0"),
    ("otke", {"eps": 0.0}, "`eps` must be positive and finite; got 0.0"),
    ("geometric_median", {"eps": -1.0}, "`eps` must be positive; got -1.0"),
    ("moments", {"eps": 0.0}, "`eps` must be positive; got 0.0"),
    ("pna", {"delta": 0.0}, "`delta` must be positive, or sizes of bags; got 0.0"),
    ("fsw", {"frequencies": "odd"}, "`frequencies` must be one of .* got 'odd'"),
    ("fsw", {"total": "sqrt"}, "`total` must be one of .* got 'sqrt'"),
    ("ward", {"factor": 0.5}, "`factor` must be at least 1; got 0.5"),
    ("quantile", {"q": 1.5}, r"`q` must lie in \[0, 1\], one or several; got 1.5"),
    ("logsumexp", {"tau": 0.0}, "`tau` must be positive and finite; got 0.0"),
    ("midam_lse", {"gamma": 0.0}, r"`gamma` must lie in \(0, 1\]; got 0.0"),
    ("mfb", {"dropout": 1.0}, r"`dropout` must lie in \[0, 1\); got 1.0"),
    ("adapool", {"similarity": "cosine"}, "`similarity` must be one of .* got 'cosine'"),
    ("gnp", {"form": "old"}, "'old'"),
    ("gnp", {"form": "paper", "sign": "up"}, "'up'"),
    # positions
    ("pyramid", {"pos_dim": 0}, "`pos_dim` must be an int of at least 1; got 0"),
    ("pyramid", {"pos_dim": 8}, r"at least one feature; got 8. Elements are torch.cat"),
    ("dsvt", {"pos_dim": 8}, r"at least one feature; got 8. Elements are torch.cat"),
    ("poolformer", {"pos_dim": 9}, r"at least one feature; got 8. Elements are torch.cat"),
    ("ponet", {"pos_dim": 8, "voxel": 1.0}, r"at least one feature; got 8. Elements are torch.cat"),
    ("ponet", {"pos_dim": 3}, "`voxel`, the edge of a cell, must be positive; got None"),
    ("dsvt", {"unmasked": True}, "`unmasked` needs `window_size`"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), REFUSED)
def test_when_it_is_made(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        aggr.resolve(name, channels=CHANNELS, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [row for row in REFUSED if "divi" in row[2] or "torch.cat" in row[2]],
)
def test_when_the_channels_are_read_off_the_first_input(name, arguments, message):
    pool = aggr.resolve(name, channels=-1, **arguments)
    with pytest.raises(ValueError, match=message):
        pool(torch.randn(5, CHANNELS))


@pytest.mark.parametrize("name", aggr.names())
class TestInput:
    def make(self, name):
        return aggr.resolve(name, channels=CHANNELS, **aggr.lookup(name).example_arguments)

    def test_another_number_of_channels(self, name):
        with pytest.raises(ValueError, match="was made for channels=8; `x` has 7 in shape"):
            self.make(name)(torch.randn(5, 7))

    def test_elements_on_the_last_dimension(self, name):
        with pytest.raises(ValueError, match="`dim` must not be the last dimension"):
            self.make(name)(torch.randn(5, CHANNELS), dim=-1)

    def test_a_dimension_that_is_not_there(self, name):
        with pytest.raises(ValueError, match=r"`dim` must lie in \[-2, 2\); got 2"):
            self.make(name)(torch.randn(5, CHANNELS), dim=2)

    def test_an_index_of_another_length(self, name):
        with pytest.raises(ValueError, match="4"):
            self.make(name)(torch.randn(5, CHANNELS), torch.zeros(4, dtype=torch.long), dim_size=1)

    def test_bags_of_another_number_of_elements(self, name):
        bags = Segments(ptr=torch.tensor([0, 4]))
        with pytest.raises(ValueError, match="over 4 elements; `x` has 5"):
            self.make(name)(torch.randn(5, CHANNELS), bags)

    def test_a_weight_of_another_length(self, name):
        with pytest.raises(ValueError, match="`weight`"):
            self.make(name)(torch.randn(5, CHANNELS), weight=torch.ones(4))

    def test_no_channels(self, name):
        with pytest.raises(
            ValueError, match="`channels` must be positive, or -1 to infer it; got 0"
        ):
            aggr.resolve(name, channels=0, **aggr.lookup(name).example_arguments)


def test_slots_of_a_window_that_are_missing():
    pool = aggr.DSVTPool(CHANNELS, window_size=4)
    with pytest.raises(TypeError, match=r"`window_index` .* integers \(5,\); got NoneType"):
        pool(torch.randn(5, CHANNELS))


def test_bags_that_do_not_fit_the_call():
    pool, x = aggr.Mean(), torch.ones(3, 2)
    segments = Segments(ptr=torch.tensor([0, 2, 3]))
    with pytest.raises(ValueError, match="`dim_size` is 3, but there are 2 bags"):
        pool(x, segments, dim_size=3)
    with pytest.raises(ValueError, match="`ptr` must be absent"):
        pool(x, segments, ptr=segments.ptr)
    with pytest.raises(ValueError, match="over 3 elements; `x` has 2"):
        pool(x[:2], segments)
    with pytest.raises(ValueError, match="without `index` there is one bag"):
        pool(x, dim_size=2)
    with pytest.raises(ValueError, match="`dim` must be 0"):
        pool(x[:, 0], segments, dim=1)
    assert pool(x).tolist() == [[1.0, 1.0]]
