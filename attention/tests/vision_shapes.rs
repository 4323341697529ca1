//! Shapes and operands of the vision blocks, for their tests.

use rankbit_attention::Tensor;
use rankbit_attention::vision::{FactorizationOptions, RectangleOptions};

use crate::common::random;
use crate::vision_blocks::Block;

/// Shapes of an image and weights that fit the block; `size` makes images larger.
pub(crate) fn shapes(block: Block, [batch, size, c]: [usize; 3]) -> Vec<[usize; 4]> {
    let (row, square) = ([1, 1, 1, c], [1, 1, c, c]);
    match block {
        Block::Ela(groups) => vec![[batch, size, size + 1, c], [c, 1, 3, c / groups], row, row],
        Block::Rectangle(RectangleOptions { heads, window: [h, w], .. }) => {
            let (side, table) = (h * w * size, [1, 1, heads / 2, (2 * h - 1) * (2 * w - 1)]);
            let (three, bias) = ([1, 1, 3 * c, c], [1, 1, 1, 3 * c]);
            vec![[batch, side, h * w, c], three, bias, table, table, [c, 3, 3, 1], row, square, row]
        }
        Block::Offset(_) => {
            let (up, down) = ([1, 1, 3, c], [1, 1, 1, 3]);
            let first = [1, 1, c, 2];
            vec![first, row, row, row, square, row, row, row, square, row, row, row, up, down]
        }
        Block::HighFrequency => {
            let (half, short) = (c / 2, [1, 1, 1, c / 2]);
            let image = [batch, size, size + 1, c];
            vec![image, [half, 3, 3, half], short, [1, 1, half, half], short, square, row]
        }
        Block::Fusion(heads) => {
            let (image, f, wide) = ([batch, size, size + 2, c], 3, [1, 1, 2 * c, c]);
            let mut found = vec![image, image, row, row, square, [c, 3, 3, 1], wide, [2 * c, 3, 3, 1]];
            found.extend([
                [1, 1, 1, heads],
                square,
                row,
                row,
                [1, 1, 2 * f, c],
                [2 * f, 3, 3, 1],
                [1, 1, c, f],
            ]);
            found
        }
        Block::Ranks(_) => {
            let (f, image) = (5, [batch, size, size + 2, c]);
            let (inner, near) = ([1, 1, 1, f], [f, 3, 3, 1]);
            let mut found = vec![image, [c, 3, 3, 1], row, row, row, [1, 1, 4 * c, c], [1, 1, 1, 4 * c]];
            found.extend([[c, 5, 5, 1], row, square, row, row, row, [1, 1, f, c], inner, near, inner]);
            found.extend([[1, 1, c, f], row]);
            found
        }
        Block::Factorization(FactorizationOptions { heads, reduction, .. }) => {
            let c = if reduction == 1 { c } else { 2 * c };
            let [g, n, f] =
                if reduction == 1 { [c / 8, c / 8 * 7, 0] } else { [c / 8, c / 16 * 7, c / 16 * 7] };
            let layer = |out: usize, len: usize| [[1, 1, out, len], [1, 1, 1, out]];
            let kernel = |len: usize| [[len, 3, 3, 1], [1, 1, 1, len]];
            let mut found = vec![[batch, size + 3, size + 4, c]];
            found.extend(
                [layer(c, c), [[g, reduction, reduction, g], [1, 1, 1, g]], [[1, 1, 1, g]; 2]].concat(),
            );
            found.extend([layer(2 * g, g), kernel(g), kernel(n + f), layer(n + f, n + f)].concat());
            for len in [n, f] {
                let one = len / heads;
                found.extend([layer(one, one), layer(2 * one, one), kernel(len)].concat());
            }
            found.extend(layer(c, c));
            found
        }
        Block::Parallel => {
            let (down, up) = ([1, 1, 3, c], [1, 1, c, 3]);
            vec![[batch, size, size + 3, c], row, down, up, down, down]
        }
        Block::Sequential => {
            let (down, short) = ([1, 1, 3, c], [1, 1, 1, 4]);
            let image = [batch, size, size + 3, c];
            vec![image, row, down, [1, 1, 4, 3], short, short, short, [1, 1, c, 4], row, down, down]
        }
        Block::Variational(_) => {
            let (s, m, q, k, v) = (3, 5, 2, 6, 2);
            let each = |len| [batch, 1, size + 4, len];
            let layer = |out: usize, len: usize| [[1, 1, out, len], [1, 1, 1, out]];
            let mut found = vec![each(c), each(s), each(m), each(s), each(q)];
            found.extend(
                [layer(m, s + c), layer(3 * m, m), layer(3 * m, m), layer(k, m), layer(2 * s, k)].concat(),
            );
            found.extend([layer(v, q), layer(k, m + v), layer(2 * s, k), layer(c, m + s)].concat());
            found
        }
        Block::Compatible => {
            let layer = |out: usize, len: usize| [[1, 1, out, len], [1, 1, 1, out]];
            // More pairs than one task takes.
            let each = |len| [batch, 1, size * 40, len];
            let mut found = vec![each(c); 4];
            found.extend(
                [layer(c, c), layer(c, c), layer(c, c), layer(2, c), layer(2, 2), layer(c, 2)].concat(),
            );
            found.extend([each(3), each(3)]);
            found
        }
        Block::References(count) => {
            let (r, one) = (3, [1, 1, 1, 1]);
            let (wide, kernel) = ([1, 1, 1, 2 * r], [2 * r, 3, 3, 2 * r]);
            let image = [batch, size + 2, 3, c];
            let mut found = vec![image, [batch, count * image[1], 3, r], [1, 1, r, c], [1, 1, 1, r], one];
            found.extend([[r, 3, 3, r], [1, 1, 1, r], one, [2 * r, 3, 3, r], wide]);
            found.extend([[1, 1, 2 * r, c + 2 * r], wide]);
            found.extend([[kernel, wide]; 4].concat());
            found.extend([[1, 1, c, c + 2 * r], row]);
            found
        }
    }
}

pub(crate) fn operands(block: Block, sizes: [usize; 3], seed: u64) -> Vec<Tensor<f64>> {
    let shapes = shapes(block, sizes);
    let draw = |(shape, seed)| random::<f64>(shape, seed);
    let mut found: Vec<Tensor<f64>> = shapes.into_iter().zip(seed..).map(draw).collect();
    // Scores of order 1.
    found[1..].iter_mut().flat_map(Tensor::as_mut_slice).for_each(|x| *x *= 0.5);
    found
}
