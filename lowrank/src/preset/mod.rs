//! Published methods as recipes: each a function from its paper's parameters to a [`Recipe`](crate::Recipe).
//!
//! | function | paper | steps of a round | rounds |
//! |---|---|---|---|
//! | [`rtn`] | round to nearest | Q | 1 |
//! | [`llm_int8`] | LLM.int8(), arXiv 2208.07339 | Q, inputs in 8 bits | 1 |
//! | [`zeroquant_fp`] | ZeroQuant-FP, arXiv 2307.09782 | Q, perhaps L·R, inputs in FP8 | 1 |
//! | [`awq`] | AWQ, arXiv 2306.00978 | Q, after a search of scales | 1 |
//! | [`smoothquant`] | SmoothQuant, arXiv 2211.10438 | Q and quantized inputs, after smoothing | 1 |
//! | [`hqq`] | HQQ, 2023 | Q | 1 |
//! | [`gptq`] | GPTQ, arXiv 2210.17323 | Q | 1 |
//! | [`ldlq`] | QuIP, arXiv 2307.13304 | Q | 1 |
//! | [`cd`] | coordinate descent from GPTQ's start | Q | 1 |
//! | [`best`] | trellis codes under a budget, from parts of QTIP, GPTQ and QuIP# | Q | 1 |
//! | [`low_rank`] | truncated SVD | L·R | 1 |
//! | [`lorc`] | ZeroQuant-V2, arXiv 2303.08302 | Q, L·R | 1 |
//! | [`lq_lora`] | LQ-LoRA, arXiv 2311.12023 | L·R, Q | to the first rise |
//! | [`lq_lora_fisher`] | the same, Fisher weights | L·R, Q | to the first rise |
//! | [`eora`] | EoRA, arXiv 2410.21271 | Q, L·R under the Gram matrix | 1 |
//! | [`qera`] | QERA, arXiv 2410.06040 | Q, L·R, exact or diagonal | 1 |
//! | [`loftq`] | LoftQ, arXiv 2310.08659 | Q, L·R | as many as asked |
//! | [`loldu`] | LoLDU, arXiv 2410.13618 | L·R from triangular factors, perhaps Q | 1 |
//! | [`lrec`] | INT2.1, arXiv 2306.08162 | Q, L·R, gradient steps | 1 |
//! | [`caldera`] | CALDERA, arXiv 2405.18886 | Q, L·R in few bits | while it gains |
//! | [`svd_llm`] | SVD-LLM, arXiv 2403.07378 | L·R, whitened | 1 |
//! | [`asvd`] | ASVD, arXiv 2312.05821 | L·R, scaled | 1 |
//! | [`lord`] | LORD, arXiv 2309.14021 | L·R, bias | 1 |
//! | [`dsformer`] | DSFormer, arXiv 2312.13211 | L·R, R sparse by columns | 1 |
//! | [`embedding`] | Unified CTR, arXiv 2405.18146 | L·R, rows weighted | 1 |
//! | [`magnitude`] | pruning by magnitude | S | 1 |
//! | [`wanda`] | Wanda, arXiv 2306.11695 | S | 1 |
//! | [`ria`] | RIA, ICLR 2024 | S | 1 |
//! | [`sparse_gpt`] | SparseGPT, arXiv 2301.00774 | S | 1 |
//! | [`alps`] | ALPS, arXiv 2406.07831 | S | 1 |
//! | [`sparse_low_rank`] | OATS, arXiv 2409.13652 | S, L·R | to the first rise |
//! | [`rpca`] | GoDec, ICML 2011 | S, L·R | to the first rise |
//! | [`with_outliers`] | SqueezeLLM, arXiv 2306.07629 | S, then the recipe's | the recipe's |
//! | [`svdquant`] | SVDQuant, arXiv 2411.05007 | L·R, Q, after smoothing | to the first rise |

mod asvd;
mod awq;
mod best;
mod caldera;
mod cd;
mod compensation;
mod dsformer;
mod eora;
mod gptq;
mod hqq;
mod ldlq;
mod llm_int8;
mod loftq;
mod loldu;
mod lorc;
mod lord;
mod low_rank;
mod lq_lora;
mod lrec;
mod prune;
mod qera;
mod rpca;
mod rtn;
mod smoothquant;
mod svd_llm;
mod svdquant;
mod zeroquant_fp;

pub use asvd::asvd;
pub use awq::awq;
pub use best::{Effort, best, best_scalar};
pub use caldera::caldera;
pub use cd::cd;
pub use compensation::Compensation;
pub use dsformer::dsformer;
pub use eora::eora;
pub use gptq::gptq;
pub use hqq::{hqq, hqq_scheme};
pub use ldlq::ldlq;
pub use llm_int8::llm_int8;
pub use loftq::loftq;
pub use loldu::loldu;
pub use lorc::lorc;
pub use lord::{embedding, lord, rank_within};
pub use low_rank::low_rank;
pub use lq_lora::{lq_lora, lq_lora_candidates, lq_lora_fisher};
pub use lrec::lrec;
pub use prune::{alps, magnitude, ria, sparse_gpt, sparse_low_rank, wanda, with_outliers};
pub use qera::{Qera, qera};
pub use rpca::rpca;
pub use rtn::rtn;
pub use smoothquant::smoothquant;
pub use svd_llm::svd_llm;
pub use svdquant::{Smoothing, SvdQuant, svdquant};
pub use zeroquant_fp::{Constraint, ZeroQuantFp, zeroquant_fp};

use crate::{MetricRule, Space, Step};
use rankbit_quant::{Rounder, Scheme};

/// Everything in plain Frobenius norm.
const PLAIN: MetricRule = MetricRule { project: Space::Identity, accept: Space::Identity };

/// Everything under the calibration's metric.
const CALIBRATED: MetricRule = MetricRule { project: Space::Moments, accept: Space::Moments };

/// The quantizing step with the nearest rounder.
const fn nearest(scheme: Scheme) -> Step {
    Step::Quantize { scheme, rounder: Rounder::Nearest }
}
