"""rankbit-gpu beside llama.cpp's Vulkan backend on the same driver, in alternating rounds of one run.

    npm i --ignore-scripts @node-llama-cpp/linux-x64-vulkan@3.22.1
    cargo build --release -p rankbit-gpu --example product
    GGML_BINS=node_modules/@node-llama-cpp/linux-x64-vulkan/bins/linux-x64-vulkan python scripts/gpu-peers.py [ROUNDS]

Weights of 4 bits (groups of 64 here, Q4_0's of 32 there), activations in f32 or quantized to int8 within the time. Every
figure is the least over all rounds, from submission to idle on resident buffers, in milliseconds; the ratio is of the
leasts. Prints a table for BENCHMARKS.md. PRODUCT names another build of the example, VK_DRIVER_FILES the driver.
"""
import ctypes as c
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRODUCT = os.environ.get("PRODUCT", ROOT / "target/release/examples/product")
BINS = pathlib.Path(os.environ["GGML_BINS"]).resolve()
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
CASES = [(1, 4096, 4096), (128, 1024, 1024)]
F32, Q4_0 = 0, 2
# Without it, llama.cpp leaves software drivers out.
os.environ.setdefault("GGML_VK_VISIBLE_DEVICES", "0")


class Params(c.Structure):
    _fields_ = [("mem_size", c.c_size_t), ("mem_buffer", c.c_void_p), ("no_alloc", c.c_bool)]


def declared(library, name, result, *arguments):
    function = getattr(library, name)
    function.restype, function.argtypes = result, list(arguments)
    return function


class Ggml:
    """The first Vulkan device of ggml."""

    def __init__(self):
        p, i64, size, text = c.c_void_p, c.c_int64, c.c_size_t, c.c_char_p
        base = c.CDLL(str(BINS / "libggml-base.so"), c.RTLD_GLOBAL)
        top = c.CDLL(str(next(BINS.glob("libggml.*.so"))), c.RTLD_GLOBAL)
        declared(top, "ggml_backend_load", p, text)(str(BINS / "libggml-vulkan.so").encode())
        get = declared(top, "ggml_backend_dev_get", p, size)
        count = declared(top, "ggml_backend_dev_count", size)()
        describe = declared(base, "ggml_backend_dev_description", text, p)
        name = declared(base, "ggml_backend_dev_name", text, p)
        device = next(d for d in map(get, range(count)) if name(d).startswith(b"Vulkan"))
        self.name = describe(device).decode()
        self.backend = declared(base, "ggml_backend_dev_init", p, p, text)(device, None)
        self.init = declared(base, "ggml_init", p, Params)
        self.tensor = declared(base, "ggml_new_tensor_2d", p, p, c.c_int, i64, i64)
        self.mul_mat = declared(base, "ggml_mul_mat", p, p, p, p)
        self.new_graph = declared(base, "ggml_new_graph", p, p)
        self.expand = declared(base, "ggml_build_forward_expand", None, p, p)
        self.allocate = declared(base, "ggml_backend_alloc_ctx_tensors", p, p, p)
        self.set = declared(base, "ggml_backend_tensor_set", None, p, p, size, size)
        self.get = declared(base, "ggml_backend_tensor_get", None, p, p, size, size)
        self.nbytes = declared(base, "ggml_nbytes", size, p)
        self.quantize = declared(base, "ggml_quantize_chunk", size, c.c_int, p, p, i64, i64, i64, p)
        self.compute = declared(base, "ggml_backend_graph_compute", c.c_int, p, p)

    def product(self, tokens, out, features):
        """A call that runs the product once; checked against NumPy."""
        random = np.random.default_rng(0)
        weight = random.standard_normal((out, features)).astype(np.float32)
        x = random.standard_normal((tokens, features)).astype(np.float32)
        context = self.init(Params(16 << 20, None, True))
        w, a = self.tensor(context, Q4_0, features, out), self.tensor(context, F32, features, tokens)
        y, graph = self.mul_mat(context, w, a), self.new_graph(context)
        self.expand(graph, y)
        self.allocate(context, self.backend)
        codes = np.zeros(self.nbytes(w), np.uint8)
        self.quantize(Q4_0, weight.ctypes.data, codes.ctypes.data, 0, out, features, None)
        self.set(w, codes.ctypes.data, 0, codes.nbytes)
        self.set(a, x.ctypes.data, 0, x.nbytes)
        self.compute(self.backend, graph)
        found, exact = np.zeros((tokens, out), np.float32), x @ weight.T
        self.get(y, found.ctypes.data, 0, found.nbytes)
        error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
        assert error < 0.15, f"llama.cpp's product is wrong: {error}"
        return lambda: self.compute(self.backend, graph)


def least(work, seconds):
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def ours(tokens, out, features, rank, inputs):
    words = [tokens, out, features, "int4", rank, inputs, 40 if tokens == 1 else 20]
    text = subprocess.run([PRODUCT, *map(str, words)], check=True, capture_output=True, text=True).stdout
    milliseconds, _, adapter = text.strip().split(" ", 2)
    return float(milliseconds), adapter


def main():
    ggml = Ggml()
    print("| tokens × [out, in] | llama.cpp Q4_0 | rankbit f32 | ratio | rankbit int8 | ratio | int8, rank 32 |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        peer, figures, adapter = ggml.product(*case), {}, ""
        for _ in range(ROUNDS):
            figures["peer"] = min(figures.get("peer", float("inf")), least(peer, 2))
            for rank, inputs in ((0, "float"), (0, "int8"), (32, "int8")):
                found, adapter = ours(*case, rank, inputs)
                figures[rank, inputs] = min(figures.get((rank, inputs), float("inf")), found)
        p, f, i, b = figures["peer"], figures[0, "float"], figures[0, "int8"], figures[32, "int8"]
        row = f"| {case[0]} × [{case[1]}, {case[2]}] | {p:.2f} | {f:.2f} | {f / p:.2f} | {i:.2f} | {i / p:.2f} "
        print(row + f"| {b:.2f} (+{(b / i - 1) * 100:.0f} %) |", flush=True)
    print(f"\n{adapter} (ours), {ggml.name} (llama.cpp), {ROUNDS} rounds")


main()
