//! How long `P·A·Q = L·D·U` takes beside faer's decompositions, on one thread.
//!
//! `cargo run --release -p rankbit-linalg --example ldu [-- SIDE [RUNS]]`
//!
//! Prints least thread CPU times of interleaved runs, in seconds, and ratios. "faer in place" is its low-level routine
//! and the copy it needs; "faer" its high-level one, which returns separate factors.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::lu::{full_pivoting, partial_pivoting};
use faer::{Mat, Par};
use rankbit_linalg::{LduOptions, Pivoting, Scalar, Stream, faer, ldu};
use std::hint::black_box;

mod clock;

fn faer_partial<T: Scalar>(a: &Mat<T>) -> Mat<T> {
    let (m, n) = a.shape();
    let mut work = a.clone();
    let (mut order, mut inverse) = (vec![0usize; m], vec![0usize; m]);
    let mut buffer = MemBuffer::new(partial_pivoting::factor::lu_in_place_scratch::<usize, T>(
        m,
        n,
        Par::Seq,
        Default::default(),
    ));
    partial_pivoting::factor::lu_in_place(
        work.as_mut(),
        &mut order,
        &mut inverse,
        Par::Seq,
        MemStack::new(&mut buffer),
        Default::default(),
    );
    work
}

fn faer_complete<T: Scalar>(a: &Mat<T>) -> Mat<T> {
    let (m, n) = a.shape();
    let mut work = a.clone();
    let mut orders = [vec![0usize; m], vec![0usize; m], vec![0usize; n], vec![0usize; n]];
    let [rows, rows_inverse, columns, columns_inverse] = &mut orders;
    let mut buffer = MemBuffer::new(full_pivoting::factor::lu_in_place_scratch::<usize, T>(
        m,
        n,
        Par::Seq,
        Default::default(),
    ));
    full_pivoting::factor::lu_in_place(
        work.as_mut(),
        rows,
        rows_inverse,
        columns,
        columns_inverse,
        Par::Seq,
        MemStack::new(&mut buffer),
        Default::default(),
    );
    work
}

fn compare<T: Scalar>(name: &str, side: usize, runs: usize) {
    let mut stream = Stream::new(1, "speed");
    let a = Mat::<T>::from_fn(side, side, |_, _| T::from_f64(stream.next_normal()));
    let with = |pivoting, rank| LduOptions { pivoting, rank };
    let mut least = [f64::INFINITY; 7];
    let mut time = |at: usize, run: &mut dyn FnMut()| least[at] = least[at].min(clock::time(run));
    for _ in 0..runs {
        time(0, &mut || drop(black_box(faer_partial(&a))));
        time(1, &mut || drop(black_box(ldu(a.as_ref(), &with(Pivoting::Partial, None)))));
        time(2, &mut || drop(black_box(ldu(a.as_ref(), &with(Pivoting::Rook, None)))));
        time(3, &mut || drop(black_box(ldu(a.as_ref(), &with(Pivoting::Partial, Some(side / 16))))));
        time(4, &mut || drop(black_box(a.partial_piv_lu())));
    }
    if side <= 2048 {
        for _ in 0..runs.min(3) {
            time(5, &mut || drop(black_box(faer_complete(&a))));
            time(6, &mut || drop(black_box(ldu(a.as_ref(), &with(Pivoting::Complete, None)))));
        }
    }
    let [peer, ours, rook, cut, high, peer_complete, complete] = least;
    println!(
        "{name} {side}²: faer in place {peer:.4}, faer {high:.4}, partial {ours:.4} ({:.3} of faer in place), rook {rook:.4} ({:.3}), \
         rank {} {cut:.4} ({:.3})",
        ours / peer,
        rook / peer,
        side / 16,
        cut / peer
    );
    if side <= 2048 {
        println!(
            "{name} {side}²: faer's complete pivoting {peer_complete:.4}, ours {complete:.4} ({:.3}; {:.2} of partial)",
            complete / peer_complete,
            complete / ours
        );
    }
}

fn main() {
    faer::set_global_parallelism(Par::Seq);
    let mut arguments = std::env::args().skip(1).filter_map(|n| n.parse().ok());
    let side = arguments.next().unwrap_or(4096);
    let runs = arguments.next().unwrap_or(5);
    compare::<f32>("f32", side, runs);
    compare::<f64>("f64", side, runs);
}
