//! What a run did, for people and for programs.

pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod limit;
pub(crate) mod svg;
pub(crate) mod terminal;
