"""Kept vectors for the vision blocks with convolutions and windows, from PyTorch.

    pip install numpy==2.4.6 torch==2.15.0
    python scripts/oracle/vision_blocks.py > tests/vectors/vision-blocks.json

Convolutions, normalizations, pooling, padding and softmax are PyTorch's own functions in float64, gradients autograd's. Leaves
are drawn in the crate's layouts (images channels last, kernels [out, height, width, in/groups]) and permuted to PyTorch's.
"""
import json

import torch
import torch.nn.functional as F

from attention import pack


def case(seed, shapes, block, scale=1.0, **facts):
    torch.manual_seed(seed)
    leaves = [(torch.randn(shape, dtype=torch.float64) * scale).requires_grad_() for shape in shapes]
    output = block(*leaves)
    upstream = torch.randn_like(output)
    (output * upstream).sum().backward()
    gradients = [pack(x.grad if x.grad is not None else torch.zeros_like(x)) for x in leaves]
    operands = [pack(x) for x in leaves]
    return facts | {"operands": operands, "gradients": gradients, "upstream": pack(upstream), "output": pack(output)}


def first(x):
    """Channels first."""
    return x.permute(0, 3, 1, 2)


def last(x):
    return x.permute(0, 2, 3, 1)


def conv(x, kernel, bias=None, **options):
    """3x3 and 1x1 kernels on an image with channels last, as large as before unless a stride is given."""
    options = {"padding": kernel.shape[1] // 2} | options
    return last(F.conv2d(first(x), first(kernel), None if bias is None else bias.flatten(), **options))


def layer(x, weight, bias=None):
    return F.linear(x, weight[0, 0], None if bias is None else bias.flatten())


def norm(x, scale, shift):
    return F.layer_norm(x, x.shape[-1:], scale.flatten(), shift.flatten())


def ela(norm_groups):
    def block(x, kernel, scale, shift):
        x = first(x)

        def gate(strip):
            weight = kernel[:, 0].permute(0, 2, 1)
            mixed = F.conv1d(strip, weight, padding=weight.shape[2] // 2, groups=x.shape[1] // weight.shape[1])
            return torch.sigmoid(F.group_norm(mixed, norm_groups, scale.flatten(), shift.flatten()))

        return last(x * gate(x.mean(3))[:, :, :, None] * gate(x.mean(2))[:, :, None])

    return block


def rectangles(heads, window, shift, mask):
    def block(x, projection, projection_bias, wide, tall, local, local_bias, output, output_bias):
        b, h, w, c = x.shape
        qkv = layer(x, projection, projection_bias).chunk(3, dim=3)
        seen = []
        for table, part, (down, across) in [(wide, 0, window), (tall, 1, window[::-1])]:
            roll = (down // 2, across // 2) if shift else (0, 0)

            def windows(x):
                x = torch.roll(x, (-roll[0], -roll[1]), (1, 2))
                x = x.reshape(b, h // down, down, w // across, across, -1).permute(0, 1, 3, 2, 4, 5)
                return x.reshape(-1, down * across, x.shape[-1])

            def split(x):
                x = windows(x[..., part * c // 2 : (part + 1) * c // 2])
                return x.reshape(x.shape[0], x.shape[1], heads // 2, -1).transpose(1, 2)

            grid = torch.stack(torch.meshgrid(torch.arange(down), torch.arange(across), indexing="ij")).flatten(1)
            offset = grid[:, :, None] - grid[:, None]
            index = (offset[0] + down - 1) * (2 * across - 1) + offset[1] + across - 1
            bias = table[0, 0][:, index][None]
            if mask:
                # Swin's numbering of regions, on the rolled image.
                region = torch.zeros(1, h, w, 1)
                edges = lambda size, side, roll: [slice(0, size - side), slice(size - side, size - roll), slice(size - roll, size)]
                for i, rows in enumerate(edges(h, down, roll[0])):
                    for j, columns in enumerate(edges(w, across, roll[1])):
                        region[:, rows, columns] = 3 * i + j
                region = region.expand(b, h, w, 1).reshape(b, h // down, down, w // across, across).permute(0, 1, 3, 2, 4)
                region = region.reshape(-1, 1, down * across)
                bias = bias + torch.where(region[..., None] == region[:, :, None], 0.0, float("-inf"))
            q, k, v = (split(x) for x in qkv)
            found = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(q.shape[0], -1, -1, -1))
            found = found.transpose(1, 2).reshape(b, h // down, w // across, down, across, -1).permute(0, 1, 3, 2, 4, 5)
            seen.append(torch.roll(found.reshape(b, h, w, -1), roll, (1, 2)))
        near = conv(qkv[2], local, local_bias, groups=c)
        return layer(torch.cat(seen, 3) + near, output, output_bias)

    return block


def offset_bias(window):
    def block(weight, bias, *layers):
        down, across = (torch.arange(1 - side, side, dtype=torch.float64) for side in window)
        x = layer(torch.stack(torch.meshgrid(down, across, indexing="ij"), 2).flatten(0, 1), weight, bias)
        for scale, shift, weight, bias in zip(*[iter(layers)] * 4):
            x = layer(F.relu(norm(x, scale, shift)), weight, bias)
        return x.t()[None, None]

    return block


def rows(*sizes):
    return [(1, 1, 1, size) for size in sizes]


if __name__ == "__main__":
    c = 8
    strips = lambda depth: [(2, 3, 5, c), (c, 1, 5, depth), *rows(c, c)]
    tables = [(1, 1, 2, 3 * 7)] * 2
    windows = [(2, 8, 4, c), (1, 1, 3 * c, c), *rows(3 * c), *tables, (c, 3, 3, 1), *rows(c), (1, 1, c, c), *rows(c)]
    p = 4
    perceptron = [(1, 1, p, 2), *rows(p)] + [*rows(p, p), (1, 1, p, p), *rows(p)] * 2 + [*rows(p, p), (1, 1, 3, p), *rows(3)]
    print(json.dumps({
        "ela": [case(i, strips(depth), ela(groups)) for i, (depth, groups) in enumerate([(1, 2), (4, 4)])],
        "rectangle": [
            case(2 + i, windows, rectangles(4, (2, 4), shift, mask), 0.5)
            for i, (shift, mask) in enumerate([(False, False), (True, False), (True, True)])
        ],
        "offset": [case(5, perceptron, offset_bias((2, 4)))],
    }))
