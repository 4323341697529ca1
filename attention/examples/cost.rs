//! Time of each method from 256 to 65536 tokens, one head of 64, one thread: a table, and a picture.
//!
//! `cargo run --release -p rankbit-attention --example cost -- PICTURE.svg [MOST TOKENS]`; the last line is the largest resident
//! memory of the process (Linux). Without exact attention beyond 16384 tokens: it takes its n² there as before.

use std::time::Instant;

use plotters::prelude::*;
use rankbit_attention::{
    Axis, ClusterOptions, ExactOptions, FeatureMap, NeighborhoodOptions, RandomFeatureOptions,
    RandomFeatures, RelativeOptions, ScatterbrainOptions, Support, Tensor, View, exact, linear, neighborhood,
    relative, scatterbrain,
};
use rankbit_linalg::Stream;

const DIM: usize = 64;
const MOST_EXACT: usize = 16384;

fn random(tokens: usize, name: &str) -> Tensor<f32> {
    let mut data = vec![0.0; tokens * DIM];
    Stream::new(1, name).fill_normal(&mut data);
    Tensor::from_vec(data, [1, 1, tokens, DIM]).expect("the length fits")
}

/// Milliseconds of each method; NaN where it is left out.
fn measure(tokens: usize) -> [(&'static str, f64); 6] {
    let [q, k, v] = ["q", "k", "v"].map(|name| random(tokens, name));
    let (q, k, v) = (q.view(), k.view(), v.view());
    let options = RandomFeatureOptions { draws: Some(256), ..Default::default() };
    let features = RandomFeatures::new(DIM, &options).expect("a size");
    let random_map = FeatureMap::Random { features: &features, scale: None };
    let bias: Vec<f32> =
        (0..2 * tokens - 1).map(|t| -0.01 * (t as f32 - (tokens - 1) as f32).abs()).collect();
    let bias = View::contiguous(&bias, [1, 1, 1, 2 * tokens - 1]).expect("it fits");
    let time = |work: &dyn Fn()| {
        let runs = if tokens <= 4096 { 3 } else { 1 };
        let once = |_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        };
        (0..runs).map(once).fold(f64::INFINITY, f64::min)
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
            "Scatterbrain, 256 + 64",
            time(&|| {
                let support = Support::clusters(q, k, &ClusterOptions::default()).expect("good operands");
                let options = ScatterbrainOptions::default();
                drop(scatterbrain(q, k, v, random_map, &support, &options).expect("good operands"));
            }),
        ),
        (
            "relative by FFT, elu",
            time(&|| {
                let options = RelativeOptions { normalized: true, causal: false };
                drop(relative(q, k, v, bias, FeatureMap::Elu, &options).expect("good operands"));
            }),
        ),
    ]
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
            print!("{tokens:6}");
            row.iter().for_each(|(name, ms)| print!("   {name} {ms:.1}"));
            println!();
            table.push((tokens as f64, row));
            tokens *= 4;
        }
    });
    let root = SVGBackend::new(&picture, (760, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("one head of 64, one thread", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d((200.0..most as f64 * 1.2).log_scale(), (0.05..20000.0).log_scale())?;
    chart.configure_mesh().x_desc("tokens").y_desc("milliseconds").draw()?;
    for which in 0..6 {
        let color = Palette99::pick(which).to_rgba();
        let points: Vec<(f64, f64)> =
            table.iter().map(|(n, row)| (*n, row[which].1)).filter(|(_, ms)| ms.is_finite()).collect();
        let name = table.first().map_or("", |(_, row)| row[which].0);
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).border_style(BLACK).draw()?;
    root.present()?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    Ok(())
}
