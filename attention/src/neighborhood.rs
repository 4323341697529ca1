//! Neighborhood attention: each query sees the window of tokens around it, on a line, a plane or in a volume.
//!
//! Tokens of one head lie on a grid (the last axis varies fastest). Per axis, of length L: window w, stride s, dilation D.
//! A token i belongs to group `i mod D` and is number `i' = ⌊i/D⌋` there, of `L_g` tokens; it sees its own group only.
//!
//! ```text
//! not causal   leader = min(⌊i'/s⌋·s + ⌊s/2⌋, L_g - 1)      start = clamp(leader - ⌊w/2⌋, 0, L_g - w)      end = start + w
//! causal       leader = min(⌊i'/s⌋·s + s - 1, L_g - 1)      start = max(leader - w + 1, 0)                end = i' + 1
//! ```
//! The neighbors are the product of the axes' intervals: at a border the window moves inwards instead of shrinking, and an even
//! window reaches one further back. Extra keys, seen by every query, may follow.
//! `w = L, s = D = 1` is full attention, `s = w` attention in separate windows.
//!
//! A tile is 16 queries side by side (4×4 on a plane); it reads the box that holds their windows, `∏(t + w - 1)` keys, and hides
//! what a query does not see by one bit. Cost: `2·n·∏(t + w - 1)·(d + e)` flops, `t` the tile's sides: proportional to n. Memory
//! beside the results: the tiles of each thread. The gradient by keys and values collects over the same tiles.
//!
//! **Accuracy**: as [`exact`](crate::exact()), s being the keys of the box.
//!
//! Sources: Hassani, Walton, Li, Li, Shi, *Neighborhood Attention Transformer*, CVPR 2023, arXiv 2204.07143; dilation arXiv
//! 2209.15001; Hassani, Hwu, Shi, *Faster Neighborhood Attention*, arXiv 2403.04690 (fused tiles, causal axes); stride arXiv
//! 2504.16922. Conventions are those of NATTEN 0.21.
//!
//! ```
//! use rankbit_attention::{Axis, NeighborhoodOptions, View, neighborhood};
//! let data: Vec<f32> = (0..20 * 4_u8).map(|i| f32::from(i % 9) - 4.0).collect();
//! let x = View::contiguous(&data, [1, 1, 20, 4])?; // 4 rows of 5 tokens
//! let axes = [Axis::new(4, 3), Axis { causal: true, ..Axis::new(5, 2) }];
//! let found = neighborhood(x, x, x, &axes, &NeighborhoodOptions::default())?;
//! assert_eq!(found.output.shape(), [1, 1, 20, 4]);
//! # Ok::<(), rankbit_attention::Error>(())
//! ```

use alloc::{vec, vec::Vec};
use core::ops::Range;

use crate::tile::{Block, Pattern, Problem, backward, forward};
use crate::{Attention, Element, Error, ExtraGradients, Gradients, View};

/// One axis of the grid of tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Axis {
    /// L: tokens along it.
    pub length: usize,
    /// w, at least 1; `window·dilation ≤ length`.
    pub window: usize,
    /// s: neighbors that share a window, 1 to `window`.
    pub stride: usize,
    /// D, at least 1: distance of a window's tokens.
    pub dilation: usize,
    /// A query sees nothing after it along this axis.
    pub causal: bool,
}

impl Axis {
    /// Stride and dilation 1, not causal.
    pub const fn new(length: usize, window: usize) -> Self {
        Self { length, window, stride: 1, dilation: 1, causal: false }
    }

    fn check(&self) -> Result<(), Error> {
        let bad = |what, requirement, found: usize| {
            Err(Error::InvalidOption { what, requirement, found: found as f64 })
        };
        if self.length == 0 {
            return Ok(());
        }
        if self.window == 0 {
            return bad("window", "at least 1", 0);
        }
        if self.dilation == 0 {
            return bad("dilation", "at least 1", 0);
        }
        if self.window > self.length {
            return bad("window", "at most the length of its axis", self.window);
        }
        if self.window.checked_mul(self.dilation).is_none_or(|span| span > self.length) {
            return bad("dilation", "at most length / window", self.dilation);
        }
        if !(1..=self.window).contains(&self.stride) {
            return bad("stride", "1 to window", self.stride);
        }
        Ok(())
    }

    /// Tokens of group `group`, `group < dilation`.
    fn group_len(&self, group: usize) -> usize {
        self.length / self.dilation + usize::from(group < self.length % self.dilation)
    }

    /// The tokens along this axis that token `i` sees, in order: every `dilation`th of a range. `None` outside the axis.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a window of 0 or longer than the axis, a dilation of 0 or above length / window, a stride of 0
    /// or above the window.
    pub fn neighbors(&self, i: usize) -> Result<Option<impl Iterator<Item = usize> + use<>>, Error> {
        self.check()?;
        if i >= self.length {
            return Ok(None);
        }
        let (group, dilation) = (i % self.dilation, self.dilation);
        Ok(Some(self.range(i / dilation, self.group_len(group)).map(move |key| key * dilation + group)))
    }

    /// Numbers in its group that number `i` of a group of `len` sees.
    fn range(&self, i: usize, len: usize) -> Range<usize> {
        let first = i / self.stride * self.stride;
        if self.causal {
            let leader = (first + self.stride - 1).min(len - 1);
            return (leader + 1).saturating_sub(self.window)..i + 1;
        }
        let leader = (first + self.stride / 2).min(len - 1);
        let start = leader.saturating_sub(self.window / 2).min(len - self.window);
        start..start + self.window
    }
}

/// Options of [`neighborhood`] and [`neighborhood_gradient`].
#[derive(Clone, Copy, Debug)]
pub struct NeighborhoodOptions<'a, T> {
    /// τ, finite; `None` for `1/√head_dim`.
    pub scale: Option<f64>,
    /// Keys and values `[batch, kv_heads, extra tokens, ..]` that every query sees besides its neighbors.
    pub extra: Option<(View<'a, T>, View<'a, T>)>,
}

impl<T> Default for NeighborhoodOptions<'_, T> {
    fn default() -> Self {
        Self { scale: None, extra: None }
    }
}

/// Queries of a tile.
const LANES: usize = 16;
/// Tiles that one task walks through.
const TILES: usize = 32;

/// Neighborhood attention; see the [module](self). `axes`: one to three, the product of their lengths is the number of tokens
/// (queries and keys alike).
///
/// # Errors
/// As [`exact`](crate::exact()), and [`Error::InvalidOption`] for no axis or more than three, and for what [`Axis::neighbors`]
/// refuses.
pub fn neighborhood<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    axes: &[Axis],
    options: &NeighborhoodOptions<'_, T>,
) -> Result<Attention<T>, Error> {
    let problem = Problem::new(query, key, value, options.extra, options.scale)?;
    forward::<T, LANES>(&problem, &Grid::new(&problem, axes)?)
}

/// Gradients of `Σ upstream·output` by queries, keys, values and, where there are any, extra keys and values, from what
/// [`neighborhood`] found for the same operands.
///
/// # Errors
/// As [`neighborhood`], and for an `upstream` or a `result` of another shape.
pub fn neighborhood_gradient<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    axes: &[Axis],
    options: &NeighborhoodOptions<'_, T>,
    result: &Attention<T>,
    upstream: View<'_, T>,
) -> Result<(Gradients<T>, Option<ExtraGradients<T>>), Error> {
    let problem = Problem::new(query, key, value, options.extra, options.scale)?;
    let found = backward::<T, LANES>(&problem, &Grid::new(&problem, axes)?, result, upstream, false)?;
    Ok((found.gradients, found.extra))
}

/// The tiles of a grid of three axes (leading ones of length 1), group by group.
struct Grid {
    axes: [Axis; 3],
    /// Sides of a tile; their product is at most [`LANES`].
    sides: [usize; 3],
    tokens: usize,
    extra: usize,
    /// Of each combination of groups: its number of tiles, all before included.
    ends: Vec<usize>,
}

/// A place in the grid, one number per axis.
type Place = [usize; 3];

impl Grid {
    fn new<T: Element>(problem: &Problem<'_, T>, axes: &[Axis]) -> Result<Self, Error> {
        let (given, found) = (axes.len(), axes.len() as f64);
        if !(1..=3).contains(&given) {
            return Err(Error::InvalidOption { what: "axes", requirement: "one to three", found });
        }
        let mut all = [Axis::new(1, 1); 3];
        all[3 - given..].copy_from_slice(axes);
        all.iter().try_for_each(Axis::check)?;
        let product = |a: usize, axis: &Axis| a.checked_mul(axis.length);
        let tokens = all.iter().try_fold(1, product).ok_or(Error::TooLarge { what: "the grid" })?;
        for (what, view) in [("query", problem.query), ("key", problem.key)] {
            let found = view.shape();
            let expected = [found[0], found[1], tokens, found[3]];
            if found != expected {
                return Err(Error::ShapeMismatch { what, expected, found });
            }
        }
        let sides = match given {
            1 => [1, 1, 16],
            2 => [1, 4, 4],
            _ => [2, 2, 4],
        };
        let extra = problem.extra.map_or(0, |(key, _)| key.shape()[2]);
        let mut grid = Self { axes: all, sides, tokens, extra, ends: vec![] };
        if tokens > 0 {
            let groups: usize = all.iter().map(|axis| axis.dilation).product();
            let mut end = 0;
            for group in 0..groups {
                end += grid.tiles(grid.groups(group)).iter().product::<usize>();
                grid.ends.push(end);
            }
        }
        Ok(grid)
    }

    /// Each axis' group of a combination's number.
    fn groups(&self, number: usize) -> Place {
        unravel(number, self.axes.map(|axis| axis.dilation))
    }

    fn lens(&self, groups: Place) -> Place {
        core::array::from_fn(|a| self.axes[a].group_len(groups[a]))
    }

    /// Tiles along each axis.
    fn tiles(&self, groups: Place) -> Place {
        let lens = self.lens(groups);
        core::array::from_fn(|a| lens[a].div_ceil(self.sides[a]))
    }

    /// The token at a place of a combination of groups.
    fn token(&self, groups: Place, place: Place) -> usize {
        (0..3).fold(0, |token, a| token * self.axes[a].length + place[a] * self.axes[a].dilation + groups[a])
    }

    /// For each axis the first number that any of `queries` sees, and the last plus 1.
    fn bounds(&self, lens: Place, first: Place, last: Place) -> [Range<usize>; 3] {
        // Starts and ends do not fall along an axis.
        core::array::from_fn(|a| {
            let axis = &self.axes[a];
            axis.range(first[a], lens[a]).start..axis.range(last[a], lens[a]).end
        })
    }
}

/// Row-major coordinates of `index`.
fn unravel(mut index: usize, sizes: Place) -> Place {
    let mut place = [0; 3];
    for a in (0..3).rev() {
        place[a] = index % sizes[a];
        index /= sizes[a];
    }
    place
}

/// Every place of a box, in row-major order.
fn places(ranges: [Range<usize>; 3]) -> impl Iterator<Item = Place> {
    let [x, y, z] = ranges;
    x.flat_map(move |x| {
        let z = z.clone();
        y.clone().flat_map(move |y| z.clone().map(move |z| [x, y, z]))
    })
}

impl<T: Element> Pattern<T> for Grid {
    fn blocks(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn blocks_of_task(&self) -> usize {
        TILES
    }

    fn fill(&self, index: usize, block: &mut Block) {
        let number = self.ends.partition_point(|&end| end <= index);
        let before = number.checked_sub(1).map_or(0, |i| self.ends[i]);
        let groups = self.groups(number);
        let lens = self.lens(groups);
        let tile = unravel(index - before, self.tiles(groups));
        let first: Place = core::array::from_fn(|a| tile[a] * self.sides[a]);
        let end: Place = core::array::from_fn(|a| (first[a] + self.sides[a]).min(lens[a]));
        block.queries.extend(
            places(core::array::from_fn(|a| first[a]..end[a])).map(|place| self.token(groups, place)),
        );
        let bounds = self.bounds(lens, first, end.map(|end| end - 1));
        let queries = places(core::array::from_fn(|a| first[a]..end[a]));
        // Along each axis: which queries see each number of the box.
        let mut seen: [Vec<u32>; 3] = bounds.clone().map(|bounds| vec![0; bounds.len()]);
        for (lane, place) in queries.enumerate() {
            for (a, seen) in seen.iter_mut().enumerate() {
                for number in self.axes[a].range(place[a], lens[a]) {
                    seen[number - bounds[a].start] |= 1 << lane;
                }
            }
        }
        let [x, y, z] = bounds.clone();
        let step = self.axes[2].dilation;
        for (x, by_x) in x.zip(&seen[0]) {
            for (y, by_y) in y.clone().zip(&seen[1]) {
                let first = self.token(groups, [x, y, z.start]);
                block.keys.extend((0..z.len()).map(|i| first + i * step));
                block.bits.extend(seen[2].iter().map(|by_z| by_x & by_y & by_z));
            }
        }
        block.keys.extend(self.tokens..self.tokens + self.extra);
        block.bits.extend(core::iter::repeat_n(u32::MAX, self.extra));
    }

    fn bias(&self) -> Option<View<'_, T>> {
        None
    }
}
