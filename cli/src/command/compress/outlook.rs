//! What a run would give, instead of the run.

use rankbit::quant::{Scheme, scheme};

use super::args::Args;
use super::merge::AS_Q8_0;
use super::run::Job;
use crate::error::Error;
use crate::method::scheme_in;
use crate::report::{json, terminal};

impl Job {
    /// Prints what would be done.
    pub(super) fn print_plan(&self, args: &Args) -> Result<(), Error> {
        let budget = self.allocation.as_ref().and_then(|allocation| allocation.budget.as_ref());
        let mut skipped = self.skipped_report();
        for (chosen, reason) in &self.rest {
            let name = self.tensor(chosen.index)?.name.clone();
            skipped.push(json::Skipped { name, reason: format!("{reason}{}", AS_Q8_0) });
        }
        let written = args.config.as_deref().filter(|_| args.budget().is_some());
        terminal::dry_run(&self.outlook()?, &skipped, budget, written)
    }

    /// What the run would give: as the plan measured it, or from shapes alone.
    fn outlook(&self) -> Result<Vec<terminal::Outlook>, Error> {
        let mut rows = Vec::new();
        for chosen in &self.chosen {
            let tensor = self.tensor(chosen.index)?;
            let (recipe, scheme, fallback) = self.recipe(chosen.index, chosen.shape);
            if let Some(warning) = fallback {
                tracing::warn!("tensor '{}': {warning}", tensor.name);
            }
            let planned = self.allocation.as_ref().and_then(|found| found.tensors.get(&chosen.index));
            let bits_per_weight = match planned {
                Some(planned) => planned.stored_bits as f64 / planned.weights.max(1) as f64,
                None => {
                    // A method without a scheme does not look at it.
                    let scheme = scheme.unwrap_or(scheme::NF4);
                    let bits = self.plan.bits_per_weight(self.plan.method, &scheme, chosen.shape);
                    bits.map_err(|error| self.reader.tensor_error(&tensor.name, error))?
                }
            };
            rows.push(terminal::Outlook {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                dtype: tensor.dtype.to_string(),
                format: scheme_in(&recipe).as_ref().and_then(Scheme::name),
                bits_per_weight,
                weights: tensor.elements(),
            });
        }
        Ok(rows)
    }
}
