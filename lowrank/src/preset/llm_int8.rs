use super::rtn;
use crate::Recipe;
use rankbit_quant::{Activation, FloatFormat, Group, Scheme, scheme};

/// LLM.int8(): 8-bit integers on both sides, one scale per output and per token, columns with outliers in floats.
///
/// ```text
/// Y = (c_x·c_wᵀ / 127²) ⊙ (X_q·W_qᵀ) over the columns without outliers  +  X_O·Ŵ_Oᵀ
/// X_q = rne(127·X / c_x),  W_q = rne(127·W / c_w),  c the largest magnitude of a row,  O = { j : some |X_tj| ≥ 6 }
/// ```
/// Source: LLM.int8(), arXiv 2208.07339, section 3; `≥`, row statistics without the outlying entries, and outlier
/// columns of the dequantized weight are those of its released code (bitsandbytes).
///
/// Held by the tests: codes, statistics, outlier columns and integer sums are bitsandbytes'; values on the grid come
/// through exactly; a threshold below every entry gives the float product.
pub fn llm_int8() -> Recipe {
    let scheme: Scheme = scheme::INT8.with_group(Group::Row).with_scale_format(FloatFormat::F32);
    rtn(scheme).with_activation(Activation::LLM_INT8)
}
