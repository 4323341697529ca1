//! Products of one Toeplitz matrix with many columns, sixteen at a time in the lanes of vectors; formulas are the
//! [module](super)'s.

use alloc::{vec, vec::Vec};

use crate::Element;
use crate::kernel::Kernels;
use crate::kernel::fourier::{self, Cell, Factor};

/// Real columns that are transformed together: two in each lane.
pub(super) const COLUMNS: usize = 2 * fourier::COLUMNS;

/// The transforms of one number of rows.
pub(super) struct Plan {
    steps: fourier::Plan,
    /// ωʲ.
    twist: Vec<Factor>,
    kernels: Kernels,
}

impl Plan {
    pub(super) fn new(rows: usize) -> Self {
        let steps = fourier::Plan::new(rows);
        let len = steps.len();
        let twist = (0..len).map(|j| fourier::root(j, 2 * len)).collect();
        Self { steps, twist, kernels: Kernels::current() }
    }

    fn len(&self) -> usize {
        self.steps.len()
    }
}

/// The spectra of the circulant and the skew-circulant part, over N.
pub(super) struct Spectrum {
    circulant: Vec<Factor>,
    skew: Vec<Factor>,
}

impl Spectrum {
    /// Of weights for distances `-(n - 1) … n - 1`.
    pub(super) fn new(plan: &Plan, weights: &[f64]) -> Self {
        let (len, n) = (plan.len(), weights.len().div_ceil(2));
        // g_t = c_{-t} lies at n - 1 - t.
        let below = |t: usize| if t < n { weights[n - 1 - t] } else { 0.0 };
        let above = |t: usize| if (1..n).contains(&t) { weights[n - 1 + t] } else { 0.0 };
        let factor = 0.5 / len as f64;
        // The circulant part in the first lane, the skew one in the second.
        let mut cells = vec![[[0.0; fourier::COLUMNS]; 2]; len];
        for (t, (cell, [c, s, _])) in cells.iter_mut().zip(&plan.twist).enumerate() {
            let (x, y) = (below(t) * factor, above(len - t) * factor);
            cell[0][0] = x + y;
            (cell[0][1], cell[1][1]) = ((x - y) * c, (x - y) * s);
        }
        fourier::forward(plan.kernels, &plan.steps, &mut cells);
        let lane =
            |lane: usize| cells.iter().map(|cell| [cell[0][lane], cell[1][lane], -cell[1][lane]]).collect();
        Self { circulant: lane(0), skew: lane(1) }
    }
}

/// Columns on their way through the transforms: the first eight are real parts, the others imaginary parts.
pub(super) struct Work {
    straight: Vec<Cell>,
    twisted: Vec<Cell>,
}

impl Work {
    pub(super) fn new(plan: &Plan) -> Self {
        let zero = [[0.0; fourier::COLUMNS]; 2];
        Self { straight: vec![zero; plan.len()], twisted: vec![zero; plan.len()] }
    }

    /// Row i of the columns, at most [`COLUMNS`].
    pub(super) fn put<T: Element>(&mut self, i: usize, row: &[T]) {
        let lanes = self.straight[i].as_flattened_mut();
        lanes.iter_mut().zip(row).for_each(|(lane, &x)| *lane = x.to_f64());
        lanes[row.len()..].fill(0.0);
    }

    /// Row i of the product.
    pub(super) fn row(&self, i: usize) -> &[f64] {
        self.straight[i].as_flattened()
    }

    /// The product, in place, of columns whose first `rows` rows were put.
    pub(super) fn multiply(&mut self, plan: &Plan, matrix: &Spectrum, rows: usize) {
        self.straight[rows..].fill([[0.0; fourier::COLUMNS]; 2]);
        let spectra = [matrix.circulant.as_slice(), matrix.skew.as_slice()];
        let (straight, twisted) = (&mut self.straight, &mut self.twisted);
        fourier::multiply(plan.kernels, &plan.steps, &plan.twist, spectra, straight, twisted);
    }
}
