pub mod decode;
pub mod stream;
pub mod table;
pub mod viterbi;
