//! Quantized inputs: the same bits as the CPU's.

use rankbit_gpu::{Error, Gpu};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_lowrank::Split;
use rankbit_quant::{Activation, Group, Rounder, Scheme, quantize, scheme};

const FEATURES: usize = 160;

/// The identity, exact in `scheme`.
fn identity(scheme: &Scheme) -> Split {
    let base =
        quantize(Mat::identity(FEATURES, FEATURES).as_ref(), scheme, Rounder::Nearest).unwrap().quantized;
    assert!(base.dequantize() == Mat::<f32>::identity(FEATURES, FEATURES));
    Split::new((FEATURES, FEATURES), None, Some(base), None).unwrap()
}

/// Values of all magnitudes, many on ties between codes, whole groups of zeros.
fn inputs(tokens: usize) -> Vec<f32> {
    let value = |i: usize| {
        let wave = ((i * 37 % 1009) as f32 * 0.7).sin();
        match i / FEATURES % 6 {
            0 => wave,
            1 => wave * 2.0_f32.powi(i32::try_from(i % 41).unwrap() - 20),
            2 => (i % 255) as f32 - 127.0 + 0.5 * (i % 2) as f32,
            3 => wave * 5e37,
            4 => wave * 1e-30,
            _ => 0.0,
        }
    };
    (0..tokens * FEATURES).map(value).collect()
}

/// Against the identity a product is the quantized input: the same bits for the packed path (MXFP4's values are whole
/// halves) and for the one of floats (NF4's are not), for one token, a few and many.
#[test]
fn quantized_inputs_are_the_same_bits() {
    let gpu = Gpu::new().unwrap();
    let mut seen = 0;
    for scheme in [scheme::MXFP4, scheme::NF4.with_group(Group::Size(32))] {
        for activation in [
            Activation::INT8,
            Activation::INT4,
            Activation::integer(8, Group::Size(64)),
            Activation::integer(5, Group::Size(24)),
            Activation::integer(8, Group::Size(8)),
        ] {
            let split = identity(&scheme).with_activation(activation).unwrap();
            let linear = gpu.upload(&split).unwrap();
            for tokens in [1, 2, 7, 24] {
                let x = inputs(24).split_off((24 - tokens) * FEATURES);
                let y = linear.apply(MatRef::from_row_major_slice(&x, tokens, FEATURES)).unwrap();
                let twin = activation.quantize(&x, (tokens, FEATURES)).unwrap().unwrap();
                let mut row = vec![0.0; FEATURES];
                for t in 0..tokens {
                    twin.row_into(t, &mut row).unwrap();
                    for (j, &wanted) in row.iter().enumerate() {
                        let found = y[(t, j)];
                        assert!(found == wanted, "{activation} {tokens} [{t}, {j}]: {found} {wanted}");
                        seen += usize::from(wanted != 0.0);
                    }
                }
            }
        }
    }
    assert!(seen > 20_000, "{seen}");
}

/// The host refuses them as the CPU does; those that arise on the device stay with their token.
#[test]
fn non_finite_inputs_are_refused_or_stay_with_their_token() {
    let gpu = Gpu::new().unwrap();
    for scheme in [scheme::MXFP4, scheme::NF4.with_group(Group::Size(32))] {
        let split = identity(&scheme).with_activation(Activation::INT8).unwrap();
        let linear = gpu.upload(&split).unwrap();
        for tokens in [3, 12] {
            let mut x = vec![1.0_f32; tokens * FEATURES];
            let workspace = linear.workspace(tokens).unwrap();
            let clean = workspace.apply(MatRef::from_row_major_slice(&x, tokens, FEATURES)).unwrap();
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                x[FEATURES + 5] = bad;
                let refused = rankbit_quant::Error::ActivationNonFinite { token: 1, feature: 5 };
                let view = MatRef::from_row_major_slice(&x, tokens, FEATURES);
                assert_eq!(workspace.apply(view).unwrap_err(), Error::Quantized(refused));
                // Past the host's check, as another kernel would have written it.
                gpu.queue().write_buffer(workspace.input(), 0, bytemuck::cast_slice(&x));
                workspace.run().unwrap();
                let y = workspace.read().unwrap();
                for t in 0..tokens {
                    if t == 1 {
                        assert!(y.row(t).iter().all(|y| y.is_nan()), "{bad}");
                    } else {
                        assert!(y.row(t) == clean.row(t), "{bad} {t}");
                    }
                }
            }
        }
    }
}
