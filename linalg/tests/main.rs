//! Tests of rankbit-linalg, one module per method.
