//! placeholder
use crate::container::reader::Reader;
use crate::error::Error;
use crate::method::Plan;
use crate::report::json;
use crate::select::Chosen;

pub(crate) fn compress_page(_: &Plan, _: &Reader, _: &[Chosen], _: &json::Report) -> Result<String, Error> {
    Ok(String::new())
}
