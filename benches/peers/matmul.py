"""The prepared product beside other libraries' 4-bit products, in one run, round by round in turn.

    scripts/bench.sh [--quick]             gets the libraries, builds, and runs this
    python benches/peers/matmul.py         writes BENCHMARKS.md and docs/matmul.svg; peers that are not there are left out

So many copies of a matrix that every byte comes from memory. Rounds go through rankbit and all peers in turn, so that what else
the machine does meets all of them. One thread: thread CPU time; two: wall time; the least of all rounds. Peers: llama.cpp
(GGML_BINS names the folder of its libraries), PyTorch's int4 with bfloat16 inputs, onnxruntime's MatMulNBits at accuracy level 4
(8-bit inputs), bitsandbytes' NF4.
"""
import ctypes as C
import gc
import os
import subprocess
import sys
import time

import numpy as np

QUICK = "--quick" in sys.argv
GROUP = 64
BATCHES = [1, 8, 128] if QUICK else [1, 8, 32, 128]
# Rows, columns, threads.
SETTINGS = [(4096, 4096, 1), (4096, 4096, 2), (11008, 4096, 1), (11008, 4096, 2)]
ROUNDS = int(os.environ.get("ROUNDS", "1" if QUICK else "3"))
# Percent of the rounds of one measurement of ours, and seconds of one of a peer.
EFFORT, SECONDS = (10, 0.15) if QUICK else (30, 0.4)
HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = ["int4", "q4_0", "q4_k", "nf4", "int8", "int4-float"]
if not QUICK:
    OURS += ["int4-token", "uint4", "bnb-fp4", "mxfp4", "nvfp4"]
ROWS, COLUMNS, THREADS = SETTINGS[0]


def copies():
    """Copies of 4-bit codes in 360 MB."""
    return -(-360_000_000 // (ROWS * COLUMNS * 9 // 16))


def inputs(batch):
    return np.random.default_rng(batch).standard_normal((batch, COLUMNS)).astype(np.float32)


def weight():
    return np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32)


def least(products):
    """Least seconds over products, each with another copy of the weight, for a while."""
    clock = time.thread_time if THREADS == 1 else time.perf_counter
    best, end, at = float("inf"), time.time() + SECONDS, 0
    while time.time() < end or at < 3:
        start = clock()
        products[at % len(products)]()
        best = min(best, clock() - start)
        at += 1
    return best


def ggml():
    """llama.cpp's CPU back end, weights in its repacked buffers where it has them."""
    folder = os.environ["GGML_BINS"].rstrip("/") + "/"
    base = C.CDLL(folder + "libggml-base.so", C.RTLD_GLOBAL)
    name = next(f for f in os.listdir(folder) if f.startswith("libggml.") and f.split(".")[1] in ("so", "v0"))
    lib = C.CDLL(folder + name, C.RTLD_GLOBAL)
    flags = open("/proc/cpuinfo").read()
    cpu = "zen4" if "avx512_bf16" in flags else "icelake" if "avx512_vnni" in flags else "haswell"
    p = C.c_void_p

    def function(owner, name, result, *arguments):
        f = getattr(owner, name)
        f.restype, f.argtypes = result, arguments
        return f

    class Parameters(C.Structure):
        _fields_ = [("mem_size", C.c_size_t), ("mem_buffer", p), ("no_alloc", C.c_bool)]

    register = function(lib, "ggml_backend_load", p, C.c_char_p)(f"{folder}libggml-cpu-{cpu}.so".encode())
    device = function(base, "ggml_backend_reg_dev_get", p, p, C.c_size_t)(register, 0)
    backend = function(base, "ggml_backend_dev_init", p, p, C.c_char_p)(device, None)
    threads = function(C.CDLL(f"{folder}libggml-cpu-{cpu}.so"), "ggml_backend_cpu_set_n_threads", None, p, C.c_int)
    threads(backend, THREADS)
    init = function(base, "ggml_init", p, Parameters)
    tensor = function(base, "ggml_new_tensor_2d", p, p, C.c_int, C.c_int64, C.c_int64)
    multiply = function(base, "ggml_mul_mat", p, p, p, p)
    graph = function(base, "ggml_new_graph", p, p)
    expand = function(base, "ggml_build_forward_expand", None, p, p)
    allocate = function(base, "ggml_backend_alloc_ctx_tensors", p, p, p)
    allocate_from = function(base, "ggml_backend_alloc_ctx_tensors_from_buft", p, p, p)
    put = function(base, "ggml_backend_tensor_set", None, p, p, C.c_size_t, C.c_size_t)
    bytes_of = function(base, "ggml_nbytes", C.c_size_t, p)
    quantize = function(base, "ggml_quantize_chunk", C.c_size_t, C.c_int, p, p, C.c_int64, C.c_int64, C.c_int64, p)
    compute = function(base, "ggml_backend_graph_compute", C.c_int, p, p)
    address = function(base, "ggml_backend_reg_get_proc_address", p, p, C.c_char_p)
    extra = address(register, b"ggml_backend_dev_get_extra_bufts")
    types = C.CFUNCTYPE(C.POINTER(p), p)(extra)(device) if extra else None
    repacked = types[0] if types and types[0] else None

    w = weight()
    peers = {}
    for name, kind in [("llama.cpp Q4_0", 2), ("llama.cpp Q4_K", 12), ("llama.cpp Q8_0", 8)]:
        context = init(Parameters(1 << 20, None, True))
        weights = [tensor(context, kind, COLUMNS, ROWS) for _ in range(copies())]
        # Of these three, Q8_0 has no repacked form on x86.
        if kind == 8 or not repacked or not allocate_from(context, repacked):
            allocate(context, backend)
        size = bytes_of(weights[0])
        codes = np.zeros(size, np.uint8)
        quantize(kind, w.ctypes.data, codes.ctypes.data, 0, ROWS, COLUMNS, None)
        for one in weights:
            put(one, codes.ctypes.data, 0, size)
        for batch in BATCHES:
            x = inputs(batch)
            runs = []
            for one in weights:
                context = init(Parameters(1 << 20, None, True))
                entry = tensor(context, 0, COLUMNS, batch)
                work = graph(context)
                expand(work, multiply(context, one, entry))
                allocate(context, backend)
                put(entry, x.ctypes.data, 0, x.nbytes)
                runs.append(lambda work=work: compute(backend, work))
            peers[name, batch] = runs
    return peers


def torch_int4():
    import torch

    torch.set_num_threads(THREADS)
    codes = torch.randint(0, 16, (ROWS, COLUMNS), dtype=torch.int32)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    scales = torch.rand(COLUMNS // GROUP, ROWS, 2, dtype=torch.bfloat16)
    weights = [(packed.clone(), scales.clone()) for _ in range(copies())]
    peers = {}
    for batch in BATCHES:
        x = torch.from_numpy(inputs(batch)).to(torch.bfloat16)
        peers["PyTorch int4 (bf16)", batch] = [
            lambda w=w, s=s, x=x: torch.ops.aten._weight_int4pack_mm_for_cpu(x, w, GROUP, s) for w, s in weights
        ]
    return peers


def bitsandbytes():
    import bitsandbytes.functional as F
    import bitsandbytes as bnb
    import torch

    torch.set_num_threads(THREADS)
    packed, state = F.quantize_4bit(torch.from_numpy(weight()), blocksize=64, quant_type="nf4")
    weights = [packed.clone() for _ in range(copies())]
    peers = {}
    for batch in BATCHES:
        x = torch.from_numpy(inputs(batch))
        peers["bitsandbytes NF4", batch] = [
            lambda w=w, x=x: bnb.matmul_4bit(x, w.t(), quant_state=state) for w in weights
        ]
    return peers


def onnxruntime():
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    blocks = COLUMNS // GROUP
    random = np.random.default_rng(1)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["m", COLUMNS])
    leave = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", ROWS])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft",
                            K=COLUMNS, N=ROWS, bits=4, block_size=GROUP, accuracy_level=4)
    codes = random.integers(0, 256, (ROWS, blocks, GROUP // 2), dtype=np.uint8)
    scales = random.random(ROWS * blocks, dtype=np.float32)
    values = [numpy_helper.from_array(codes, "w"), numpy_helper.from_array(scales, "s")]
    model = helper.make_model(helper.make_graph([node], "g", [entry], [leave], values), opset_imports=imports)
    model.ir_version = 10
    model = model.SerializeToString()
    # One session for each copy: a session runs all of its nodes, whatever outputs are asked for.
    sessions = [ort.InferenceSession(model, options, ["CPUExecutionProvider"]) for _ in range(copies())]
    return {
        ("onnxruntime MatMulNBits", batch): [
            lambda session=session, x=inputs(batch): session.run(None, {"x": x}) for session in sessions
        ]
        for batch in BATCHES
    }


def ours(best, limits):
    """One pass of the example; its limits of reading and of multiplying beside it."""
    program = os.path.join(HERE, "target/release/examples/matmul_speed")
    arguments = [program, ",".join(OURS), ",".join(map(str, BATCHES)), f"{ROWS}x{COLUMNS}", str(THREADS), str(EFFORT)]
    kinds = {"group": "", "token": ", scale per token", "float": ", f32 inputs"}
    for line in subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.splitlines()[1:]:
        level, name, kind, batch, ms, _, read, rate, peak = line.split()
        key = (f"rankbit {name}{kinds[kind]} ({level})", int(batch))
        if float(ms) < best.get(key, float("inf")):
            best[key] = float(ms)
            limits[key] = (float(read), float(peak))


def rate(batch, ms):
    """Billions of operations a second."""
    return 2e-6 * ROWS * COLUMNS * batch / ms


def plot(best, path):
    """A bar for each, of billions of operations a second, batch by batch, as long as the fastest of its batch allows."""
    out, y = [], 0
    for batch in BATCHES:
        rows = sorted(((rate(b, ms), name) for (name, b), ms in best.items() if b == batch), reverse=True)
        y += 22
        out.append(f'<text x="4" y="{y}" font-weight="bold">batch {batch}</text>')
        for speed, name in rows:
            y += 18
            width = 380 * speed / rows[0][0]
            color = "#2a7" if name.startswith("rankbit") else "#999"
            out.append(f'<text x="290" y="{y}" text-anchor="end">{name}</text>')
            out.append(f'<rect x="298" y="{y - 11}" width="{width:.1f}" height="13" fill="{color}"/>')
            out.append(f'<text x="{302 + width:.1f}" y="{y}">{speed:.0f}</text>')
    size = f'width="760" height="{y + 12}" font-family="sans-serif" font-size="12"'
    with open(path, "w") as file:
        file.write("\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *out, "</svg>"]) + "\n")


def measure():
    """Least milliseconds by product and batch, and the shares of the limits."""
    peers = {}
    for make in (ggml, torch_int4, bitsandbytes, onnxruntime):
        try:
            peers.update(make())
        except (ImportError, KeyError, OSError) as reason:
            print(f"{make.__name__} left out: {reason}", file=sys.stderr)
    best, limits = {}, {}
    for _ in range(ROUNDS):
        ours(best, limits)
        for key, products in peers.items():
            best[key] = min(best.get(key, float("inf")), 1e3 * least(products))
    return best, limits


def tables(best, limits):
    """A table for each batch, the fastest first."""
    lines = []
    for batch in BATCHES:
        four = [ms for (name, b), ms in best.items() if b == batch and not name.startswith("rankbit") and "Q8" not in name]
        peer = min(four, default=float("nan"))
        lines += ["", f"### Batch {batch}", "", "| product | ms | GOP/s | of read | of peak | to peer |", "|---|---|---|---|---|---|"]
        for (name, b), ms in sorted(best.items(), key=lambda item: item[1]):
            if b == batch:
                shown = [f"{v:.2f}" for v in limits[name, b]] if (name, b) in limits else ["–", "–"]
                lines.append(f"| {name} | {ms:.3f} | {rate(batch, ms):.0f} | {shown[0]} | {shown[1]} | {peer / ms:.2f} |")
    return lines


def main():
    global ROWS, COLUMNS, THREADS
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    load = os.getloadavg()[0]
    text = [
        "# Products with 4-bit weights on a CPU",
        "",
        f"{cpu}, {os.cpu_count()} cores, load {load:.1f} at the start, least of {ROUNDS} interleaved round(s), weights from memory. Written by",
        f"`scripts/bench.sh{' --quick' if QUICK else ''}`. One thread: thread CPU time; two: wall time, which other work on the machine makes longer.",
        "*of read*: time of reading as many bytes over that of the product. *of peak*: of products in registers, of 8-bit whole numbers",
        "or f32. *to peer*: time of the best peer with 4-bit weights over that of the product; above 1 is faster.",
        "",
        "![billions of operations a second](docs/matmul.svg)",
    ]
    os.makedirs(os.path.join(HERE, "docs"), exist_ok=True)
    for at, (ROWS, COLUMNS, THREADS) in enumerate(SETTINGS):
        gc.collect()
        best, limits = measure()
        if at == 0:
            plot(best, os.path.join(HERE, "docs/matmul.svg"))
        text += ["", f"## {ROWS}×{COLUMNS}, {THREADS} thread{'s'[:THREADS - 1]}", *tables(best, limits)]
        # What is there stays if a later setting fails.
        with open(os.path.join(HERE, "BENCHMARKS.md"), "w") as file:
            file.write("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
