#!/usr/bin/env python3
"""Captures what flows into a model's linear layers, for `rankbit compress --calib ACTS`.

    pip install numpy torch transformers safetensors
    python3 scripts/capture.py MODEL_FOLDER sentences.txt -o acts.safetensors

MODEL_FOLDER is a Hugging Face model with safetensors weights; the text file has one text a line. Nothing of
the activations is kept but their moments, added up batch by batch in float64. For each linear weight T (its
name in the checkpoint) the file holds

    T.gram      f64 [in, in]   X^T X / tokens        (left out with --no-gram)
    T.absmax    f32 [in]       max |x|
    T.mean_abs  f32 [in]       sum |x| / tokens
    T.mean      f32 [in]       sum x / tokens
    T.tokens    i64 [1]
    T.sample    f32 [n, in]    rows drawn evenly from all tokens (only with --sample N)

With --gradients D every token counts by what an error in its output does to the model's own output: D backward
passes a text from L = v . embedding, v ~ N(0, I) drawn anew each time (the embedding: mean over the tokens of the
last hidden states, of length 1), or, for a model with logits, from the log-probability of labels that the model
itself draws. With g_t = dL/dy_t at token t of a layer's output y, and E[.] the mean over draws,

    T.gram        f64 [in, in]   sum_t E[|g_t|^2] x_t x_t^T / tokens
    T.row_weight  f32 [out]      sum_t E[g_ti^2] / sum_t E[|g_t|^2], which adds up to 1

so that sum_i row_weight_i e_i gram e_i^T, e = rows of W - W', estimates the squared change of the model's output per
token, in one unit for all layers: what a budget over all of them needs. Nothing is shared between layers then.

Layers that get the very same input (query, key and value, say) share one set: the metadata entry "alias" is a
JSON object from the name of each other weight to the name under which the set is stored.

A Gram matrix takes 8*in^2 bytes per distinct input: for large models, capture a part at a time with --include.
Padding is dropped, except where a layer sees routed tokens (mixture of experts): use --batch 1 there.
"""
import argparse
import json
import os
import pathlib
import re
import sys
import weakref
import zlib

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


def fail(message):
    sys.exit(f"capture: {message}")


class Moments:
    """Streamed moments of one linear layer's input."""

    def __init__(self, inputs, options, name, device):
        self.tokens = 0
        self.sum, self.abs, self.absmax = (torch.zeros(inputs, dtype=torch.float64, device=device) for _ in range(3))
        self.gram = torch.zeros(inputs, inputs, dtype=torch.float64, device=device) if options.gram else None
        self.wanted = options.sample
        self.sample, self.keys = torch.zeros(0, inputs), torch.zeros(0, dtype=torch.float64)
        self.random = torch.Generator().manual_seed(options.seed << 32 | zlib.crc32(name.encode()))

    def add(self, x, weight=None):
        """Adds tokens; `weight` is what each counts in the Gram matrix."""
        wide = x.double()
        self.tokens += len(wide)
        self.sum += wide.sum(0)
        self.abs += wide.abs().sum(0)
        self.absmax = torch.maximum(self.absmax, wide.abs().amax(0))
        if self.gram is not None:
            self.gram.addmm_(wide.T, wide if weight is None else wide * weight[:, None])
        if self.wanted:
            # Every row draws a key; the rows with the largest keys so far are the sample.
            keys = torch.rand(len(wide), dtype=torch.float64, generator=self.random)
            keys, rows = torch.cat([self.keys, keys]), torch.cat([self.sample, x.float().cpu()])
            self.keys, kept = keys.topk(min(self.wanted, len(keys)))
            self.sample = rows[kept]

    def tensors(self, name):
        yield f"{name}.tokens", torch.tensor([self.tokens], dtype=torch.int64)
        yield f"{name}.absmax", self.absmax.float()
        yield f"{name}.mean_abs", (self.abs / self.tokens).float()
        yield f"{name}.mean", (self.sum / self.tokens).float()
        if self.gram is not None:
            yield f"{name}.gram", self.gram / self.tokens
        if self.wanted:
            yield f"{name}.sample", self.sample


class Gradients:
    """Squared gradients at one linear layer's output, of one batch and of all."""

    def __init__(self, outputs, device):
        self.rows = torch.zeros(outputs, dtype=torch.float64, device=device)
        self.token, self.inputs = None, None

    def start(self, inputs):
        self.inputs, self.token = inputs, torch.zeros(len(inputs), dtype=torch.float64, device=inputs.device)

    def add(self, gradient, draws):
        squares = gradient.double().square() / draws
        self.rows += squares.sum(0)
        self.token += squares.sum(1)

    def nothing(self):
        """Whether the model's output does not depend on this layer: its weights are 0 / 0 then."""
        return bool((self.rows == 0).all())

    def tensors(self, name):
        yield f"{name}.row_weight", (self.rows / self.rows.sum()).float()


class Capture:
    """Forward pre-hooks on linear modules, given by the name of their weight in the checkpoint."""

    def __init__(self, modules, options):
        self.options, self.mask = options, None
        self.moments, self.alias, self.seen, self.gradients = {}, {}, {}, {}
        for name, module in modules.items():
            if options.gradients:
                module.register_forward_hook(self.gradient_hook(name))
            else:
                module.register_forward_pre_hook(self.hook(name))

    def start(self, mask):
        """To be called before each batch, with its attention mask."""
        self.mask, self.seen = mask, {}

    def hook(self, name):
        def before(module, arguments):
            x = arguments[0]
            owner = self.owner(name, x)
            if self.alias.setdefault(name, owner) != owner:
                fail(f"{name} shares its input with {self.alias[name]} in one batch and with {owner} in another; "
                     "capture it by itself with --include")
            if owner == name:
                if name not in self.moments:
                    self.moments[name] = Moments(x.shape[-1], self.options, name, x.device)
                self.moments[name].add(self.rows(x))
        return before

    def gradient_hook(self, name):
        def after(module, arguments, output):
            if name in self.seen:
                fail(f"{name} runs twice in one pass: its gradients cannot be told apart (use --include)")
            self.seen[name] = True
            x = self.rows(arguments[0].detach())
            self.alias.setdefault(name, name)
            if name not in self.moments:
                self.moments[name] = Moments(x.shape[-1], self.options, name, x.device)
                self.gradients[name] = Gradients(output.shape[-1], x.device)
            self.gradients[name].start(x)
            output.register_hook(lambda g: self.gradients[name].add(self.rows(g), self.options.gradients))
        return after

    def finish(self):
        """To be called after the backward passes of a batch."""
        for name in self.seen:
            gradients = self.gradients[name]
            self.moments[name].add(gradients.inputs, gradients.token)
            gradients.inputs = gradients.token = None

    def owner(self, name, x):
        """The layer that met this very tensor first in this batch: the same object, unchanged since."""
        reference, version, first = self.seen.get(id(x), (lambda: None, None, None))
        if reference() is x and version == x._version:
            return first
        self.seen[id(x)] = weakref.ref(x), x._version, name
        return name

    def rows(self, x):
        flat, mask = x.reshape(-1, x.shape[-1]), self.mask
        return flat[mask.flatten()] if len(flat) == mask.numel() else flat

    def without_effect(self):
        """The layers that no gradient reached (a pooler, where the embedding is the mean of the last states)."""
        return sorted(name for name, gradients in self.gradients.items() if gradients.nothing())

    def save(self, path):
        tensors = {}
        left_out = set(self.without_effect())
        for name, moments in self.moments.items():
            if moments.tokens == 0 or name in left_out:
                continue
            gradients = self.gradients[name].tensors(name) if name in self.gradients else ()
            for part, tensor in (*moments.tensors(name), *gradients):
                if not torch.isfinite(tensor).all():
                    fail(f"{part} is not finite: the model overflows on these texts (try --dtype float32)")
                tensors[part] = tensor.cpu().contiguous()
        alias = {name: owner for name, owner in self.alias.items() if owner != name}
        scratch = f"{path}.{os.getpid()}.tmp"
        try:
            save_file(tensors, scratch, metadata={"alias": json.dumps(alias)})
            os.replace(scratch, path)
        finally:
            if os.path.exists(scratch):
                os.remove(scratch)


def checkpoint_shapes(folder):
    """{tensor name: shape} over all safetensors files of the folder."""
    shapes = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            shapes.update((name, file.get_slice(name).get_shape()) for name in file.keys())
    return shapes or fail(f"{folder} has no safetensors file")


def checkpoint_name(parameter, shapes):
    """The tensor that a parameter was loaded from: checkpoints often lack (or add) a leading part of the name."""
    if parameter in shapes:
        return parameter
    alike = [name for name in shapes if parameter.endswith("." + name) or name.endswith("." + parameter)]
    if len(alike) > 1:
        fail(f"{parameter} could be any of {', '.join(sorted(alike))} in the checkpoint")
    return alike[0] if alike else None


def linear_modules(model, folder, include):
    """{tensor name in the checkpoint: linear module}, and the names of linear modules that are not in it."""
    shapes, found, missing = checkpoint_shapes(folder), {}, []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            tensor = checkpoint_name(f"{name}.weight", shapes)
            if tensor is None or list(shapes[tensor]) != list(module.weight.shape):
                missing.append(name)
            elif include.search(tensor):
                if tensor in found:
                    fail(f"two modules of the model claim the checkpoint's {tensor}")
                found[tensor] = module
    return found, missing


def load(folder, dtype):
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    kind = getattr(transformers, (config.architectures or ["AutoModel"])[0], transformers.AutoModel)
    model = kind.from_pretrained(folder, dtype=getattr(torch, dtype), local_files_only=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


def objective(output, mask, random):
    """A random scalar whose squared gradient is what an error in the model's output counts; one term for each text."""
    logits = getattr(output, "logits", None)
    if logits is not None:
        flat = logits.reshape(-1, logits.shape[-1]) if logits.dim() < 3 else logits[mask]
        chances = flat.detach().float().softmax(1).cpu()
        drawn = torch.multinomial(chances, 1, generator=random).to(flat.device)
        return flat.float().log_softmax(1).gather(1, drawn).sum()
    states = output.last_hidden_state.float()
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    embedding = torch.nn.functional.normalize(mean, dim=1)
    return (torch.randn(embedding.shape, generator=random).to(embedding.device) * embedding).sum()


def backward(model, batch, mask, draws, random):
    """One forward pass, and `draws` backward passes."""
    output = model(**batch)
    for draw in range(draws):
        objective(output, mask, random).backward(retain_graph=draw + 1 < draws)
    model.zero_grad(set_to_none=True)


def arguments():
    summary, details = __doc__.split("\n\n", 1)
    parser = argparse.ArgumentParser(description=summary, epilog=details,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="folder of a Hugging Face model")
    parser.add_argument("texts", type=pathlib.Path, help="UTF-8 text file, one text a line; empty lines are skipped")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="the file to write")
    parser.add_argument("--include", type=re.compile, default=re.compile(""), metavar="RE",
                        help="only weights whose name in the checkpoint matches")
    parser.add_argument("--max-length", type=int, default=128, help="tokens per text (default %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="texts at a time (default %(default)s)")
    parser.add_argument("--limit", type=int, help="use only the first so many texts")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="also keep N rows of each input")
    parser.add_argument("--no-gram", dest="gram", action="store_false", help="leave the Gram matrices out")
    parser.add_argument("--gradients", type=int, default=0, metavar="D",
                        help="weigh tokens and outputs by their squared gradients, D draws a text (3 do)")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn (default %(default)s)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.gradients and not options.gram:
        parser.error("--gradients weighs the Gram matrices that --no-gram leaves out")
    if options.batch < 1 or options.max_length < 1 or options.sample < 0 or options.gradients < 0 \
            or options.seed not in range(1 << 31):
        parser.error("--batch and --max-length must be at least 1, --sample and --gradients at least 0, "
                     "--seed from 0 to 2^31-1")
    return options


def main():
    options = arguments()
    if not options.model.is_dir():
        fail(f"{options.model} is not a folder")
    try:
        texts = [line.strip() for line in options.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{options.texts}: {error}")
    texts = texts[:options.limit]
    if not texts:
        fail(f"{options.texts} has no text")
    if not options.output.absolute().parent.is_dir():
        fail(f"{options.output}: there is no such folder")
    try:
        model, tokenizer = load(options.model, options.dtype)
        modules, missing = linear_modules(model, options.model, options.include)
    except (OSError, ValueError, SafetensorError) as error:
        fail(f"{options.model}: {error}")
    model.to(options.device)
    if missing:
        print(f"capture: not in the checkpoint, left out: {', '.join(missing)}", file=sys.stderr)
    if not modules:
        fail("no linear layer is left to capture")
    capture = Capture(modules, options)
    random = torch.Generator().manual_seed(options.seed)
    if options.gradients:
        # Gradients are needed of what flows, not of the weights: one leaf before the first layer is enough.
        model.requires_grad_(False)
        model.get_input_embeddings().requires_grad_(True)
    for start in range(0, len(texts), options.batch):
        batch = tokenizer(texts[start:start + options.batch], padding=True, truncation=True,
                          max_length=options.max_length, return_tensors="pt").to(options.device)
        mask = batch["attention_mask"].bool()
        capture.start(mask)
        if options.gradients:
            backward(model, batch, mask, options.gradients, random)
            capture.finish()
        else:
            with torch.no_grad():
                model(**batch)
        print(f"\rcapture: {min(start + options.batch, len(texts))} of {len(texts)} texts", end="", file=sys.stderr)
    print(file=sys.stderr)
    idle = sorted(set(modules) - set(capture.alias))
    if idle:
        print(f"capture: never ran on these texts, left out: {', '.join(idle)}", file=sys.stderr)
    flat = capture.without_effect()
    if flat:
        print(f"capture: without effect on the model's output, left out: {', '.join(flat)}", file=sys.stderr)
    if options.gradients and len(flat) == len(capture.moments):
        fail("the model's output depends on none of these layers")
    try:
        capture.save(options.output)
    except (OSError, SafetensorError) as error:
        fail(f"{options.output}: {error}")
    print(f"{options.output}: {len(capture.moments) - len(flat)} inputs of {len(capture.alias) - len(flat)} linear layers")


if __name__ == "__main__":
    main()
