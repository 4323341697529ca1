//! Which flags mean something to which method.

use clap::ValueEnum as _;
use rankbit::lowrank::FactorFormat;
use rankbit::quant::{Code, Rounder, Scheme};
use rankbit::sparse::{NmPattern, Pattern, SparseMatrix, ValueFormat};

use super::{Family, Method, Request, RounderName, scheme_of};
use crate::error::Error;
use crate::sparsity;

/// Flags that mean nothing to the method.
pub(super) fn check(method: Method, request: &Request) -> Result<(), Error> {
    let name = method.name();
    let refuse = |flag: &str, why: &str| {
        Err(Error::usage(format!("{flag} means nothing to --method {name}: it {why}")))
    };
    let quantizer = [
        (request.format.is_some(), "--format"),
        (request.group.is_some(), "--group"),
        (request.scale.is_some(), "--scale"),
        (request.rounder.is_some(), "--rounder"),
        (request.activations.is_some(), "--activations"),
        (request.smooth.is_some() || request.search, "--smooth"),
        (request.rotate, "--rotate"),
    ];
    if let Some((_, flag)) = quantizer.iter().take(3).find(|(given, _)| *given && method == Method::LlmInt8) {
        return refuse(flag, "has 8-bit integers with one f32 scale per row");
    }
    if request.keep.is_some() {
        if method == Method::Dsformer {
            return refuse("--keep", "has a sparse factor, whose size --rank decides");
        }
        if method.family() != Family::LowRank {
            return refuse("--keep", "is of more than a low-rank term, whose size the format decides");
        }
        if request.rank.is_some() {
            return Err(Error::usage("--keep and --rank both decide the rank: give one"));
        }
    }
    if method.prunes() {
        return check_pruning(method, request, &quantizer);
    }
    if let Some((_, flag)) = quantizer.into_iter().find(|(given, _)| *given && !method.quantizes()) {
        return refuse(flag, "quantizes nothing");
    }
    let branch = [(request.rank.is_some(), "--rank"), (request.factors.is_some(), "--factors")];
    let has_branch = method.has_low_rank() || method == Method::ZeroquantFp;
    if let Some((_, flag)) = branch.into_iter().find(|(given, _)| *given && !has_branch) {
        return refuse(flag, "has no low-rank term");
    }
    if method == Method::ZeroquantFp && request.factors.is_some() && request.rank.is_none() {
        return refuse("--factors", "has a low-rank term with --rank only");
    }
    let outliers_in_turn = method == Method::Lowrank && request.sparsity.is_some();
    if request.rounds.is_some() && !method.alternates() && !outliers_in_turn {
        return refuse("--rounds", "does not alternate");
    }
    let own = [
        (request.format.is_some(), "--format"),
        (request.group.is_some(), "--group"),
        (request.scale.is_some(), "--scale"),
        (request.rounder.is_some(), "--rounder"),
        (request.smooth.is_some(), "--smooth"),
        (request.rotate, "--rotate"),
    ];
    if let Some((_, flag)) = own.into_iter().find(|(given, _)| *given && method == Method::Best) {
        return refuse(flag, "decides that itself (see --budget and --formats)");
    }
    let only = [(request.codes.is_some(), "--formats"), (request.fast, "--fast")];
    if let Some((_, flag)) = only.into_iter().find(|(given, _)| *given && method != Method::Best) {
        return refuse(flag, "has one way of its own; --method best takes it");
    }
    let rounds_by_gptq = request.rounder.map_or(method == Method::Gptq, |name| name == RounderName::Gptq);
    if request.act_order && !rounds_by_gptq {
        return Err(Error::usage("--act-order means something to --method gptq or --rounder gptq only"));
    }
    if method == Method::Welore && request.rank.is_some() {
        return refuse("--rank", "finds the ranks itself, under --keep");
    }
    if method == Method::Dsformer && request.factors.is_some() {
        return refuse("--factors", "has a sparse factor in f16");
    }
    if method == Method::Lrec && matches!(request.factors, Some(FactorFormat::Int8 | FactorFormat::Int4)) {
        return refuse("--factors int8 or int4", "trains factors, which floats can take");
    }
    if method == Method::Loldu && matches!(request.factors, Some(FactorFormat::Int8 | FactorFormat::Int4)) {
        return refuse(
            "--factors int8 or int4",
            "starts from triangular factors, which rounding together would undo",
        );
    }
    if request.smooth.is_some() || request.search {
        if method == Method::Awq {
            return refuse("--smooth", "searches its own scales");
        }
        if !request.calibrated {
            return Err(Error::uncalibrated(
                "--smooth needs --calib: smoothing follows from the activations",
            ));
        }
    }
    if let (Some(why), false) = (method.follows(), request.calibrated) {
        return Err(Error::uncalibrated(format!("--method {name} needs --calib: {why}")));
    }
    Ok(())
}

/// [`check`] of a method that prunes; `quantizer` are the flags of a quantized term.
fn check_pruning(method: Method, request: &Request, quantizer: &[(bool, &str)]) -> Result<(), Error> {
    let name = method.name();
    let refuse = |flag: &str, why: &str| {
        Err(Error::usage(format!("{flag} means nothing to --method {name}: it {why}")))
    };
    let of_values = ["--format", "--group", "--scale", "--rounder"];
    for &(_, flag) in quantizer.iter().filter(|(given, _)| *given) {
        if !of_values.contains(&flag) {
            return refuse(flag, "has no quantized term");
        }
        if request.format.is_none() {
            return refuse(flag, "keeps 16-bit floats unless --format names another format");
        }
    }
    if request.act_order {
        return refuse("--act-order", "does not round by gptq");
    }
    if let (Some(flag), None) = (request.factors.map(|_| "--factors"), request.rank) {
        return refuse(flag, "has a low-rank term with --rank only");
    }
    if let (Some(flag), None) = (request.rounds.map(|_| "--rounds"), request.rank) {
        return refuse(flag, "alternates with --rank only");
    }
    let Some(format) = request.format.as_deref() else { return Ok(()) };
    let rounder = request.rounder.map_or(Rounder::Nearest, |name| name.rounder(false, request.seed));
    if rounder.needs_hessian() {
        let rounder = rounder.name();
        return Err(Error::usage(format!(
            "--rounder {rounder} cannot round kept values: take nearest or mse"
        )));
    }
    let pattern = request.sparsity.unwrap_or(Pattern::Nm(NmPattern::TWO_OF_FOUR));
    match SparseMatrix::check(&pattern, &ValueFormat::Scheme(scheme_of(format, request)?, rounder)) {
        Ok(()) => Ok(()),
        Err(error) if matches!(pattern, Pattern::Nm(_) | Pattern::Transposable(_)) => {
            Err(Error::usage(format!("--format {format}: {error}")))
        }
        Err(_) => {
            let pattern = sparsity::name(&pattern);
            Err(Error::usage(format!(
                "--sparsity {pattern} keeps floats, --format {format} needs N:M; to keep outliers beside a \
                 quantized matrix add --method rtn"
            )))
        }
    }
}

/// What does not go with vector codes.
pub(super) fn check_vector(
    method: Method,
    request: &Request,
    format: &str,
    scheme: &Scheme,
) -> Result<(), Error> {
    let rounder = request.rounder.unwrap_or(match method {
        Method::Gptq => RounderName::Gptq,
        Method::Cd | Method::Caldera => RounderName::Cd,
        Method::Ldlq | Method::Best => RounderName::Ldlq,
        Method::Hqq => RounderName::Hqq,
        Method::Awq => RounderName::Clip,
        Method::Rtn
        | Method::Lorc
        | Method::Svdquant
        | Method::LqLora
        | Method::Eora
        | Method::Qera
        | Method::QeraDiagonal
        | Method::Loftq
        | Method::Loldu
        | Method::Lrec
        | Method::LqLoraFisher
        | Method::Lowrank
        | Method::Welore
        | Method::Lord
        | Method::UnifiedCtr
        | Method::SvdLlm
        | Method::Asvd
        | Method::Dsformer
        | Method::Rpca
        | Method::LlmInt8
        | Method::ZeroquantFp
        | Method::Smoothquant
        | Method::Magnitude
        | Method::Wanda
        | Method::Ria
        | Method::Sparsegpt
        | Method::Admm => RounderName::Nearest,
    });
    let fits = match rounder {
        RounderName::Nearest => true,
        RounderName::Gptq | RounderName::Cd | RounderName::Ldlq => matches!(scheme.code, Code::Trellis(_)),
        RounderName::Hqq | RounderName::Mse | RounderName::Clip | RounderName::Stochastic => false,
    };
    if fits {
        return Ok(());
    }
    let name = rounder.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    Err(Error::usage(format!("--format {format} cannot be rounded by {name}")))
}
