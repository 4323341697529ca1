//! Time of each method from 256 to 65536 tokens, one head of 64, one thread: a table, the exponent of its growth, and a picture.
//!
//! `cargo run --release -p rankbit-attention --example cost -- PICTURE.svg [MOST TOKENS]`: milliseconds of CPU time of the thread
//! (Linux; elsewhere of the clock), mean over a tenth of a second or one run. The exponent is that of the least squares line through the logarithms from
//! 1024 tokens on. The last line is the largest resident memory of the process (Linux). Exact attention stops at 16384 tokens: it
//! takes its n² there as before.

use std::time::Instant;

use plotters::prelude::*;
use rankbit_attention::{
    Axis, ClusterOptions, ExactOptions, FeatureMap, NearestOptions, NeighborhoodOptions,
    RandomFeatureOptions, RandomFeatures, RelativeOptions, ScatterbrainOptions, Support, Tensor, View, exact,
    linear, neighborhood, relative, scatterbrain, toeplitz,
};
use rankbit_linalg::Stream;

const DIM: usize = 64;
const MOST_EXACT: usize = 16384;
const METHODS: usize = 8;

/// CPU time of this thread in seconds, from Linux; elsewhere the clock.
fn now(start: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let cpu = stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok());
    cpu.map_or_else(|| start.elapsed().as_secs_f64(), |nanoseconds| nanoseconds * 1e-9)
}

fn random(tokens: usize, name: &str) -> Tensor<f32> {
    let mut data = vec![0.0; tokens * DIM];
    Stream::new(1, name).fill_normal(&mut data);
    Tensor::from_vec(data, [1, 1, tokens, DIM]).expect("the length fits")
}

/// Milliseconds of each method; NaN where it is left out.
fn measure(tokens: usize) -> [(&'static str, f64); METHODS] {
    let [q, k, v] = ["q", "k", "v"].map(|name| random(tokens, name));
    let (q, k, v) = (q.view(), k.view(), v.view());
    let options = RandomFeatureOptions { draws: Some(256), ..Default::default() };
    let features = RandomFeatures::new(DIM, &options).expect("a size");
    let random_map = FeatureMap::Random { features: &features, scale: None };
    let bias: Vec<f32> =
        (0..2 * tokens - 1).map(|t| -0.01 * (t as f32 - (tokens - 1) as f32).abs()).collect();
    let weight: Vec<f32> = bias.iter().map(|b| b.exp()).collect();
    let [bias, weight] =
        [&bias, &weight].map(|x| View::contiguous(x, [1, 1, 1, 2 * tokens - 1]).expect("it fits"));
    let start = Instant::now();
    // Linux counts the time of a thread in ticks of some milliseconds: as many runs as make them small.
    let time = |work: &dyn Fn()| {
        let (before, mut runs) = (now(start), 0);
        while now(start) - before < 0.1 {
            work();
            runs += 1;
        }
        (now(start) - before) * 1e3 / f64::from(runs)
    };
    let full = || drop(exact(q, k, v, &ExactOptions::default()).expect("good operands"));
    [
        ("exact", if tokens <= MOST_EXACT { time(&full) } else { f64::NAN }),
        (
            "neighborhood, window 63",
            time(&|| {
                let axes = [Axis::new(tokens, 63)];
                drop(neighborhood(q, k, v, &axes, &NeighborhoodOptions::default()).expect("good operands"));
            }),
        ),
        ("linear, elu", time(&|| drop(linear(q, k, v, FeatureMap::Elu, false).expect("good operands")))),
        ("FAVOR+, 256", time(&|| drop(linear(q, k, v, random_map, false).expect("good operands")))),
        (
            "Scatterbrain, 256 + 64 hashed",
            time(&|| {
                let support = Support::clusters(q, k, &ClusterOptions::default()).expect("good operands");
                let options = ScatterbrainOptions::default();
                drop(scatterbrain(q, k, v, random_map, &support, &options).expect("good operands"));
            }),
        ),
        (
            "Scatterbrain, 256 + 64 nearest",
            time(&|| {
                let support = Support::nearest(q, k, &NearestOptions::default()).expect("good operands");
                let options = ScatterbrainOptions::default();
                drop(scatterbrain(q, k, v, random_map, &support, &options).expect("good operands"));
            }),
        ),
        ("Toeplitz by FFT", time(&|| drop(toeplitz(weight, v).expect("good operands")))),
        (
            "relative by FFT, elu",
            time(&|| {
                let options = RelativeOptions { normalized: true, causal: false };
                drop(relative(q, k, v, bias, FeatureMap::Elu, &options).expect("good operands"));
            }),
        ),
    ]
}

/// Slope of the least squares line through the logarithms.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0.ln() / count, y + p.1.ln() / count));
    let (up, down) = points.iter().fold((0.0, 0.0), |(up, down), p| {
        let (dx, dy) = (p.0.ln() - x, p.1.ln() - y);
        (up + dx * dy, down + dx * dx)
    });
    up / down
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let picture = arguments.next().ok_or("name the picture: cost PICTURE.svg [MOST TOKENS]")?;
    let most: usize = arguments.next().map_or(Ok(65536), |text| text.parse())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build()?;
    let mut table = vec![];
    pool.install(|| {
        let mut tokens = 256;
        while tokens <= most {
            let row = measure(tokens);
            if table.is_empty() {
                println!("| tokens | {} |", row.map(|(name, _)| name).join(" | "));
                println!("|{}", "---|".repeat(METHODS + 1));
            }
            print!("| {tokens}");
            row.iter().for_each(|(_, ms)| if ms.is_nan() { print!(" | -") } else { print!(" | {ms:.2}") });
            println!(" |");
            table.push((tokens as f64, row));
            tokens *= 4;
        }
    });
    print!("| exponent");
    let points = |which: usize| -> Vec<(f64, f64)> {
        table.iter().map(|(n, row)| (*n, row[which].1)).filter(|(_, ms)| ms.is_finite()).collect()
    };
    for which in 0..METHODS {
        let large: Vec<(f64, f64)> = points(which).into_iter().filter(|(n, _)| *n >= 1024.0).collect();
        print!(" | {:.2}", exponent(&large));
    }
    println!(" |");
    let root = SVGBackend::new(&picture, (760, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("one head of 64, one thread", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d((200.0..most as f64 * 1.2).log_scale(), (0.03..50000.0).log_scale())?;
    chart.configure_mesh().x_desc("tokens").y_desc("milliseconds").draw()?;
    for which in 0..METHODS {
        let color = Palette99::pick(which).to_rgba();
        let name = table.first().map_or("", |(_, row)| row[which].0);
        chart
            .draw_series(LineSeries::new(points(which), color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).border_style(BLACK).draw()?;
    root.present()?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    Ok(())
}
