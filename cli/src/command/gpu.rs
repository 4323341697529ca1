//! `rankbit gpu`: the adapters, the kernels held to their CPU twins, and how fast they are.

use std::time::{Duration, Instant};

use rankbit::gpu::{Gpu, Selection, Timing, adapters, self_test};
use rankbit::linalg::Stream;
use rankbit::linalg::faer::{Mat, MatRef};
use rankbit::lowrank::{Factor, LowRank, Split};
use rankbit::quant::{Activation, FloatFormat, Group, Rounder, Scheme, quantize, scheme};

use super::{Global, bytes};
use crate::error::Error;
use crate::output::print;
use crate::report::terminal::{shape, table};

/// Flags of `gpu`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    action: Action,
    /// Take the first adapter with this in its name.
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Take an adapter of this backend: vulkan, metal or dx12.
    #[arg(long, value_name = "BACKEND")]
    backend: Option<String>,
}

/// What to do; the list when nothing is said.
#[derive(clap::Args, Debug)]
#[group(multiple = false)]
struct Action {
    /// List the adapters, best first (the default).
    #[arg(long)]
    list: bool,
    /// Hold every kernel to its CPU twin over the table of cases.
    #[arg(long)]
    self_test: bool,
    /// Time the products, with the CPU's beside.
    #[arg(long)]
    bench: bool,
}

/// Runs `gpu`.
pub(crate) fn run(args: &Args, global: Global) -> Result<(), Error> {
    let text = if args.action.self_test {
        test(&open(args)?)?
    } else if args.action.bench {
        bench(&open(args)?)?
    } else {
        list(args)
    };
    if global.quiet { Ok(()) } else { print(&text) }
}

fn selection(args: &Args) -> Selection {
    Selection { name: args.adapter.clone(), backend: args.backend.clone(), limits: None }
}

fn open(args: &Args) -> Result<Gpu, Error> {
    Gpu::with(&selection(args)).map_err(|error| failed(&error))
}

/// Whatever a device reports is the machine's failure.
fn failed(error: &rankbit::gpu::Error) -> Error {
    Error::Machine { what: "GPU".to_owned(), reason: error.to_string() }
}

/// The adapters that the selection does not rule out.
fn list(args: &Args) -> String {
    let selection = selection(args);
    let found: Vec<_> = adapters().into_iter().filter(|info| selection.names(info)).collect();
    if found.is_empty() {
        return "no GPU adapter; on Debian and Ubuntu mesa-vulkan-drivers brings a software one\n".to_owned();
    }
    let mut table = table(&["adapter", "backend", "kind", "driver", "largest binding", "kernels"], 4);
    for info in found {
        let kernels = info.unfit.unwrap_or_else(|| "run".to_owned());
        table.add_row([
            info.name,
            info.backend,
            info.kind,
            info.driver,
            bytes(info.limits.binding_bytes),
            kernels,
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

/// The self-test's verdict; failed cases are an error that lists them.
fn test(gpu: &Gpu) -> Result<String, Error> {
    let report = self_test(gpu).map_err(|error| failed(&error))?;
    let (adapter, all) = (&report.adapter, report.cases.len());
    if report.passed() {
        let worst = report.worst();
        return Ok(format!(
            "{adapter}: {all} cases within their bounds; the worst reached {worst:.3} of its bound\n"
        ));
    }
    let failures: Vec<_> = report
        .failures()
        .map(|case| {
            let fault = case.fault.as_deref().map(|fault| format!("; {fault}")).unwrap_or_default();
            format!("  {}: {} of its bound{fault}", case.name, case.worst)
        })
        .collect();
    let reason = format!("{} of {all} cases failed on {adapter}\n{}", failures.len(), failures.join("\n"));
    Err(Error::Machine { what: "GPU self-test".to_owned(), reason })
}

/// One timed product.
struct Product {
    tokens: usize,
    out: usize,
    features: usize,
    scheme: Scheme,
    rank: usize,
    inputs: Activation,
}

/// 8-bit inputs, a scale per token and group.
const INT8: Activation = Activation::integer(8, Group::Size(64));

/// A vector of 4096² and a batch of 128 × 1024².
const fn product(vector: bool, scheme: Scheme, rank: usize, inputs: Activation) -> Product {
    let (tokens, side) = if vector { (1, 4096) } else { (128, 1024) };
    Product { tokens, out: side, features: side, scheme, rank, inputs }
}

/// Both with and without the low-rank term and quantized inputs.
const PRODUCTS: [Product; 10] = [
    product(true, scheme::INT4, 0, Activation::Float),
    product(true, scheme::INT4, 32, Activation::Float),
    product(true, scheme::NF4, 32, Activation::Float),
    product(true, scheme::INT4, 0, INT8),
    product(true, scheme::INT4, 32, INT8),
    product(false, scheme::INT4, 0, Activation::Float),
    product(false, scheme::INT4, 32, Activation::Float),
    product(false, scheme::NF4, 32, Activation::Float),
    product(false, scheme::INT4, 0, INT8),
    product(false, scheme::INT4, 32, INT8),
];

/// Repetitions of a product on the GPU.
const RUNS: usize = 50;
/// How long a product is repeated on the CPU.
const CPU_TIME: Duration = Duration::from_millis(400);

fn bench(gpu: &Gpu) -> Result<String, Error> {
    let mut table = table(
        &[
            "product",
            "format",
            "inputs",
            "rank",
            "GPU ms",
            "median",
            "GB/s",
            "GFLOP/s",
            "CPU ms",
            "CPU GFLOP/s",
        ],
        3,
    );
    for product in &PRODUCTS {
        let (timing, bytes, cpu) = measure(gpu, product).map_err(|error| failed(&error))?;
        let Product { tokens, out, features, scheme, rank, inputs } = product;
        let per_token = out * features + rank * (out + features);
        let operations = 2.0 * *tokens as f64 * per_token as f64;
        table.add_row([
            format!("{tokens} × {}", shape(&[*out, *features])),
            scheme.name().unwrap_or("?").to_owned(),
            if inputs.is_float() { "f32" } else { "int8" }.to_owned(),
            rank.to_string(),
            format!("{:.3}", timing.best * 1e3),
            format!("{:.3}", timing.median * 1e3),
            format!("{:.2}", bytes as f64 / timing.best * 1e-9),
            format!("{:.1}", operations / timing.best * 1e-9),
            format!("{:.3}", cpu * 1e3),
            format!("{:.1}", operations / cpu * 1e-9),
        ]);
    }
    let (name, threads) = (&gpu.adapter().name, std::thread::available_parallelism().map_or(1, usize::from));
    Ok(format!(
        "{}\n{name}; tokens × [out, in], groups of 64, also of int8 inputs, quantized within the time. GPU: best and \
         median of {RUNS} runs on resident buffers,\nfrom submission to idle; GB/s: the matrix's bytes over the best \
         time. CPU: best run, {threads} threads.\n",
        table.trim_fmt()
    ))
}

/// Time on the GPU, bytes of the matrix there, and seconds on the CPU.
fn measure(gpu: &Gpu, product: &Product) -> Result<(Timing, u64, f64), rankbit::gpu::Error> {
    let Product { tokens, out, features, scheme, rank, inputs } = *product;
    let mut random = Stream::new(0, "rankbit gpu --bench");
    let mut normal = |rows: usize, cols: usize| {
        let mut values = vec![0.0_f32; rows * cols];
        random.fill_normal(&mut values);
        Mat::from_fn(rows, cols, |i, j| values[i * cols + j])
    };
    let base = quantize(normal(out, features).as_ref(), &scheme, Rounder::Nearest)?.quantized;
    let low_rank = if rank == 0 {
        None
    } else {
        let mut factor = |rows, cols| Factor::encode(normal(rows, cols).as_ref(), FloatFormat::F16).0;
        Some(LowRank::new(factor(out, rank), factor(rank, features))?)
    };
    let split = Split::new((out, features), None, Some(base), low_rank)?.with_activation(inputs)?;
    let x = normal(tokens, features);
    let linear = gpu.upload(&split)?;
    let (_, timing) = linear.apply_timed(x.as_ref(), RUNS)?;
    Ok((timing, linear.device_bytes(), cpu_seconds(&split, x.as_ref())?))
}

/// The CPU product's best time.
fn cpu_seconds(split: &Split, x: MatRef<'_, f32>) -> Result<f64, rankbit::gpu::Error> {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < CPU_TIME || best == f64::INFINITY {
        let run = Instant::now();
        split.apply(x)?;
        best = best.min(run.elapsed().as_secs_f64());
    }
    Ok(best)
}
