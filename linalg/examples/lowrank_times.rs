//! What this crate's decompositions take, for comparison with `scripts/linalg-peers.py`, which also writes the matrices.
//!
//! `cargo run --release -p rankbit-linalg --example lowrank_times -- DIR [PART]...`
//!
//! PART is `svd`, `tucker`, `stream`; all without. The least of several runs, in CPU time of the thread; errors are divided by the
//! least possible of that rank.

use std::hint::black_box;

use rankbit_linalg::faer::dyn_stack::{MemBuffer, MemStack};
use rankbit_linalg::faer::matrix_free::eigen::{partial_svd, partial_svd_scratch};
use rankbit_linalg::faer::{Col, Mat, MatRef, Par};
use rankbit_linalg::tucker::{Tensor, TuckerGoal, TuckerOptions, TuckerStart, decompose};
use rankbit_linalg::{
    KrylovOptions, RandomizedOptions, Sketch, Stream, StreamingSvd, Svd, SvdInfo, SvdMethod, krylov,
    randomized, to_tolerance,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// CPU time of this thread in seconds, where Linux tells; else wall clock.
fn now() -> f64 {
    let nanoseconds = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|line| line.split(' ').next().and_then(|first| first.parse::<f64>().ok()));
    nanoseconds.map_or_else(
        || std::time::UNIX_EPOCH.elapsed().map_or(0.0, |time| time.as_secs_f64()),
        |nanoseconds| nanoseconds * 1e-9,
    )
}

fn least<T>(count: usize, mut run: impl FnMut() -> Outcome<T>) -> Outcome<(f64, T)> {
    let mut best = f64::INFINITY;
    let mut result = None;
    for _ in 0..count {
        let start = now();
        result = Some(black_box(run()?));
        best = best.min(now() - start);
    }
    Ok((best, result.ok_or("no run")?))
}

fn read(path: &str) -> Outcome<Vec<f32>> {
    let bytes =
        std::fs::read(path).map_err(|error| format!("{path}: {error}; run scripts/linalg-peers.py"))?;
    Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// ‖A − U·diag(σ)·Vᵀ‖ entry by entry, in double precision.
fn error(a: MatRef<'_, f32>, svd: &Svd<f32>) -> f64 {
    let found = svd.reconstruct();
    let columns = a.col_iter().zip(found.col_iter());
    let square = |(x, y): (&f32, &f32)| (f64::from(*x) - f64::from(*y)).powi(2);
    columns.map(|(a, b)| a.iter().zip(b.iter()).map(square).sum::<f64>()).sum::<f64>().sqrt()
}

fn report(what: &str, how: &str, seconds: f64, note: &str) {
    println!("{what:28} {how:36} {:10.1} ms   {note}", seconds * 1e3);
}

fn svd(folder: &str) -> Outcome<()> {
    let cases = [
        (4096, 4096, 128, "0.5"),
        (4096, 4096, 128, "1.0"),
        (4096, 11008, 128, "0.5"),
        (1024, 1024, 32, "0.5"),
    ];
    for (m, n, rank, decay) in cases {
        let values = read(&format!("{folder}/{m}x{n}-{decay}.f32"))?;
        let a = MatRef::from_row_major_slice(&values, m, n);
        let power: f64 = decay.parse()?;
        let tail =
            |rank: usize| (rank + 1..=m.min(n)).map(|i| (i as f64).powf(-2.0 * power)).sum::<f64>().sqrt();
        let runs = if m == 1024 { 30 } else { 3 };
        let what = format!("svd {m}x{n} r{rank} i^-{decay}");
        for sketch in [Sketch::Gaussian, Sketch::SparseSign, Sketch::Hadamard] {
            let options = KrylovOptions { sketch, ..Default::default() };
            let (seconds, svd) = least(runs, || Ok(krylov(a, rank, &options)?))?;
            let note =
                format!("{:.4}, says {:.4}", error(a, &svd) / tail(rank), svd.info.residual / tail(rank));
            report(&what, &format!("krylov {sketch:?}"), seconds, &note);
        }
        let (seconds, svd) = least(runs, || Ok(randomized(a, rank, &RandomizedOptions::default())?))?;
        report(&what, "randomized", seconds, &format!("{:.4}", error(a, &svd) / tail(rank)));
        if m == 1024 {
            let (seconds, svd) = least(5, || Ok(by_faer(a, rank)))?;
            report(&what, "peer: faer partial_svd", seconds, &format!("{:.4}", error(a, &svd) / tail(rank)));
        }
        let tolerance = tail(rank) / tail(0);
        let (fixed, _) = least(runs, || Ok(krylov(a, rank, &KrylovOptions::default())?))?;
        let (seconds, svd) = least(runs, || Ok(to_tolerance(a, tolerance, &KrylovOptions::default())?))?;
        let reached = error(a, &svd) / tail(rank);
        let note = format!("rank {}, {reached:.4}, {:.2} of krylov's time", svd.rank(), seconds / fixed);
        report(&what, &format!("to_tolerance {tolerance:.4}"), seconds, &note);
    }
    Ok(())
}

/// faer's own truncated decomposition, as its default parameters run it.
fn by_faer(a: MatRef<'_, f32>, rank: usize) -> Svd<f32> {
    let (mut u, mut v) = (Mat::<f32>::zeros(a.nrows(), rank), Mat::<f32>::zeros(a.ncols(), rank));
    let mut values = vec![0.0; rank];
    let start = Col::from_fn(a.ncols(), |_| 1.0 / (a.ncols() as f32).sqrt());
    let mut memory = MemBuffer::new(partial_svd_scratch(&a, rank, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut memory);
    let tolerance = 128.0 * f32::EPSILON;
    let parameters = Default::default();
    let (left, right) = (u.as_mut(), v.as_mut());
    partial_svd(left, right, &mut values, &a, start.as_ref(), tolerance, Par::Seq, stack, parameters);
    let info = SvdInfo {
        method: SvdMethod::Truncated,
        power_iterations: 0,
        oversampling: 0,
        residual: 0.0,
        norm: 0.0,
    };
    Svd { u, singular_values: values, v, info }
}

fn tucker(folder: &str) -> Outcome<()> {
    let values = read(&format!("{folder}/tucker.f32"))?;
    let tensor = Tensor::new(&[512, 512, 3, 3], &values)?;
    let ranks = [Some(128), Some(128), None, None];
    for (how, start, sweeps, gain) in [
        ("HOSVD", TuckerStart::Hosvd, 0, 0.0),
        ("sequentially truncated", TuckerStart::SequentiallyTruncated, 0, 0.0),
        ("HOOI, 6 sweeps", TuckerStart::SequentiallyTruncated, 6, 0.0),
        ("HOOI, 12 sweeps", TuckerStart::SequentiallyTruncated, 12, 0.0),
        ("HOOI, gain 1e-4", TuckerStart::SequentiallyTruncated, 50, 1e-4),
        ("HOOI, gain 1e-5", TuckerStart::SequentiallyTruncated, 50, 1e-5),
    ] {
        let options = TuckerOptions { start, sweeps, gain };
        let (seconds, found) = least(3, || Ok(decompose(&tensor, TuckerGoal::Ranks(&ranks), &options)?))?;
        let note = format!("{:.5} in {} sweeps", found.relative_error, found.sweeps);
        report("tucker 512x512x3x3 128 128", how, seconds, &note);
    }
    Ok(())
}

/// A million rows of 256 through a sketch, from a file that is read block by block.
fn stream(folder: &str) -> Outcome<()> {
    use std::io::{Read, Write};
    const ROWS: usize = 1_000_000;
    const COLUMNS: usize = 256;
    const BLOCK: usize = 1000;
    let path = format!("{folder}/stream.f32");
    if std::fs::metadata(&path).map(|data| data.len()).unwrap_or(0) != (ROWS * COLUMNS * 4) as u64 {
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        let mut random = Stream::new(0, "stream");
        let mut directions = vec![0f32; COLUMNS * COLUMNS];
        random.fill_normal(&mut directions);
        let mut weights = vec![0f32; 16];
        let mut row = vec![0f32; COLUMNS];
        for _ in 0..ROWS {
            random.fill_normal(&mut weights);
            row.iter_mut().for_each(|value| *value = 0.0);
            for (i, (weight, direction)) in weights.iter().zip(directions.chunks_exact(COLUMNS)).enumerate() {
                for (value, d) in row.iter_mut().zip(direction) {
                    *value += weight * d / (1.0 + i as f32);
                }
            }
            file.write_all(&row.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        file.flush()?;
    }
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    for width in [32, 64, COLUMNS] {
        let before = resident();
        let start = now();
        let mut svd = StreamingSvd::new(COLUMNS, width)?;
        let mut file = std::fs::File::open(&path)?;
        let mut bytes = vec![0u8; BLOCK * COLUMNS * 4];
        for _ in 0..ROWS / BLOCK {
            file.read_exact(&mut bytes)?;
            let rows: Vec<f32> =
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            svd.push(MatRef::from_row_major_slice(&rows, BLOCK, COLUMNS))?;
        }
        let found = svd.finish::<f32>(16)?;
        let note = format!(
            "residual <= {:.2e} of the norm; peak memory {:.1} MiB, {:.1} before",
            found.residual_bound / found.norm,
            resident(),
            before
        );
        report("1,000,000 x 256, rank 16", &format!("streaming, width {width}"), now() - start, &note);
        let _: Mat<f32> = found.v;
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((folder, parts)) = arguments.split_first() else {
        return Err("usage: lowrank_times DIR [svd|tucker|stream]...".into());
    };
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    if wanted("stream") {
        stream(folder)?;
    }
    if wanted("tucker") {
        tucker(folder)?;
    }
    if wanted("svd") {
        svd(folder)?;
    }
    Ok(())
}
