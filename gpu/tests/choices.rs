//! The tuner and its file.

use rankbit_gpu::{Choice, Error, Gpu, GpuLinear, Shape};
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::{Input, fit, preset};
use rankbit_quant::{FloatFormat, scheme};
use std::fs;
use std::path::PathBuf;

fn linear(gpu: &Gpu) -> GpuLinear {
    let weight = Mat::from_fn(40, 64, |i, j| ((i * 131 + j * 37) as f32 * 0.7).sin());
    let recipe = preset::lorc(scheme::INT4, 3, FloatFormat::F16);
    gpu.upload(&fit(weight.as_ref(), &recipe, &Input { name: "w", moments: None }).unwrap().split).unwrap()
}

/// A folder of this test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rankbit-choices-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Every choice makes the product, whichever is faster; the rule's comes first and is the same each time.
#[test]
fn every_choice_multiplies() {
    let gpu = Gpu::new().unwrap();
    let linear = linear(&gpu);
    let mut shapes = 0;
    for tokens in [1, 2, 5, 20, 70] {
        let x = Mat::from_fn(tokens, 64, |t, j| ((t * 17 + j * 5) as f32 * 0.3).cos());
        let choices = linear.choices(tokens);
        assert_eq!(choices.first(), Some(&linear.default_choice(tokens)));
        assert_eq!(choices, linear.choices(tokens));
        let expected = linear.apply(x.as_ref()).unwrap();
        for &choice in &choices {
            assert_eq!(choices.iter().filter(|&&other| other == choice).count(), 1);
            let y = linear.workspace_with(tokens, choice).unwrap().apply(x.as_ref()).unwrap();
            assert!((&y - &expected).norm_max() < 1e-4, "{choice}");
            shapes += usize::from(!choice.fused);
        }
    }
    assert!(shapes >= 10);
    let choice = Choice { shape: Shape::Matrix { wide: 3 }, fused: true };
    assert_eq!(linear.workspace_with(4, choice).unwrap_err(), Error::InvalidChoice { choice });
}

/// What is measured is one of the choices, is used from then on, and comes back from the file.
#[test]
fn choices_are_kept() {
    let (gpu, folder) = (Gpu::new().unwrap(), Folder::new("kept"));
    let (layer, path) = (linear(&gpu), folder.0.join("choices"));
    assert_eq!(gpu.load_choices(&path), Ok(0));
    let best = layer.tune(20, 1).unwrap();
    assert!(layer.choices(20).contains(&best));
    // 17 to 32 tokens share it.
    assert_eq!([17, 20, 32].map(|tokens| layer.choice(tokens)), [best; 3]);
    gpu.save_choices(&path).unwrap();
    gpu.save_choices(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 5, "{text}");
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is left beside it");
    // Another choice, by hand, to see that the file decides.
    let other = layer.choices(20).into_iter().find(|choice| *choice != best).unwrap();
    fs::write(&path, text.replace(&format!(" = {best}"), &format!(" = {other}"))).unwrap();
    gpu.forget_choices();
    assert_eq!(layer.choice(20), layer.default_choice(20));
    assert_eq!(gpu.load_choices(&path), Ok(1));
    assert_eq!(layer.choice(20), other);
    assert_eq!(layer.workspace(20).unwrap().choice(), other);
    // Another driver's says nothing of this one.
    fs::write(&path, text.replace("driver ", "driver X")).unwrap();
    gpu.forget_choices();
    assert_eq!(gpu.load_choices(&path), Ok(0));
}

#[test]
fn damaged_files_are_named() {
    let (gpu, folder) = (Gpu::new().unwrap(), Folder::new("damaged"));
    let path = folder.0.join("choices");
    gpu.save_choices(&path).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let lines = good.lines().count();
    for (text, at) in [
        (String::new(), 1),
        ("something else\n".to_owned(), 1),
        (format!("{good}a key without a choice\n"), lines + 1),
        (format!("{good}a = tile\nb = vector 65\n"), lines + 2),
        (format!("{good}a = vector 99999999999\n"), lines + 1),
        (format!("{good}{}", "a = tile\n".repeat(200_000)), 0),
    ] {
        fs::write(&path, &text).unwrap();
        let error = gpu.load_choices(&path).unwrap_err();
        assert!(matches!(&error, Error::ChoicesFile { line, .. } if *line == at), "{error}");
        assert!(error.to_string().contains("choices"), "{error}");
    }
    fs::write(&path, [0xFF, 0xFE, 0x00]).unwrap();
    assert!(matches!(gpu.load_choices(&path), Err(Error::ChoicesFile { line: 0, .. })));
    assert!(matches!(gpu.load_choices(&folder.0), Err(Error::ChoicesFile { line: 0, .. })));
    assert!(matches!(gpu.save_choices(&folder.0.join("none/choices")), Err(Error::ChoicesFile { .. })));
    // A product of a damaged file's device still works by the rule.
    let layer = linear(&gpu);
    assert_eq!(layer.choice(3), layer.default_choice(3));
}
