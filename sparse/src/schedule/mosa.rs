use super::same_shape;
use crate::{Error, Mask};
use alloc::vec::Vec;
use rankbit_linalg::Stream;
use rankbit_linalg::faer::{Mat, MatRef};

/// MoSA: one adapter matrix split into E experts that share no entry; a training step uses a random one, inference all.
///
/// ```text
/// M_1 + … + M_E = 1;   step: W∘M_e, e drawn uniformly;   merged = Σ_e W_e∘M_e
/// ```
/// The merged adapter has the size of a plain one and needs no routing. A step sees 1/E of the entries and the merged
/// forward pass all of them, without a factor for it, as in the reference. E = 1 is a plain adapter.
///
/// Source: Zhang et al., arXiv 2312.02923, sections 3.2 and 3.3.
#[derive(Clone, Debug)]
pub struct Mosa {
    masks: Vec<Mask>,
    stream: Stream,
}

impl Mosa {
    /// A random partition into `experts` experts whose sizes differ by at most 1; random numbers depend on seed and name.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for no expert.
    pub fn new(shape: (usize, usize), experts: usize, (seed, name): (u64, &str)) -> Result<Self, Error> {
        if experts == 0 {
            return Err(Error::InvalidOption { what: "experts", requirement: "at least 1", found: 0.0 });
        }
        let len = shape.0.checked_mul(shape.1).ok_or(Error::TooLarge { what: "adapter" })?;
        let mut stream = Stream::new(seed, name);
        let mut entries: Vec<usize> = (0..len).collect();
        for last in (1..len).rev() {
            let other = usize::try_from(stream.next_below(last as u64 + 1)).unwrap_or(last);
            entries.swap(last, other);
        }
        let mut masks: Vec<Mask> = (0..experts).map(|_| Mask::empty(shape)).collect();
        for (k, at) in entries.into_iter().enumerate() {
            masks[k % experts].insert(at / shape.1, at % shape.1);
        }
        Ok(Self { masks, stream })
    }

    /// The experts.
    pub fn experts(&self) -> &[Mask] {
        &self.masks
    }

    /// The expert of the next training step.
    pub fn draw(&mut self) -> usize {
        let drawn = self.stream.next_below(self.masks.len() as u64);
        usize::try_from(drawn).unwrap_or(0)
    }

    /// What each expert holds of `weight`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`].
    pub fn split(&self, weight: MatRef<'_, f32>) -> Result<Vec<Mat<f32>>, Error> {
        self.masks.iter().map(|mask| mask.apply(weight)).collect()
    }

    /// The merged adapter: every expert's own entries.
    ///
    /// # Errors
    /// [`Error::PartLength`] for another number of experts; [`Error::ShapeMismatch`].
    pub fn merge(&self, experts: &[Mat<f32>]) -> Result<Mat<f32>, Error> {
        if experts.len() != self.masks.len() {
            let (expected, found) = (self.masks.len(), experts.len());
            return Err(Error::PartLength { part: "experts", expected, found });
        }
        let shape = self.masks.first().map_or((0, 0), Mask::shape);
        let mut out = Mat::zeros(shape.0, shape.1);
        for (mask, expert) in self.masks.iter().zip(experts) {
            same_shape("expert", shape, expert.shape())?;
            for i in 0..shape.0 {
                mask.row(i).for_each(|j| out[(i, j)] = expert[(i, j)]);
            }
        }
        Ok(out)
    }
}
