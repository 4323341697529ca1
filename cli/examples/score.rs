//! What compression did to the sentence model, on text that no calibration saw.
//!
//! ```text
//! scripts/fetch-model.sh
//! cargo run --release -p rankbit-cli --example score -- HELD_OUT.safetensors OUT.safetensors…
//! ```
//! `HELD_OUT` holds the moments of the held-out text (the kit's example `capture`); each `OUT` is what
//! `rankbit compress --include encoder` wrote of the model. One line of JSON for each, over its compressed matrices:
//!
//! ```text
//! output_error   mean of ‖X·(W - Ŵ)ᵀ‖/‖X·Wᵀ‖ over the matrices, X: what flows into the layer of the original
//! worst          the largest of them
//! cosine         mean over the sentences, of the embedding to the original's
//! lowest         the least of them
//! ```
//! Inputs are quantized where the file says so: then X runs through the product instead of its moments, over the first
//! sentences only (`SENTENCES`), as that is slow.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use rankbit::linalg::faer::{Mat, MatRef};
use rankbit::lowrank::Split;
use rankbit::lowrank::split::file::{self, Header, PartType, PartView};
use rankbit::quant::{Activation, FloatFormat};
use rankbit_kit::calibration::output_error;
use rankbit_kit::model::{Embeddings, SentenceModel, corpus, cosines};
use rankbit_kit::tensor::Tensor;
use rankbit_kit::text::Sentences;
use safetensors::{Dtype, SafeTensors};

/// Held-out sentences that run through products with quantized inputs.
const SENTENCES: usize = 96;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [moments, files @ ..] = arguments.as_slice() else {
        return Err("usage: score HELD_OUT.safetensors OUT.safetensors ...".into());
    };
    let model = SentenceModel::load()?;
    let sentences = Sentences::read(&corpus())?.held_out;
    let original = model.embed(&sentences)?;
    let grams = Grams::read(Path::new(moments))?;
    for path in files {
        let splits = splits(Path::new(path))?;
        let quantized = splits.values().any(|split| split.activation() != &Activation::Float);
        let (errors, embedded) = if quantized {
            products(&model, Arc::new(splits), sentences.get(..SENTENCES).unwrap_or(&sentences))?
        } else {
            matrices(&model, &splits, &grams, &sentences)?
        };
        let original = original.get(..embedded.len()).ok_or("more sentences than there are")?;
        let cosines = cosines(&original.to_vec(), &embedded)?;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        println!(
            "{}",
            serde_json::json!({
                "file": path,
                "matrices": errors.len(),
                "output_error": mean(&errors),
                "worst": errors.iter().copied().fold(0.0, f64::max),
                "cosine": mean(&cosines),
                "lowest": cosines.iter().copied().fold(1.0, f64::min),
            })
        );
    }
    Ok(())
}

/// Errors by the Gram matrices, embeddings by the reconstructed weights.
fn matrices(
    model: &SentenceModel,
    splits: &BTreeMap<String, Split>,
    grams: &Grams,
    sentences: &[String],
) -> Result<(Vec<f64>, Embeddings)> {
    let (mut errors, mut replaced) = (Vec::new(), Vec::new());
    for (name, split) in splits {
        let weight = &model.tensors()[name];
        let dense = split.reconstruct();
        let values: Vec<f32> =
            dense.row_iter().flat_map(|row| row.iter().copied().collect::<Vec<_>>()).collect();
        errors.push(output_error(&weight.values, &values, grams.of(name)?)?);
        replaced.push((name.clone(), Tensor { shape: weight.shape.clone(), values: values.into() }));
    }
    // A bias of the split is added to the layer's own, which is a tensor of the checkpoint.
    for (name, split) in splits {
        if let Some(bias) = split.bias() {
            let name = name
                .strip_suffix("weight")
                .map(|stem| format!("{stem}bias"))
                .ok_or("a weight of no layer")?;
            let own = &model.tensors()[&name];
            let values = own.values.iter().zip(bias.iter()).map(|(a, b)| a + b).collect();
            replaced.push((name, Tensor { shape: own.shape.clone(), values }));
        }
    }
    Ok((errors, model.with(replaced)?.embed(sentences)?))
}

/// Errors and embeddings by the splits' own products.
fn products(
    model: &SentenceModel,
    splits: Arc<BTreeMap<String, Split>>,
    sentences: &[String],
) -> Result<(Vec<f64>, Embeddings)> {
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    model.embed_observed(sentences, &mut |name, x| {
        let Some(split) = splits.get(name) else { return };
        let (out, features) = split.shape();
        let x = MatRef::from_row_major_slice(x, x.len() / features, features);
        let exact: Mat<f32> =
            x * MatRef::from_row_major_slice(&model.tensors()[name].values, out, features).transpose();
        let Ok(found) = split.apply(x) else { return };
        let squares = |m: &Mat<f32>| m.squared_norm_l2();
        let sum = sums.entry(name.to_owned()).or_default();
        *sum = (sum.0 + f64::from(squares(&(&exact - &found))), sum.1 + f64::from(squares(&exact)));
    })?;
    if sums.len() != splits.len() {
        return Err("a product failed, or a matrix is no layer of the model".into());
    }
    let errors = sums.values().map(|(error, norm)| (error / norm).sqrt()).collect();
    let product = move |name: &str, x: &[f32]| {
        let split = splits.get(name)?;
        let features = split.shape().1;
        let y = split.apply(MatRef::from_row_major_slice(x, x.len() / features, features)).ok()?;
        Some(y.row_iter().flat_map(|row| row.iter().copied().collect::<Vec<_>>()).collect())
    };
    Ok((errors, model.with_product(Arc::new(product)).embed(sentences)?))
}

/// The Gram matrices of a calibration file.
struct Grams {
    grams: BTreeMap<String, Vec<f64>>,
    alias: BTreeMap<String, String>,
}

impl Grams {
    fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let alias =
            metadata.get("alias").map(|text| serde_json::from_str(text)).transpose()?.unwrap_or_default();
        let mut grams = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.iter() {
            if let (Some(name), Dtype::F64) = (name.strip_suffix(".gram"), view.dtype()) {
                let values =
                    view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap_or_default()));
                grams.insert(name.to_owned(), values.collect());
            }
        }
        Ok(Self { grams, alias })
    }

    fn of(&self, name: &str) -> Result<&[f64]> {
        let owner = self.alias.get(name).map_or(name, String::as_str);
        Ok(self.grams.get(owner).ok_or_else(|| format!("no {owner}.gram in the moments"))?)
    }
}

/// The splits of a compressed file.
fn splits(path: &Path) -> Result<BTreeMap<String, Split>> {
    let bytes = std::fs::read(path)?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let records: serde_json::Value =
        serde_json::from_str(metadata.get("rankbit").ok_or("not a compressed file")?)?;
    let mut splits = BTreeMap::new();
    for (name, record) in records["tensors"].as_object().ok_or("no records")? {
        let header = Header::from_json(&record["split"].to_string())?;
        let split = file::read(&header, |part| {
            let view = file.tensor(&format!("{name}.rankbit.{part}")).ok()?;
            let element = match view.dtype() {
                Dtype::U8 => PartType::U8,
                Dtype::F16 => PartType::Float(FloatFormat::F16),
                Dtype::BF16 => PartType::Float(FloatFormat::Bf16),
                Dtype::F32 => PartType::Float(FloatFormat::F32),
                Dtype::F8_E4M3 => PartType::Float(FloatFormat::E4m3),
                Dtype::F8_E8M0 => PartType::Float(FloatFormat::E8m0),
                _ => return None,
            };
            // The names and shapes live as long as the file's bytes.
            Some(PartView { element, shape: view.shape().to_vec().leak(), bytes: view.data() })
        })?;
        splits.insert(name.clone(), split);
    }
    Ok(splits)
}
