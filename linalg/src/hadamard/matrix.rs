//! The ±1 matrices of orders that are no power of two.
//!
//! ```text
//! Paley I    q prime, q = 3 mod 4, n = q + 1:      H = I + [[0, 1ᵀ], [-1, Q]],      Q_ij = χ(i - j)
//! Paley II   q prime, q = 1 mod 4, n = 2·(q + 1):  C = [[0, 1ᵀ], [1, Q]],  0 → [[1, -1], [-1, -1]],
//!                                                  ±1 → ±[[1, 1], [1, -1]]
//! Williamson n = 4·43:  [[A, B, C, D], [-B, A, -D, C], [-C, D, A, -B], [-D, -C, B, A]],
//!                       A … D symmetric circulants with A² + B² + C² + D² = 172·I
//! ```
//! χ is the quadratic character modulo q. Paley II is symmetric, the other two are not.
//!
//! Sources: R. E. A. C. Paley, *On orthogonal matrices* (1933); J. Williamson, *Hadamard's determinant theorem and the
//! sum of four squares* (1944). The four circulants of order 43 were found by a search among those constant on the
//! cosets of {±1, ±6, ±36}.

use alloc::{vec, vec::Vec};

/// The orders, besides powers of two, that are built in. Their odd parts differ, so a width fits at most one.
pub(super) const ORDERS: [usize; 12] = [12, 20, 28, 36, 44, 60, 76, 84, 108, 140, 148, 172];

/// How an order is built.
#[derive(Clone, Copy)]
enum Construction {
    /// Paley I of this prime.
    First(usize),
    /// Paley II of this prime.
    Second(usize),
    /// Williamson's array of the circulants of order 43.
    Williamson,
}

/// Smallest members of the cosets of {±1, ±6, ±36} modulo 43, without 0.
const COSETS: [usize; 7] = [1, 2, 3, 4, 5, 9, 10];

/// For each of A, B, C, D the cosets (bit i: `COSETS[i]`) on which its first row is -1.
const NEGATIVE: [u32; 4] = [11, 29, 44, 69];

/// The ±1 matrix of order `order`, row-major; `[1]` for an order that is not in [`ORDERS`].
pub(super) fn signs(order: usize) -> Vec<i8> {
    match construction(order) {
        None => vec![1],
        Some(Construction::First(q)) => first(q),
        Some(Construction::Second(q)) => second(q),
        Some(Construction::Williamson) => williamson(),
    }
}

const fn construction(order: usize) -> Option<Construction> {
    match order {
        12 | 20 | 44 | 60 | 84 | 108 | 140 => Some(Construction::First(order - 1)),
        28 | 36 | 76 | 148 => Some(Construction::Second(order / 2 - 1)),
        172 => Some(Construction::Williamson),
        _ => None,
    }
}

/// χ(0), …, χ(q - 1): 0, then 1 for squares and -1 for the others.
fn character(q: usize) -> Vec<i8> {
    let mut values = vec![-1; q];
    for i in 1..q {
        values[i * i % q] = 1;
    }
    values[0] = 0;
    values
}

/// [[0, 1ᵀ], [border, Q]], row-major, of order q + 1.
fn conference(q: usize, border: i8) -> Vec<i8> {
    let character = character(q);
    let mut entries = Vec::with_capacity((q + 1) * (q + 1));
    entries.push(0);
    entries.extend((0..q).map(|_| 1));
    for i in 0..q {
        entries.push(border);
        entries.extend((0..q).map(|j| character[(i + q - j) % q]));
    }
    entries
}

fn first(q: usize) -> Vec<i8> {
    let mut entries = conference(q, -1);
    for i in 0..=q {
        entries[i * (q + 1) + i] += 1;
    }
    entries
}

fn second(q: usize) -> Vec<i8> {
    let conference = conference(q, 1);
    let order = 2 * (q + 1);
    let mut entries = Vec::with_capacity(order * order);
    for i in 0..order {
        for j in 0..order {
            let value = conference[i / 2 * (q + 1) + j / 2];
            entries.push(match (value, i % 2, j % 2) {
                (0, 0, 0) => 1,
                (0, _, _) => -1,
                (_, 1, 1) => -value,
                _ => value,
            });
        }
    }
    entries
}

fn williamson() -> Vec<i8> {
    const Q: usize = 43;
    let circulants = NEGATIVE.map(|negative| {
        let mut row = [1_i8; Q];
        for (i, coset) in COSETS.iter().enumerate() {
            if negative >> i & 1 == 1 {
                for multiplier in [1, 6, 36, Q - 1, Q - 6, Q - 36] {
                    row[coset * multiplier % Q] = -1;
                }
            }
        }
        row
    });
    // Which circulant, with which sign, in each block.
    const BLOCKS: [[(usize, i8); 4]; 4] = [
        [(0, 1), (1, 1), (2, 1), (3, 1)],
        [(1, -1), (0, 1), (3, -1), (2, 1)],
        [(2, -1), (3, 1), (0, 1), (1, -1)],
        [(3, -1), (2, -1), (1, 1), (0, 1)],
    ];
    let mut entries = Vec::with_capacity(16 * Q * Q);
    for i in 0..4 * Q {
        for j in 0..4 * Q {
            let (which, sign) = BLOCKS[i / Q][j / Q];
            entries.push(sign * circulants[which][(j % Q + Q - i % Q) % Q]);
        }
    }
    entries
}
