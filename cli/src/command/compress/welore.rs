//! WeLore's ranks: every spectrum first, then one threshold for all.

use std::collections::HashMap;

use rankbit::linalg::faer::MatRef;
use rankbit::linalg::singular_values;
use rankbit::lowrank::plan::Planned;
use rankbit::lowrank::plan::welore::{Label, Spectrum, labels};

use super::args::Args;
use super::budget::Allocation;
use super::run::Job;
use crate::error::Error;
use crate::memory;
use crate::method::{KEEP, with_rank};
use crate::progress::Progress;
use crate::select::Skipped;

impl Job {
    /// The rank of each matrix; those that are no low-rank components are left alone from now on.
    pub(super) fn find_ranks(&mut self, args: &Args, quiet: bool) -> Result<(), Error> {
        let spectra = self.spectra(args, quiet)?;
        let found = labels(&spectra, self.plan.keep.unwrap_or(KEEP))
            .map_err(|error| Error::input(self.reader.path(), error.to_string()))?;
        tracing::info!(
            "threshold {:.6}: {:.2} % of the parameters left",
            found.threshold,
            100.0 * found.kept
        );
        let mut tensors = HashMap::new();
        for (chosen, label) in std::mem::take(&mut self.chosen).into_iter().zip(found.labels) {
            let tensor = self.tensor(chosen.index)?;
            let rank = match label {
                Label::LowRank { rank } => rank,
                Label::Dense => {
                    let reason = "no low-rank component: its factors would be larger".to_owned();
                    self.skipped.push(Skipped { index: chosen.index, reason });
                    continue;
                }
            };
            let stored_bits = self.plan.factors.stored_bits(chosen.shape, rank);
            let planned = Planned {
                name: tensor.name.clone(),
                weights: tensor.elements(),
                stored_bits: stored_bits.map_err(|error| self.reader.tensor_error(&tensor.name, error))?,
                loss: 0.0,
                recipe: with_rank(self.plan.recipe.clone(), rank),
            };
            tensors.insert(chosen.index, planned);
            self.chosen.push(chosen);
        }
        self.skipped.sort_by_key(|skipped| skipped.index);
        self.allocation = Some(Allocation { tensors, loss: None, budget: None });
        Ok(())
    }

    /// All singular values of all matrices.
    fn spectra(&self, args: &Args, quiet: bool) -> Result<Vec<Spectrum>, Error> {
        let (costs, most) = self.memory(self.chosen.iter())?;
        let lens = self.chosen.iter().filter_map(|chosen| self.tensor(chosen.index).ok()).map(|t| t.len);
        let progress = Progress::new(lens.sum(), quiet);
        let mut spectra = Vec::with_capacity(self.chosen.len());
        memory::run_in_order(
            &costs,
            most,
            args.threads(),
            |i| {
                let index = self.chosen.get(i).map_or(usize::MAX, |chosen| chosen.index);
                let shape = self.chosen.get(i).map_or((0, 0), |chosen| chosen.shape);
                let tensor = self.tensor(index)?;
                progress.start(&format!("spectrum of {}", tensor.name));
                let loaded = self.load(tensor, shape.1)?;
                let found = singular_values(MatRef::from_row_major_slice(&loaded.values, shape.0, shape.1))
                    .map_err(|error| self.reader.tensor_error(&tensor.name, error))?;
                progress.add(tensor.len);
                Ok(Spectrum { shape, singular_values: found.into_iter().map(f64::from).collect() })
            },
            |_| 0,
            |_, spectrum| {
                spectra.push(spectrum);
                Ok(())
            },
        )?;
        progress.finish();
        Ok(spectra)
    }
}
