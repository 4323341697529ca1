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
//! | [`svdquant`] | SVDQuant, arXiv 2411.05007 | L·R, Q, after smoothing | to the first rise |

mod awq;
mod best;
mod cd;
mod gptq;
mod hqq;
mod ldlq;
mod llm_int8;
mod lorc;
mod low_rank;
mod lq_lora;
mod rtn;
mod smoothquant;
mod svdquant;
mod zeroquant_fp;

pub use awq::awq;
pub use best::{Effort, best, best_scalar};
pub use cd::cd;
pub use gptq::gptq;
pub use hqq::{hqq, hqq_scheme};
pub use ldlq::ldlq;
pub use llm_int8::llm_int8;
pub use lorc::lorc;
pub use low_rank::low_rank;
pub use lq_lora::{lq_lora, lq_lora_candidates};
pub use rtn::rtn;
pub use smoothquant::smoothquant;
pub use svdquant::{SvdQuant, svdquant};
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
