//! The file form: everything comes back, and nothing hostile gets in.

use crate::common::{moments, sparse_recipes, weight};
use proptest::prelude::*;
use rankbit_lowrank::split::file::{self, Header, PART_NAMES, Part, PartType, PartView};
use rankbit_lowrank::{Error, Input, Recipe, Split, Step, TransformRule, fit, preset};
use rankbit_quant::{FloatFormat, Group, scheme};
use rankbit_sparse::ValueFormat;

fn read(header: &Header, parts: &[Part]) -> Result<Split, Error> {
    file::read(header, |name| {
        parts.iter().find(|p| p.name == name).map(|p| PartView {
            element: p.element,
            shape: &p.shape,
            bytes: &p.bytes,
        })
    })
}

fn recipes() -> Vec<Recipe> {
    let mut recipes = sparse_recipes();
    recipes.extend([preset::low_rank(2, FloatFormat::F16), preset::awq(scheme::UINT4)]);
    let transforms = [
        TransformRule::Permute,
        TransformRule::Rotate { seed: u64::MAX },
        TransformRule::AWQ.then(TransformRule::Permute).then(TransformRule::Rotate { seed: 3 }),
    ];
    for transform in transforms {
        recipes.push(Recipe { transform, ..preset::lorc(scheme::UINT4, 2, FloatFormat::F16) });
    }
    for (_, scheme) in scheme::NAMED {
        if !scheme.owns_scales() {
            recipes.push(preset::rtn(scheme.with_group(Group::Tensor)));
            recipes.push(preset::lorc(scheme.with_scale_format(FloatFormat::Bf16), 2, FloatFormat::F32));
        } else {
            recipes.push(preset::rtn(scheme));
        }
        recipes.push(preset::svdquant(preset::SvdQuant {
            scheme,
            rounder: rankbit_quant::Rounder::Nearest,
            rank: 3,
            factors: FloatFormat::F16.into(),
            smooth: preset::Smoothing::Fixed(0.5),
            rounds: 2,
        }));
    }
    for (_, scheme) in scheme::NAMED_VECTOR {
        recipes.push(preset::rtn(scheme));
        recipes.push(preset::lorc(scheme.with_scale_format(FloatFormat::Bf16), 2, FloatFormat::F32));
    }
    recipes
}

fn split(recipe: &Recipe) -> Split {
    // Blocks divide 256; the other formats also take a ragged last group.
    let blocks = recipe.round.iter().any(|step| match step {
        Step::Quantize { scheme, .. } => scheme.block_len().is_some(),
        Step::Sparse { values: ValueFormat::Scheme(scheme, _), .. } => scheme.block_len().is_some(),
        _ => false,
    });
    let cols = if blocks { 256 } else { 70 };
    let (w, moments) = (weight(9, cols, 3), moments(cols, 2 * cols + 60, 3));
    fit(w.as_ref(), recipe, &Input { name: "w", moments: Some(&moments) }).unwrap().split
}

#[test]
fn every_split_and_recipe_comes_back() {
    for recipe in recipes() {
        let split = split(&recipe);
        let (header, parts) = file::write(&split);
        let header = Header::from_json(&header.to_json().unwrap()).unwrap();
        assert_eq!(read(&header, &parts).unwrap(), split);
        assert!(parts.iter().all(|p| PART_NAMES.contains(&p.name)));
        let bytes: usize = parts.iter().map(|p| p.bytes.len()).sum();
        assert_eq!(split.stored_bits(), 8 * bytes as u64);
        for part in &parts {
            let element = match part.element {
                PartType::U8 => 1,
                PartType::Float(format) => format.bytes(),
            };
            assert_eq!(part.shape.iter().product::<usize>() * element, part.bytes.len(), "{}", part.name);
        }
        let text = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), recipe);
    }
}

/// The header's text is part of the contract.
#[test]
fn header_text() {
    let (header, _) = file::write(&split(&preset::lorc(scheme::UINT4, 2, FloatFormat::F16)));
    assert_eq!(
        header.to_json().unwrap(),
        concat!(
            r#"{"shape":[9,70],"scheme":{"code":{"int":{"bits":4,"signed":false}},"group":{"size":64},"#,
            r#""scale_rule":"range","scale_format":"f16","zero":"integer"},"#,
            r#""low_rank":{"rank":2,"left":"f16","right":"f16"}}"#
        )
    );
}

#[test]
fn each_missing_or_bent_part_is_refused() {
    for recipe in recipes() {
        let (header, parts) = file::write(&split(&recipe));
        for at in 0..parts.len() {
            let without: Vec<Part> =
                parts.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, p)| p.clone()).collect();
            assert_eq!(read(&header, &without), Err(Error::MissingPart { part: parts[at].name }));
            let bend = |change: fn(&mut Part)| {
                let mut bent = parts.clone();
                change(&mut bent[at]);
                read(&header, &bent)
            };
            assert!(matches!(bend(|p| p.shape.push(1)), Err(Error::PartMismatch { .. })));
            assert!(matches!(bend(|p| p.shape[0] += 1), Err(Error::PartMismatch { .. })));
            assert!(bend(|p| p.bytes.truncate(p.bytes.len() - 1)).is_err());
            assert!(bend(|p| p.bytes.push(0)).is_err());
            assert!(
                bend(|p| {
                    p.element = match p.element {
                        PartType::U8 => PartType::Float(FloatFormat::F16),
                        PartType::Float(_) => PartType::U8,
                    };
                })
                .is_err()
            );
            let not_finite = match parts[at].element {
                // A dyadic word has no NaN: this one is beyond f32.
                PartType::Float(FloatFormat::Dyadic) => bend(|p| p.bytes.fill(0x80)),
                PartType::Float(_) => bend(|p| p.bytes.fill(0xFF)),
                PartType::U8 => continue,
            };
            assert!(not_finite.is_err(), "NaN in {}", parts[at].name);
        }
    }
}

/// The common factor of NVFP4's scales, block layouts without scales apart, and names of 8-bit formats.
#[test]
fn block_formats() {
    let (header, parts) = file::write(&split(&preset::rtn(scheme::NVFP4)));
    assert!(
        header.to_json().unwrap().contains(r#""scale_rule":"absmax","scale_format":"e4m3","zero":"none"}"#)
    );
    let global = parts.iter().position(|p| p.name == "global_scale").unwrap();
    assert_eq!(
        (parts[global].shape.as_slice(), parts[global].element),
        (&[1][..], PartType::Float(FloatFormat::F32))
    );
    for bad in [0.0, -1.0, 1e-40, f32::MAX] {
        let mut bent = parts.clone();
        bent[global].bytes = bad.to_le_bytes().to_vec();
        assert!(read(&header, &bent).is_err(), "{bad}");
    }
    let (header, parts) = file::write(&split(&preset::rtn(scheme::Q4_K)));
    let text = header.to_json().unwrap();
    assert!(
        text.contains(r#""scale_rule":"block","scale_format":"f16","zero":"min","layout":{"block":"q4_k"}}"#),
        "{text}"
    );
    assert_eq!((parts.len(), parts[0].name, parts[0].shape.as_slice()), (1, "codes", &[9, 144][..]));
    // Another block's name, or no layout, is another scheme and not these bytes.
    for (from, to) in [("q4_k", "q5_k"), ("q4_k", "q9_k"), ("\"min\"", "\"integer\""), ("[9,256]", "[9,255]")]
    {
        let bent = text.replace(from, to);
        assert!(Header::from_json(&bent).map_or(true, |header| read(&header, &parts).is_err()), "{to}");
    }
    let (header, _) = file::write(&split(&preset::rtn(scheme::MXFP6_E2M3)));
    assert!(header.to_json().unwrap().contains(
        r#"{"code":{"mini-float":"e2m3"},"group":{"size":32},"scale_rule":{"power":"floor"},"scale_format":"e8m0""#
    ));
}

#[test]
fn hostile_headers() {
    let (header, parts) = file::write(&split(&preset::lorc(scheme::UINT4, 2, FloatFormat::F16)));
    let text = header.to_json().unwrap();
    for (from, to) in [
        ("\"bits\":4", "\"bits\":0"),
        ("\"bits\":4", "\"bits\":9"),
        ("\"bits\":4", "\"bits\":255"),
        ("\"size\":64", "\"size\":0"),
        ("[9,70]", "[0,70]"),
        ("[9,70]", "[9,0]"),
        ("[9,70]", "[18446744073709551615,18446744073709551615]"),
        ("[9,70]", "[9223372036854775808,2]"),
        ("[9,70]", "[9,71]"),
        ("\"rank\":2", "\"rank\":0"),
        ("\"rank\":2", "\"rank\":10"),
        ("\"rank\":2", "\"rank\":18446744073709551615"),
        ("\"zero\":\"integer\"", "\"zero\":\"none\""),
        ("\"left\":\"f16\"", "\"left\":\"f32\""),
    ] {
        let bent = text.replace(from, to);
        assert_ne!(bent, text);
        let header = Header::from_json(&bent).expect("still a header");
        assert!(read(&header, &parts).is_err(), "{from} -> {to}");
    }
    for bad in
        ["", "{}", "[]", "{\"shape\":[9]}", "{\"shape\":[-1,2]}", "{\"shape\":[9,70],\"rotation\":1}", "nul"]
    {
        match Header::from_json(bad) {
            Err(Error::InvalidHeader { .. }) => {}
            other => panic!("{bad}: {other:?}"),
        }
    }
    // A header without any term describes nothing.
    assert!(read(&Header::from_json("{\"shape\":[9,70]}").unwrap(), &parts).is_err());
}

proptest! {
    /// Any edit of the header's text: an error or a split, never a panic.
    #[test]
    fn any_header(at in any::<prop::sample::Index>(), byte in 32_u8..127) {
        let (header, parts) = file::write(&split(&preset::lorc(scheme::UINT4, 2, FloatFormat::F16)));
        let mut text = header.to_json().unwrap().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(header) = Header::from_json(core::str::from_utf8(&text).unwrap())
            && let Ok(split) = read(&header, &parts)
        {
            prop_assert_eq!(split.shape(), (header.shape[0], header.shape[1]));
        }
    }
}

#[test]
fn a_term_that_the_header_leaves_out_is_never_dropped_in_silence() {
    for recipe in recipes() {
        let (header, parts) = file::write(&split(&recipe));
        let mut without = [header; 4];
        without[0].scheme = None;
        without[1].low_rank = None;
        without[2].smooth = None;
        without[3].sparse = None;
        for changed in without.into_iter().filter(|changed| *changed != header) {
            assert!(matches!(read(&changed, &parts), Err(Error::InvalidHeader { .. })), "{changed:?}");
        }
    }
}
