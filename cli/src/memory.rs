//! Tensors in parallel within a budget of bytes, results in order.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};

use crate::error::Error;

/// Bytes that runs of any size may use beside what their largest tensor takes. The contract is 1 GiB; the rest is
/// for the program, buffers of copies, and what the allocator keeps.
pub(crate) const BASE: u64 = 640 << 20;

/// What one tensor takes while it is fitted: itself in f32, the fit's work, results.
pub(crate) const fn fit_bytes(elements: u64) -> u64 {
    elements.saturating_mul(4 * 4).saturating_add(16 << 20)
}

/// What its calibration takes beside: the Gram matrix, its copies in metric and root.
pub(crate) const fn calibration_bytes(in_features: u64) -> u64 {
    in_features.saturating_mul(in_features).saturating_mul(6 * 8)
}

/// What error feedback takes beside: the form in the transform's basis, damped, factored, and panels of rows in f64.
pub(crate) const fn feedback_bytes(in_features: u64) -> u64 {
    let panels = in_features.saturating_mul(8 * 128 * 8 * 2);
    in_features.saturating_mul(in_features).saturating_mul(5 * 8).saturating_add(panels)
}

/// What feeding errors back through whole columns takes: copies of the matrix in f64.
pub(crate) const fn column_feedback_bytes(elements: u64) -> u64 {
    elements.saturating_mul(8 * 7)
}

/// What factors that are more than a rounded decomposition take: the residual and its images in f64, a form.
pub(crate) const fn factor_bytes(elements: u64, in_features: u64) -> u64 {
    let forms = in_features.saturating_mul(in_features).saturating_mul(3 * 8);
    elements.saturating_mul(8 * 4).saturating_add(forms)
}

struct State {
    next: usize,
    used: u64,
    stop: bool,
}

struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves plain numbers behind: still usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, once there is room for it; jobs are admitted strictly in order, and one that alone exceeds
    /// the budget runs alone.
    fn admit(&self, jobs: &[u64], budget: u64) -> Option<usize> {
        let mut state = self.lock();
        loop {
            let index = state.next;
            let &bytes = jobs.get(index)?;
            if state.stop {
                return None;
            }
            if state.used == 0 || state.used.saturating_add(bytes) <= budget {
                state.used = state.used.saturating_add(bytes);
                state.next += 1;
                return Some(index);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn release(&self, bytes: u64) {
        self.lock().used -= bytes;
        self.changed.notify_all();
    }

    fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

/// Runs `work` on the jobs (each the bytes that it needs) on `threads` threads, and hands the results to `sink`
/// in the order of the jobs, on the calling thread.
///
/// Memory: the jobs under way and the results that wait for their turn (`held` tells a result's bytes) together
/// stay within `budget`, except for a single job that needs more. An error is the one that a single thread
/// would have met first.
pub(crate) fn run_in_order<R: Send>(
    jobs: &[u64],
    budget: u64,
    threads: usize,
    work: impl Fn(usize) -> Result<R, Error> + Sync,
    held: impl Fn(&R) -> u64 + Sync,
    mut sink: impl FnMut(usize, R) -> Result<(), Error>,
) -> Result<(), Error> {
    let gate = Gate { state: Mutex::new(State { next: 0, used: 0, stop: false }), changed: Condvar::new() };
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for started in 0..threads.clamp(1, jobs.len().max(1)) {
            let (sender, gate, work, held) = (sender.clone(), &gate, &work, &held);
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || {
                while let Some(index) = gate.admit(jobs, budget) {
                    let reserved = jobs.get(index).copied().unwrap_or(0);
                    let result = catch_unwind(AssertUnwindSafe(|| work(index)))
                        .unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
                    let kept = result.as_ref().map_or(0, held).min(reserved);
                    gate.release(reserved - kept);
                    if sender.send((index, kept, result)).is_err() {
                        break;
                    }
                }
            });
            match thread {
                Ok(_) => {}
                // Fewer threads do the same work.
                Err(_) if started > 0 => break,
                Err(error) => {
                    let reason = error.to_string();
                    return Err(Error::Machine { what: "starting a thread".to_owned(), reason });
                }
            }
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for (index, kept, result) in receiver {
            waiting.insert(index, (kept, result));
            while let Some((kept, result)) = waiting.remove(&next) {
                let done = result.and_then(|result| sink(next, result));
                gate.release(kept);
                if let Err(error) = done {
                    gate.stop();
                    return Err(error);
                }
                next += 1;
            }
        }
        Ok(())
    })
}

/// A defect of this program, told as such.
fn panicked(panic: &(dyn Any + Send)) -> Error {
    let reason = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_else(|| "panic".to_owned());
    Error::Machine { what: "internal error".to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[test]
    fn results_come_in_order_and_the_budget_holds() {
        let jobs: Vec<u64> = (0..200).map(|i| 1 + (i * 7) % 10).collect();
        let (used, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut seen = Vec::new();
        let work = |i: usize| {
            let now = used.fetch_add(jobs[i], SeqCst) + jobs[i];
            most.fetch_max(now, SeqCst);
            std::thread::yield_now();
            used.fetch_sub(jobs[i], SeqCst);
            Ok(i)
        };
        run_in_order(
            &jobs,
            20,
            7,
            work,
            |_| 1,
            |i, r| {
                assert_eq!(i, r);
                seen.push(i);
                Ok(())
            },
        )
        .expect("no job fails");
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
        assert!(most.load(SeqCst) <= 20);
    }

    #[test]
    fn a_job_above_the_budget_runs_alone() {
        let mut done = 0;
        run_in_order(
            &[5, 1000, 5],
            10,
            3,
            Ok,
            |_| 0,
            |_, _| {
                done += 1;
                Ok(())
            },
        )
        .expect("no job fails");
        assert_eq!(done, 3);
    }

    #[test]
    fn the_first_error_in_order_is_reported_and_panics_are_errors() {
        for threads in [1, 4] {
            let work = |i: usize| match i {
                3 => Err(Error::usage("three")),
                5 => panic!("five"),
                _ => Ok(i),
            };
            let mut last = None;
            let result = run_in_order(
                &[1; 50],
                100,
                threads,
                work,
                |_| 0,
                |i, _| {
                    last = Some(i);
                    Ok(())
                },
            );
            assert_eq!(result.expect_err("job 3 fails").to_string(), "three");
            assert_eq!(last, Some(2));
        }
        let result =
            run_in_order(&[1], 1, 1, |_| -> Result<(), Error> { panic!("boom") }, |()| 0, |_, ()| Ok(()));
        assert_eq!(result.expect_err("panic").to_string(), "internal error: boom");
    }
}
