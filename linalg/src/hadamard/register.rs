//! What the butterflies need of a vector register; the portable one.

/// Entries that are worked on in step.
pub(super) trait Register: Copy {
    /// What the lanes hold.
    type Element: Copy;
    /// As many entries as there are lanes.
    type Block;
    /// Lanes.
    const WIDTH: usize;
    /// Binary logarithm of the most registers that a pass holds at a time.
    const RADIX: u32;

    /// Whole blocks of a slice; what does not fill one is left out.
    fn blocks(entries: &[Self::Element]) -> &[Self::Block];
    /// [`Register::blocks`], to be changed.
    fn blocks_mut(entries: &mut [Self::Element]) -> &mut [Self::Block];
    fn splat(value: Self::Element) -> Self;
    fn load(block: &Self::Block) -> Self;
    fn store(self, block: &mut Self::Block);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// self·b + c, for exact products: rounded once.
    fn product_sum(self, b: Self, c: Self) -> Self;
    /// −self.
    fn negated(self) -> Self;
    /// Rows to columns.
    #[inline(always)]
    fn transposed(x: [[Self::Element; 4]; 4]) -> [[Self::Element; 4]; 4] {
        let [a, b, c, d] = x;
        [
            [a[0], b[0], c[0], d[0]],
            [a[1], b[1], c[1], d[1]],
            [a[2], b[2], c[2], d[2]],
            [a[3], b[3], c[3], d[3]],
        ]
    }
    /// The butterflies at distances 1, 2, … `WIDTH`/2.
    fn inside(self) -> Self;
}

/// Four entries, for any machine.
#[derive(Clone, Copy)]
pub(super) struct Plain<T>([T; 4]);

/// [`Register`] of four entries.
macro_rules! plain {
    ($element:ty) => {
        impl Register for Plain<$element> {
            type Element = $element;
            type Block = [$element; 4];
            const WIDTH: usize = 4;
            const RADIX: u32 = 2;

            #[inline(always)]
            fn blocks(entries: &[$element]) -> &[[$element; 4]] {
                entries.as_chunks().0
            }

            #[inline(always)]
            fn blocks_mut(entries: &mut [$element]) -> &mut [[$element; 4]] {
                entries.as_chunks_mut().0
            }

            #[inline(always)]
            fn splat(value: $element) -> Self {
                Self([value; 4])
            }

            #[inline(always)]
            fn load(block: &[$element; 4]) -> Self {
                Self(*block)
            }

            #[inline(always)]
            fn store(self, block: &mut [$element; 4]) {
                *block = self.0;
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
                Self([a + e, b + f, c + g, d + h])
            }

            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
                Self([a - e, b - f, c - g, d - h])
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
                Self([a * e, b * f, c * g, d * h])
            }

            #[inline(always)]
            fn product_sum(self, b: Self, c: Self) -> Self {
                self.mul(b).add(c)
            }

            #[inline(always)]
            fn negated(self) -> Self {
                let [a, b, c, d] = self.0;
                Self([-a, -b, -c, -d])
            }

            #[inline(always)]
            fn inside(self) -> Self {
                let [a, b, c, d] = self.0;
                let (a, b, c, d) = (a + b, a - b, c + d, c - d);
                Self([a + c, b + d, a - c, b - d])
            }
        }
    };
}
plain!(f32);
plain!(f64);
