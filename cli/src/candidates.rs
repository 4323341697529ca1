//! What `--budget` chooses from: formats as schemes, and what a number of bits costs in each.

use rankbit::quant::{Scheme, scheme};

use crate::error::Error;
use crate::method::{Codes, Method, Plan, Request, scheme_of};

/// Formats that `--budget` chooses from when `--format` names none: integers of every width, NormalFloats, and the
/// blocks that are best at their size. Blocks only with the nearest rounder, which alone fills them.
pub(crate) const FORMATS: [&str; 24] = [
    "int2", "int3", "int4", "int5", "int6", "int7", "int8", "uint2", "uint3", "uint4", "uint5", "uint6",
    "uint7", "uint8", "nf2", "nf3", "nf4", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "q8_0",
];

/// The schemes that `names` (or [`FORMATS`]) stand for under the other flags. `--group` and `--scale` mean nothing to
/// blocks; they are refused when all formats are blocks.
pub(crate) fn schemes(plan: &Plan, request: &Request, names: &[String]) -> Result<Vec<Scheme>, Error> {
    if !plan.method.quantizes() {
        let name = plan.method.name();
        return Err(Error::usage(format!("--budget means nothing to --method {name}: it quantizes nothing")));
    }
    if plan.method == Method::LlmInt8 {
        return Err(Error::usage("--budget means nothing to --method llm-int8: it has one format"));
    }
    if plan.method == Method::Best {
        return Ok(match request.codes.unwrap_or_default() {
            Codes::Trellis => vec![scheme::TRELLIS],
            Codes::Uint => vec![
                scheme::UINT2,
                scheme::UINT3,
                scheme::UINT4,
                scheme::UINT5,
                scheme::UINT6,
                scheme::UINT7,
                scheme::UINT8,
            ],
        });
    }
    let names: Vec<&str> = if names.is_empty() {
        let fills_blocks = plan.rounds_to_nearest();
        let fits = |name: &&str| fills_blocks || Scheme::named(name).is_some_and(|s| s.layout.is_planar());
        FORMATS.into_iter().filter(fits).collect()
    } else {
        names.iter().map(String::as_str).collect()
    };
    let is_block = |name: &&str| Scheme::named(name).is_some_and(|scheme| scheme.owns_scales());
    let free = Request { group: None, scale: None, ..request.clone() };
    let all_blocks = names.iter().all(is_block);
    let mut schemes = Vec::with_capacity(names.len());
    for name in names {
        let scheme = scheme_of(name, if is_block(&name) && !all_blocks { &free } else { request })?;
        if !schemes.contains(&scheme) {
            schemes.push(scheme);
        }
    }
    Ok(schemes)
}

/// The format among `names` that stands for all of them in a method's plan: the first that takes `--group` and
/// `--scale`, else the first.
pub(crate) fn first(names: &[String]) -> Option<String> {
    let free = |name: &&String| Scheme::named(name).is_some_and(|scheme| !scheme.owns_scales());
    names.iter().find(free).or(names.first()).cloned()
}

/// Bits per weight of `best` when `--budget` does not say.
pub(crate) const BUDGET: f64 = 4.5;

/// `--budget`: bits per weight.
pub(crate) fn parse_budget(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(bits) if bits.is_finite() && bits > 0.0 && bits <= 64.0 => Ok(bits),
        _ => Err("expected bits per weight, a number above 0 and at most 64".to_owned()),
    }
}

/// The method of that name in a plan file.
pub(crate) fn method_named(name: &str) -> Option<Method> {
    use clap::ValueEnum as _;
    Method::from_str(name, false).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rankbit::quant::Group;

    #[test]
    fn blocks_are_left_out_where_a_rounder_cannot_fill_them() {
        let names = |method, request: &Request| -> Vec<&str> {
            let plan = Plan::new(method, request).expect("a plan");
            schemes(&plan, request, &[]).expect("schemes").iter().filter_map(Scheme::name).collect()
        };
        assert_eq!(names(Method::Rtn, &Request::default()), FORMATS);
        let calibrated = Request { calibrated: true, ..Request::default() };
        assert_eq!(names(Method::Gptq, &calibrated), FORMATS[..17]);
    }

    #[test]
    fn groups_go_where_they_mean_something() {
        let request = Request { group: Some(Group::Size(32)), ..Request::default() };
        let plan = Plan::new(Method::Rtn, &request).expect("a plan");
        let named = |names: &[&str]| {
            schemes(&plan, &request, &names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>())
        };
        let found = named(&["int4", "q8_0", "int4"]).expect("schemes");
        assert_eq!(
            found.iter().map(|scheme| scheme.group).collect::<Vec<_>>(),
            [Group::Size(32), Group::Size(32)]
        );
        assert_eq!(named(&["q8_0", "q4_0"]).expect_err("blocks alone").exit_code(), 2);
        let plan = Plan::new(Method::Lowrank, &Request::default()).expect("a plan");
        assert_eq!(schemes(&plan, &Request::default(), &[]).expect_err("nothing to choose").exit_code(), 2);
    }

    #[test]
    fn budgets_are_positive_numbers() {
        for bad in ["0", "-1", "nan", "inf", "65", "four"] {
            assert!(parse_budget(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_budget("4.5"), Ok(4.5));
    }
}
