//! `rankbit compress`: fits every large matrix of a checkpoint and writes the parts.

mod args;
mod budget;
mod merge;
mod outlook;
mod output;
mod page;
mod rest;
mod run;
mod selection;
mod shared;
mod welore;

pub(crate) use args::Args;
pub(crate) use run::run;
