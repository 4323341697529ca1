use super::*;
use clap::ValueEnum as _;
use rankbit::lowrank::{ActivationRule, FactorFormat, Step, TransformRule, preset};

#[test]
fn defaults_are_the_contracts() {
    let plan = Plan::new(Method::Rtn, &Request::default()).expect("defaults");
    assert_eq!(plan.recipe, preset::rtn(scheme::NF4.with_group(Group::Size(64))));
    assert_eq!((plan.rank, plan.format()), (None, Some("nf4")));
    let plan = Plan::new(Method::Svdquant, &Request::default()).expect("defaults");
    assert_eq!((plan.rank, plan.rounds, plan.smooth), (Some(16), 10, None));
    let calibrated = Request { calibrated: true, ..Request::default() };
    assert_eq!(Plan::new(Method::Svdquant, &calibrated).expect("defaults").smooth, Some(0.5));
}

#[test]
fn flags_that_mean_nothing_are_refused() {
    let cases = [
        (Method::Rtn, Request { rank: Some(4), ..Request::default() }, "--rank"),
        (Method::Rtn, Request { factors: Some(FloatFormat::F32.into()), ..Request::default() }, "--factors"),
        (Method::Lorc, Request { rounds: Some(4), ..Request::default() }, "--rounds"),
        (Method::Loldu, Request { rounds: Some(4), ..Request::default() }, "--rounds"),
        (Method::Loldu, Request { factors: Some(FactorFormat::Int4), ..Request::default() }, "--factors"),
        (Method::Lowrank, Request { format: Some("int4".to_owned()), ..Request::default() }, "--format"),
        (Method::Lowrank, Request { group: Some(Group::Row), ..Request::default() }, "--group"),
        (Method::Lowrank, Request { scale: Some(FloatFormat::F32), ..Request::default() }, "--scale"),
        (Method::Lowrank, Request { rounder: Some(RounderName::Mse), ..Request::default() }, "--rounder"),
        (Method::Gptq, Request { rank: Some(4), ..Request::default() }, "--rank"),
        (Method::LlmInt8, Request { format: Some("int4".to_owned()), ..Request::default() }, "--format"),
        (Method::LlmInt8, Request { group: Some(Group::Size(64)), ..Request::default() }, "--group"),
        (Method::LlmInt8, Request { scale: Some(FloatFormat::F16), ..Request::default() }, "--scale"),
        (Method::LlmInt8, Request { rank: Some(4), ..Request::default() }, "--rank"),
        (
            Method::ZeroquantFp,
            Request { factors: Some(FloatFormat::F32.into()), ..Request::default() },
            "--factors",
        ),
        (
            Method::Lowrank,
            Request { activations: Some(Activations::Int8), ..Request::default() },
            "--activations",
        ),
        (Method::Cd, Request { act_order: true, ..Request::default() }, "--act-order"),
        (Method::Awq, Request { smooth: Some(0.5), calibrated: true, ..Request::default() }, "--smooth"),
        (Method::Lowrank, Request { rotate: true, ..Request::default() }, "--rotate"),
        (Method::LqLora, Request { smooth: Some(0.5), ..Request::default() }, "--calib"),
        (Method::Awq, Request::default(), "--calib"),
        (Method::Smoothquant, Request::default(), "--calib"),
        (Method::Svdquant, Request { smooth: Some(0.5), ..Request::default() }, "--calib"),
    ];
    for (method, request, flag) in cases {
        let error = Plan::new(method, &request).expect_err(flag);
        // Missing calibration is missing input.
        assert_eq!(error.exit_code(), if flag == "--calib" { 3 } else { 2 });
        assert!(error.to_string().contains(flag), "{error}");
    }
}

#[test]
fn vector_codes_take_their_own_rounders() {
    let with = |format: &str| Request { format: Some(format.to_owned()), ..Request::default() };
    for format in ["trellis2", "e8p4"] {
        assert!(Plan::new(Method::Rtn, &with(format)).is_ok());
        assert!(Plan::new(Method::Svdquant, &with(format)).is_ok());
        assert_eq!(Plan::new(Method::Ldlq, &with(format)).is_ok(), format == "trellis2");
        for request in [
            Request { group: Some(Group::Size(64)), ..with(format) },
            Request { rounder: Some(RounderName::Mse), ..with(format) },
        ] {
            assert_eq!(Plan::new(Method::Rtn, &request).expect_err(format).exit_code(), 2);
        }
        assert_eq!(Plan::new(Method::Hqq, &with(format)).expect_err(format).exit_code(), 2);
    }
}

#[test]
fn rounders_replace_the_methods_own() {
    let request = Request { rounder: Some(RounderName::Gptq), act_order: true, ..Request::default() };
    let plan = Plan::new(Method::Lorc, &request).expect("a plan");
    assert_eq!(plan.needs_gram(), Some("gptq"));
    let Some(Step::Quantize { rounder, .. }) = plan.recipe.round.first() else { panic!("{plan:?}") };
    assert_eq!(*rounder, Rounder::gptq(true));
    let plan = Plan::new(Method::Cd, &Request::default()).expect("a plan");
    assert_eq!((plan.needs_gram(), plan.rank), (Some("cd"), None));
    let request = Request { rounder: Some(RounderName::Nearest), ..Request::default() };
    assert_eq!(Plan::new(Method::Rtn, &request).expect("a plan").needs_gram(), None);
    // Its iterates are compared under the calibration's metric, whatever rounds them.
    assert_eq!(Plan::new(Method::Gptq, &request).expect("a plan").needs_gram(), Some("gptq"));
}

#[test]
fn activations_replace_the_methods_own() {
    let policy = |method, activations| {
        let request = Request { activations, ..Request::default() };
        Plan::new(method, &request).expect("a plan").recipe.activation
    };
    let given = ActivationRule::Given;
    assert_eq!(policy(Method::Rtn, None), ActivationRule::FLOAT);
    assert_eq!(policy(Method::Svdquant, Some(Activations::Int4)), given(Activation::INT4));
    assert_eq!(policy(Method::LlmInt8, None), given(Activation::LLM_INT8));
    assert_eq!(policy(Method::LlmInt8, Some(Activations::Int8)), given(Activation::INT8));
    assert_eq!(policy(Method::LlmInt8, Some(Activations::Float)), ActivationRule::FLOAT);
    assert_eq!(policy(Method::ZeroquantFp, None), given(Activation::FP8));
    let rank =
        |rank| Plan::new(Method::ZeroquantFp, &Request { rank, ..Request::default() }).expect("a plan");
    assert_eq!((rank(None).rank, rank(Some(8)).rank), (None, Some(8)));
    assert_eq!(rank(None).recipe.round.len() + 1, rank(Some(8)).recipe.round.len());
    assert_eq!(rank(None).scheme, Some(preset::Constraint::RatioOfTwo.fp4()));
}

#[test]
fn transforms_add_up() {
    let smoothing = TransformRule::Smooth { alpha: 0.25, beta: 0.75, format: FloatFormat::F16 };
    let rotation = TransformRule::Rotate { seed: 7 };
    let of = |method, smooth, rotate| {
        let request = Request { smooth, rotate, calibrated: true, seed: 7, ..Request::default() };
        Plan::new(method, &request).expect("a plan").recipe.transform
    };
    assert_eq!(of(Method::Rtn, None, false), TransformRule::Identity);
    assert_eq!(of(Method::Rtn, None, true), rotation);
    assert_eq!(of(Method::Gptq, Some(0.25), false), smoothing);
    assert_eq!(of(Method::Svdquant, Some(0.25), false), smoothing);
    let both = TransformRule::Compose(vec![smoothing, rotation.clone()]);
    assert_eq!(of(Method::Cd, Some(0.25), true), both);
    assert_eq!(of(Method::Smoothquant, Some(0.25), true), both);
    assert_eq!(of(Method::Awq, None, true), TransformRule::Compose(vec![TransformRule::AWQ, rotation]));
}

#[test]
fn blocks_fall_back_and_keep_their_groups() {
    let with = |format: &str, group, scale| Request {
        format: Some(format.to_owned()),
        group,
        scale,
        ..Request::default()
    };
    for format in ["mxfp4", "nvfp4", "q4_k", "q8_0", "int4-dyadic"] {
        for request in [with(format, Some(Group::Row), None), with(format, None, Some(FloatFormat::F32))] {
            assert_eq!(Plan::new(Method::Rtn, &request).expect_err(format).exit_code(), 2);
        }
    }
    let chosen = |format: &str, cols| {
        let plan = Plan::new(Method::Rtn, &with(format, None, None)).expect(format);
        let (scheme, warning) = plan.scheme_for((64, cols)).expect("it quantizes");
        (scheme.name(), warning.is_some())
    };
    assert_eq!(chosen("q4_k", 512), (Some("q4_k"), false));
    assert_eq!(chosen("q4_k", 384), (Some("q8_0"), true));
    assert_eq!(chosen("q4_k", 100), (Some("int8"), true));
    assert_eq!(chosen("q8_0", 100), (Some("int8"), true));
    assert_eq!(chosen("nvfp4", 80), (Some("nvfp4"), false));
    assert_eq!(chosen("nvfp4", 72), (Some("int8"), true));
    assert_eq!(chosen("nf4", 77), (Some("nf4"), false));
    let fp8 = Plan::new(Method::Rtn, &with("fp8-e4m3", None, None)).expect("fp8");
    assert_eq!(fp8.scheme.map(|scheme| scheme.group), Some(Group::Row));
}

#[test]
fn names_are_those_of_the_command_line() {
    for method in Method::ALL {
        assert_eq!(Method::from_str(method.name(), false), Ok(method));
    }
    assert_eq!(parse_group("row"), Ok(Group::Row));
    assert_eq!(parse_group("0"), Ok(Group::Size(0)));
    assert_eq!(parse_group("128x64"), Ok(Group::Block { rows: 128, cols: 64 }));
    assert!(["x", "1x", "x1", "1x2x3", "-1x2"].iter().all(|text| parse_group(text).is_err()));
    assert!(parse_group("-1").is_err());
    assert!(parse_smooth("nan").is_err() && parse_smooth("1.5").is_err());
    assert_eq!(parse_smooth("0.25"), Ok(Smooth::Fixed(0.25)));
    assert_eq!(parse_smooth("search"), Ok(Smooth::Search));
}
