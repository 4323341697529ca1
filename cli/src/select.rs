//! Which tensors are compressed, and why the others are not.

use regex::Regex;

use crate::container::convert;
use crate::container::header::Tensor;
use crate::error::Error;

/// The smallest side of a matrix that is compressed.
pub(crate) const MIN_SIDE: usize = 64;

/// Names left alone unless `--include` names them: what it is, and the pattern (case is ignored).
pub(crate) const LEFT_ALONE: [(&str, &str); 5] = [
    ("embedding", r"(embed[^.]*|(^|[._])wte|^shared)(\.weight)?$"),
    ("position", r"(^|[._])(wpe|pos|position|positions|positional|rel_pos)([._][^.]*)?(\.weight)?$"),
    ("router", r"(^|[._])router([._]|$)"),
    ("MoE gate", r"(^|\.)(gate|gate_inp|ffn_gate_inp|shared_expert_gate)(\.weight)?$"),
    ("lm_head", r"(^|\.)(lm_head|embed_out|predictions\.decoder)(\.weight)?$|^output(\.weight)?$"),
];

/// A tensor to be compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Its index in the file.
    pub(crate) index: usize,
    /// Rows and columns, `(out, in)`.
    pub(crate) shape: (usize, usize),
}

/// A tensor that is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// Its index in the file.
    pub(crate) index: usize,
    /// Why.
    pub(crate) reason: String,
}

/// What the name patterns say.
pub(crate) struct Filter {
    include: Vec<Regex>,
    exclude: Vec<Regex>,
    left_alone: Vec<(&'static str, Regex)>,
}

impl Filter {
    /// A filter from `--include` and `--exclude`.
    ///
    /// With patterns to include, only names that match one are taken, and the list of names left alone does not
    /// apply to them. A pattern to exclude always wins.
    pub(crate) fn new(include: &[String], exclude: &[String]) -> Result<Self, Error> {
        let compile = |patterns: &[String], flag: &str| {
            patterns
                .iter()
                .map(|pattern| {
                    Regex::new(pattern)
                        .map_err(|error| Error::usage(format!("{flag} '{pattern}' is no pattern: {error}")))
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let left_alone = LEFT_ALONE
            .iter()
            .map(|&(what, pattern)| {
                let regex =
                    Regex::new(&format!("(?i){pattern}")).map_err(|error| Error::usage(error.to_string()));
                regex.map(|regex| (what, regex))
            })
            .collect::<Result<_, _>>()?;
        let (include, exclude) = (compile(include, "--include")?, compile(exclude, "--exclude")?);
        Ok(Self { include, exclude, left_alone })
    }

    /// Why a tensor of this name is not taken.
    pub(crate) fn refuses(&self, name: &str) -> Option<String> {
        if let Some(pattern) = self.exclude.iter().find(|pattern| pattern.is_match(name)) {
            return Some(format!("name matches --exclude '{pattern}'"));
        }
        if !self.include.is_empty() {
            let included = self.include.iter().any(|pattern| pattern.is_match(name));
            return (!included).then(|| "name does not match --include".to_owned());
        }
        let (what, _) = self.left_alone.iter().find(|(_, pattern)| pattern.is_match(name))?;
        Some(format!("name matches the {what} pattern"))
    }

    /// Splits the tensors of a file into those to compress and those to leave.
    pub(crate) fn select(&self, tensors: &[Tensor]) -> (Vec<Chosen>, Vec<Skipped>) {
        let (mut chosen, mut skipped) = (Vec::new(), Vec::new());
        for (index, tensor) in tensors.iter().enumerate() {
            match self.judge(tensor) {
                Ok(shape) => chosen.push(Chosen { index, shape }),
                Err(reason) => skipped.push(Skipped { index, reason }),
            }
        }
        (chosen, skipped)
    }

    fn judge(&self, tensor: &Tensor) -> Result<(usize, usize), String> {
        if convert::float_format(tensor.dtype).is_none() {
            return Err(format!("element type {} is not f32, f16 or bf16", tensor.dtype));
        }
        let Some(shape) = tensor.as_matrix() else {
            return Err(match *tensor.shape.as_slice() {
                [_, _, height, width] => format!("kernel is {height}×{width}, not 1×1"),
                _ => format!("not a matrix: {} dimensions", tensor.shape.len()),
            });
        };
        if shape.0.min(shape.1) < MIN_SIDE {
            return Err(format!("smaller side {} is below {MIN_SIDE}", shape.0.min(shape.1)));
        }
        match self.refuses(&tensor.name) {
            Some(reason) => Err(reason),
            None => Ok(shape),
        }
    }
}

/// The list of names left alone, for `--help`.
pub(crate) fn left_alone_help() -> String {
    let mut text = String::from(
        "Compressed is every f32, f16 or bf16 matrix (two dimensions, or four with a 1×1 kernel) with both sides \
         at least 64, unless its name matches one of these patterns (case ignored). --include takes only names \
         that match, also those of this list; --exclude always wins.\n",
    );
    for (what, pattern) in LEFT_ALONE {
        text.push_str(&format!("  {what:<10} {pattern}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;

    fn tensor(name: &str, dtype: Dtype, shape: &[usize]) -> Tensor {
        Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), start: 0, len: 0 }
    }

    fn default_filter() -> Filter {
        Filter::new(&[], &[]).expect("the built-in patterns compile")
    }

    #[test]
    fn names_of_known_networks_fall_on_the_right_side() {
        let filter = default_filter();
        let left = [
            "embeddings.word_embeddings.weight",
            "bert.embeddings.position_embeddings.weight",
            "model.embed_tokens.weight",
            "model.decoder.embed_positions.weight",
            "transformer.wte.weight",
            "transformer.wpe.weight",
            "shared.weight",
            "vision_model.embeddings.position_embedding.weight",
            "visual.positional_embedding",
            "pos_embed",
            "lm_head.weight",
            "output.weight",
            "cls.predictions.decoder.weight",
            "model.layers.0.block_sparse_moe.gate.weight",
            "model.layers.3.mlp.gate.weight",
            "model.layers.3.mlp.router.weight",
            "encoder.block.1.layer.1.mlp.router.classifier.weight",
        ];
        for name in left {
            assert!(filter.refuses(name).is_some(), "{name} should be left alone");
        }
        let taken = [
            "encoder.layer.0.attention.output.dense.weight",
            "encoder.layer.0.output.dense.weight",
            "model.layers.0.mlp.gate_proj.weight",
            "model.layers.0.self_attn.q_proj.weight",
            "text_embedder.encoder.layers.0.q_proj.weight",
            "vision.patch_embed.proj.weight",
            "transformer.h.0.attn.c_attn.weight",
            "unet.time_embedding.linear_1.weight",
            "pooler.dense.weight",
        ];
        for name in taken {
            assert_eq!(filter.refuses(name), None, "{name} should be compressed");
        }
    }

    #[test]
    fn shapes_and_types_decide_before_names() {
        let filter = default_filter();
        let judge = |dtype, shape: &[usize]| filter.judge(&tensor("x", dtype, shape));
        assert_eq!(judge(Dtype::F32, &[64, 64]), Ok((64, 64)));
        assert_eq!(judge(Dtype::BF16, &[64, 128, 1, 1]), Ok((64, 128)));
        for (dtype, shape) in [
            (Dtype::F32, &[63, 640][..]),
            (Dtype::F32, &[640, 64, 3, 3]),
            (Dtype::F32, &[64]),
            (Dtype::F32, &[]),
            (Dtype::F32, &[0, 64]),
            (Dtype::I64, &[64, 64]),
            (Dtype::F64, &[64, 64]),
        ] {
            assert!(judge(dtype, shape).is_err(), "{dtype} {shape:?}");
        }
    }

    #[test]
    fn include_overrides_the_list_and_exclude_wins() {
        let filter = Filter::new(&["embed".to_owned()], &["tok".to_owned()]).expect("patterns");
        assert_eq!(filter.refuses("word_embeddings.weight"), None);
        assert!(filter.refuses("encoder.dense").is_some());
        assert!(filter.refuses("tok_embeddings").is_some());
        assert!(Filter::new(&["(".to_owned()], &[]).is_err());
    }
}
