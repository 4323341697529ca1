//! An inference engine on prepared splits: a sentence encoder whose linear layers all run from packed codes.
//!
//! ```text
//! scripts/fetch-model.sh
//! cargo run --release -p rankbit --example engine [-- FORMAT [RANK [THREADS]]]       default: int4 16 1
//! ```
//! Every weight is split into few bits and few ranks, brought into the kernels' order, and multiplied with in three ways:
//! inputs as floats, 8-bit inputs, and 8-bit inputs with 8-bit factors. Printed: bytes of the layers, time of a sentence
//! (the best of several passes over 32 sentences, one at a time) beside the dense network in f32, and the cosine to its
//! embeddings.

use rankbit::linalg::faer::MatRef;
use rankbit::lowrank::split::prepared::{Inputs, PreparedLinear, Scratch};
use rankbit::lowrank::{Input, fit, preset};
use rankbit::quant::matmul::prepared::ScaleOf;
use rankbit::quant::{FloatFormat, Scheme};
use rankbit_kit::bert::Product;
use rankbit_kit::model::{Embeddings, SentenceModel, corpus, mean_cosine};
use rankbit_kit::text::Sentences;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Instant;

const SENTENCES: usize = 32;
const PASSES: usize = 5;
/// Longest input, in tokens.
const TOKENS: usize = 128;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let format = arguments.next().unwrap_or_else(|| "int4".to_owned());
    let rank: usize = arguments.next().map_or(Ok(16), |rank| rank.parse())?;
    let threads: usize = arguments.next().map_or(Ok(1), |threads| threads.parse())?;
    let scheme = Scheme::named(&format).ok_or("no such format")?;
    let model = SentenceModel::load()?;
    let sentences: Vec<String> = Sentences::read(&corpus())?.held_out.into_iter().take(SENTENCES).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;

    let recipe = match rank {
        0 => preset::rtn(scheme),
        rank => preset::lorc(scheme, rank, FloatFormat::F16),
    };
    let mut splits = BTreeMap::new();
    for name in model.network().linear_names() {
        let tensor = &model.tensors()[name];
        let weight = MatRef::from_row_major_slice(&tensor.values, tensor.shape[0], tensor.shape[1]);
        splits.insert(name.to_owned(), fit(weight, &recipe, &Input { name, moments: None })?.split);
    }

    println!("{format}, rank {rank}, {threads} thread(s)");
    let (dense, original) = pool.install(|| time(&model, &sentences))?;
    let bytes: usize =
        model.network().linear_names().map(|name| 4 * model.tensors()[name].values.len()).sum();
    println!("{:<22}{:>8.1} MB{:>10.2} ms/sentence", "dense f32", bytes as f64 / 1e6, dense * 1e3);
    for (what, inputs) in [
        ("float inputs", Inputs::Float),
        ("int8 inputs", Inputs::Int8(ScaleOf::Group)),
        ("int8 inputs, factors", Inputs::Int8Branch(ScaleOf::Group)),
    ] {
        let mut scratch = Scratch::new();
        let mut layers = BTreeMap::new();
        for (name, split) in &splits {
            let layer = PreparedLinear::new(split, inputs)?;
            scratch.reserve(&layer, TOKENS);
            layers.insert(name.clone(), layer);
        }
        let bytes: usize = layers.values().map(PreparedLinear::bytes).sum();
        let scratch = Mutex::new(scratch);
        let product: Arc<Product> = Arc::new(move |name: &str, x: &[f32]| {
            let layer = layers.get(name)?;
            let (out, features) = layer.shape();
            let tokens = x.len() / features;
            let mut y = vec![0.0; tokens * out];
            let mut scratch = scratch.lock().ok()?;
            layer.apply_into(x, tokens, &mut y, &mut scratch).ok()?;
            Some(y)
        });
        let (seconds, embeddings) = pool.install(|| time(&model.with_product(product), &sentences))?;
        println!(
            "{what:<22}{:>8.1} MB{:>10.2} ms/sentence{:>8.2}×   cosine {:.5}",
            bytes as f64 / 1e6,
            seconds * 1e3,
            dense / seconds,
            mean_cosine(&original, &embeddings)?,
        );
    }
    Ok(())
}

/// Seconds of a sentence and all embeddings.
fn time(model: &SentenceModel, sentences: &[String]) -> Result<(f64, Embeddings), rankbit_kit::Error> {
    let mut best = f64::MAX;
    let mut embeddings = Embeddings::new();
    for _ in 0..PASSES {
        embeddings.clear();
        let start = Instant::now();
        for sentence in sentences {
            embeddings.extend(model.embed(&[sentence])?);
        }
        best = best.min(start.elapsed().as_secs_f64() / sentences.len() as f64);
    }
    Ok((best, embeddings))
}
