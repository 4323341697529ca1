//! `--sparsity`: patterns as people write them.

use rankbit::lowrank::split::file::{Header, KeptValues, SparseLayout};
use rankbit::quant::Scheme;
use rankbit::sparse::{NmPattern, Pattern, Scope};

use crate::describe;

/// `2:4`, `2:4t` (in both directions), `0.5` (that share is zero), `16x16:0.5` (that share of the blocks is).
pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
    let expected = || {
        "expected N:M (2:4), N:Mt (in both directions), the share of zeros (0.5), or that of blocks (16x16:0.5)"
            .to_owned()
    };
    if let Some((sides, share)) = text.split_once('x').and_then(|(rows, rest)| {
        let (cols, share) = rest.split_once(':')?;
        Some(((rows.parse().ok()?, cols.parse().ok()?), share))
    }) {
        let (rows, cols): (usize, usize) = sides;
        let pattern = Pattern::Block { rows, cols, density: 1.0 - parse_share(share).ok_or_else(expected)? };
        return pattern.check().map(|()| pattern).map_err(|error| error.to_string());
    }
    if text.contains(':') {
        let (text, both) = text.strip_suffix('t').map_or((text, false), |text| (text, true));
        let pattern: NmPattern = text.parse().map_err(|error: rankbit::sparse::Error| error.to_string())?;
        return Ok(if both { Pattern::Transposable(pattern) } else { Pattern::Nm(pattern) });
    }
    let density = 1.0 - parse_share(text).ok_or_else(expected)?;
    Ok(Pattern::Unstructured { density, scope: Scope::Matrix })
}

fn parse_share(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|share| (0.0..1.0).contains(share))
}

/// The pattern as `--sparsity` takes it.
pub(crate) fn name(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Nm(nm) => nm.to_string(),
        Pattern::Transposable(nm) => format!("{nm}t"),
        Pattern::Block { rows, cols, density } => format!("{rows}x{cols}:{}", share(1.0 - density)),
        Pattern::Unstructured { density, .. } => share(1.0 - density),
    }
}

/// What a stored sparse term is, as `--sparsity` says it; `None` without one.
pub(crate) fn stored(header: &Header) -> Option<String> {
    Some(match header.sparse?.layout {
        SparseLayout::Nm(pattern) => pattern.to_string(),
        SparseLayout::Block { rows, cols, count } => {
            let blocks =
                header.shape[0].div_ceil(rows.max(1)) as f64 * header.shape[1].div_ceil(cols.max(1)) as f64;
            let zeros = share(1.0 - count as f64 / blocks.max(1.0));
            if (rows, cols) == (1, 1) { zeros } else { format!("{rows}x{cols}:{zeros}") }
        }
    })
}

/// The scheme of the kept values, when they are of few bits.
pub(crate) fn scheme(header: &Header) -> Option<Scheme> {
    match header.sparse?.values {
        KeptValues::Scheme(scheme) => Some(scheme),
        KeptValues::Float(_) => None,
    }
}

/// The sparse term in words; empty without one.
pub(crate) fn describe(header: &Header) -> String {
    let Some(sparse) = header.sparse else { return String::new() };
    let which = match sparse.layout {
        SparseLayout::Nm(nm) => format!("{} of every {} inputs kept", nm.keep(), nm.of()),
        SparseLayout::Block { rows: 1, cols: 1, count } => format!("{count} entries kept"),
        SparseLayout::Block { rows, cols, count } => format!("{count} blocks of {rows}x{cols} kept"),
    };
    let how = match sparse.values {
        KeptValues::Float(format) => format!("in {}", format.name()),
        KeptValues::Scheme(scheme) => format!("as {}", describe::describe(&scheme)),
    };
    format!("{which} {how}; ")
}

/// Up to four digits behind the point, none that say nothing.
fn share(share: f64) -> String {
    let text = format!("{share:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        for text in ["2:4", "1:8", "16:32", "2:4t", "0.5", "0", "0.995", "16x16:0.5", "1x8:0.25"] {
            assert_eq!(parse(text).map(|pattern| name(&pattern)).as_deref(), Ok(text));
        }
        let nm = NmPattern::TWO_OF_FOUR;
        assert_eq!((parse("2:4"), parse("2:4t")), (Ok(Pattern::Nm(nm)), Ok(Pattern::Transposable(nm))));
        assert_eq!(parse("0.5"), Ok(Pattern::Unstructured { density: 0.5, scope: Scope::Matrix }));
        assert_eq!(parse("4x2:0.75"), Ok(Pattern::Block { rows: 4, cols: 2, density: 0.25 }));
        for bad in [
            "", "5:4", "0:4", "2:64", "2:", ":4", "1", "1.5", "-0.1", "nan", "half", "0x4:0.5", "4x4",
            "4x4:1", "4x4:2:4",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stored_terms_in_words() {
        let header = |sparse: &str| {
            Header::from_json(&format!(r#"{{"shape":[4,8],"sparse":{sparse}}}"#)).expect("a header")
        };
        let two = header(r#"{"layout":{"nm":{"keep":2,"of":4}},"values":{"float":"f16"}}"#);
        assert_eq!(stored(&two).as_deref(), Some("2:4"));
        assert_eq!(describe(&two), "2 of every 4 inputs kept in f16; ");
        let any = header(r#"{"layout":{"block":{"rows":1,"cols":1,"count":8}},"values":{"float":"f32"}}"#);
        assert_eq!(
            (stored(&any).as_deref(), describe(&any).as_str()),
            (Some("0.75"), "8 entries kept in f32; ")
        );
        let blocks = header(r#"{"layout":{"block":{"rows":2,"cols":3,"count":3}},"values":{"float":"f32"}}"#);
        assert_eq!(stored(&blocks).as_deref(), Some("2x3:0.5"));
    }
}
