"""rankbit-attention beside PyTorch in one run: one thread, f32, 8 heads of 64, thread CPU time, least of some runs.

    pip install torch==2.15.0
    python scripts/attention-peers.py [TOKENS]
"""
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

HEADS, DIM, SIDE, WINDOW = 8, 64, 56, 7
TOKENS = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
torch.set_num_threads(1)


def least(work, runs):
    work()
    best = float("inf")
    for _ in range(runs):
        start = time.thread_time()
        work()
        best = min(best, time.thread_time() - start)
    return best * 1e3


def operands(tokens, gradients=False):
    torch.manual_seed(1)
    return [torch.randn((1, HEADS, tokens, DIM), requires_grad=gradients) for _ in range(3)]


def gradient(causal):
    q, k, v = operands(TOKENS, True)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    upstream = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, (q, k, v), upstream, retain_graph=True)


def windows():
    """Masked attention over the rows of the grid that each row of queries can see."""
    q, k, v = (x.reshape(1, HEADS, SIDE, SIDE, DIM) for x in operands(SIDE * SIDE))
    start = [min(max(i - WINDOW // 2, 0), SIDE - WINDOW) for i in range(SIDE)]
    mask = torch.tensor([[start[i] <= j < start[i] + WINDOW for j in range(SIDE)] for i in range(SIDE)])
    mask = mask[:, None, :].expand(SIDE, WINDOW, SIDE).reshape(SIDE, WINDOW * SIDE)

    def work():
        for i in range(SIDE):
            rows = slice(start[i], start[i] + WINDOW)
            F.scaled_dot_product_attention(q[:, :, i], k[:, :, rows].flatten(2, 3), v[:, :, rows].flatten(2, 3), attn_mask=mask)

    return work


subprocess.run(["cargo", "build", "--release", "-q", "-p", "rankbit-attention", "--example", "speed"], check=True)
command = ["cargo", "run", "--release", "-q", "-p", "rankbit-attention", "--example", "speed", "--", str(TOKENS)]
lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
ours = {name.strip(): float(value.split()[0]) for name, value in ((line[:32], line[32:]) for line in lines)}
q, k, v = operands(TOKENS)
peers = {}
with torch.no_grad():
    peers["exact"] = least(lambda: F.scaled_dot_product_attention(q, k, v), 4)
    peers["exact causal"] = least(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), 4)
    peers["neighborhood 56x56, window 7"] = least(windows(), 10)
peers["exact gradient"] = least(gradient(False), 2)
peers["exact causal gradient"] = least(gradient(True), 2)
print(f"{'':32} {'rankbit':>9} {'torch':>9}  ratio     (ms)")
for name, value in ours.items():
    peer = peers.get(name)
    print(f"{name:32} {value:9.2f}" + (f" {peer:9.2f}  {value / peer:.2f}" if peer else ""))
