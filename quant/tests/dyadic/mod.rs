//! Integer-only arithmetic: every result against exact rational arithmetic.

mod bad_input;
mod calibrate;
mod cost;
mod digits;
mod exact;
mod layers;
mod number;
mod oracle;
mod pool;
mod pure;
mod stored;
