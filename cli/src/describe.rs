//! What formats and methods mean, in words: the one place from which `--help` and `inspect` take them.

use clap::ValueEnum as _;
use clap::builder::PossibleValue;
use rankbit::lowrank::split::file::Header;
use rankbit::quant::{
    Code, FloatFormat, Group, Lattice, Layout, MiniFloat, Nested, Offset, Rate, ScaleBlock, ScaleRule,
    Scheme, Table, Trellis, ZeroPoint, scheme,
};

use crate::method::{Family, Method};

/// Every format by name, with its description.
pub(crate) fn formats() -> Vec<PossibleValue> {
    let named = scheme::NAMED.iter().chain(&scheme::NAMED_VECTOR);
    named.map(|(name, scheme)| PossibleValue::new(*name).help(describe(scheme))).collect()
}

/// The levels of a scheme, who shares a scale, and how it is stored; of one that a file made up, why it is none.
pub(crate) fn describe(scheme: &Scheme) -> String {
    match scheme.check() {
        Ok(()) => format!("{}; {}", levels(scheme), scales(scheme)),
        Err(error) => error.to_string(),
    }
}

/// What a method does; `None` for a name that is no method.
pub(crate) fn method(name: &str) -> Option<String> {
    let value = Method::from_str(name, false).ok()?.to_possible_value()?;
    Some(value.get_help()?.to_string())
}

/// What `--help` says of `--method`: a line for each, by family.
pub(crate) fn methods() -> String {
    let mut text = "How matrices are split [default: rtn].\n".to_owned();
    for (family, title) in Family::ALL {
        text.push_str(&format!("\n{title}\n"));
        for method in Method::value_variants().iter().filter(|method| method.family() == family) {
            let help = self::method(method.name()).unwrap_or_default();
            text.push_str(&format!("  {:<15} {help}\n", method.name()));
        }
    }
    text
}

/// Which numbers the codes of a scheme that is valid stand for.
fn levels(scheme: &Scheme) -> String {
    let bits = scheme.code.bits();
    match scheme.code {
        Code::Int { signed: true, .. } if scheme.scale_rule == ScaleRule::LeastSquares => {
            "the values -1, 0, 1".to_owned()
        }
        // GGUF's signed blocks use the whole range, with its negative end.
        Code::Int { signed: true, .. } if scheme.layout.is_planar() => {
            let top = (1_u32 << (bits - 1)) - 1;
            format!("whole numbers -{top}…{top}")
        }
        Code::Int { signed: true, .. } => {
            let top = 1_u32 << (bits - 1);
            format!("whole numbers -{top}…{}", top - 1)
        }
        Code::Int { .. } => {
            let shift = match scheme.zero {
                ZeroPoint::Integer => " less a zero point".to_owned(),
                ZeroPoint::Float(format) => format!(" less an {} zero point", format.name()),
                ZeroPoint::Fraction { bits, fraction } => {
                    format!(" less a zero point of {bits} bits in steps of 1/{}", 1_u32 << fraction.min(8))
                }
                ZeroPoint::Min => " above a minimum".to_owned(),
                ZeroPoint::None => String::new(),
            };
            format!("whole numbers 0…{}{shift}", (1_u32 << bits) - 1)
        }
        Code::Table(Table::Sign) => "the signs -1 and 1".to_owned(),
        Code::Table(Table::Af4) => "16 values of the least mean absolute error on normal numbers".to_owned(),
        Code::Table(Table::BnbFp4) => "16 values of bitsandbytes' FP4".to_owned(),
        Code::Table(Table::Iq4Nl) => "16 whole numbers of growing distance".to_owned(),
        Code::Table(_) => format!("{} quantiles of the normal distribution", 1_u32 << bits),
        Code::MiniFloat(format) => float(format),
        Code::Fixed => "fixed-point numbers of 8 bits, 6 behind the point".to_owned(),
        Code::Trellis(Trellis { window, rate: Rate::Uniform(rate) }) => {
            format!("paths of {rate} bits a weight through a trellis of {} states", 1_u32 << window)
        }
        Code::Trellis(Trellis { window, .. }) => {
            let states = 1_u32 << window;
            format!("paths through a trellis of {states} states, bits for each column as --budget allows")
        }
        Code::Lattice(Lattice::E8p) => "blocks of eight to 65536 points of a lattice (E8P)".to_owned(),
        Code::Lattice(_) => {
            format!("blocks of eight to points of a lattice (E8P) and of a second one, {bits} bits")
        }
    }
}

fn float(format: MiniFloat) -> String {
    let (exponent, mantissa) = (format.exponent_bits(), format.mantissa_bits());
    format!("floats of {} bits (E{exponent}M{mantissa}), up to {}", format.bits(), format.max())
}

/// Who shares a scale, and how it is stored.
fn scales(scheme: &Scheme) -> String {
    let stored = match scheme.nested {
        Some(nested) => self::nested(&nested, scheme.scale_format),
        None => stored(scheme.scale_format),
    };
    let stored = match scheme.scale_rule {
        ScaleRule::Search => format!("{stored}, found by search"),
        _ => stored,
    };
    match (scheme.layout, scheme.group) {
        (Layout::Block(block), _) => {
            let bytes = block.bytes();
            format!("blocks of {} in {bytes} bytes, scales among them, as GGUF stores them", block.len())
        }
        (_, Group::Row) if scheme.code.is_vector() => {
            format!("rows share {stored}, columns one of 8 bits, outliers are kept")
        }
        (_, Group::Row) => format!("rows share {stored}"),
        (_, Group::Tensor) => format!("the matrix has {stored}"),
        (_, Group::Size(size)) => format!("groups of {size} share {stored}"),
        (_, Group::Block { rows, cols }) => {
            format!("blocks of {rows} rows and {cols} columns share {stored}")
        }
    }
}

/// A scale of a few bits.
fn nested(nested: &Nested, format: FloatFormat) -> String {
    let (len, across) = match nested.block {
        ScaleBlock::Row(len) => (len, ""),
        ScaleBlock::Flat(len) => (len, ", across rows,"),
    };
    let from = match nested.offset {
        Offset::None => "",
        Offset::Mean => " around their mean",
        Offset::Least => " above the least",
    };
    let bits = nested.code.bits();
    format!("a scale of {bits} bits{from}, {len} of them{across} under an {} scale", format.name())
}

/// A scale that stands by itself.
fn stored(format: FloatFormat) -> String {
    match format {
        FloatFormat::E8m0 => "a power of two of 8 bits".to_owned(),
        FloatFormat::E4m3 => "an E4M3 scale under one f32 scale of the matrix".to_owned(),
        FloatFormat::Dyadic => "a scale b / 2^c of 32 bits, for integer-only arithmetic".to_owned(),
        format => format!("an {} scale", format.name()),
    }
}

/// Bits per weight, part by part: `4.5 bits = 4 codes + 0.5 scales`.
///
/// `parts` are names and bytes of what is stored. Of a block, the codes' own bits are told apart from the rest.
pub(crate) fn bits(scheme: Option<&Scheme>, parts: &[(&str, u64)], weights: u64) -> String {
    let per_weight = |bytes: u64| bytes as f64 * 8.0 / weights.max(1) as f64;
    let total: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    let mut terms = Vec::new();
    for &(name, bytes) in parts {
        let bits = per_weight(bytes);
        match scheme.filter(|scheme| name == "codes" && !scheme.layout.is_planar()) {
            Some(scheme) => {
                let codes = scheme.code.bits() as f64;
                terms.push(format!("{} codes", short(codes)));
                terms.push(format!("{} scales in the blocks", short(bits - codes)));
            }
            None => terms.push(format!("{} {}", short(bits), name.replace('_', " "))),
        }
    }
    format!("{} bits per weight = {}", short(per_weight(total)), terms.join(" + "))
}

/// What happens to the inputs of the quantized term before they meet it, and to its columns likewise; empty when nothing
/// does.
pub(crate) fn transform(split: &Header) -> String {
    let mut steps = Vec::new();
    if split.smooth.is_some() {
        steps.push("scaled one by one".to_owned());
    }
    if split.permuted {
        steps.push("put in another order".to_owned());
    }
    if let Some(rotation) = split.rotation {
        let signs = rotation.seed.map_or_else(String::new, |seed| format!(", signs of seed {seed}"));
        steps.push(match rotation.block {
            block if block == split.shape[1] => format!("rotated (Hadamard{signs})"),
            block => format!("rotated in blocks of {block} (Hadamard{signs})"),
        });
    }
    if steps.is_empty() { String::new() } else { format!("inputs {}; ", steps.join(", ")) }
}

/// Up to four digits behind the point, none that say nothing.
fn short(bits: f64) -> String {
    let text = format!("{bits:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_in_words() {
        for (name, text) in [
            ("uint4", "whole numbers 0…15 less a zero point; groups of 64 share an f16 scale"),
            ("int2", "whole numbers -1…1; groups of 64 share an f16 scale"),
            ("nf4", "16 quantiles of the normal distribution; groups of 64 share an f32 scale"),
            ("mxfp4", "floats of 4 bits (E2M1), up to 6; groups of 32 share a power of two of 8 bits"),
            (
                "q4_k",
                "whole numbers 0…15 above a minimum; blocks of 256 in 144 bytes, scales among them, as GGUF stores them",
            ),
            ("uint4-f", "whole numbers 0…15 less an f16 zero point; groups of 64 share an f16 scale"),
            (
                "uint4-n",
                "whole numbers 0…15 less a zero point of 4 bits in steps of 1/2; groups of 16 share a scale of 3 bits, 32 of them under an f16 scale, found by search",
            ),
            (
                "nf4-dq",
                "16 quantiles of the normal distribution; groups of 64 share a scale of 8 bits around their mean, 256 of them, across rows, under an f32 scale",
            ),
            ("ternary", "the values -1, 0, 1; groups of 64 share an f16 scale"),
        ] {
            let scheme = Scheme::named(name).expect(name);
            assert_eq!(describe(&scheme), text, "{name}");
        }
        // Each has words of its own: different numbers are told apart.
        let named = || scheme::NAMED.iter().chain(&scheme::NAMED_VECTOR);
        let all: Vec<String> = named().map(|(_, scheme)| describe(scheme)).collect();
        for (i, text) in all.iter().enumerate() {
            assert!(
                !text.is_empty() && all.iter().take(i).filter(|other| *other == text).count() <= 1,
                "{text}"
            );
        }
        assert_eq!(formats().len(), named().count());
    }

    #[test]
    fn transforms_in_words() {
        let words = |rest: &str| {
            let text = format!(r#"{{"shape":[4,48]{rest}}}"#);
            transform(&Header::from_json(&text).expect("a header"))
        };
        assert_eq!(words(""), "");
        assert_eq!(words(r#","smooth":"f16""#), "inputs scaled one by one; ");
        let all = r#","smooth":"f16","permuted":true,"rotation":{"block":48,"seed":7}"#;
        let said = "inputs scaled one by one, put in another order, rotated (Hadamard, signs of seed 7); ";
        assert_eq!(words(all), said);
        assert_eq!(words(r#","rotation":{"block":12}"#), "inputs rotated in blocks of 12 (Hadamard); ");
    }

    #[test]
    fn bits_add_up() {
        let parts = [("codes", 2048), ("scales", 128), ("zeros", 32), ("left", 64)];
        let text = bits(Some(&scheme::UINT4), &parts, 4096);
        assert_eq!(text, "4.4375 bits per weight = 4 codes + 0.25 scales + 0.0625 zeros + 0.125 left");
        let text = bits(Some(&scheme::Q4_K), &[("codes", 144)], 256);
        assert_eq!(text, "4.5 bits per weight = 4 codes + 0.5 scales in the blocks");
    }

    #[test]
    fn methods_in_words() {
        for name in Method::ALL {
            assert!(method(name.name()).is_some_and(|text| !text.is_empty()), "{name:?}");
        }
        assert_eq!(method("magic"), None);
    }
}
