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


def high_frequency(x, local, local_bias, peak, peak_bias, output, output_bias):
    low, high = x.chunk(2, dim=3)
    near = F.gelu(conv(low, local, local_bias))
    far = F.gelu(layer(last(F.max_pool2d(first(high), 3, 1, 1)), peak, peak_bias))
    return x + layer(torch.cat([near, far], 3), output, output_bias)


def factorization(heads, window, reduction):
    def block(x, query, query_bias, reduce, reduce_bias, scale, shift, pair, pair_bias, *rest):
        b, h, w, c = x.shape
        sizes = [c // 8, c // 8 * 7, 0] if reduction == 1 else [c // 16 * 2, c // 16 * 7, c // 16 * 7]
        queries = layer(x, query, query_bias).flatten(1, 2).split(sizes, 2)
        local, local_bias, depthwise, depthwise_bias, pointwise, pointwise_bias, *groups = rest

        def attend(query, key, value, count, kernel, bias, grid):
            value = value + conv(value.reshape(b, *grid, -1), kernel, bias, groups=value.shape[2]).flatten(1, 2)
            split = lambda x: x.reshape(b, x.shape[1], count, -1).transpose(1, 2)
            return F.scaled_dot_product_attention(split(query), split(key), split(value)).transpose(1, 2).flatten(2)

        tiles = norm(conv(x[..., : sizes[0]], reduce, reduce_bias, stride=reduction, padding=0), scale, shift)
        key, value = layer(tiles, pair, pair_bias).flatten(1, 2).chunk(2, 2)
        found = [attend(queries[0], key, value, 1, local, local_bias, tiles.shape[1:3])]
        own = conv(x[..., sizes[0] :], depthwise, depthwise_bias, groups=c - sizes[0])
        own = first(layer(own, pointwise, pointwise_bias)).split(sizes[1:], 1)
        for i, dilation in enumerate([1, reduction]):
            if sizes[1 + i] == 0:
                continue
            mix, mix_bias, pair, pair_bias, local, local_bias = groups[6 * i : 6 * i + 6]
            step = dilation * (window - 1) + 1
            padded = F.pad(own[i], (0, -w % step, 0, -h % step), mode="reflect")
            windows = F.unfold(padded, window, dilation=dilation, stride=step).unflatten(1, (-1, window**2))
            mean = windows.mean(3).transpose(1, 2).reshape(b, window**2, heads, -1)
            key, value = layer(layer(mean, mix, mix_bias), pair, pair_bias).chunk(2, 3)
            grid = (window, window)
            found.append(attend(queries[1 + i], key.flatten(2), value.flatten(2), heads, local, local_bias, grid))
        return layer(torch.cat(found, 2), *groups[12:]).reshape(x.shape)

    return block


def references(image, stacked, query, query_bias, query_slope, key, key_bias, key_slope, value, value_bias, *rest):
    mix, mix_bias, a1, a1_bias, a2, a2_bias, s1, s1_bias, s2, s2_bias, output, output_bias = rest
    b, h, w, _ = image.shape
    pad = lambda x: last(F.pad(first(x), (0, -w % 4, 0, -h % 4), mode="reflect"))
    target, r = pad(image), stacked.shape[3]
    prelu = lambda x, slope: F.prelu(first(x), slope.flatten()).permute(0, 2, 3, 1)
    leaky = lambda x: F.leaky_relu(x, 0.1)
    wanted = prelu(layer(target, query, query_bias), query_slope) * r**-0.5
    each = [pad(x) for x in stacked.split(h, 1)]
    found = torch.stack([prelu(conv(x, key, key_bias), key_slope) for x in each], 4)
    weights = F.softmax(wanted[..., None, :] @ found, dim=4)
    held = torch.stack([conv(x, value, value_bias) for x in each], 3)
    mixed = (weights @ held).squeeze(3)
    hidden = leaky(layer(torch.cat([target, mixed], 3), mix, mix_bias))
    gate = torch.sigmoid(conv(leaky(conv(hidden, a1, a1_bias)), a2, a2_bias))
    shift = conv(leaky(conv(hidden, s1, s1_bias)), s2, s2_bias)
    fused = layer(torch.cat([target, mixed * gate * 2 + shift], 3), output, output_bias)
    return leaky(fused)[:, :h, :w]


def variational(training):
    def block(feature, state, belief, noise, label, *layers):
        (hidden, hidden_bias, w, w_bias, u, u_bias, *rest) = layers
        p1, p1_bias, p2, p2_bias, l, l_bias, q1, q1_bias, q2, q2_bias, e, e_bias = rest
        m = belief.shape[3]
        x = F.relu(layer(torch.cat([state, feature], 3), hidden, hidden_bias))
        cell = torch.nn.GRUCell(m, m, dtype=torch.float64)
        weights = {"weight_ih": w[0, 0], "bias_ih": w_bias.flatten(), "weight_hh": u[0, 0], "bias_hh": u_bias.flatten()}
        belief = torch.func.functional_call(cell, weights, (x.reshape(-1, m), belief.reshape(-1, m))).reshape(belief.shape)

        def normal(x, inner, inner_bias, outer, outer_bias):
            mean, rough = layer(F.relu(layer(x, inner, inner_bias)), outer, outer_bias).chunk(2, 3)
            return mean, F.softplus(rough) + 0.1

        prior = normal(belief, p1, p1_bias, p2, p2_bias)
        posterior = normal(torch.cat([belief, layer(label, l, l_bias)], 3), q1, q1_bias, q2, q2_bias)
        mean, deviation = posterior if training else prior
        state = mean + deviation * noise
        embedding = F.relu(layer(torch.cat([belief, state], 3), e, e_bias))
        return torch.cat([embedding, state, belief, *prior, *posterior], 3)

    return block


def compatible(sigma):
    def block(feature, query, key, value, *layers):
        *layers, source, target = layers
        q, k, v = (layer(x, *layers[2 * i : 2 * i + 2]) for i, x in enumerate([query, key, value]))
        distance = lambda x: torch.cdist(x.detach(), x.detach(), compute_mode="donot_use_mm_for_euclid_dist")
        beta = torch.clamp(1 - (distance(source) - distance(target)) ** 2 / sigma**2, min=0)
        message = F.softmax(beta * (q @ k.transpose(2, 3)) / feature.shape[3] ** 0.5, 3) @ v
        message = F.relu(layer(message, *layers[6:8]))
        message = F.relu(layer(message, *layers[8:10]))
        return feature + layer(message, *layers[10:12])

    return block


def pooled(x, query, value):
    weights = F.softmax(layer(x, query).flatten(1), 1)
    return torch.einsum("bn,bnm->bm", weights, layer(x, value).flatten(1, 2))


def released_parallel(x, query, value, output, pixel_query, pixel_value):
    gate = torch.sigmoid(layer(pooled(x, query, value), output))
    mean = layer(x, pixel_query).mean((1, 2))
    scores = torch.einsum("bm,bhwm->bhw", mean, layer(x, pixel_value)).flatten(1)
    return x * gate[:, None, None] + x * torch.sigmoid(F.softmax(scores, 1)).reshape(*x.shape[:3], 1)


def released_sequential(x, query, value, inner, inner_bias, scale, shift, output, output_bias, pixel_query, pixel_value):
    hidden = F.relu(norm(layer(pooled(x, query, value), inner, inner_bias), scale, shift))
    x = x * torch.sigmoid(layer(hidden, output, output_bias))[:, None, None]
    mean = layer(x, pixel_query).mean((1, 2))
    weights = F.softmax(layer(x, pixel_value).flatten(1, 2), 1)
    return x * torch.sigmoid(torch.einsum("bm,bnm->bn", mean, weights)).reshape(*x.shape[:3], 1)


def divergence(balance):
    """The balanced divergence; deviations are softplus of the leaves, so that they are positive, and kept as operands."""
    torch.manual_seed(15)
    shape = (2, 1, 3, 4)
    leaves = [torch.randn(shape, dtype=torch.float64) for _ in range(4)]
    leaves = [(x if i % 2 == 0 else F.softplus(x) + 0.1).requires_grad_() for i, x in enumerate(leaves)]
    normal, kl = torch.distributions.Normal, torch.distributions.kl_divergence
    a, b, c, d = leaves
    output = balance * kl(normal(a.detach(), b.detach()), normal(c, d))
    output = output + (1 - balance) * kl(normal(a, b), normal(c.detach(), d.detach()))
    upstream = torch.randn_like(output)
    (output * upstream).sum().backward()
    packed = {"operands": [pack(x) for x in leaves], "gradients": [pack(x.grad) for x in leaves]}
    return packed | {"upstream": pack(upstream), "output": pack(output)}


def rows(*sizes):
    return [(1, 1, 1, size) for size in sizes]


if __name__ == "__main__":
    c = 8
    strips = lambda depth, c=8: [(2, 3, 5, c), (c, 1, 5, depth), *rows(c, c)]
    tables = [(1, 1, 2, 3 * 7)] * 2
    windows = [(2, 8, 4, c), (1, 1, 3 * c, c), *rows(3 * c), *tables, (c, 3, 3, 1), *rows(c), (1, 1, c, c), *rows(c)]
    p = 4
    perceptron = [(1, 1, p, 2), *rows(p)] + [*rows(p, p), (1, 1, p, p), *rows(p)] * 2 + [*rows(p, p), (1, 1, 3, p), *rows(3)]
    half = c // 2
    peaks = [(2, 4, 3, c), (half, 3, 3, half), *rows(half), (1, 1, half, half), *rows(half), (1, 1, c, c), *rows(c)]

    def groups(size, c, heads, r):
        g, n, f = [c // 8, c // 8 * 7, 0] if r == 1 else [c // 16 * 2, c // 16 * 7, c // 16 * 7]
        lay = lambda out, size: [(1, 1, out, size), *rows(out)]
        kernel = lambda size: [(size, 3, 3, 1), *rows(size)]
        local = lambda size: lay(size // heads, size // heads) + lay(2 * size // heads, size // heads) + kernel(size)
        start = [size, *lay(c, c), (g, r, r, g), *rows(g, g, g), *lay(2 * g, g), *kernel(g)]
        return start + kernel(n + f) + lay(n + f, n + f) + local(n) + local(f) + lay(c, c)

    m, r = 4, 3
    twice = [(2 * r, 3, 3, 2 * r), *rows(2 * r)]
    several = lambda count: [
        (2, 5, 3, m), (2, 5 * count, 3, r), (1, 1, r, m), *rows(r, 1), (r, 3, 3, r), *rows(r, 1), (2 * r, 3, 3, r), *rows(2 * r),
        (1, 1, 2 * r, m + 2 * r), *rows(2 * r), *twice * 4, (1, 1, m, m + 2 * r), *rows(m),
    ]
    c, s, m, q, k, v, n = 4, 3, 5, 2, 6, 2, 7
    lay = lambda out, size: [(1, 1, out, size), *rows(out)]
    each = lambda *sizes: [(2, 1, n, size) for size in sizes]
    latent = each(c, s, m, s, q) + lay(m, s + c) + lay(3 * m, m) * 2 + lay(k, m) + lay(2 * s, k) + lay(v, q)
    latent += lay(k, m + v) + lay(2 * s, k) + lay(c, m + s)
    pairs = each(c, c, c, c) + lay(c, c) * 3 + lay(2, c) + lay(2, 2) + lay(c, 2) + each(3, 3)
    c, m = 6, 3
    down, up, size = (1, 1, m, c), (1, 1, c, m), (2, 3, 5, c)
    gates = [size, *rows(c), down, up, down, down]
    longer = [size, *rows(c), down, (1, 1, 4, m), *rows(4, 4, 4), (1, 1, c, 4), *rows(c), down, down]
    print(json.dumps({
        "ela": [case(i, strips(depth), ela(groups)) for i, (depth, groups) in enumerate([(1, 2), (4, 4)])],
        "rectangle": [
            case(2 + i, windows, rectangles(4, (2, 4), shift, mask), 0.5)
            for i, (shift, mask) in enumerate([(False, False), (True, False), (True, True)])
        ],
        "high-frequency": [case(6, peaks, high_frequency)],
        "factorization": [
            case(7, groups((1, 6, 7, 16), 16, 7, 2), factorization(7, 3, 2), 0.5),
            case(8, groups((2, 3, 4, 8), 8, 1, 1), factorization(1, 2, 1), 0.5),
        ],
        "references": [case(9, several(3), references, 0.5), case(10, several(1), references, 0.5)],
        "variational": [case(11 + i, latent, variational(training), 0.5) for i, training in enumerate([False, True])],
        "compatible": [case(13, pairs, compatible(1.5))],
        "released-parallel": [case(16, gates, released_parallel)],
        "released-sequential": [case(17, longer, released_sequential)],
        "divergence": [divergence(0.8)],
        "offset": [case(5, perceptron, offset_bias((2, 4)))],
    }))
