//! From flags to a recipe: the presets by name, and which flags mean something to which.

mod check;
mod parse;
mod plan;
#[cfg(test)]
mod tests;

pub(crate) use parse::{Smooth, parse_factors, parse_float, parse_group, parse_keep, parse_smooth};
pub(crate) use plan::{KEEP, Plan, RANK, Request, scheme_in, scheme_of, with_rank};

use rankbit::lowrank::preset;
use rankbit::quant::{Activation, FloatFormat, Group, Rounder, Scheme, scheme};

/// A published method, by the name used in flags, files and reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Method {
    /// Round to nearest.
    Rtn,
    /// Quantize, then the best low-rank approximation of what rounding lost (ZeroQuant-V2).
    Lorc,
    /// Smooth when calibrated, low rank first, quantize the rest, alternate (SVDQuant).
    Svdquant,
    /// Alternate low rank and quantization until the error rises (LQ-LoRA).
    LqLora,
    /// Round, then the low-rank term that makes up for most of the output (EoRA). Needs --calib.
    Eora,
    /// The same optimum, named by QERA's theorem 1. Needs --calib.
    Qera,
    /// As if inputs were uncorrelated: their mean squares alone (QERA's theorem 2). Needs --calib.
    QeraDiagonal,
    /// Alternate quantization and low rank, quantized first, every round run (LoftQ).
    Loftq,
    /// The first pivots of an elimination as the low-rank term, quantize the rest (LoLDU's start).
    Loldu,
    /// Low rank in closed form, then gradient steps on the layer's output (INT2.1). Needs --calib.
    Lrec,
    /// Alternate error-fed-back quantization and low rank, factors in few bits too (CALDERA). Needs --calib.
    Caldera,
    /// Alternate as lq-lora, weighted by mean squares of inputs and output gradients (LQ-LoRA). Needs --calib.
    LqLoraFisher,
    /// Truncated SVD, nothing quantized.
    Lowrank,
    /// Ranks by one threshold on all normalized spectra; matrices of full rank stay dense (WeLore).
    Welore,
    /// The affine map of low rank closest to the layer's output, with its bias (LORD). Needs --calib.
    Lord,
    /// Truncated SVD of an embedding table, entries weighted by how often they are looked up (Unified CTR). Needs --calib.
    UnifiedCtr,
    /// Truncated SVD after whitening: least output error of its rank (SVD-LLM). Needs --calib.
    SvdLlm,
    /// Truncated SVD after scaling inputs by their mean magnitudes (ASVD). Needs --calib.
    Asvd,
    /// A dense factor times one with --rank/4 entries in every column (DSFormer).
    Dsformer,
    /// Low rank and the entries that do not fit it, --sparsity of them zero [default: 0.95], in turn (robust PCA).
    Rpca,
    /// Column by column, each error taken up by the columns after it (GPTQ). Needs --calib.
    Gptq,
    /// Codes and scales in turn from GPTQ's start: the least error at equal bits. Needs --calib.
    Cd,
    /// Grids under a norm that forgives outliers, without calibration (HQQ). Zero points are stored as f16.
    Hqq,
    /// Error feedback with fixed scales, then coordinate descent on the codes (QuIP). Needs --calib.
    Ldlq,
    /// 8-bit integers per row, inputs in 8-bit integers with outlier columns in floats (LLM.int8()).
    LlmInt8,
    /// 4-bit floats whose scales differ by powers of two, inputs in 8-bit floats; --rank adds compensation
    /// (ZeroQuant-FP).
    ZeroquantFp,
    /// Inputs that matter scaled up before rounding, by a search (AWQ). Needs --calib.
    Awq,
    /// Range moved from activations to weights, then round to nearest (SmoothQuant). Needs --calib.
    Smoothquant,
    /// The least error within a budget: trellis codes, bits for each column, errors fed back when calibrated.
    Best,
    /// Pruning: the largest weights are kept. --format says how, --rank adds what they lose.
    Magnitude,
    /// Pruning: the largest weights after their inputs' size (Wanda). Needs --calib.
    Wanda,
    /// Pruning: Wanda on weights relative to their row and column (RIA). Needs --calib.
    Ria,
    /// Pruning column by column, each loss taken up by the columns after it (SparseGPT). Needs --calib.
    Sparsegpt,
    /// Pruning all columns at once, then the best values for what is kept (ALPS): the least error. Needs --calib.
    Admm,
}

impl Method {
    /// Every method, in the order of the help.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 34] = [
        Self::Rtn,
        Self::Lorc,
        Self::Svdquant,
        Self::LqLora,
        Self::Eora,
        Self::Qera,
        Self::QeraDiagonal,
        Self::Loftq,
        Self::Loldu,
        Self::Lrec,
        Self::Caldera,
        Self::LqLoraFisher,
        Self::Lowrank,
        Self::Welore,
        Self::Lord,
        Self::UnifiedCtr,
        Self::SvdLlm,
        Self::Asvd,
        Self::Dsformer,
        Self::Rpca,
        Self::Gptq,
        Self::Cd,
        Self::Hqq,
        Self::Ldlq,
        Self::LlmInt8,
        Self::ZeroquantFp,
        Self::Awq,
        Self::Smoothquant,
        Self::Best,
        Self::Magnitude,
        Self::Wanda,
        Self::Ria,
        Self::Sparsegpt,
        Self::Admm,
    ];

    /// The name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rtn => "rtn",
            Self::Lorc => "lorc",
            Self::Svdquant => "svdquant",
            Self::LqLora => "lq-lora",
            Self::Eora => "eora",
            Self::Qera => "qera",
            Self::QeraDiagonal => "qera-diagonal",
            Self::Loftq => "loftq",
            Self::Loldu => "loldu",
            Self::Lrec => "lrec",
            Self::Caldera => "caldera",
            Self::LqLoraFisher => "lq-lora-fisher",
            Self::Lowrank => "lowrank",
            Self::Welore => "welore",
            Self::Lord => "lord",
            Self::UnifiedCtr => "unified-ctr",
            Self::SvdLlm => "svd-llm",
            Self::Asvd => "asvd",
            Self::Dsformer => "dsformer",
            Self::Rpca => "rpca",
            Self::Gptq => "gptq",
            Self::Cd => "cd",
            Self::Hqq => "hqq",
            Self::Ldlq => "ldlq",
            Self::LlmInt8 => "llm-int8",
            Self::ZeroquantFp => "zeroquant-fp",
            Self::Awq => "awq",
            Self::Smoothquant => "smoothquant",
            Self::Best => "best",
            Self::Magnitude => "magnitude",
            Self::Wanda => "wanda",
            Self::Ria => "ria",
            Self::Sparsegpt => "sparsegpt",
            Self::Admm => "admm",
        }
    }

    /// The scheme that is part of the method, unless `--format` may name another.
    fn scheme(self) -> Option<Scheme> {
        match self {
            Self::LlmInt8 => Some(scheme::INT8.with_group(Group::Row).with_scale_format(FloatFormat::F32)),
            Self::ZeroquantFp => Some(preset::Constraint::RatioOfTwo.fp4()),
            Self::Best => Some(scheme::TRELLIS),
            _ => None,
        }
    }

    /// Whether it has a quantized term.
    pub(crate) fn quantizes(self) -> bool {
        !matches!(self.family(), Family::LowRank | Family::Sparse)
    }

    /// What it is made of.
    pub(crate) const fn family(self) -> Family {
        match self {
            Self::Rtn
            | Self::Gptq
            | Self::Cd
            | Self::Hqq
            | Self::Ldlq
            | Self::LlmInt8
            | Self::ZeroquantFp
            | Self::Awq
            | Self::Smoothquant
            | Self::Best => Family::Quantized,
            Self::Lorc
            | Self::Svdquant
            | Self::LqLora
            | Self::Eora
            | Self::Qera
            | Self::QeraDiagonal
            | Self::Loftq
            | Self::Loldu
            | Self::Lrec
            | Self::Caldera
            | Self::LqLoraFisher => Family::Compensated,
            Self::Lowrank
            | Self::Welore
            | Self::Lord
            | Self::UnifiedCtr
            | Self::SvdLlm
            | Self::Asvd
            | Self::Dsformer
            | Self::Rpca => Family::LowRank,
            Self::Magnitude | Self::Wanda | Self::Ria | Self::Sparsegpt | Self::Admm => Family::Sparse,
        }
    }

    /// What it takes of calibration beyond a rounder's Gram matrix, by name; `None` when it does without.
    const fn follows(self) -> Option<&'static str> {
        match self {
            Self::Awq | Self::Smoothquant => Some("its scales follow from the activations"),
            Self::Eora
            | Self::Qera
            | Self::QeraDiagonal
            | Self::Lrec
            | Self::Caldera
            | Self::LqLoraFisher => Some("its low-rank term follows from the activations"),
            Self::UnifiedCtr => Some("it weighs entries by the calibration's T.row_weight"),
            Self::Lord | Self::SvdLlm | Self::Asvd => Some("its factors follow from the activations"),
            _ => None,
        }
    }

    /// Whether its matrix is the sparse term.
    pub(crate) fn prunes(self) -> bool {
        self.family() == Family::Sparse
    }

    /// Whether it has a low-rank term.
    pub(crate) fn has_low_rank(self) -> bool {
        matches!(self.family(), Family::Compensated | Family::LowRank)
    }

    /// Whether it alternates.
    pub(crate) fn alternates(self) -> bool {
        matches!(
            self,
            Self::Svdquant
                | Self::LqLora
                | Self::LqLoraFisher
                | Self::Loftq
                | Self::Lrec
                | Self::Caldera
                | Self::Rpca
        )
    }

    /// Whether it smooths when there is calibration.
    pub(crate) fn smooths(self) -> bool {
        matches!(self, Self::Svdquant | Self::Smoothquant)
    }
}

/// Methods of the same terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    /// Few bits.
    Quantized,
    /// Few bits and few ranks.
    Compensated,
    /// Few ranks.
    LowRank,
    /// Few non-zeros.
    Sparse,
}

impl Family {
    /// All, in the order of the help, with what they are called there.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Quantized, "Few bits, W ≈ Q"),
        (Self::Compensated, "Few bits and few ranks, W ≈ Q + L·R"),
        (Self::LowRank, "Few ranks, W ≈ L·R"),
        (Self::Sparse, "Few non-zeros, W ≈ S, or S + L·R with --rank"),
    ];
}

/// `--rounder`, by the name used in files, flags and reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum RounderName {
    /// Each value by itself.
    Nearest,
    /// Column by column with error feedback. Needs --calib.
    Gptq,
    /// Codes and scales in turn from GPTQ's start. Needs --calib.
    Cd,
    /// Grids under a norm that forgives outliers.
    Hqq,
    /// Error feedback with fixed scales, then coordinate descent. Needs --calib.
    Ldlq,
    /// Scales of least squared error, weighted by calibration when given.
    Mse,
    /// Each group's range cut where least of the layer's output is lost (AWQ's).
    Clip,
    /// At random to one of the two neighbours, right on average.
    Stochastic,
}

impl RounderName {
    /// The rounder with its usual numbers.
    fn rounder(self, act_order: bool, seed: u64) -> Rounder {
        match self {
            Self::Nearest => Rounder::Nearest,
            Self::Gptq => Rounder::gptq(act_order),
            Self::Cd => Rounder::COORDINATE_DESCENT,
            Self::Hqq => Rounder::HQQ,
            Self::Ldlq => Rounder::LDLQ,
            Self::Mse => Rounder::Mse,
            Self::Clip => Rounder::Clip,
            Self::Stochastic => Rounder::Stochastic { seed },
        }
    }
}

/// `--formats`: what `best` may store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Codes {
    /// Trellis codes, bits for each column.
    #[default]
    Trellis,
    /// `uint2` to `uint8`, one for each matrix: for engines that cannot decode a trellis.
    Uint,
}

/// `--activations`: what becomes of the quantized term's inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Activations {
    /// Nothing.
    Float,
    /// 8-bit integers, one scale per token.
    Int8,
    /// 4-bit integers, one scale per token and group of 64.
    Int4,
}

impl Activations {
    const fn policy(self) -> Activation {
        match self {
            Self::Float => Activation::Float,
            Self::Int8 => Activation::INT8,
            Self::Int4 => Activation::INT4,
        }
    }
}
