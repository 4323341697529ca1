//! The example `digits`: a real classifier in integers against its float twin.

#[path = "../../examples/digits/data.rs"]
mod data;
#[path = "../../examples/digits/network.rs"]
mod network;
#[path = "../../examples/digits/twin.rs"]
mod twin;

/// Of 597 images that neither training nor calibration saw, half a percent are 2 and two percent are 11.
#[test]
fn few_bits_lose_few_images() {
    let (train, test) = data::digits();
    let twin = twin::Twin::new().unwrap();
    let float = test.right(&twin.classify(&test));
    assert_eq!(test.labels.len(), 597);
    assert!(float >= 588, "the float network gets 98.5 %: {float}");
    for (bits, lost) in [(8, 2), (4, 11)] {
        let network = twin.calibrate(&train.first(300), bits).unwrap();
        let right = test.right(&network.classify(&test.pixels).unwrap());
        assert!(right + lost >= float, "{right} of {float} at {bits} bits");
        assert!(network.bound() <= 0x7FFF_FFFF, "all sums are i32");
    }
}

#[test]
fn operations_are_counted() {
    let work = twin::work().unwrap();
    let (macs, weights) =
        (work.iter().map(|w| w.macs).sum::<u64>(), work.iter().map(|w| w.weights).sum::<u64>());
    assert_eq!(weights, 9 * (16 + 256 + 256 + 512) + 320);
    assert_eq!(macs, 9 * (64 * (16 + 256 + 256) + 16 * 512) + 320);
}
