//! A real network at 2:4: what each method loses of all its layers' outputs on sentences that it has not seen, and what
//! that does to the embeddings.

use crate::real_network::{REAL, text};
use crate::support::{read_json, run, succeed};
use rankbit_kit::calibration::output_error;
use rankbit_kit::model::{checkpoint, mean_cosine};
use rankbit_kit::tensor::read_tensors;
use std::sync::LazyLock;

/// By Wanda alone, which both tests look at.
static WANDA: LazyLock<(f64, f64)> = LazyLock::new(|| pruned(&["--method", "wanda"]));

/// Compresses the encoder's 36 matrices; the mean error of held-out outputs, and the embeddings' mean cosine.
fn pruned(arguments: &[&str]) -> (f64, f64) {
    let real = &*REAL;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (input, small, dense, report) = (checkpoint(), at("small"), at("dense"), at("report.json"));
    let mut compress = vec!["compress", text(&input), "-o", text(&small), "--include", "encoder"];
    compress.extend(["--calib", text(real.acts.path()), "--report", text(&report)]);
    compress.extend(arguments);
    succeed(&run(&compress));
    succeed(&run(&["decompress", text(&small), "-o", text(&dense)]));
    let report = read_json(&report);
    let back = read_tensors(&dense).expect("a dense checkpoint");
    let names: Vec<String> = real.model.network().linear_names().map(str::to_owned).collect();
    assert_eq!((names.len(), report["tensors"].as_array().map(Vec::len)), (36, Some(36)));
    let mut error = 0.0;
    for name in &names {
        let (weight, found) = (&real.model.tensors()[name].values, &back[name].values);
        let gram = &real.held.of(name).expect("held-out moments").gram;
        error += output_error(weight, found, gram).expect("one shape") / names.len() as f64;
    }
    let embedded =
        real.model.with(back).expect("the same network").embed(&real.held_out).expect("embeddings");
    let cosine = mean_cosine(&real.original, &embedded).expect("as many embeddings");
    let bits = report["total"]["bits_per_weight"].as_f64().expect("a number");
    println!("{arguments:?}: {bits:.4} bits, held out {error:.5}, cosine {cosine:.5}");
    (error, cosine)
}

/// Held-out error of the outputs at 2:4: SparseGPT below Wanda below magnitude, and the alternation with its refit at most
/// 0.95 of SparseGPT.
#[test]
fn the_methods_come_in_their_published_order() {
    let [magnitude, gpt, admm] =
        ["magnitude", "sparsegpt", "admm"].map(|method| pruned(&["--method", method]));
    let wanda = *WANDA;
    assert!(wanda.0 <= magnitude.0 && gpt.0 <= wanda.0, "{magnitude:?} {wanda:?} {gpt:?}");
    assert!(admm.0 <= 0.95 * gpt.0, "{admm:?} for {gpt:?}");
    assert!(admm.1 >= gpt.1 && gpt.1 >= wanda.1, "{wanda:?} {gpt:?} {admm:?}");
}

/// What is kept in four bits, with a branch for what that loses; and a few outliers beside three bits.
#[test]
fn sparse_and_quantized_and_low_rank_together() {
    let alone = *WANDA;
    let branch = pruned(&["--method", "wanda", "--rank", "16", "--rounds", "2"]);
    assert!(branch.0 <= 0.9 * alone.0 && branch.1 >= alone.1, "{branch:?} for {alone:?}");
    let int4 = pruned(&["--method", "wanda", "--format", "int4"]);
    assert!(int4.0 <= 1.1 * alone.0, "{int4:?} for {alone:?}");
    let plain = pruned(&["--method", "rtn", "--format", "int3"]);
    let outliers = pruned(&["--method", "rtn", "--format", "int3", "--sparsity", "0.99"]);
    assert!(outliers.0 <= plain.0 && outliers.1 >= plain.1, "{outliers:?} for {plain:?}");
}
