//! A BERT encoder's forward pass, in the plainest form that is fast enough for tests, with a view of every
//! linear layer's input.
//!
//! ```text
//! h  = norm(word + position + type₀)                         [tokens, hidden]
//! per layer:
//!   c = softmax(Q·Kᵀ/√d)·V  per head,   Q, K, V = linear(h)
//!   m = norm(h + linear(c))
//!   h = norm(m + linear(gelu(linear(m))))                    gelu(x) = x·(1 + erf(x/√2))/2
//! embedding = mean over tokens of h, scaled to unit length
//! ```
//!
//! Sentences are not padded: their tokens stand one behind the other, linear layers see them as one matrix,
//! attention takes each sentence by itself. Source: Devlin et al. 2019 (the encoder), Reimers and Gurevych
//! 2019 (the pooling).

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::Error;
use crate::dense::linear;
use crate::erf::gelu;
use crate::tensor::Tensors;

/// Tokens that go through the network together.
const GROUP_TOKENS: usize = 1024;

/// The sizes of the network, as its `config.json` gives them.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width between the two linear layers of the feed-forward part.
    pub intermediate: usize,
    /// Attention heads per layer; they divide `hidden`.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Tokens known.
    pub vocabulary: usize,
    /// Most tokens in one sentence.
    pub positions: usize,
    /// ε in `(x − mean)/√(variance + ε)`.
    pub norm_epsilon: f32,
}

/// Sees `(name, X)` before each linear layer runs: the name of its weight in the checkpoint and its input,
/// row-major `[tokens, in]`. Called on one thread, in the network's order.
pub type Observer<'a> = &'a mut dyn FnMut(&str, &[f32]);

/// What takes the place of `X·Wᵀ` in a linear layer: from the name of its weight and the row-major `X: [tokens, in]`
/// to the row-major `[tokens, out]` without the bias; `None` leaves the layer as it is.
pub type Product = dyn Fn(&str, &[f32]) -> Option<Vec<f32>> + Send + Sync;

/// A [`Product`] in a network, or none.
#[derive(Clone, Default)]
struct Products(Option<Arc<Product>>);

impl std::fmt::Debug for Products {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Products({})", self.0.is_some())
    }
}

/// The encoder with its weights.
#[derive(Clone, Debug)]
pub struct Bert {
    config: Config,
    word: Arc<[f32]>,
    position: Arc<[f32]>,
    kind: Arc<[f32]>,
    norm: Norm,
    layers: Vec<Layer>,
    products: Products,
}

#[derive(Clone, Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    mix: Linear,
    mix_norm: Norm,
    widen: Linear,
    narrow: Linear,
    narrow_norm: Norm,
}

#[derive(Clone, Debug)]
struct Linear {
    name: String,
    weight: Arc<[f32]>,
    bias: Arc<[f32]>,
    inputs: usize,
}

#[derive(Clone, Debug)]
struct Norm {
    gain: Arc<[f32]>,
    bias: Arc<[f32]>,
    epsilon: f32,
}

impl Config {
    /// Reads the fields of a Hugging Face `config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] names the field that is missing or that this forward pass cannot run.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, Error> {
        let size = |field: &'static str| {
            let value = json.get(field).and_then(serde_json::Value::as_u64);
            value
                .and_then(|value| usize::try_from(value).ok())
                .filter(|&value| value > 0)
                .ok_or(Error::Config { field })
        };
        let word = |field: &str| json.get(field).and_then(serde_json::Value::as_str);
        if word("hidden_act") != Some("gelu") {
            return Err(Error::Config { field: "hidden_act" });
        }
        if word("position_embedding_type").is_some_and(|kind| kind != "absolute") {
            return Err(Error::Config { field: "position_embedding_type" });
        }
        let epsilon = json.get("layer_norm_eps").and_then(serde_json::Value::as_f64);
        let config = Self {
            hidden: size("hidden_size")?,
            intermediate: size("intermediate_size")?,
            heads: size("num_attention_heads")?,
            layers: size("num_hidden_layers")?,
            vocabulary: size("vocab_size")?,
            positions: size("max_position_embeddings")?,
            #[expect(clippy::cast_possible_truncation, reason = "a small positive constant, used in f32")]
            norm_epsilon: epsilon.ok_or(Error::Config { field: "layer_norm_eps" })? as f32,
        };
        if !config.hidden.is_multiple_of(config.heads) {
            return Err(Error::Config { field: "num_attention_heads" });
        }
        Ok(config)
    }
}

impl Bert {
    /// Takes the network's tensors out of a checkpoint (the values are shared, not copied).
    ///
    /// # Errors
    /// [`Error::MissingTensor`] and [`Error::Shape`], both with the tensor's name.
    pub fn new(config: Config, tensors: &Tensors) -> Result<Self, Error> {
        let take = |name: &str, expected: &[usize]| {
            let tensor = tensors.get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
            if tensor.shape != expected || tensor.values.len() != expected.iter().product::<usize>() {
                let (expected, found) = (expected.to_vec(), tensor.shape.clone());
                return Err(Error::Shape { name: name.to_owned(), expected, found });
            }
            Ok(tensor.values.clone())
        };
        let (hidden, wide, epsilon) = (config.hidden, config.intermediate, config.norm_epsilon);
        let norm = |name: String| {
            let gain = take(&format!("{name}.weight"), &[hidden])?;
            Ok(Norm { gain, bias: take(&format!("{name}.bias"), &[hidden])?, epsilon })
        };
        let linear = |name: String, outputs: usize, inputs: usize| {
            let bias = take(&format!("{name}.bias"), &[outputs])?;
            let name = format!("{name}.weight");
            Ok(Linear { weight: take(&name, &[outputs, inputs])?, name, bias, inputs })
        };
        let layer = |index: usize| {
            let at = |part: &str| format!("encoder.layer.{index}.{part}");
            Ok(Layer {
                query: linear(at("attention.self.query"), hidden, hidden)?,
                key: linear(at("attention.self.key"), hidden, hidden)?,
                value: linear(at("attention.self.value"), hidden, hidden)?,
                mix: linear(at("attention.output.dense"), hidden, hidden)?,
                mix_norm: norm(at("attention.output.LayerNorm"))?,
                widen: linear(at("intermediate.dense"), wide, hidden)?,
                narrow: linear(at("output.dense"), hidden, wide)?,
                narrow_norm: norm(at("output.LayerNorm"))?,
            })
        };
        Ok(Self {
            word: take("embeddings.word_embeddings.weight", &[config.vocabulary, hidden])?,
            position: take("embeddings.position_embeddings.weight", &[config.positions, hidden])?,
            kind: take("embeddings.token_type_embeddings.weight", &[2, hidden])?,
            norm: norm("embeddings.LayerNorm".to_owned())?,
            layers: (0..config.layers).map(layer).collect::<Result<_, Error>>()?,
            config,
            products: Products::default(),
        })
    }

    /// The same network with other products in its linear layers.
    #[must_use]
    pub fn with_product(&self, product: Arc<Product>) -> Self {
        Self { products: Products(Some(product)), ..self.clone() }
    }

    /// The weights of the linear layers, in the network's order.
    pub fn linear_names(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().flat_map(|l| {
            [&l.query, &l.key, &l.value, &l.mix, &l.widen, &l.narrow].map(|linear| linear.name.as_str())
        })
    }

    /// The weight under whose name the input of the linear layer `name` is kept: query, key and value of one
    /// layer have the same input.
    pub fn shared_input(name: &str) -> String {
        name.replace("attention.self.key.", "attention.self.query.")
            .replace("attention.self.value.", "attention.self.query.")
    }

    /// One unit-length embedding per sequence of token ids, of any mixture of lengths.
    ///
    /// # Errors
    /// [`Error::Tokens`] when a sequence is empty, longer than the network's positions, or has an id outside
    /// the vocabulary.
    pub fn embed(&self, sequences: &[Vec<u32>], observe: Observer) -> Result<Vec<Vec<f32>>, Error> {
        for (sentence, ids) in sequences.iter().enumerate() {
            let unknown = ids.iter().find(|&&id| id as usize >= self.config.vocabulary);
            let reason = match (ids.len(), unknown) {
                (_, Some(id)) => format!("token {id} is outside the vocabulary"),
                (0, None) => "it has no token".to_owned(),
                (length, None) if length > self.config.positions => format!("{length} tokens are too many"),
                _ => continue,
            };
            return Err(Error::Tokens { sentence, reason });
        }
        let mut embeddings = Vec::with_capacity(sequences.len());
        let mut rest = sequences;
        while !rest.is_empty() {
            let mut tokens = 0;
            let full = |ids: &Vec<u32>| {
                tokens += ids.len();
                tokens > GROUP_TOKENS
            };
            let (group, after) = rest.split_at(rest.iter().position(full).unwrap_or(rest.len()).max(1));
            embeddings.extend(self.forward(group, observe));
            rest = after;
        }
        Ok(embeddings)
    }

    /// The network on sequences that [`Self::embed`] has checked.
    fn forward(&self, group: &[Vec<u32>], observe: Observer) -> Vec<Vec<f32>> {
        let mut start = 0;
        let spans: Vec<Range<usize>> = group
            .iter()
            .map(|ids| {
                start += ids.len();
                start - ids.len()..start
            })
            .collect();
        let mut h = self.inputs(group);
        for layer in &self.layers {
            let [q, k, v] =
                [&layer.query, &layer.key, &layer.value].map(|linear| self.linear(linear, &h, observe));
            let mixed = self.linear(&layer.mix, &self.attention(&q, &k, &v, &spans), observe);
            h = layer.mix_norm.apply(mixed, &h);
            let mut wide = self.linear(&layer.widen, &h, observe);
            wide.par_chunks_mut(4096).for_each(gelu);
            h = layer.narrow_norm.apply(self.linear(&layer.narrow, &wide, observe), &h);
        }
        spans.iter().map(|span| self.pool(self.rows(&h, span))).collect()
    }

    fn linear(&self, layer: &Linear, x: &[f32], observe: &mut dyn FnMut(&str, &[f32])) -> Vec<f32> {
        observe(&layer.name, x);
        let Some(mut y) = self.products.0.as_ref().and_then(|product| product(&layer.name, x)) else {
            return linear(x, &layer.weight, &layer.bias, layer.inputs);
        };
        for row in y.chunks_exact_mut(layer.bias.len()) {
            row.iter_mut().zip(layer.bias.iter()).for_each(|(y, bias)| *y += bias);
        }
        y
    }

    fn inputs(&self, group: &[Vec<u32>]) -> Vec<f32> {
        let hidden = self.config.hidden;
        let mut sum = Vec::new();
        for ids in group {
            for (&id, position) in ids.iter().zip(self.position.chunks_exact(hidden)) {
                let word = &self.word[id as usize * hidden..][..hidden];
                let parts = word.iter().zip(position).zip(self.kind.iter());
                sum.extend(parts.map(|((word, position), kind)| word + kind + position));
            }
        }
        let zero = vec![0.0; sum.len()];
        self.norm.apply(sum, &zero)
    }

    fn attention(&self, q: &[f32], k: &[f32], v: &[f32], spans: &[Range<usize>]) -> Vec<f32> {
        let (hidden, width) = (self.config.hidden, self.config.hidden / self.config.heads);
        let scale = 1.0 / (width as f32).sqrt();
        let one_sentence = |span: &Range<usize>| {
            let [q, k, v] = [q, k, v].map(|all| self.rows(all, span));
            let mut context = vec![0.0; q.len()];
            let mut weights = vec![0.0; span.len()];
            for (row, context) in q.chunks_exact(hidden).zip(context.chunks_exact_mut(hidden)) {
                for at in (0..hidden).step_by(width) {
                    let (query, context) = (&row[at..at + width], &mut context[at..at + width]);
                    for (weight, key) in weights.iter_mut().zip(k.chunks_exact(hidden)) {
                        *weight = scale * dot(query, &key[at..at + width]);
                    }
                    softmax(&mut weights);
                    for (weight, value) in weights.iter().zip(v.chunks_exact(hidden)) {
                        context.iter_mut().zip(&value[at..]).for_each(|(sum, value)| *sum += weight * value);
                    }
                }
            }
            context
        };
        spans.par_iter().map(one_sentence).collect::<Vec<_>>().concat()
    }

    fn rows<'a>(&self, all: &'a [f32], span: &Range<usize>) -> &'a [f32] {
        &all[span.start * self.config.hidden..span.end * self.config.hidden]
    }

    fn pool(&self, rows: &[f32]) -> Vec<f32> {
        let mut sum = vec![0.0f64; self.config.hidden];
        for row in rows.chunks_exact(self.config.hidden) {
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "rounded once, at the end")]
        sum.iter().map(|x| (x / length) as f32).collect()
    }
}

impl Norm {
    /// `gain·(s − mean)/√(variance + ε) + bias` for each row of `s = x + residual`.
    fn apply(&self, mut x: Vec<f32>, residual: &[f32]) -> Vec<f32> {
        let width = self.gain.len();
        x.par_chunks_exact_mut(width).zip(residual.par_chunks_exact(width)).for_each(|(x, residual)| {
            x.iter_mut().zip(residual).for_each(|(x, r)| *x += r);
            let mean = x.iter().sum::<f32>() / width as f32;
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width as f32;
            let scale = 1.0 / (variance + self.epsilon).sqrt();
            for ((x, gain), bias) in x.iter_mut().zip(self.gain.iter()).zip(self.bias.iter()) {
                *x = gain * (*x - mean) * scale + bias;
            }
        });
        x
    }
}

/// Eight sums side by side, so that the compiler may use vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>() + sums.iter().sum::<f32>()
}

fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - most).exp());
    let total: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= total);
}
