//! A buffer that shows stray writes: guard words stand before and behind its logical range.

use std::fmt::Debug;
use std::ops::Range;

/// `len` elements between two runs of guard elements. A kernel gets [`Guarded::logical`], or the longer
/// [`Guarded::with_tail`] where it has to be trusted to stop by itself; [`Guarded::check`] shows what it did.
#[derive(Clone, Debug)]
pub struct Guarded<T> {
    words: Vec<T>,
    logical: Range<usize>,
    guard: T,
}

impl<T: Copy + PartialEq + Debug> Guarded<T> {
    /// `len` elements of `fill`, with `margin` guard elements on either side.
    ///
    /// `guard` must equal itself (no NaN), and should be a value that no correct result takes.
    pub fn new(len: usize, margin: usize, fill: T, guard: T) -> Self {
        let mut words = vec![guard; margin];
        words.resize(margin + len, fill);
        words.resize(margin + len + margin, guard);
        Self { words, logical: margin..margin + len, guard }
    }

    /// The logical elements.
    pub fn logical(&mut self) -> &mut [T] {
        &mut self.words[self.logical.clone()]
    }

    /// The logical elements and the guards behind them.
    pub fn with_tail(&mut self) -> &mut [T] {
        &mut self.words[self.logical.start..]
    }

    /// The logical elements, once every guard is known to be untouched.
    ///
    /// # Panics
    /// When a guard has changed; the message gives its place relative to the logical start.
    #[track_caller]
    pub fn check(&self) -> &[T] {
        for (index, word) in self.words.iter().enumerate() {
            assert!(
                self.logical.contains(&index) || *word == self.guard,
                "guard {} relative to a buffer of {} was overwritten with {word:?}",
                index as isize - self.logical.start as isize,
                self.logical.len(),
            );
        }
        &self.words[self.logical.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_inside_are_fine() {
        let mut buffer = Guarded::new(3, 2, 0.0f32, 1e30);
        buffer.logical().copy_from_slice(&[1.0, 2.0, 3.0]);
        assert_eq!(buffer.with_tail().len(), 5);
        assert_eq!(buffer.check(), [1.0, 2.0, 3.0]);
    }

    #[test]
    #[should_panic(expected = "guard 3 relative to a buffer of 3")]
    fn a_write_past_the_end_is_seen() {
        let mut buffer = Guarded::new(3, 2, 0u32, 7);
        buffer.with_tail()[3] = 0;
        buffer.check();
    }
}
