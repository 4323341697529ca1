//! Codes, scales, zero points and decoded values of NumPy and bitsandbytes (`scripts/oracle/quant_formats.py`).

use crate::common::nearest;
use rankbit_linalg::faer::MatRef;
use rankbit_quant::{FloatFormat, Group, Scheme, pack};
use serde_json::Value;

fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|bits| f32::from_bits(u32::try_from(bits).unwrap())).collect()
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect()
}

#[test]
fn equal_to_numpy_and_bitsandbytes() {
    let kept: Value = serde_json::from_str(include_str!("../../tests/vectors/quant-formats.json")).unwrap();
    let size = |key: &str| usize::try_from(kept[key].as_u64().unwrap()).unwrap();
    let (rows, cols, group) = (size("rows"), size("cols"), size("group"));
    let input = floats(&kept["input"]);
    let formats = kept["formats"].as_object().unwrap();
    assert_eq!(formats.len(), 21);
    for (name, expected) in formats {
        let scheme = Scheme::named(name).unwrap();
        let scheme = scheme.with_group(Group::Size(u32::try_from(group).unwrap()));
        let rounded = nearest(MatRef::from_row_major_slice(&input, rows, cols), &scheme);
        assert_eq!(rounded.widened_from, None::<FloatFormat>, "{name}");
        let q = rounded.quantized;
        assert_eq!(q.scales().to_f32(), floats(&expected["scales"]), "{name}: scales");
        let mut codes = vec![0; cols];
        let found: Vec<u64> = (0..rows)
            .flat_map(|i| {
                pack::unpack(q.row_codes(i), q.scheme().code.bits(), &mut codes);
                codes.iter().map(|c| u64::from(*c)).collect::<Vec<_>>()
            })
            .collect();
        let zeros: Vec<u64> = (0..rows * cols / group)
            .map(|g| u64::from(q.zero_code(g * group / cols, g % (cols / group))))
            .collect();
        assert_eq!(zeros, numbers(&expected["zeros"]), "{name}: zero points");
        let wanted = numbers(&expected["codes"]);
        for (at, (a, b)) in found.iter().zip(&wanted).enumerate() {
            let group_is_zero = q.scale(at / cols, at % cols / group) == 0.0;
            assert!(a == b || group_is_zero, "{name}: code {at} is {a}, kept {b}");
        }
        let decoded: Vec<f32> = (0..rows).flat_map(|i| crate::common::row(&q, i)).collect();
        for (at, (a, b)) in decoded.iter().zip(floats(&expected["decoded"])).enumerate() {
            assert!(*a == b || (a - b).abs() <= 1.2e-7 * b.abs(), "{name}: value {at} is {a}, kept {b}");
        }
    }
}
