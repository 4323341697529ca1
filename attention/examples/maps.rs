//! The attention of a long real text in the sentence model: error against memory for each method, as a table and a picture; the
//! same over temperatures; and when its maps are sparse or of low rank.
//!
//! `cargo run --release -p rankbit-attention --example maps -- PICTURE.svg [TOKENS]`, after `scripts/fetch-model.sh`.
//!
//! **Memory**: numbers stored for each query with as many keys as queries. A pair of a support costs 2 (the key's number and its
//! weight), a random feature costs 2 (one of the query, one of the key); Scatterbrain spends half on either.
//! **Error**: `‖Ô - O‖/‖O‖` of a head's outputs, mean over layers, heads and draws.

use std::error::Error;

use plotters::prelude::*;
use rankbit_attention::{
    ClusterOptions, ExactOptions, FeatureMap, NearestOptions, RandomFeatureOptions, RandomFeatures,
    ScatterbrainOptions, Support, Tensor, View, exact, linear, regimes, scatterbrain, sparse,
};
use rankbit_kit::model::{SentenceModel, corpus};
use rankbit_kit::text::Sentences;
use rankbit_linalg::faer::Mat;

const HEADS: usize = 12;
const DRAWS: u64 = 10;
const BUDGETS: [usize; 5] = [32, 64, 128, 192, 256];
const TEMPERATURES: [f64; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 16.0];
const METHODS: [&str; 5] = [
    "hashed pairs alone (LSH)",
    "random features alone (FAVOR+)",
    "Scatterbrain, hashed pairs",
    "nearest pairs alone",
    "Scatterbrain, nearest pairs",
];
/// Errors of each method.
type Errors = [f64; METHODS.len()];

/// Queries, keys and values of a layer, `[tokens, hidden]`.
type Layer = [Vec<f32>; 3];

/// One text of the held-out sentences, as many tokens as the model has positions for.
fn text(model: &SentenceModel, tokens: usize) -> Result<Vec<u32>, Box<dyn Error>> {
    let sentences = model.tokens(&Sentences::read(&corpus())?.held_out)?;
    let (open, close) = sentences.first().and_then(|one| one.first().zip(one.last())).ok_or("no text")?;
    let inner = sentences.iter().flat_map(|one| one.get(1..one.len().saturating_sub(1)).unwrap_or_default());
    let inner = inner.copied().take(tokens.min(512).saturating_sub(2));
    Ok([*open].into_iter().chain(inner).chain([*close]).collect())
}

fn layers(model: &SentenceModel, ids: Vec<u32>) -> Result<Vec<Layer>, Box<dyn Error>> {
    let mut inputs = vec![];
    model.network().embed(&[ids], &mut |name, x| {
        if name.ends_with("self.query.weight") {
            inputs.push((name.to_owned(), x.to_vec()));
        }
    })?;
    let mut found = vec![];
    for (name, x) in inputs {
        let project = |part: &str| -> Result<Vec<f32>, Box<dyn Error>> {
            let name = name.replace("query", part);
            let weight = model.tensors().get(&name).ok_or("a weight is missing")?;
            let bias = model.tensors().get(&name.replace(".weight", ".bias")).ok_or("a bias is missing")?;
            let width = weight.shape[1];
            let row = |x: &[f32]| -> Vec<f32> {
                let rows = weight.values.chunks_exact(width).zip(bias.values.iter());
                rows.map(|(w, b)| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>() + b).collect()
            };
            Ok(x.chunks_exact(width).flat_map(row).collect())
        };
        found.push([project("query")?, project("key")?, project("value")?]);
    }
    Ok(found)
}

/// Mean over heads of `‖a - b‖/‖b‖`.
fn error(a: &Tensor<f32>, b: &Tensor<f32>) -> f64 {
    let [_, heads, n, e] = b.shape();
    let head = |h: usize| {
        let part = h * n * e..(h + 1) * n * e;
        let pairs = a.as_slice()[part.clone()].iter().zip(&b.as_slice()[part]);
        let (gap, norm) = pairs.fold((0.0, 0.0), |(gap, norm), (&a, &b)| {
            (gap + f64::from(a - b).powi(2), norm + f64::from(b).powi(2))
        });
        (gap / norm).sqrt()
    };
    (0..heads).map(head).sum::<f64>() / heads as f64
}

/// Errors of every method at so many numbers a query, mean over layers and draws.
fn errors(layers: &[Layer], n: usize, budget: usize, temperature: f64) -> Result<Errors, Box<dyn Error>> {
    let width = layers.first().ok_or("no layer")?[0].len() / n;
    let dim = width / HEADS;
    let scale = Some(1.0 / (temperature * (dim as f64).sqrt()));
    let options = ScatterbrainOptions { scale, ..Default::default() };
    let mut sums = [0.0; METHODS.len()];
    for layer in layers {
        let [q, k, v] = layer.each_ref().map(|data| View::new(data, [1, HEADS, n, dim], [0, dim, width, 1]));
        let (q, k, v) = (q?, k?, v?);
        let expected = exact(q, k, v, &ExactOptions { scale, ..Default::default() })?.output;
        let nearest = |keys: usize| Support::nearest(q, k, &NearestOptions { keys, heavy: keys / 4 });
        let (all_near, half_near) = (nearest(budget / 2)?, nearest(budget / 4)?);
        for seed in 0..DRAWS {
            let features = |count: usize| {
                let draws = Some(count / 2);
                let options = RandomFeatureOptions { draws, hyperbolic: true, seed, ..Default::default() };
                RandomFeatures::new(dim, &options)
            };
            let hashed =
                |keys: usize| Support::clusters(q, k, &ClusterOptions { size: keys / 4, rounds: 4, seed });
            let (all, half) = (features(budget / 2)?, features(budget / 4)?);
            let map = |features| FeatureMap::Random { features, scale };
            let found = [
                sparse(q, k, v, &hashed(budget / 2)?, &options)?,
                linear(q, k, v, map(&all), false)?,
                scatterbrain(q, k, v, map(&half), &hashed(budget / 4)?, &options)?,
                sparse(q, k, v, &all_near, &options)?,
                scatterbrain(q, k, v, map(&half), &half_near, &options)?,
            ];
            for (sum, found) in sums.iter_mut().zip(&found) {
                *sum += error(found, &expected) / (DRAWS as f64 * layers.len() as f64);
            }
        }
    }
    Ok(sums)
}

/// A row of the table: errors, and how much lower Scatterbrain's is than the better of hashed pairs and features alone.
fn print(label: &str, errors: &Errors) {
    print!("| {label}");
    errors.iter().for_each(|error| print!(" | {error:.3}"));
    println!(" | {:.2} |", errors[0].min(errors[1]) / errors[4]);
}

fn header(label: &str) {
    println!("| {label} | {} | lower by |", METHODS.join(" | "));
    println!("|{}", "---|".repeat(METHODS.len() + 2));
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let picture = arguments.next().ok_or("name the picture: maps PICTURE.svg [TOKENS]")?;
    let tokens: usize = arguments.next().map_or(Ok(512), |text| text.parse())?;
    let model = SentenceModel::load()?;
    let ids = text(&model, tokens)?;
    let n = ids.len();
    let layers = layers(&model, ids)?;
    println!("{n} tokens, {} layers of {HEADS} heads, {DRAWS} draws\n", layers.len());
    header("numbers a query");
    let mut table = vec![];
    for budget in BUDGETS {
        let found = errors(&layers, n, budget, 1.0)?;
        print(&budget.to_string(), &found);
        table.push((budget as f64, found));
    }
    println!("\nat 128 numbers a query\n");
    header("temperature");
    for temperature in TEMPERATURES {
        print(&temperature.to_string(), &errors(&layers, n, 128, temperature)?);
    }
    best(&layers, n)?;
    draw(&picture, &table)
}

/// The best of each kind on the first 96 tokens of the middle layer's first head.
fn best(layers: &[Layer], n: usize) -> Result<(), Box<dyn Error>> {
    let [q, k, _] = layers.get(layers.len() / 2).ok_or("no layer")?;
    let width = q.len() / n;
    let (dim, n) = (width / HEADS, n.min(96));
    let logits = Mat::from_fn(n, n, |i, j| {
        let pairs = q[i * width..i * width + dim].iter().zip(&k[j * width..j * width + dim]);
        pairs.map(|(a, b)| f64::from(a * b)).sum::<f64>() / (dim as f64).sqrt()
    });
    println!("\nbest possible for a map of {n} tokens at 16 numbers a query\n");
    println!("| temperature | entropy | sparse | low rank | both | rank and non-zeros of robust PCA |");
    println!("|---|---|---|---|---|---|");
    for one in regimes(logits.as_ref(), &TEMPERATURES, 16)? {
        let robust = one.robust.map_or_else(|| "-".to_owned(), |(rank, count)| format!("{rank}, {count}"));
        let (t, entropy) = (one.temperature, one.entropy);
        println!(
            "| {t} | {entropy:.2} | {:.4} | {:.4} | {:.4} | {robust} |",
            one.sparse, one.low_rank, one.both
        );
    }
    Ok(())
}

fn draw(picture: &str, table: &[(f64, Errors)]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(picture, (700, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("attention of a text of 512 tokens: error against memory", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d((28.0..300.0).log_scale(), (0.1..2.0).log_scale())?;
    let axes = ["numbers stored for each query", "relative error of the output"];
    chart.configure_mesh().x_desc(axes[0]).y_desc(axes[1]).draw()?;
    for (which, name) in METHODS.into_iter().enumerate() {
        let color = Palette99::pick(which).to_rgba();
        let points = table.iter().map(|(budget, errors)| (*budget, errors[which]));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}
