"""Kept vectors for the vision blocks of the attention crate, from PyTorch.

    pip install numpy==2.4.6 torch==2.15.0
    python scripts/oracle/vision.py > tests/vectors/vision.json

Images channels first, as torch.nn.Conv2d takes them; 1x1 convolutions, LayerNorm and softmax are PyTorch's own modules
and functions in float64, gradients autograd's. Weights are stored under the field names of the crate's operands, in their
order, the image first and channels last.
"""
import json

import torch
import torch.nn.functional as F

from attention import pack


def four(x):
    """Weights and vectors as [1, 1, out, in]."""
    return x.reshape(1, 1, *((1, -1) if x.dim() < 2 else x.shape[:2]))


def case(seed, shape, weights, block, **facts):
    torch.manual_seed(seed)
    image = torch.randn(shape, dtype=torch.float64).requires_grad_()
    leaves = {name: torch.randn(size, dtype=torch.float64).requires_grad_() for name, size in weights.items()}
    output = block(image, **leaves)
    upstream = torch.randn_like(output)
    (output * upstream).sum().backward()
    last = lambda x: pack(x.permute(0, 2, 3, 1))
    operands = [last(image)] + [pack(four(x)) for x in leaves.values()]
    gradients = [last(image.grad)] + [pack(four(x.grad)) for x in leaves.values()]
    return facts | {"operands": operands, "gradients": gradients, "upstream": last(upstream), "output": last(output)}


def conv(x, weight, bias=None):
    return F.conv2d(x, weight[:, :, None, None], bias)


def channels(x, channel_query, channel_value, channel_output, norm_scale, norm_shift):
    p = F.softmax(conv(x, channel_query).flatten(2), dim=2)
    z = torch.einsum("bmn,bkn->bm", conv(x, channel_value).flatten(2), p)
    mixed = F.linear(z, channel_output)
    gate = torch.sigmoid(F.layer_norm(mixed, mixed.shape[1:], norm_scale, norm_shift))
    return x * gate[:, :, None, None]


def pixels(x, pixel_query, pixel_value):
    q = F.softmax(F.adaptive_avg_pool2d(conv(x, pixel_query), 1).flatten(1), dim=1)
    return x * torch.sigmoid(torch.einsum("bm,bmhw->bhw", q, conv(x, pixel_value)))[:, None]


def polarized(sequential):
    def block(x, pixel_query, pixel_value, **rest):
        by_channel = channels(x, **rest)
        if sequential:
            return pixels(by_channel, pixel_query, pixel_value)
        return by_channel + pixels(x, pixel_query, pixel_value)

    return block


def position(x, query, query_bias, key, key_bias, value, value_bias, strength):
    b, c, d = (conv(x, w, bias).flatten(2) for w, bias in [(query, query_bias), (key, key_bias), (value, value_bias)])
    seen = F.softmax(b.transpose(1, 2) @ c, dim=2) @ d.transpose(1, 2)
    return strength * seen.transpose(1, 2).reshape(x.shape) + x


if __name__ == "__main__":
    c, m = 6, 3
    gates = {
        "channel_query": (1, c), "channel_value": (m, c), "channel_output": (c, m), "norm_scale": (c,), "norm_shift": (c,),
        "pixel_query": (m, c), "pixel_value": (m, c),
    }
    dense = {
        "query": (m, c), "query_bias": (m,), "key": (m, c), "key_bias": (m,), "value": (c, c), "value_bias": (c,),
        "strength": (1,),
    }
    shape = (2, c, 3, 5)
    print(json.dumps({
        "polarized": [case(i, shape, gates, polarized(s), sequential=s) for i, s in enumerate([False, True])],
        "position": [case(2, shape, dense, position)],
    }))
