//! Subspaces as points: geodesics, retraction, transport, angles on the Grassmann manifold; class representations on it.
//!
//! ```text
//! a point: span(S), S: D×k, SᵀS = I, any basis of it        a tangent vector: H: D×k, SᵀH = 0
//! H = U·Σ·Vᵀ      S(t) = exp_S(t·H) = (S·V·cos tΣ + U·sin tΣ)·Vᵀ
//! ```
//! All in f64 inside, whatever the element type. Every function costs O(D·k²).
//!
//! Sources: A. Edelman, T. A. Arias, S. T. Smith, *The geometry of algorithms with orthogonality constraints* (1998),
//! theorems 2.3 and 2.4 (geodesics, transport); T. Bendokat, R. Zimmermann, P.-A. Absil, *A Grassmann manifold handbook*,
//! arXiv 2011.13699, section 5.2 (logarithm); Å. Björck, G. H. Golub (1973) (angles).

mod classes;

use alloc::vec::Vec;

use faer::{Mat, MatRef};

pub use classes::{ClassGradients, GrassmannClasses, Retraction, SgdOptions};

use crate::svd::{orthonormal, small};
use crate::{Error, Scalar, dense};

/// How far SᵀS may be from I: 1e-4 in each entry, for bases kept in f32.
const ORTHONORMALITY: f64 = 1e-4;

/// An orthonormal basis of the columns' span, D×k: Q of QR with a positive diagonal of R, so that nearly orthonormal input
/// stays where it is. Dependent columns are completed by arbitrary directions.
///
/// # Errors
/// [`Error::RankOutOfRange`] for more columns than rows; [`Error::NonFinite`].
pub fn orthonormalize<T: Scalar>(a: MatRef<'_, T>) -> Result<Mat<T>, Error> {
    let largest = dense::largest_modulus(a, "basis")?;
    if a.ncols() > a.nrows() {
        return Err(Error::RankOutOfRange { rank: a.ncols(), max: a.nrows() });
    }
    let scale = dense::power_of_two(-dense::scale_exponent::<T>(largest));
    Ok(dense::convert(positive_qr(dense::convert(a, scale)).as_ref(), 1.0))
}

/// Q with the signs that make R's diagonal positive.
fn positive_qr(a: Mat<f64>) -> Mat<f64> {
    let (mut q, r) = orthonormal::factor(a);
    for (j, column) in q.col_iter_mut().enumerate() {
        if r[(j, j)] < 0.0 {
            column.iter_mut().for_each(|x| *x = -*x);
        }
    }
    q
}

/// A basis in f64, checked: finite, no wider than tall, orthonormal to 1e-4.
fn basis<T: Scalar>(s: MatRef<'_, T>) -> Result<Mat<f64>, Error> {
    dense::largest_modulus(s, "basis")?;
    if s.ncols() > s.nrows() {
        return Err(Error::RankOutOfRange { rank: s.ncols(), max: s.nrows() });
    }
    let s: Mat<f64> = dense::convert(s, 1.0);
    let gram = dense::product(s.transpose(), s.as_ref());
    for (j, column) in gram.col_iter().enumerate() {
        for (i, &x) in column.iter().enumerate() {
            let off = (x - if i == j { 1.0 } else { 0.0 }).abs();
            if off.is_nan() || off > ORTHONORMALITY {
                let requirement = "at most 1e-4: orthonormalize it first";
                return Err(Error::InvalidOption {
                    what: "|SᵀS − I| of a basis", requirement, found: off
                });
            }
        }
    }
    Ok(s)
}

/// A matrix of the shape of a basis, in f64.
fn companion<T: Scalar>(what: &'static str, h: MatRef<'_, T>, s: &Mat<f64>) -> Result<Mat<f64>, Error> {
    if h.shape() != s.shape() {
        return Err(Error::ShapeMismatch { what, expected: s.shape(), found: h.shape() });
    }
    dense::largest_modulus(h, what)?;
    Ok(dense::convert(h, 1.0))
}

/// M − S·(SᵀM), for M of any width.
fn projected(s: &Mat<f64>, m: &Mat<f64>) -> Mat<f64> {
    let inner = dense::product(s.transpose(), m.as_ref());
    m - dense::product(s.as_ref(), inner.as_ref())
}

/// a·diag(f).
fn scaled(a: &Mat<f64>, f: impl Iterator<Item = f64>) -> Mat<f64> {
    let mut out = a.clone();
    for (column, f) in out.col_iter_mut().zip(f) {
        column.iter_mut().for_each(|x| *x *= f);
    }
    out
}

/// The tangent vector at span(S) nearest to M, its Riemannian gradient if M is the Euclidean one: M − S·SᵀM.
///
/// # Errors
/// [`Error::ShapeMismatch`]; [`Error::NonFinite`]; [`Error::RankOutOfRange`], [`Error::InvalidOption`] for S that is no
/// orthonormal basis.
pub fn tangent<T: Scalar>(s: MatRef<'_, T>, m: MatRef<'_, T>) -> Result<Mat<T>, Error> {
    let s = basis(s)?;
    let m = companion("vector", m, &s)?;
    Ok(dense::convert(projected(&s, &m).as_ref(), 1.0))
}

/// A geodesic: start, and the factors of its velocity.
pub(crate) struct Geodesic {
    s: Mat<f64>,
    velocity: small::Thin<f64>,
}

impl Geodesic {
    /// From S with velocity H (made tangent).
    pub(crate) fn new(s: Mat<f64>, h: &Mat<f64>) -> Result<Self, Error> {
        let h = projected(&s, h);
        let velocity = small::thin(h.as_ref(), true)?;
        Ok(Self { s, velocity })
    }

    /// A basis at time t.
    pub(crate) fn at(&self, t: f64) -> Mat<f64> {
        let small::Thin { u, values, v } = &self.velocity;
        let along = scaled(
            &dense::product(self.s.as_ref(), v.as_ref()),
            values.iter().map(|value| libm::cos(t * value)),
        );
        let across = scaled(u, values.iter().map(|value| libm::sin(t * value)));
        dense::product((along + across).as_ref(), v.transpose())
    }

    /// X carried along in parallel until time t.
    fn carry(&self, t: f64, x: &Mat<f64>) -> Mat<f64> {
        let small::Thin { u, values, v } = &self.velocity;
        let part = dense::product(u.transpose(), x.as_ref());
        let sines = scaled(
            &dense::product(self.s.as_ref(), v.as_ref()),
            values.iter().map(|value| -libm::sin(t * value)),
        );
        // cos − 1 without cancellation.
        let cosines = scaled(
            u,
            values.iter().map(|value| {
                let half = libm::sin(0.5 * t * value);
                -2.0 * half * half
            }),
        );
        x + dense::product((sines + cosines).as_ref(), part.as_ref())
    }
}

/// exp_S(t·H): where the geodesic from span(S) with velocity H is at time t, as a basis. H is made tangent first. The
/// distance travelled is |t|·‖H‖ (as long as t·σ₁ < π/2).
///
/// # Errors
/// Those of [`tangent`], and [`Error::InvalidOption`] for t that is not finite; [`Error::NoConvergence`] if faer's SVD gives
/// up.
pub fn exp<T: Scalar>(s: MatRef<'_, T>, h: MatRef<'_, T>, t: f64) -> Result<Mat<T>, Error> {
    check_time(t)?;
    let s = basis(s)?;
    let h = companion("velocity", h, &s)?;
    Ok(dense::convert(Geodesic::new(s, &h)?.at(t).as_ref(), 1.0))
}

/// log_S(Y): the velocity with which the shortest geodesic from span(S) reaches span(Y) at time 1. Unique while all angles
/// are below π/2.
///
/// ```text
/// SᵀY = P·cos Θ·Qᵀ      log = (I − S·Sᵀ)·Y·Q·(Θ/sin Θ)·Pᵀ
/// ```
///
/// # Errors
/// Those of [`tangent`], for both bases; [`Error::NoConvergence`].
pub fn log<T: Scalar>(s: MatRef<'_, T>, y: MatRef<'_, T>) -> Result<Mat<T>, Error> {
    let s = basis(s)?;
    companion("target", y, &s)?;
    let y = basis(y)?;
    let inner = dense::product(s.transpose(), y.as_ref());
    let thin = small::thin(inner.as_ref(), true)?;
    let across = projected(&s, &dense::product(y.as_ref(), thin.v.as_ref()));
    let factors: Vec<f64> = across
        .col_iter()
        .zip(&thin.values)
        .map(|(column, &cosine)| {
            let sine = libm::sqrt(dense::norm_squared(column.as_mat()));
            if sine > 1e-150 { libm::atan2(sine, cosine) / sine } else { 1.0 }
        })
        .collect();
    let h = dense::product(scaled(&across, factors.into_iter()).as_ref(), thin.u.transpose());
    Ok(dense::convert(projected(&s, &h).as_ref(), 1.0))
}

/// The cheap step qf(S + H): agrees with exp_S(H) to first order (to second in the subspace).
///
/// # Errors
/// Those of [`tangent`].
pub fn retract<T: Scalar>(s: MatRef<'_, T>, h: MatRef<'_, T>) -> Result<Mat<T>, Error> {
    let s = basis(s)?;
    let h = companion("step", h, &s)?;
    Ok(dense::convert(retracted(&s, &projected(&s, &h)).as_ref(), 1.0))
}

fn retracted(s: &Mat<f64>, h: &Mat<f64>) -> Mat<f64> {
    let sum = s + h;
    // Columns below 1e150 in any case: of huge steps the direction is what counts.
    let largest = sum.norm_max();
    positive_qr(if largest > 1e100 { scaled(&sum, core::iter::repeat(1.0 / largest)) } else { sum })
}

/// The tangent vector X at span(S), carried in parallel along the geodesic of velocity H until time t: inner products and
/// the tangent property are kept. H and X are made tangent first.
///
/// ```text
/// τX = X + (−S·V·sin tΣ + U·(cos tΣ − I))·Uᵀ·X
/// ```
///
/// # Errors
/// Those of [`exp`].
pub fn transport<T: Scalar>(
    s: MatRef<'_, T>,
    h: MatRef<'_, T>,
    t: f64,
    x: MatRef<'_, T>,
) -> Result<Mat<T>, Error> {
    check_time(t)?;
    let s = basis(s)?;
    let h = companion("velocity", h, &s)?;
    let x = companion("vector", x, &s)?;
    let x = projected(&s, &x);
    Ok(dense::convert(Geodesic::new(s, &h)?.carry(t, &x).as_ref(), 1.0))
}

fn check_time(t: f64) -> Result<(), Error> {
    if t.is_finite() {
        Ok(())
    } else {
        Err(Error::InvalidOption { what: "t", requirement: "finite", found: t })
    }
}

/// The min(k, l) principal angles between the spans of two orthonormal bases, D×k and D×l, ascending, in 0 … π/2. Small
/// ones from their sines, large ones from their cosines: absolute error a few ε.
///
/// # Errors
/// [`Error::ShapeMismatch`] for another D; those of [`tangent`] for each basis; [`Error::NoConvergence`].
pub fn principal_angles<T: Scalar>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<Vec<f64>, Error> {
    if a.nrows() != b.nrows() {
        let expected = (a.nrows(), b.ncols());
        return Err(Error::ShapeMismatch { what: "second basis", expected, found: b.shape() });
    }
    let (a, b) = (basis(a)?, basis(b)?);
    let (a, b) = if a.ncols() < b.ncols() { (b, a) } else { (a, b) };
    let cosines = small::thin(dense::product(a.transpose(), b.as_ref()).as_ref(), false)?.values;
    let mut sines = small::thin(projected(&a, &b).as_ref(), false)?.values;
    sines.reverse();
    let angle = |(&cosine, &sine): (&f64, &f64)| {
        if cosine * cosine >= 0.5 { libm::asin(sine.min(1.0)) } else { libm::acos(cosine) }
    };
    Ok(cosines.iter().zip(&sines).map(angle).collect())
}

/// Length of the shortest geodesic between two spans of one dimension: √Σθᵢ².
///
/// # Errors
/// Those of [`principal_angles`]; [`Error::ShapeMismatch`] for spans of different dimension.
pub fn distance<T: Scalar>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<f64, Error> {
    if a.shape() != b.shape() {
        return Err(Error::ShapeMismatch { what: "second basis", expected: a.shape(), found: b.shape() });
    }
    Ok(libm::sqrt(dense::line_norm_squared(&principal_angles(a, b)?)))
}
